"""What a profile says: a model, and the ways to serve it. Reading, parsing and checking are apart."""

import datetime as dt
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from launcher import architecture, profile_check, quantisation
from launcher.architecture import Architecture
from launcher.errors import LauncherError
from launcher.profile_weights import HubWeights, LocalWeights, ModelScopeWeights, PyPIWeights, Weights
from launcher.quantisation import Quantisation

CPU, CUDA = profile_check.CPU, profile_check.CUDA
# An agent works well from here on (OpenHands' documentation of local models: 22k at least, 32k recommended).
WORKING_CONTEXT = 32_768


@dataclass(frozen=True, slots=True)
class Generation:
    """GPUs from a compute capability on, and below another; `below` None: all newer ones."""

    compute: tuple[int, int]
    below: tuple[int, int] | None = None

    def holds(self, compute: tuple[int, int]) -> bool:
        return self.compute <= compute and (self.below is None or compute < self.below)


@dataclass(frozen=True, slots=True)
class Speculative:
    """Speculative decoding that the model was made for: `mtp` uses its own prediction heads, `tokens` at a time."""

    method: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to serve a model: where its weights are and in which precision they end up in memory.

    `args` are the engine's own options for it, by engine; `on` are the GPUs that have kernels for it; `size` is the bytes of
    its safetensors files, None where only the model's facts can tell. `quantisation` is that of its repository; with None, a
    `precision` under 16 bits is made by the engine while it loads, as the options say that only some engines have. `drafts`:
    whether its repository has the model's draft heads, if there are any.
    """

    name: str
    precision: str
    weights: Weights
    on: Generation
    args: Mapping[str, tuple[str, ...]]
    size: int | None = None
    quantisation: Quantisation | None = None
    drafts: bool = True


@dataclass(frozen=True, slots=True)
class Profile:
    """A model: `name` is what users type and the served model name.

    `context_max` is the longest window in tokens, stretched by `yarn_factor`; `context_min` what an agent needs to work with
    it. `variants` stand best precision first. Parsers, engine options and the first versions that serve it are by engine;
    `gpu_args` are options for some generations of GPUs alone.
    `notes` are what a person should know of each plan; `origin` is the repository or the folder that was asked for, "" where
    the name alone says what is meant.
    """

    name: str
    title: str
    about: str
    source: str
    checked: dt.date
    architecture: Architecture
    runs_on: frozenset[str]
    context_min: int
    yarn_factor: float
    tool_parser: Mapping[str, str]
    reasoning_parser: Mapping[str, str]
    min_version: Mapping[str, str]
    speculative: Speculative | None
    args: Mapping[str, tuple[str, ...]]
    gpu_args: tuple[tuple[Generation, Mapping[str, tuple[str, ...]]], ...]
    variants: tuple[Variant, ...]
    notes: tuple[str, ...] = ()
    origin: str = ""

    @property
    def context_max(self) -> int:
        return int(self.architecture.context * self.yarn_factor)


def parse(text: str, *, name: str, where: str) -> Profile:
    """The profile in a TOML text; `where` names the file in errors. Raises LauncherError that tells all faults at once."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LauncherError(f"{where} is not valid TOML: {error}", hint="mend the file, or remove it") from None
    return from_table(table, name=name, where=where)


def from_table(table: Mapping[str, Any], *, name: str, where: str, origin: str = "") -> Profile:
    """The same for a table that is parsed already; `origin` as in Profile."""
    if faults := list(profile_check.faults(table, name)):
        raise LauncherError(f"{where}: {'; '.join(faults)}", hint="profiles/smollm2-135m.toml shows every key")
    model = architecture.read(table["config"], where=where)
    yarn_factor = float(table.get("yarn_factor", 1.0))
    speculative = table.get("speculative")
    return Profile(
        name=name,
        title=table["title"],
        about=table["about"],
        source=table["source"],
        checked=table["checked"],
        architecture=model,
        runs_on=frozenset(table["runs_on"]),
        context_min=min(table.get("context_min", WORKING_CONTEXT), int(model.context * yarn_factor)),
        yarn_factor=yarn_factor,
        tool_parser=MappingProxyType(table.get("tool_parser", {})),
        reasoning_parser=MappingProxyType(table.get("reasoning_parser", {})),
        min_version=MappingProxyType(table.get("min_version", {})),
        speculative=Speculative(speculative["method"], speculative["tokens"]) if speculative else None,
        args=_args(table),
        gpu_args=tuple((_generation(each), _args(each)) for each in table.get("gpu", ())),
        variants=tuple(_variant(each, table["config"]) for each in table["variant"]),
        notes=tuple(table.get("notes", ())),
        origin=origin,
    )


def _variant(table: Mapping[str, Any], config: Mapping[str, Any]) -> Variant:
    weights: Weights
    if "requirement" in table:
        weights = PyPIWeights(requirement=table["requirement"], sha256=table["sha256"], file=table["file"])
    elif "modelscope" in table:
        weights = ModelScopeWeights(table["modelscope"])
    elif "path" in table:
        weights = LocalWeights(Path(table["path"]))
    else:
        weights = HubWeights(repo=table["repo"], revision=table.get("revision"))
    return Variant(
        name=table["name"],
        precision=table["precision"],
        weights=weights,
        on=_generation(table),
        args=_args(table),
        size=table.get("size"),
        # DeepSeek V4 tells its experts' type beside the quantisation.
        quantisation=quantisation.read({**config, **table}) if "quantization_config" in table else None,
        drafts=table.get("drafts", True),
    )


def _generation(table: Mapping[str, Any]) -> Generation:
    below = table.get("below")
    return Generation(_capability(table.get("compute", "0.0")), below and _capability(below))


def _capability(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _args(table: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
    return MappingProxyType({engine: tuple(words) for engine, words in table.get("args", {}).items()})
