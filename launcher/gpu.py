"""What a machine has: its GPUs, its CPU and its memory, as plain values. All sizes are bytes."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from types import MappingProxyType

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds memory of a GPU; `used` is 0 where the driver does not say (MIG, WSL)."""

    pid: int
    name: str
    used: int


@dataclass(frozen=True, slots=True)
class NvLinks:
    """The NVLinks of one GPU that are up: how many, the indexes of the GPUs at their ends, and whether a switch is between.

    Behind switches every GPU reaches every other.
    """

    active: int
    peers: tuple[int, ...] = ()
    switched: bool = False


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that an engine can be placed on, as the driver reports it; `compute` is its compute capability, (8, 9).

    `nvlinks` is None where the driver does not tell; `card` is the card that a MIG slice is cut from, None for a whole one;
    `unified` says that its memory is the host's; `node` is the number of its machine in a cluster.
    """

    index: int
    uuid: str
    name: str
    total: int
    free: int
    compute: tuple[int, int]
    processes: tuple[GpuProcess, ...] = ()
    nvlinks: NvLinks | None = None
    card: int | None = None
    unified: bool = False
    node: int = 0

    @property
    def whole(self) -> int:
        """The driver's number of the card that this is, or that it is cut from."""
        return self.index if self.card is None else self.card

    @property
    def slice(self) -> bool:
        """Whether this is a MIG slice: CUDA shows a process only one of them, so that none joins a group."""
        return self.uuid.startswith("MIG-")


@dataclass(frozen=True, slots=True)
class Health:
    """How a card is, as the driver tells it; None where it does not.

    Clocks are MHz, `slowed` the reasons why it runs slower than it could, `uncorrected` the memory errors since the driver was
    loaded, `remap_...` what became of memory that has faults.
    """

    index: int
    memory_clock: int | None = None
    memory_clock_max: int | None = None
    idle: bool = False
    slowed: tuple[str, ...] = ()
    uncorrected: int = 0
    remap_pending: bool = False
    remap_failed: bool = False
    persistent: bool | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """What a card does now: the share of the time in which a kernel ran in percent, degrees Celsius, watts.

    None where the driver does not tell, as of a split card's work.
    """

    utilisation: float | None = None
    temperature: float | None = None
    power: float | None = None


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor: its name, the cores that this process may use, its architecture (`x86_64`, `aarch64`)."""

    name: str
    cores: int
    arch: str


@dataclass(frozen=True, slots=True)
class Ram:
    """The host's memory: all of it, and what can be had without swapping (container limits included)."""

    total: int
    available: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """All that a plan may use. `driver` is "" without an NVIDIA driver; `unsupported` names GPUs of other makers.

    `cuda` is the newest CUDA that the driver runs ("13.0"), "" where it does not tell.
    """

    gpus: tuple[Gpu, ...]
    cpu: Cpu
    ram: Ram
    driver: str = ""
    unsupported: tuple[str, ...] = ()
    cuda: str = ""

    def only(self, indexes: AbstractSet[int]) -> "Inventory":
        """The same machine with only these GPUs."""
        return replace(self, gpus=tuple(gpu for gpu in self.gpus if gpu.index in indexes))

    def freed(self) -> "Inventory":
        """The machine once every program that holds memory of a GPU, or of the host, is gone."""
        ram = replace(self.ram, available=self.ram.total)
        return replace(self, gpus=tuple(_freed(gpu) for gpu in self.gpus), ram=ram)

    def without(self, pids: AbstractSet[int], ram: int = 0, claims: Mapping[int, int] = MappingProxyType({})) -> "Inventory":
        """The same machine once these processes are gone: their GPU memory, and `ram` bytes of host memory, are free again.

        `claims` says what they hold of each GPU by its index where the driver does not tell (WSL, MIG, containers).
        """
        gpus = []
        for gpu in self.gpus:
            told = sum(process.used for process in gpu.processes if process.pid in pids)
            free = min(gpu.total, gpu.free + max(told, claims.get(gpu.index, 0)))
            gpus.append(replace(gpu, free=free, processes=tuple(p for p in gpu.processes if p.pid not in pids)))
        memory = replace(self.ram, available=min(self.ram.total, self.ram.available + ram))
        return replace(self, gpus=tuple(gpus), ram=memory)

    def less(self, claims: Mapping[int, int], ram: int = 0) -> "Inventory":
        """The same machine once somebody holds so many bytes more of GPUs, by their index, and of the host's memory."""
        gpus = tuple(replace(gpu, free=max(0, gpu.free - claims.get(gpu.index, 0))) for gpu in self.gpus)
        return replace(self, gpus=gpus, ram=replace(self.ram, available=max(0, self.ram.available - ram)))


def holders(gpus: Iterable[Gpu]) -> list[GpuProcess]:
    """Who holds memory of these GPUs, each process once, the greatest first."""
    held: dict[int, GpuProcess] = {}
    for process in (process for gpu in gpus for process in gpu.processes):
        before = held.get(process.pid)
        held[process.pid] = replace(process, used=process.used + before.used) if before else process
    return sorted(held.values(), key=lambda process: -process.used)


def named(processes: Iterable[GpuProcess]) -> str:
    """Processes for a person: `python (pid 77, 11.0 GiB), Xorg (pid 812)`."""
    return ", ".join(f"{each.name} (pid {each.pid}{_size(each)})" for each in processes)


def _size(process: GpuProcess) -> str:
    return f", {process.used / GIB:.1f} GiB" if process.used else ""


def _freed(gpu: Gpu) -> Gpu:
    held = sum(process.used for process in gpu.processes)
    # Where the driver does not say how much a process holds, it may be all that is taken.
    all_told = all(process.used for process in gpu.processes)
    return replace(gpu, free=min(gpu.total, gpu.free + held) if all_told else gpu.total)
