"""The outcome of planning: a variant on exact devices, or the reasons why there is none."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from launcher.gpu import Gpu
from launcher.profile import CPU, CUDA, Profile, Speculative, Variant


@dataclass(frozen=True, slots=True)
class Modelled:
    """Bytes on each device as the rules alone say them, before anything was measured."""

    weights: int
    overhead: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on each device: weights, KV cache, what the engine needs besides, and the claim, which holds them all.

    `modelled` is what the rules alone say of weights and overhead; earlier starts may have taught otherwise.
    """

    weights: int
    kv: int
    overhead: int
    claim: int
    kv_tokens: int
    modelled: Modelled


@dataclass(frozen=True, slots=True)
class Manner:
    """How a model is served, beside where: what an engine is told that changes neither its weights nor its layout.

    `speculative` is how the model's own heads draft, None where they do not; `sequences` is how many the engine takes at once;
    `can_sleep` whether it can give its memory back while it is not needed; `extra` are a person's own words for the engine.
    """

    speculative: Speculative | None = None
    sequences: int = 0
    can_sleep: bool = False
    extra: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A variant on exact devices. No GPUs means the CPU. `context` is in tokens; `sessions` sequences of it fit at once.

    `tensor` GPUs share each layer; `pipeline` such groups stand one after another, each with a part of the layers. In a cluster
    the GPUs stand node by node, as many in each. `others`
    are the variants and engines that would only have been taken after it, and why.
    """

    profile: Profile
    variant: Variant
    engine: str
    gpus: tuple[Gpu, ...]
    tensor: int
    pipeline: int
    context: int
    sessions: float
    kv_dtype: str
    memory: Memory
    manner: Manner
    notes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def nodes(self) -> int:
        """On how many machines it runs."""
        return len({gpu.node for gpu in self.gpus}) or 1

    @property
    def devices(self) -> str:
        """What it runs on, for a person: `2 x NVIDIA A100`, `2 x (8 x NVIDIA H100)`, `CPU`."""
        if not self.gpus:
            return "CPU"
        if self.nodes > 1:
            return f"{self.nodes} x ({len(self.gpus) // self.nodes} x {self.gpus[0].name})"
        return f"{len(self.gpus)} x {self.gpus[0].name}" if len(self.gpus) > 1 else self.gpus[0].name

    @property
    def args(self) -> tuple[str, ...]:
        """The engine's options: the profile's for all plans, for these GPUs and for the variant, and behind them a person's."""
        lowest = min((gpu.compute for gpu in self.gpus), default=None)
        here = [args for on, args in self.profile.gpu_args if lowest and on.holds(lowest)]
        tables = (self.profile.args, *here, self.variant.args)
        return (*(word for table in tables for word in table.get(self.engine, ())), *self.manner.extra)

    @property
    def build(self) -> str:
        """Which build of the engine this needs."""
        return CUDA if self.gpus else CPU


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a variant on an engine was not taken."""

    variant: str
    engine: str
    reason: str


def by_reason(rejections: Iterable[Rejection]) -> dict[str, str]:
    """Who was not taken, by the reason why: `{"less precise than bf16": "fp8, awq on vllm and sglang"}`."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for each in rejections:
        reasons.setdefault(each.reason, {}).setdefault(each.variant, []).append(each.engine)
    return {reason: ", ".join(_together(engines_of)) for reason, engines_of in reasons.items()}


def _together(engines_of: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Variants beside one another with the engines that they share."""
    for engines, variants in groupby(engines_of, key=lambda variant: engines_of[variant]):
        yield f"{', '.join(variants)} on {' and '.join(engines)}"


@dataclass(frozen=True, slots=True)
class DoesNotFit:
    """No variant of this profile can run here."""

    profile: Profile
    rejections: tuple[Rejection, ...]

    @property
    def missing(self) -> Rejection:
        """What is really missing: the last variant is the smallest, and its first engine the one that would be taken."""
        return next(each for each in self.rejections if each.variant == self.rejections[-1].variant)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asked for beyond the model; None leaves it to the planner.

    `tensor` and `pipeline` are sizes of groups of GPUs, `memory_share` is the most that is taken of each device's total,
    `sessions` how many sequences of the context must fit at once. `speculative`: True if draft heads must be used, False if
    they must not. `can_sleep` and `extra` as in Manner.
    """

    context: int | None = None
    engine: str | None = None
    variant: str | None = None
    tensor: int | None = None
    pipeline: int | None = None
    memory_share: float | None = None
    kv_dtype: str | None = None
    sessions: int | None = None
    speculative: bool | None = None
    can_sleep: bool = False
    extra: tuple[str, ...] = ()
