"""What a profile's table may hold, and what is wrong with one that holds something else."""

import datetime as dt
import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from launcher import memory

CPU, CUDA = "cpu", "cuda"
# What a profile may say, and what it must; profiles/schema.json tells editors the same.
REQUIRED = {"title", "about", "source", "checked", "runs_on", "config", "variant"}
_BY_ENGINE = {"tool_parser", "reasoning_parser", "min_version"}
KEYS = REQUIRED | _BY_ENGINE | {"context_min", "yarn_factor", "speculative", "args", "gpu", "notes"}
_TEXTS = {"name", "precision", "repo", "revision", "requirement", "sha256", "file", "path", "modelscope", "compute", "below"}
VARIANT_KEYS = _TEXTS | {"args", "size", "quantization_config", "drafts"}
GPU_KEYS = {"compute", "below", "args"}
METHODS = {"mtp"}
# Where weights are: one of these keys, and what goes with it.
_PLACES = {"repo": {"revision"}, "requirement": {"sha256", "file"}, "path": set[str](), "modelscope": set[str]()}
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def faults(table: Mapping[str, Any], name: str) -> Iterator[str]:
    """All that is wrong with a profile's parsed table, in words for whoever wrote it."""
    if not _NAME.fullmatch(name):
        yield f"the name {name!r} may hold only small letters, digits, '.', '_' and '-'"
    yield from _key_faults(table, KEYS, REQUIRED)
    yield from _model_faults(table)
    yield from _window_faults(table)
    yield from _engine_faults(table)
    yield from _gpu_faults(table.get("gpu", []))
    yield from _list_of_variants_faults(table)


def _model_faults(table: Mapping[str, Any]) -> Iterator[str]:
    for key in ("title", "about", "source"):
        if not isinstance(table.get(key, ""), str):
            yield f"{key} must be a text"
    if not isinstance(table.get("checked", dt.date.min), dt.date):
        yield "checked must be a date (2026-11-22)"
    if not isinstance(table.get("config", {}), dict):
        yield "config must be a table: the facts of the model's config.json"
    yield from _list_faults(table, "runs_on", {CPU, CUDA})
    if not _is_texts(table.get("notes", [])):
        yield "notes must be a list of texts"


def _window_faults(table: Mapping[str, Any]) -> Iterator[str]:
    factor = table.get("yarn_factor", 1.0)
    if not isinstance(factor, int | float) or isinstance(factor, bool) or factor < 1:
        yield "yarn_factor must be a number from 1"
    if not _is_count(table.get("context_min", 1)):
        yield "context_min must be a whole number of tokens"


def _engine_faults(table: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(_BY_ENGINE):
        if not _is_table_of_texts(table.get(key, {})):
            yield f"{key} must be a table: engine = 'text'"
    versions = table.get("min_version", {})
    for engine, version in versions.items() if _is_table_of_texts(versions) else ():
        if not re.fullmatch(r"\d+(\.\d+)*", version):
            yield f"min_version of {engine} must be a version such as '0.32.0'"
    yield from _speculative_faults(table.get("speculative"))
    yield from _args_faults(table)


def _list_of_variants_faults(table: Mapping[str, Any]) -> Iterator[str]:
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
    if not _is_count(table.get("size", 1)):
        yield "size must be a whole number of bytes"
    if not isinstance(table.get("quantization_config", {}), dict):
        yield "quantization_config must be a table: the same of the repository's config.json"
    if not isinstance(table.get("drafts", True), bool):
        yield "drafts must be true or false"
    yield from _capability_faults(table)
    yield from _args_faults(table)


def _speculative_faults(value: Any) -> Iterator[str]:
    if value is not None and not (
        isinstance(value, dict)
        and value.keys() == {"method", "tokens"}
        and value["method"] in METHODS
        and _is_count(value["tokens"])
    ):
        yield f"speculative must hold a method ({', '.join(METHODS)}) and a whole number of tokens"


def _gpu_faults(value: Any) -> Iterator[str]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        yield "gpu must be [[gpu]] tables: options for some GPUs alone"
        return
    for number, table in enumerate(value, 1):
        faults = [*_key_faults(table, GPU_KEYS, {"compute", "args"}), *_capability_faults(table), *_args_faults(table)]
        yield from (f"gpu {number}: {fault}" for fault in faults)


def _capability_faults(table: Mapping[str, Any]) -> Iterator[str]:
    for key in ("compute", "below"):
        if not re.fullmatch(r"\d+\.\d", str(table.get(key, "0.0"))):
            yield f"{key} must be a compute capability such as '8.0'"


def _place_faults(table: Mapping[str, Any]) -> Iterator[str]:
    places = _PLACES.keys() & table.keys()
    if len(places) != 1:
        yield "one of repo (of Hugging Face), modelscope (of that), requirement (of PyPI) or path (a folder) must be given"
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


def _is_table_of_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _args_faults(table: Mapping[str, Any]) -> Iterator[str]:
    value = table.get("args", {})
    if not isinstance(value, dict) or not all(_is_texts(words) for words in value.values()):
        yield "args must be a table: engine = ['--option', 'value']"


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)
