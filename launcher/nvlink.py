"""Which GPUs are joined by NVLink, asked of a driver that is open; a driver that does not tell is no fault."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from launcher.gpu import Gpu, NvLinks

# The domain, bus and device numbers of PCI.
Address = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Ends:
    """The links of a card that are up: its address, those at their other ends, and how many links go to switches."""

    address: Address | None
    active: int
    remote: tuple[Address, ...]
    switched: int


def ends(nvml: Any, card: Any) -> Ends | None:
    """The links of a card, None where the driver does not tell. Raises NVMLError for a GPU that is lost, and for no other."""
    links = _active(nvml, card)
    if links is None:
        return None
    kinds = {link: _told(nvml, nvml.nvmlDeviceGetNvLinkRemoteDeviceType, card, link) for link in links}
    switched = [link for link in links if kinds[link] == nvml.NVML_NVLINK_DEVICE_TYPE_SWITCH]
    others = [_told(nvml, nvml.nvmlDeviceGetNvLinkRemotePciInfo, card, link) for link in links if link not in switched]
    own = _told(nvml, nvml.nvmlDeviceGetPciInfo_v3, card) if links else None
    return Ends(
        address=_address(own) if own else None,
        active=len(links),
        remote=tuple(_address(other) for other in others if other),
        switched=len(switched),
    )


def linked(seen: Sequence[tuple[Gpu, Ends | None]]) -> tuple[Gpu, ...]:
    """The same GPUs with their links: what hangs on a switch reaches all that do, other links reach what is at their ends.

    Peers are told among these GPUs alone. A MIG slice has no links that work could use.
    """
    found = {gpu.index: where for gpu, where in seen if where and gpu.card is None}
    places = {where.address: index for index, where in found.items() if where.address}
    behind = {index for index, where in found.items() if where.switched}
    gpus = []
    for gpu, _ in seen:
        links = None if gpu.card is None else NvLinks(active=0)
        if where := found.get(gpu.index):
            peers = {places[address] for address in where.remote if address in places} | (behind if where.switched else set())
            links = NvLinks(where.active, tuple(sorted(peers - {gpu.index})), switched=where.switched > 0)
        gpus.append(replace(gpu, nvlinks=links))
    return tuple(gpus)


def _active(nvml: Any, card: Any) -> list[int] | None:
    """The numbers of the links that are up. NVML counts to the most that any card has; most cards have fewer, or none."""
    active = []
    for link in range(nvml.NVML_NVLINK_MAX_LINKS):
        try:
            if nvml.nvmlDeviceGetNvLinkState(card, link):
                active.append(link)
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_InvalidArgument):
            continue
        except nvml.NVMLError_GpuIsLost:
            raise
        except nvml.NVMLError:
            return None
    return active


def _told(nvml: Any, question: Any, *arguments: Any) -> Any:
    """What the driver answers; None where it does not."""
    try:
        return question(*arguments)
    except nvml.NVMLError_GpuIsLost:
        raise
    except nvml.NVMLError:
        return None


def _address(pci: Any) -> Address:
    return pci.domain, pci.bus, pci.device
