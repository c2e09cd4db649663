"""What a profile says: a model, and the ways to serve it. Reading, parsing and checking are apart."""

import datetime as dt
import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from launcher import architecture, memory
from launcher.architecture import Architecture
from launcher.errors import LauncherError
from launcher.profile_weights import HubWeights, LocalWeights, PyPIWeights, Weights

CPU, CUDA = "cpu", "cuda"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to serve a model: where its weights are and in which precision they end up in memory.

    `args` are the engine's own options for it, by engine; `compute` is the lowest compute capability that has kernels;
    `size` is the bytes of its weights as they are loaded, None where only the model's facts can tell.
    """

    name: str
    precision: str
    weights: Weights
    compute: tuple[int, int]
    args: Mapping[str, tuple[str, ...]]
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A model: `name` is what users type and the served model name.

    `context_max` is the longest window in tokens, stretched by `yarn_factor`; `variants` stand best precision first.
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
    yarn_factor: float
    tool_parser: Mapping[str, str]
    args: Mapping[str, tuple[str, ...]]
    variants: tuple[Variant, ...]
    notes: tuple[str, ...] = ()
    origin: str = ""

    @property
    def context_max(self) -> int:
        return int(self.architecture.context * self.yarn_factor)


# What a profile may say, and what it must; profiles/schema.json tells editors the same.
KEYS = {"title", "about", "source", "checked", "runs_on", "yarn_factor", "config", "tool_parser", "args", "notes", "variant"}
REQUIRED = {"title", "about", "source", "checked", "runs_on", "config", "variant"}
VARIANT_KEYS = {"name", "precision", "repo", "revision", "requirement", "sha256", "file", "path", "size", "compute", "args"}
_TEXTS = VARIANT_KEYS - {"args", "size"}
# Where weights are: one of these keys, and what goes with it.
_PLACES = {"repo": {"revision"}, "requirement": {"sha256", "file"}, "path": set[str]()}
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def parse(text: str, *, name: str, where: str) -> Profile:
    """The profile in a TOML text; `where` names the file in errors. Raises LauncherError that tells all faults at once."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LauncherError(f"{where} is not valid TOML: {error}", hint="mend the file, or remove it") from None
    return from_table(table, name=name, where=where)


def from_table(table: Mapping[str, Any], *, name: str, where: str, origin: str = "") -> Profile:
    """The same for a table that is parsed already; `origin` as in Profile."""
    if faults := list(_faults(table, name)):
        raise LauncherError(f"{where}: {'; '.join(faults)}", hint="profiles/smollm2-135m.toml shows every key")
    return Profile(
        name=name,
        title=table["title"],
        about=table["about"],
        source=table["source"],
        checked=table["checked"],
        architecture=architecture.read(table["config"], where=where),
        runs_on=frozenset(table["runs_on"]),
        yarn_factor=float(table.get("yarn_factor", 1.0)),
        tool_parser=MappingProxyType(table.get("tool_parser", {})),
        args=_args(table),
        variants=tuple(_variant(each) for each in table["variant"]),
        notes=tuple(table.get("notes", ())),
        origin=origin,
    )


def _variant(table: Mapping[str, Any]) -> Variant:
    weights: Weights
    if "requirement" in table:
        weights = PyPIWeights(requirement=table["requirement"], sha256=table["sha256"], file=table["file"])
    elif "path" in table:
        weights = LocalWeights(Path(table["path"]))
    else:
        weights = HubWeights(repo=table["repo"], revision=table.get("revision"))
    major, _, minor = str(table.get("compute", "0.0")).partition(".")
    return Variant(
        name=table["name"],
        precision=table["precision"],
        weights=weights,
        compute=(int(major), int(minor)),
        args=_args(table),
        size=table.get("size"),
    )


def _args(table: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
    return MappingProxyType({engine: tuple(words) for engine, words in table.get("args", {}).items()})


def _faults(table: Mapping[str, Any], name: str) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield f"the name {name!r} may hold only small letters, digits, '.', '_' and '-'"
    yield from _key_faults(table, KEYS, REQUIRED)
    for key in ("title", "about", "source"):
        if not isinstance(table.get(key, ""), str):
            yield f"{key} must be a text"
    if not isinstance(table.get("checked", dt.date.min), dt.date):
        yield "checked must be a date (2026-11-22)"
    if not isinstance(table.get("config", {}), dict):
        yield "config must be a table: the facts of the model's config.json"
    yield from _list_faults(table, "runs_on", {CPU, CUDA})
    factor = table.get("yarn_factor", 1.0)
    if not isinstance(factor, int | float) or isinstance(factor, bool) or factor < 1:
        yield "yarn_factor must be a number from 1"
    yield from _parser_faults(table.get("tool_parser", {}))
    yield from _args_faults(table)
    if not _is_texts(table.get("notes", [])):
        yield "notes must be a list of texts"
    variants = table.get("variant", [])
    if (
        not isinstance(variants, list)
        or not all(isinstance(each, dict) for each in variants)
        or ("variant" in table and not variants)
    ):
        yield "variant must be at least one [[variant]] table"
        return
    for number, variant in enumerate(variants, 1):
        label = f"variant {variant.get('name', number)}"
        yield from (f"{label}: {fault}" for fault in _variant_faults(variant))


def _variant_faults(table: Mapping[str, Any]) -> Iterator[str]:
    yield from _key_faults(table, VARIANT_KEYS, {"name", "precision"})
    for key in sorted(_TEXTS):
        if not isinstance(table.get(key, ""), str):
            yield f"{key} must be a text"
    precision = table.get("precision", "bf16")
    if isinstance(precision, str) and precision not in memory.BITS:
        yield f"precision {precision!r} is none of {', '.join(memory.BITS)}"
    yield from _place_faults(table)
    size = table.get("size", 1)
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        yield "size must be a whole number of bytes"
    if not re.fullmatch(r"\d+\.\d", str(table.get("compute", "0.0"))):
        yield "compute must be a compute capability such as '8.0'"
    yield from _args_faults(table)


def _place_faults(table: Mapping[str, Any]) -> Iterator[str]:
    places = _PLACES.keys() & table.keys()
    if len(places) != 1:
        yield "one of repo (a Hugging Face repository), requirement (a PyPI package) or path (a folder) must be given"
    for place, companions in _PLACES.items():
        if place not in places and (given := sorted(companions & table.keys())):
            yield f"{', '.join(given)} goes with {place}"
    if "requirement" in table and not {"sha256", "file"} <= table.keys():
        yield "requirement needs sha256 and file"
    if isinstance(path := table.get("path"), str) and not path.startswith("/"):
        yield "path must begin with /"


def _key_faults(table: Mapping[str, Any], known: set[str], required: set[str]) -> Iterator[str]:
    for key in table:
        if key not in known:
            closest = difflib.get_close_matches(key, known, n=1)
            yield f"unknown key {key!r}" + (f" (closest: {closest[0]!r})" if closest else "")
    for key in sorted(required - table.keys()):
        yield f"{key!r} is missing"


def _list_faults(table: Mapping[str, Any], key: str, allowed: set[str]) -> Iterator[str]:
    values = table.get(key, sorted(allowed))
    if not isinstance(values, list) or not values or not set(map(str, values)) <= allowed:
        yield f"{key} must be a list out of {', '.join(sorted(allowed))}"


def _parser_faults(value: Any) -> Iterator[str]:
    if not isinstance(value, dict) or not all(isinstance(parser, str) for parser in value.values()):
        yield "tool_parser must be a table: engine = 'parser'"


def _args_faults(table: Mapping[str, Any]) -> Iterator[str]:
    value = table.get("args", {})
    if not isinstance(value, dict) or not all(_is_texts(words) for words in value.values()):
        yield "args must be a table: engine = ['--option', 'value']"


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)
