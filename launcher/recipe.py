"""A recipe of vLLM's own for a model: parsed out of the JSON that recipes.vllm.ai publishes, and put into a profile's table.

The format is that of scripts/build-recipes-api.mjs in https://github.com/vllm-project/recipes. A recipe gives what people found
out by serving (parsers, first version, options for a generation of GPUs, repositories with other precisions); what a model
is, and how large, its repository tells.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launcher import memory, recipe_options
from launcher.recipe_options import options

VLLM = "vllm"
# Generations of NVIDIA's in their taxonomy, as compute capabilities; "blackwell" is there from data centres to desks.
_GENERATIONS: Mapping[str, tuple[str, str | None]] = {
    "nvidia": ("0.0", None),
    "ampere": ("8.0", "8.9"),
    "ada": ("8.9", "9.0"),
    "hopper": ("9.0", "10.0"),
    "blackwell": ("10.0", None),
}
_OTHER_MAKERS = ("amd", "cpu", "xpu", "tpu", "npu", "intel", "google", "mi", "xeon", "arc", "ascend", "ironwood", "trillium")
_PRECISIONS = {"fp4": "nvfp4", "mxfp8": "fp8"}
# What agents need; other features are a person's choice.
_FEATURES = ("tool_calling", "reasoning")
_SPECULATION = "spec_decoding"
_PARSER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
# Fields of the format: what is not used here says how to install, to cluster or to show on a page.
_KNOWN = {
    "": {
        "hf_id", "meta", "model", "features", "opt_in_features", "variants", "hardware_overrides", "hardware_opt_in_features",
        "recommended_command", "guide", "omni", "kv_offload_support", "kv_cache_strategy_hardware", "strategy_hardware",
        "strategy_min_gpus", "strategy_overrides", "compatible_strategies", "default_strategy", "hardware_notes",
        "dependencies",
    },
    "model": {
        "model_id", "min_vllm_version", "nightly_required", "architecture", "parameter_count", "active_parameters",
        "context_length", "base_args", "base_env", "docker_image", "docker_source", "install", "supports_dcp",
        "flashinfer_autotune",
    },
    "variants": {
        "model_id", "precision", "vram_minimum_gb", "description", "label", "extra_args", "extra_env", "hardware_overrides",
        "tp", "supported_hardware", "min_vllm_version", "precision_hardware", "default_modes", "docker_image", "json",
    },
}  # fmt: skip
_TASKS = {"text", "multimodal"}


@dataclass(frozen=True, slots=True)
class RecipeVariant:
    """A way to serve the model: `repo` is "" for the recipe's own repository."""

    name: str
    precision: str
    repo: str
    args: tuple[str, ...]
    min_version: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a recipe says that a profile can hold; `left_out` is what it says besides, in a person's words.

    `drafts` are the tokens that the model's own heads draft at a time, where the recipe turns them on; `gpu_args` are options
    by generation (compute capability, and below which).
    """

    url: str
    title: str
    about: str
    min_version: str
    tool_parser: str
    reasoning_parser: str
    drafts: int | None
    args: tuple[str, ...]
    gpu_args: tuple[tuple[tuple[str, str | None], tuple[str, ...]], ...]
    variants: tuple[RecipeVariant, ...]
    left_out: tuple[str, ...]

    @property
    def repositories(self) -> tuple[str, ...]:
        """The other repositories that it serves from."""
        return tuple(dict.fromkeys(variant.repo for variant in self.variants if variant.repo))


def read(content: Any, *, repo: str, url: str) -> Recipe | str:
    """The recipe for `repo` in what `url` answered; why it is none, where it is not."""
    if not isinstance(content, dict):
        return "it is not a recipe"
    if str(content.get("hf_id", "")).lower() != repo.lower():
        return f"it is for another model: {content.get('hf_id')}"
    meta, model = _table(content, "meta"), _table(content, "model")
    tasks = meta.get("tasks")
    if isinstance(tasks, list) and tasks and not _TASKS & set(map(str, tasks)):
        return f"it is not for a model that writes text ({', '.join(map(str, tasks))})"
    features = _features(content)
    variants = tuple(_variants(content, repo))
    always = options(model.get("base_args"))
    speculation = options(_table(_table(content, "features"), _SPECULATION).get("args"))
    found = (*always, *(option for each in features.values() for option in each))
    return Recipe(
        url=url,
        title=_line(meta.get("title")),
        about=_line(meta.get("description")),
        min_version=_version(model.get("min_vllm_version")),
        tool_parser=_parser(features.get("tool_calling", ()), "--tool-call-parser"),
        reasoning_parser=_parser((*always, *features.get("reasoning", ())), "--reasoning-parser"),
        drafts=None if _SPECULATION in _optional(content) else recipe_options.drafts(speculation),
        args=recipe_options.taken(found),
        gpu_args=tuple(_gpu_args(content)),
        variants=variants,
        left_out=tuple(dict.fromkeys((*recipe_options.left_out(found), *_left_out(content, variants)))),
    )


def merge(own: Mapping[str, Any], recipe: Recipe, others: Mapping[str, Mapping[str, Any] | str]) -> dict[str, Any]:
    """A profile's table, made of the repository's own and of a recipe; what the recipe says of an engine comes first.

    `others` are the tables derived from the recipe's other repositories, or why there is none.
    """
    variants, unused = _merged_variants(own, recipe, others)
    versions = [recipe.min_version, *(each.min_version for each in recipe.variants if each.name not in unused)]
    version = max(versions, key=_numbers)
    by_engine = {
        "tool_parser": recipe.tool_parser,
        "reasoning_parser": recipe.reasoning_parser,
        "min_version": version,
        "args": list(recipe.args),
    }
    left_out = [*recipe.left_out, *(f"variant {name} ({why})" for name, why in unused.items())]
    notes = [f"vLLM's recipe also says, and this profile does not: {'; '.join(left_out)}"] if left_out else []
    speculative = {"method": "mtp", "tokens": recipe.drafts} if recipe.drafts else None
    made = {
        **own,
        "title": recipe.title or own["title"],
        "about": _sentence(recipe.about) or own["about"],
        "source": f"{recipe.url}; {own['source']}",
        "notes": [*_still_true(own, recipe), *notes],
        **{key: {**own.get(key, {}), VLLM: value} for key, value in by_engine.items() if value},
        "speculative": speculative,
        "gpu": [_gpu_table(generation, args) for generation, args in recipe.gpu_args],
        "variant": variants,
    }
    return {key: made[key] for key in _ORDER if made.get(key) not in (None, [], {})}


# As profiles are written: a table must not stand before a plain key.
_ORDER = (
    "title", "about", "source", "checked", "runs_on", "context_min", "yarn_factor", "notes", "config", "tool_parser",
    "reasoning_parser", "min_version", "speculative", "args", "gpu", "variant",
)  # fmt: skip


# -- reading: whatever has another shape than the format says is as good as not there --


def _table(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = content.get(key)
    return found if isinstance(found, dict) else {}


def _line(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def _version(value: Any) -> str:
    found = re.fullmatch(r"\D{0,3}(\d+(?:\.\d+)+)", str(value))
    return found[1] if found else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


def _optional(content: Mapping[str, Any]) -> set[str]:
    listed = content.get("opt_in_features")
    return set(map(str, listed)) if isinstance(listed, list) else set()


def _features(content: Mapping[str, Any]) -> dict[str, tuple[recipe_options.Option, ...]]:
    """The options of what agents need. Tools are never optional for them; thoughts are, where the recipe says so."""
    optional = _optional(content) - {"tool_calling"}
    told = _table(content, "features")
    return {name: options(_table(told, name).get("args")) for name in _FEATURES if name in told and name not in optional}


def _parser(found: tuple[recipe_options.Option, ...], name: str) -> str:
    """The engine's own parser of that name; none where a plugin, which is a file of code, would bring it."""
    parser = recipe_options.value(found, name) or ""
    brought = any(option.plain == f"{name}-plugin" for option in found)
    return parser if _PARSER.fullmatch(parser) and not brought else ""


def _gpu_args(content: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str | None], tuple[str, ...]]]:
    told = _table(content, "hardware_overrides")
    for name, generation in _GENERATIONS.items():
        if args := recipe_options.taken(options(_table(told, name).get("extra_args"))):
            yield generation, args


def _variants(content: Mapping[str, Any], repo: str) -> Iterator[RecipeVariant]:
    told = _table(content, "variants")
    for name in told:
        variant = _table(told, name)
        if not variant or _is_for_others(name, variant):
            continue
        precision = str(variant.get("precision"))
        place = str(variant.get("model_id") or repo)
        yield RecipeVariant(
            name=re.sub(r"[^a-z0-9._-]+", "-", name.lower()),
            precision=_PRECISIONS.get(precision, precision),
            repo="" if place.lower() == repo.lower() or not _REPOSITORY.fullmatch(place) else place,
            args=recipe_options.taken(options(variant.get("extra_args"))),
            min_version=_version(variant.get("min_vllm_version")),
        )


def _is_for_others(name: str, variant: Mapping[str, Any]) -> bool:
    """Whether a variant is for GPUs of other makers alone."""
    brand = str(_table(variant, "precision_hardware").get("brand", "NVIDIA"))
    on = variant.get("supported_hardware")
    elsewhere = isinstance(on, list) and bool(on) and all(str(each).startswith(_OTHER_MAKERS) for each in on)
    return brand != "NVIDIA" or elsewhere or name.startswith("amd") or str(variant.get("model_id", "")).startswith("amd/")


def _left_out(content: Mapping[str, Any], variants: tuple[RecipeVariant, ...]) -> Iterator[str]:
    """What a recipe says that no profile does."""
    model, told = _table(content, "model"), _table(content, "variants")
    if model.get("nightly_required") is True or (model.get("min_vllm_version") and not _version(model["min_vllm_version"])):
        yield "it needs a newer vLLM than any release"
    yield from _environment(_table(model, "base_env"))
    yield from _overrides(content, "")
    for variant in variants:
        each = next(_table(told, name) for name in told if re.sub(r"[^a-z0-9._-]+", "-", name.lower()) == variant.name)
        about = f" ({variant.name})"
        yield from (word + about for word in recipe_options.left_out(options(each.get("extra_args"))))
        yield from (word + about for word in _environment(_table(each, "extra_env")))
        yield from _overrides(each, about, taken=False)
    for each in _table(model, "install").get("extras") or ():
        if isinstance(each, dict) and not each.get("optional") and "NVIDIA" in str(each.get("brand", "NVIDIA")):
            yield f"installed beside it: {_line(each.get('command'))}"
    yield from (f"unknown field {field}" for field in _unknown(content))


def _overrides(content: Mapping[str, Any], about: str, *, taken: bool = True) -> Iterator[str]:
    """Of options by hardware, what was not taken. What is for one model of GPU alone is a page where there is any."""
    told = _table(content, "hardware_overrides")
    for name in told:
        if name in _GENERATIONS:
            found = options(_table(told, name).get("extra_args"))
            words = (*recipe_options.left_out(found, some=taken), *_environment(_table(_table(told, name), "extra_env")))
            yield from (f"{word} on {name}{about}" for word in words)
        elif not name.startswith(_OTHER_MAKERS):
            yield f"what is for {name} alone"


def _environment(variables: Mapping[str, Any]) -> Iterator[str]:
    return (f"{name}={value}" for name, value in variables.items())


def _unknown(content: Mapping[str, Any]) -> Iterator[str]:
    yield from (key for key in content if key not in _KNOWN[""])
    yield from (f"model.{key}" for key in _table(content, "model") if key not in _KNOWN["model"])
    told = _table(content, "variants")
    yield from (f"variants.{name}.{key}" for name in told for key in _table(told, name) if key not in _KNOWN["variants"])


# -- merging --


def _still_true(own: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """The repository's notes, less that no tool parser is known where the recipe knows one."""
    return [note for note in own.get("notes", []) if not (recipe.tool_parser and note.startswith("no tool parser is known"))]


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def _gpu_table(generation: tuple[str, str | None], args: tuple[str, ...]) -> dict[str, Any]:
    compute, below = generation
    return {"compute": compute, **({"below": below} if below else {}), "args": {VLLM: list(args)}}


def _merged_variants(
    own: Mapping[str, Any], recipe: Recipe, others: Mapping[str, Mapping[str, Any] | str]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The variants, best precision first, and why others of the recipe are none, by their names.

    The weights' facts are each repository's own. What the repository itself can be served as stays, where the recipe knows
    nothing better of that precision.
    """
    made: dict[str, dict[str, Any]] = {}
    unused: dict[str, str] = {}
    for variant in recipe.variants:
        found = _weights(own, variant, others)
        if isinstance(found, str):
            unused[variant.name] = found
            continue
        precision = variant.precision if _alike(variant.precision, found["precision"]) else found["precision"]
        name = precision if variant.name == "default" else variant.name
        made.setdefault(name, {**found, "name": name, "precision": precision, **_with(found, variant.args)})
    served = {(each.get("repo"), _bits(each["precision"])) for each in made.values()}
    for each in own["variant"]:
        if (each.get("repo"), _bits(each["precision"])) not in served:
            made.setdefault(each["name"], dict(each))
    return sorted(made.values(), key=lambda each: -_bits(each["precision"])), unused


def _weights(
    own: Mapping[str, Any], variant: RecipeVariant, others: Mapping[str, Mapping[str, Any] | str]
) -> Mapping[str, Any] | str:
    """The derived variant with a recipe's weights, or why there is none."""
    if not variant.repo:
        whole: Mapping[str, Any] = own["variant"][0]
        lower = next((each for each in own["variant"] if _alike(each["precision"], variant.precision)), None)
        return lower or (whole if variant.name == "default" else f"{whole['repo']} is not in {variant.precision}")
    table = others[variant.repo]
    if isinstance(table, str):
        return table
    if _shape(table["config"]) != _shape(own["config"]):
        return f"{variant.repo} is another model"
    found: Mapping[str, Any] = table["variant"][0]
    return found


def _shape(config: Mapping[str, Any]) -> tuple[object, ...]:
    text = config.get("text_config")
    place = text if isinstance(text, dict) else config
    return tuple(place.get(key) for key in ("num_hidden_layers", "hidden_size", "vocab_size"))


def _alike(one: str, other: str) -> bool:
    return one in memory.BITS and other in memory.BITS and _bits(one) == _bits(other)


def _bits(precision: str) -> int:
    return int(memory.BITS[precision])


def _with(found: Mapping[str, Any], args: tuple[str, ...]) -> dict[str, Any]:
    if not args:
        return {}
    told = found.get("args", {})
    return {"args": {**told, VLLM: [*told.get(VLLM, []), *args]}}
