"""Whether the NVIDIA driver and each GPU are fit for the builds of the engines."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from launcher.finding import Finding, fails, passes, warns
from launcher.gpu import GIB, Gpu, Health

# The oldest Linux driver for each CUDA, by the table for "CUDA Minor Version Compatibility" in
# https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/
OLDEST_DRIVER = {12: "525", 13: "580"}
# Computing, a GeForce keeps its memory a few per cent below the maximum (P2 instead of P0): 9,501 of 9,751 MHz on an RTX 3090.
FULL_CLOCK = 0.95
# A desktop takes a GiB or so of a small card, and that is nothing to mend.
HELD = 0.25
# Codes that tell of the hardware, not of a program: https://docs.nvidia.com/deploy/xid-errors/
HARDWARE_XIDS = {
    48: "uncorrectable memory error",
    64: "a memory row could not be remapped",
    74: "NVLink error",
    79: "the GPU fell off the bus",
    92: "many corrected memory errors",
    94: "contained memory error",
    95: "uncontained memory error",
    119: "the GPU's own firmware does not answer",
    120: "the GPU's own firmware failed",
}


@dataclass(frozen=True, slots=True)
class Needs:
    """What the CUDA build of an engine needs; `cuda` is None where its lock does not tell."""

    engine: str
    cuda: tuple[int, int] | None
    compute: tuple[int, int]


@dataclass(frozen=True, slots=True)
class DriverSeen:
    """What was seen of the driver. `version` is "" where there is none, `cuda` the newest CUDA that it supports.

    `cards` are NVIDIA's on the PCI bus, `loaded` tells whether the kernel has the driver, `hidden` whether
    CUDA_VISIBLE_DEVICES leaves no GPU, `fault` why a driver that is there does not work, and what to do.
    """

    version: str = ""
    cuda: tuple[int, int] | None = None
    cards: int = 0
    loaded: bool = False
    hidden: bool = False
    container: str = ""
    fault: tuple[str, str] | None = None


def driver(seen: DriverSeen, needs: Sequence[Needs]) -> Finding:
    """Whether there is a driver, and whether it is new enough for what the engines were built with."""
    title = "NVIDIA driver"
    if seen.fault:
        return fails(title, *seen.fault)
    if not seen.version:
        return _without_driver(title, seen)
    if seen.cuda is None:
        return passes(title, seen.version)
    told = f"{seen.version}, which supports CUDA {_dotted(seen.cuda)}"
    # Within a major version every driver runs every build: https://docs.nvidia.com/deploy/cuda-compatibility/
    late = [each for each in needs if each.cuda and each.cuda[0] > seen.cuda[0]]
    if not late:
        return passes(title, told)
    major = max(each.cuda[0] for each in late if each.cuda)
    built = ", ".join(f"{each.engine} for CUDA {_dotted(each.cuda)}" for each in late if each.cuda)
    remedy = f"install driver {OLDEST_DRIVER.get(major, f'for CUDA {major}')} or newer and restart the machine"
    # With another engine this driver will do.
    return (fails if len(late) == len(needs) else warns)(title, f"{told}, but {built}", remedy)


def _without_driver(title: str, seen: DriverSeen) -> Finding:
    if seen.hidden:
        return passes(title, "not asked: CUDA_VISIBLE_DEVICES leaves no GPU to use")
    if not seen.cards and not seen.loaded:
        return passes(title, "none, and no NVIDIA GPU: models run on the CPU")
    if seen.container:
        remedy = "start the container with `--gpus all`; the host needs the NVIDIA Container Toolkit for it"
        return warns(title, "the host has an NVIDIA GPU that this container does not see", remedy)
    cards = f"{seen.cards or 'an'} NVIDIA {'GPUs' if seen.cards > 1 else 'GPU'}"
    newest = OLDEST_DRIVER[max(OLDEST_DRIVER)]
    if seen.loaded:
        return fails(
            title,
            "the kernel has it, but its library libnvidia-ml.so.1 is missing",
            f"install the whole driver, {newest} or newer",
        )
    return fails(title, f"none, but {cards} on the PCI bus", f"install driver {newest} or newer and restart the machine")


def gpu(gpu: Gpu, health: Health | None, needs: Sequence[Needs], ours: Collection[int]) -> tuple[Finding, ...]:
    """What is wrong with one GPU, a line each, or one line that all is well; `ours` are the pids of servers started here."""
    title = f"GPU {gpu.index}"
    name = gpu.name.removeprefix("NVIDIA ")
    found = [*_capability(title, name, gpu, needs), *_held(title, name, gpu, ours)]
    if health:
        found += [*_memory(title, health), *_speed(title, health, bool(gpu.processes))]
    if found:
        return tuple(found)
    clock = f", memory clock up to {health.memory_clock_max:,} MHz" if health and health.memory_clock_max else ""
    free = f"{gpu.free / GIB:.1f} of {gpu.total / GIB:.1f} GiB free"
    return (passes(title, f"{name}, compute capability {_dotted(gpu.compute)}, {free}{clock}"),)


def xids(codes: Sequence[tuple[str, int]]) -> Finding | None:
    """What the kernel's log tells of failed hardware: (PCI address, Xid code) each; None where it tells nothing."""
    bad = [(where, code) for where, code in codes if code in HARDWARE_XIDS]
    if not bad:
        return None
    where, code = bad[-1]
    more = f" ({len(bad)} such entries)" if len(bad) > 1 else ""
    detail = f"Xid {code} at {where}: {HARDWARE_XIDS[code]}{more}"
    return warns(
        "GPU errors", detail, "restart the machine; if it comes again, have the card, its power and its slot looked at"
    )


def _capability(title: str, name: str, gpu: Gpu, needs: Sequence[Needs]) -> Iterator[Finding]:
    old = [each for each in needs if gpu.compute < each.compute]
    if not old:
        return
    least = min(each.compute for each in old)
    engines = " and ".join(each.engine for each in old)
    has = "has" if len(old) == 1 else "have"
    detail = f"{name} has compute capability {_dotted(gpu.compute)}; {engines} {has} code from {_dotted(least)} on"
    if len(old) < len(needs):
        others = ", ".join(each.engine for each in needs if each not in old)
        yield warns(title, detail, f"use {others}, or a newer GPU")
    else:
        hidden = "hide it with CUDA_VISIBLE_DEVICES= so that models run on the CPU"
        yield fails(title, detail, f"a GPU from {_dotted(least)} on is needed; {hidden}")


def _held(title: str, name: str, gpu: Gpu, ours: Collection[int]) -> Iterator[Finding]:
    others = sorted((each for each in gpu.processes if each.pid not in ours), key=lambda each: -each.used)
    taken = sum(each.used for each in others) or (0 if len(others) < len(gpu.processes) else gpu.total - gpu.free)
    if not others or taken < gpu.total * HELD:
        return
    first = f"{others[0].name or 'process'} (pid {others[0].pid})"
    who = f"{first} and {len(others) - 1} more" if len(others) > 1 else first
    detail = f"{name}: {who} {'hold' if len(others) > 1 else 'holds'} {taken / GIB:.1f} of {gpu.total / GIB:.1f} GiB"
    yield warns(title, detail, "`launcher gpus` shows them all; end what is not needed")


def _memory(title: str, health: Health) -> Iterator[Finding]:
    if health.remap_failed:
        yield fails(title, "its memory has faults that could not be remapped", "have the card replaced")
    if health.remap_pending:
        reset = f"`sudo nvidia-smi --gpu-reset -i {health.index}`"
        yield warns(title, "faulty memory is taken out of use at the next reset", f"restart the machine, or {reset}")
    if health.uncorrected:
        count = f"{health.uncorrected:,} uncorrected memory {'errors' if health.uncorrected > 1 else 'error'}"
        remedy = "restart the machine; if they come again, have the card replaced"
        yield warns(title, f"{count} since the driver was loaded", remedy)


def _speed(title: str, health: Health, in_use: bool) -> Iterator[Finding]:  # noqa: FBT001  # one of three values that say how it is
    now, most = health.memory_clock, health.memory_clock_max
    more = f"`nvidia-smi -q -d PERFORMANCE,CLOCK,POWER -i {health.index}` says more"
    if health.slowed:
        yield warns(title, f"it is slowed down: {', '.join(health.slowed)}", f"see to its cooling and its power; {more}")
    elif now and most and not health.idle and now < most * FULL_CLOCK:
        detail = f"its memory is clocked at {now:,} of {most:,} MHz while it works"
        remedy = f"`sudo nvidia-smi -rmc -i {health.index}` takes a lock on the clock away; {more}"
        yield warns(title, detail, remedy)
    if health.persistent is False and not in_use:
        detail = "persistence mode is off: each start of an engine waits for the driver"
        yield warns(title, detail, f"`sudo nvidia-smi -pm 1 -i {health.index}`")


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
