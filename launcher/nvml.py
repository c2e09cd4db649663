"""The one door to the NVIDIA driver: which GPUs there are, what is free on them, and who holds the rest."""

import contextlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launcher import nvlink
from launcher.errors import LauncherError
from launcher.gpu import Gpu, GpuProcess, Health, Load, Ram


@dataclass(frozen=True, slots=True)
class Driver:
    """What the driver says of itself: its version, "" where there is none, and the GPUs that may be used.

    `cuda` is the newest CUDA that it runs ("13.0"), "" where it does not tell.
    """

    version: str
    gpus: tuple[Gpu, ...]
    cuda: str = ""


def read(ram: Ram, *, visible: str | None = None) -> Driver:
    """The GPUs that the driver shows; no driver is no GPUs, a driver or a GPU that fails is a LauncherError.

    `visible` is CUDA_VISIBLE_DEVICES and leaves out what an engine would not see either; GPUs left out are not asked for
    their state, so a broken one can be worked around, and an empty one leaves the driver alone. `ram` stands in for the memory
    of a GPU that has none of its own.
    """
    if visible is not None and not visible.strip():
        return Driver(version="", gpus=())
    import pynvml

    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return Driver(version="", gpus=())
    except pynvml.NVMLError as error:
        raise _driver_fault(error) from None
    try:
        return _ask(pynvml, ram, visible)
    except pynvml.NVMLError_FunctionNotFound:
        raise LauncherError("the NVIDIA driver is too old", hint=f"install 580 or newer, {_WITHOUT}") from None
    except pynvml.NVMLError as error:
        raise _driver_fault(error) from None
    finally:
        # What was asked is answered by now, and a driver that fails to say goodbye must not hide why it failed before.
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def health(cards: Collection[int]) -> tuple[Health, ...]:
    """How these cards are, by the driver's numbers.

    For a driver that works, as `read` found. What a card does not tell is None, or 0, or False; raises LauncherError.
    """
    with _open() as nvml:
        return tuple(_health(nvml, card) for card in cards)


def loads(cards: Collection[int]) -> Mapping[int, Load]:
    """What these cards do now, by the driver's numbers; raises LauncherError as `health`."""
    with _open() as nvml:
        return {card: _load(nvml, nvml.nvmlDeviceGetHandleByIndex(card)) for card in cards}


@contextlib.contextmanager
def _open() -> Iterator[Any]:
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            yield pynvml
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise _driver_fault(error) from None


def _load(nvml: Any, handle: Any) -> Load:
    rates = _told(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    # The newer call first: nvml.h announces that CUDA 14.0 will not have the other one.
    warmth = _told(nvml, nvml.nvmlDeviceGetTemperatureV, handle, nvml.NVML_TEMPERATURE_GPU)
    if warmth is None:
        warmth = _told(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
    milliwatts = _told(nvml, nvml.nvmlDeviceGetPowerUsage, handle)
    return Load(
        utilisation=None if rates is None else float(rates.gpu),
        temperature=None if warmth is None else float(warmth),
        power=None if milliwatts is None else milliwatts / 1000,
    )


def _health(nvml: Any, card: int) -> Health:
    handle = nvml.nvmlDeviceGetHandleByIndex(card)
    # Where no reasons are told, a low clock may be that of an idle card.
    told = _told(nvml, nvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
    reasons = nvml.nvmlClocksEventReasonGpuIdle if told is None else told
    errors = _told(
        nvml, nvml.nvmlDeviceGetTotalEccErrors, handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
    )
    _corrected, _uncorrected, pending, failed = _told(nvml, nvml.nvmlDeviceGetRemappedRows, handle) or (0, 0, 0, 0)
    persistent = _told(nvml, nvml.nvmlDeviceGetPersistenceMode, handle)
    return Health(
        index=card,
        memory_clock=_told(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_MEM),
        memory_clock_max=_told(nvml, nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_MEM),
        idle=bool(reasons & nvml.nvmlClocksEventReasonGpuIdle),
        slowed=tuple(words for name, words in _SLOWED if reasons & getattr(nvml, f"nvmlClocksEventReason{name}")),
        uncorrected=errors or 0,
        remap_pending=bool(pending),
        remap_failed=bool(failed),
        persistent=None if persistent is None else bool(persistent),
    )


# A power cap is how every busy card is held to its rating, and is not here.
_SLOWED = (
    ("HwThermalSlowdown", "too hot"),
    ("SwThermalSlowdown", "near its highest temperature"),
    ("HwPowerBrakeSlowdown", "the power supply asks for it"),
)


def _told(nvml: Any, ask: Callable[..., Any], *of: Any) -> Any:
    """The answer, None where this card or this driver has none."""
    try:
        return ask(*of)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission, nvml.NVMLError_FunctionNotFound):
        return None


_WITHOUT = "or go on without GPUs: CUDA_VISIBLE_DEVICES="


def _driver_fault(error: Exception) -> LauncherError:
    hint = f"`nvidia-smi` should say the same; after a driver update the machine needs a reboot, {_WITHOUT}"
    return LauncherError(f"the NVIDIA driver does not work: {error}", hint=hint)


@dataclass(frozen=True, slots=True)
class _Device:
    """A place for work that is not read yet: a whole card, or slot `slot` of one that is split by MIG.

    `card` is the driver's number, `index` ours, `uuid` is "" if the card does not answer.
    """

    card: int
    slot: int | None
    index: int
    uuid: str


def _ask(nvml: Any, ram: Ram, visible: str | None) -> Driver:
    devices = _devices(nvml)
    chosen = _chosen(devices, visible)
    gpus = nvlink.linked([_gpu(nvml, device, ram, devices) for device in chosen])
    return Driver(nvml.nvmlSystemGetDriverVersion(), gpus, _cuda(nvml))


def _cuda(nvml: Any) -> str:
    """The driver tells it as 13000. One that does not is no reason to go without GPUs: nothing is decided by it here."""
    try:
        version = nvml.nvmlSystemGetCudaDriverVersion_v2()
    except nvml.NVMLError:
        return ""
    return f"{version // 1000}.{version % 1000 // 10}"


def _devices(nvml: Any) -> list[_Device]:
    """Whole cards keep the numbers that nvidia-smi gives them; instances of split cards are numbered after the last card."""
    count = nvml.nvmlDeviceGetCount()
    devices: list[_Device] = []
    instances = 0
    for card in range(count):
        for slot, uuid in _places(nvml, card):
            devices.append(_Device(card, slot, card if slot is None else count + instances, uuid))
            instances += slot is not None
    return devices


def _places(nvml: Any, card: int) -> Iterator[tuple[int | None, str]]:
    """The slots of a card and their UUIDs; nothing for a card that belongs to others, whose device file we may not open."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(card)
        if not _is_split(nvml, handle):
            yield None, nvml.nvmlDeviceGetUUID(handle)
            return
        for slot in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            # Slots are numbered by the most that the card could be split into; most of them are empty.
            with contextlib.suppress(nvml.NVMLError_NotFound):
                yield slot, nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot))
    except nvml.NVMLError_NoPermission:
        return
    except nvml.NVMLError:
        yield None, ""  # `_gpu` meets the same fault and tells it, if this GPU is wanted at all


def _is_split(nvml: Any, handle: Any) -> bool:
    try:
        current, _pending = nvml.nvmlDeviceGetMigMode(handle)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
        return False
    return bool(current == nvml.NVML_DEVICE_MIG_ENABLE)


def _chosen(devices: list[_Device], visible: str | None) -> list[_Device]:
    """What CUDA would show for CUDA_VISIBLE_DEVICES: numbers or beginnings of UUIDs, up to the first that names nothing.

    Numbers are the driver's (CUDA_DEVICE_ORDER=PCI_BUS_ID), as vLLM reads them. Of a split card CUDA takes the first instance.
    """
    if visible is None:
        return devices
    chosen: set[_Device] = set()
    for entry in visible.split(","):
        named = _named(devices, entry.strip())
        if named is None:
            break
        chosen.add(named)
    return [device for device in devices if device in chosen]


def _named(devices: list[_Device], entry: str) -> _Device | None:
    if entry.isdecimal():
        return next((device for device in devices if device.card == int(entry)), None)
    if not re.match("(GPU|MIG)-", entry):
        return None
    found = [device for device in devices if device.uuid.startswith(entry)]
    return found[0] if len(found) == 1 else None


def _gpu(nvml: Any, device: _Device, ram: Ram, devices: list[_Device]) -> tuple[Gpu, nvlink.Ends | None]:
    """A GPU and its links, if it has any of its own; raises LauncherError if it does not answer."""
    try:
        card = nvml.nvmlDeviceGetHandleByIndex(device.card)
        place = card if device.slot is None else nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, device.slot)
        own = _memory(nvml, place)
        total, free = own or (ram.total, ram.available)
        gpu = Gpu(
            index=device.index,
            uuid=nvml.nvmlDeviceGetUUID(place),
            name=nvml.nvmlDeviceGetName(place),
            total=total,
            free=free,
            compute=nvml.nvmlDeviceGetCudaComputeCapability(card),  # the driver answers this for whole cards only
            processes=_processes(nvml, place),
            card=None if device.slot is None else device.card,
            unified=own is None,
        )
        return gpu, nvlink.ends(nvml, card) if device.slot is None else None
    except nvml.NVMLError_FunctionNotFound:
        raise
    except nvml.NVMLError as error:
        raise _gpu_fault(device, devices, error) from None


def _gpu_fault(device: _Device, devices: list[_Device], error: Exception) -> LauncherError:
    """A GPU that fell off the bus is not left out in silence: its owner would get a smaller plan and never know why."""
    others = ",".join(str(card) for card in sorted({other.card for other in devices} - {device.card}))
    hint = f"`nvidia-smi` and `dmesg` say more, and a reboot often brings it back; without it: CUDA_VISIBLE_DEVICES={others}"
    return LauncherError(f"GPU {device.card} does not answer the driver: {error}", hint=hint)


def _memory(nvml: Any, place: Any) -> tuple[int, int] | None:
    """Total and free bytes, as CUDA counts them; None for a GPU that shares the host's memory (GB10).

    CUDA's total, of which vLLM's --gpu-memory-utilization is a share, is the driver's less what the driver reserves for itself
    (0.4 to 0.9 GiB).
    """
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(place, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError_NotSupported:
        return None
    total = memory.total - memory.reserved
    return total, min(memory.free, total)


def _processes(nvml: Any, place: Any) -> tuple[GpuProcess, ...]:
    """Who holds memory, each process once: one that computes and draws is on both of the driver's lists."""
    used: dict[int, int] = {}
    for running in (nvml.nvmlDeviceGetComputeRunningProcesses_v3, nvml.nvmlDeviceGetGraphicsRunningProcesses_v3):
        # WSL and shared hosts do not tell; the free memory is right all the same.
        with contextlib.suppress(nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission):
            for process in running(place):
                used[process.pid] = max(used.get(process.pid, 0), process.usedGpuMemory or 0)
    return tuple(GpuProcess(pid=pid, name=_name(pid), used=used[pid]) for pid in sorted(used))


def _name(pid: int) -> str:
    """The name of a process, "" for one that is gone or that lives outside of our container."""
    import psutil

    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""
