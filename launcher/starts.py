"""A start that went well: what it was planned to take and what it took. All sizes are bytes of one rank."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from launcher.gpu import GIB, Gpu
from launcher.plan import Manner, Memory, Modelled
from launcher.profile import Profile, Variant

# Of the rows' fields and of the rules of memory: a row of another version tells nothing of today's.
VERSION = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """What an engine's log told, and what its processes held; None where nothing did.

    `overhead` is all beside weights and KV cache with the largest pass counted: only an engine that profiles one can tell it.
    `peak` is what was held once a request had been answered: of a GPU, or of the host's memory.
    """

    weights: int | None = None
    kv: int | None = None
    kv_tokens: int | None = None
    overhead: int | None = None
    peak: int | None = None


@dataclass(frozen=True, slots=True)
class Setup:
    """What a start's memory follows from. Two starts with equal ones take the same, but for noise.

    `device` is the name of the GPUs with their size, or of the processor;
    `served` is the variant's weights, precision and options, and the manner in which it is served.
    """

    device: str
    engine: str
    version: str
    model: str
    served: str
    tensor: int
    pipeline: int
    kv_dtype: str

    @property
    def ground(self) -> tuple[str, str, str]:
        """What is not the model's: device and engine."""
        return self.device, self.engine, self.version


@dataclass(frozen=True, slots=True)
class Start:
    """One start: `on` is its day (2026-11-22), `context` in tokens, `seconds` those of each phase.

    `ahead` says that the engine's imports were done before. Starts that were put on record without these two tell none.
    """

    setup: Setup
    on: str
    context: int
    planned: Memory
    measured: Measured
    seconds: Mapping[str, float] = field(default_factory=dict)
    ahead: bool = False


def device_of(gpu: Gpu) -> str:
    """The name of a kind of GPU: cards of one name come with more memory or less (RTX 4060 Ti)."""
    return f"{gpu.name}, {gpu.total / GIB:.0f} GiB"


def served_of(profile: Profile, variant: Variant, engine: str, manner: Manner) -> str:
    """What an engine is given of a variant and how, in one text that changes with both."""
    tables = (profile.args, *(args for _, args in profile.gpu_args), variant.args)
    options = [word for table in tables for word in table.get(engine, ())]
    what = (variant.weights, variant.size, manner.speculative, manner.sequences, manner.can_sleep)
    return " ".join((variant.name, variant.precision, *map(str, what), *options, *manner.extra))


def line(start: Start) -> str:
    """The start as one line of JSON."""
    return json.dumps({"version": VERSION, **asdict(start)})


def read(text: str) -> Start | None:
    """The start in a line; None for one that is damaged or of another version: it is no use, and no fault of the reader's."""
    try:
        plain = json.loads(text)
        if plain.pop("version") != VERSION:
            return None
        setup, planned, measured = (plain.pop(key) for key in ("setup", "planned", "measured"))
        start = Start(
            setup=Setup(**setup),
            planned=Memory(**{**planned, "modelled": Modelled(**planned["modelled"])}),
            measured=Measured(**measured),
            **plain,
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return start if isinstance(start.seconds, dict) and _sound(start) else None


def _sound(start: Start) -> bool:
    """Whether all figures are figures that a start can have."""
    planned, setup, measured = start.planned, start.setup, start.measured
    known = [value for value in _values(measured) if value is not None]
    counts = (start.context, planned.weights, planned.claim, planned.kv_tokens, setup.tensor, setup.pipeline, *known)
    sizes = (planned.kv, planned.overhead, planned.modelled.weights, planned.modelled.overhead)
    texts = (start.on, setup.device, setup.engine, setup.version, setup.model, setup.served, setup.kv_dtype)
    return (
        all(_is_size(count) and count > 0 for count in counts)
        and all(_is_size(size) for size in sizes)
        and all(isinstance(text, str) for text in texts)
        and isinstance(start.ahead, bool)
        and all(_is_time(seconds) for seconds in start.seconds.values())
    )


def _values(measured: Measured) -> list[Any]:
    return [getattr(measured, field.name) for field in fields(measured)]


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
