"""From what a repository or a folder says about its model to a profile. Pure: the files were read elsewhere."""

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher import parsers, profile
from launcher.errors import LauncherError
from launcher.profile import CPU, CUDA, Profile
from launcher.profile_weights import Found, HubWeights, LocalWeights, ModelScopeWeights

CONFIG = "config.json"
TRUST = "--trust-remote-code"
# Both engines call it so (vllm 0.32, engine/arg_utils.py; SGLang 0.5.23, server_args.py).
_TRUSTING = ("vllm", "sglang")
INDEX = "model.safetensors.index.json"

# Repositories of these bring code of their own, but transformers 5 or vLLM 0.32 (transformers_utils/config.py) know the model.
_KNOWN_WITHOUT_CODE = frozenset({"deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "kimi_k2", "minimax_m2"})
# What generates text; a model for ranking or classifying has another class.
_GENERATES = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")
_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "bf16"}
# The lowest compute capability for each 16-bit type: NVIDIA's GPUs have bf16 from Ampere on, and vLLM is built from 7.5 on.
_COMPUTE = {"bf16": "8.0", "fp16": "7.5"}
# How a checkpoint is quantised -> its lowest compute capability (vLLM, model_executor/layers/quantization: get_min_capability).
_QUANTISED = {
    "awq": "7.5",
    "bitsandbytes": "7.5",
    "compressed-tensors": "7.5",
    "fbgemm_fp8": "8.0",
    "fp8": "7.5",
    "gptq": "7.5",
    "modelopt": "8.0",
    "modelopt_fp4": "8.0",
    "mxfp4": "8.0",
}
_EIGHT, _FOUR = 8, 4
# What engines make of 16-bit weights while they load them (vLLM 0.32: config/quantization.py, OnlineQuantScheme; SGLang 0.5.23:
# layers/quantization/fp8.py).
_WHILE_LOADING = {
    "fp8": {"vllm": ["--quantization", "fp8_per_tensor"], "sglang": ["--quantization", "fp8"]},
    "mxfp4": {"vllm": ["--quantization", "mxfp4"]},
}
_NAME_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a model before its weights are fetched.

    `texts` are its small files by name, `sizes` the bytes of its files with weights, as far as they are known. `commit` is the
    repository's that they are of, `code` the modules that it has then.
    """

    weights: Found
    texts: Mapping[str, str]
    sizes: Mapping[str, int]
    seen: dt.date
    commit: str = ""
    code: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        return where(self.weights)

    @property
    def name(self) -> str:
        return served_name(self.weights)


def where(weights: Found) -> str:
    """The repository or the folder, for errors and for finding it again."""
    return str(weights.path) if isinstance(weights, LocalWeights) else weights.repo


def served_name(weights: Found) -> str:
    """What the model is called here: the last part of where it is, in the letters that names may have."""
    last = where(weights).rstrip("/").rpartition("/")[2].lower()
    return re.sub(r"[^a-z0-9._-]+", "-", last).lstrip("._-")[:_NAME_LENGTH].rstrip("-") or "model"


def derive(facts: Facts) -> Profile:
    """The profile of a model that no file describes; raises LauncherError for what cannot be served or is damaged."""
    made = profile.from_table(table(facts), name=facts.name, where=facts.where, origin=facts.where)
    # Not in the table: a file that is made of it is a profile that describes this model.
    notes = (f"no profile describes this model: it was derived from {facts.where}", *made.notes)
    return _trusting(replace(made, notes=notes), facts)


def table(facts: Facts) -> dict[str, Any]:
    """The same as the content of a profile's file."""
    config = _config(facts)
    _refuse_code(config, facts)
    _refuse(config, facts.where)
    model_type, template = str(config.get("model_type")), _template(facts)
    tools = parsers.tools(model_type, template)
    own = _quantisation(config, facts)
    made = {
        "title": facts.where.rstrip("/").rpartition("/")[2],
        "about": f"Derived from its config.json{f', quantised with {own.method}' if own else ''}.",
        "source": f"{CONFIG} of {facts.where}",
        "checked": facts.seen,
        "runs_on": [CUDA] if own else [CPU, CUDA],
        "notes": list(_notes(template, tools)),
        "config": {key: value for key, value in _without_null(config).items() if key not in _QUANTISATION_KEYS},
        "tool_parser": tools,
        "reasoning_parser": parsers.reasoning(model_type, template),
        "variant": list(_variants(config, own, facts)),
    }
    return {key: value for key, value in made.items() if value not in ({}, [])}


def toml(content: Mapping[str, Any], *, schema: Path) -> str:
    """A profile's content as a file, which names the schema for editors."""
    import tomlkit

    return f"#:schema {schema}\n{tomlkit.dumps(content)}"


def _config(facts: Facts) -> Mapping[str, Any]:
    if CONFIG not in facts.texts:
        hint = "engines need the Hugging Face format: config.json beside .safetensors files"
        raise LauncherError(f"{facts.where} has no {CONFIG}", hint=hint)
    return _object(facts, CONFIG)


def _object(facts: Facts, name: str) -> Mapping[str, Any]:
    """The JSON object in a file; empty where there is no such file."""
    try:
        content = json.loads(facts.texts.get(name, "{}"))
    except ValueError as error:
        message = f"{name} of {facts.where} is not valid JSON: {error}"
        raise LauncherError(message, hint="the file is damaged or half written: fetch it again") from None
    if not isinstance(content, dict):
        raise LauncherError(f"{name} of {facts.where} is not a JSON object", hint="fetch the file again")
    return content


def _trusting(made: Profile, facts: Facts) -> Profile:
    """The same with the code of its commit let run, if a person agreed to that; both engines call it alike."""
    if not isinstance(facts.weights, HubWeights) or not facts.weights.code:
        return made
    variants = tuple(
        replace(each, weights=facts.weights, args={engine: (*each.args.get(engine, ()), TRUST) for engine in _TRUSTING})
        for each in made.variants
    )
    note = f"code of {facts.where} runs, as was agreed to for {facts.commit}: {', '.join(facts.code)}"
    return replace(made, variants=variants, notes=(*made.notes, note))


def _refuse_code(config: Mapping[str, Any], facts: Facts) -> None:
    """What would run code that nobody has agreed to; the modules that would run are listed."""
    needs = config.get("auto_map") and str(config.get("model_type")) not in _KNOWN_WITHOUT_CODE
    trusted = isinstance(facts.weights, HubWeights) and facts.weights.code
    if trusted and not facts.code:
        hint = "leave --trust-remote-code out"
        raise LauncherError(f"{facts.where} brings no code of its own at {facts.commit}", hint=hint)
    if trusted and facts.commit != facts.weights.revision:  # type: ignore[union-attr]  # it is the hub's
        message = f"{facts.where} is at {facts.commit}, and --trust-remote-code names another commit"
        raise LauncherError(message, hint="read its code at that commit, and name it in full")
    elsewhere = sorted({name.partition("--")[0] for name in _modules_of(config.get("auto_map")) if "--" in name})
    if (needs or trusted) and elsewhere:
        message = f"{facts.where} would run code out of another repository, {', '.join(elsewhere)}, at no fixed commit"
        raise LauncherError(message, hint="take a model that the engine itself knows")
    if not needs or trusted:
        return
    listed = ", ".join(facts.code) or f"auto_map in its {CONFIG}"
    if not isinstance(facts.weights, HubWeights) or not facts.code:
        message = f"{facts.where} needs code of its own ({listed}), and no commit says which code that is"
        raise LauncherError(message, hint="take the model from its repository, or one that the engine itself knows")
    raise LauncherError(
        f"{facts.where} needs code of its own, which would run here with your rights: {listed}",
        hint=f"read these files at commit {facts.commit}; if you trust them: {TRUST} {facts.commit}",
    )


def _modules_of(auto_map: Any) -> Iterator[str]:
    """The classes that an auto_map names; a tokenizer's are a pair."""
    for value in auto_map.values() if isinstance(auto_map, dict) else ():
        yield from (str(each) for each in (value if isinstance(value, list) else [value]))


def _refuse(config: Mapping[str, Any], where: str) -> None:
    """What is not served, whatever the machine."""
    classes = config.get("architectures")
    if isinstance(classes, list) and classes and not any(str(name).endswith(_GENERATES) for name in classes):
        raise LauncherError(f"{where} does not write text: it is a {classes[0]}", hint="take a model for chat")


def _template(facts: Facts) -> str:
    """The chat template, or all of them where there are several; "" where there is none."""
    if text := facts.texts.get("chat_template.jinja"):
        return text
    value = _object(facts, "chat_template.json").get("chat_template")
    value = value or _object(facts, "tokenizer_config.json").get("chat_template")
    if isinstance(value, list):
        return "\n".join(str(each.get("template", "")) for each in value if isinstance(each, dict))
    return value if isinstance(value, str) else ""


def _notes(template: str, tools: Mapping[str, str]) -> Iterator[str]:
    if not template and not tools:
        yield "it has no chat template: a model that was not trained for chat is no use to an agent"
    elif not tools:
        yield "no tool parser is known for its chat template: agents describe their tools in the prompt instead"


# -- precision and size --


_QUANTISATION_KEYS = ("quantization_config", "compression_config")


@dataclass(frozen=True, slots=True)
class Quantised:
    """How the checkpoint itself is quantised: what it tells of that, the method's name and its bits."""

    method: str
    bits: int
    told: Mapping[str, Any]


def _quantisation(config: Mapping[str, Any], facts: Facts) -> Quantised | None:
    """What the checkpoint tells of its quantisation; None for 16 bits and more."""
    found = next((config[key] for key in _QUANTISATION_KEYS if config.get(key)), None)
    text = config.get("text_config")
    if not found and isinstance(text, dict):
        found = text.get("quantization_config")
    if not found and (modelopt := _object(facts, "hf_quant_config.json").get("quantization")):
        found = {**modelopt, "quant_method": "modelopt"} if isinstance(modelopt, dict) else None
    if not found:
        return None
    method = str(found.get("quant_method", "unknown")) if isinstance(found, dict) else "unknown"
    bits = _bits(method, found) if method in _QUANTISED else None
    if bits is None:
        hint = f"planned are {', '.join(sorted(_QUANTISED))} in 4 or 8 bits; take another quantisation of the model"
        raise LauncherError(f"{facts.where} is quantised in a way that cannot be planned ({method})", hint=hint)
    return Quantised(method, bits, found)


def _bits(method: str, found: Mapping[str, Any]) -> int | None:
    if method in {"fp8", "fbgemm_fp8"}:
        return _EIGHT
    if method == "mxfp4" or found.get("load_in_4bit"):
        return _FOUR
    if found.get("load_in_8bit"):
        return _EIGHT
    said = found.get("bits") or found.get("w_bit")
    if algorithm := str(found.get("quant_algo", "")).upper():
        said = _FOUR if "FP4" in algorithm or "W4" in algorithm else _EIGHT
    if groups := found.get("config_groups"):
        said = _largest(groups)
    return next((bits for bits in (_EIGHT, _FOUR) if said == bits), None)


def _largest(groups: Any) -> int | None:
    """The bits of the widest group: compressed-tensors may keep some layers wider than others."""
    weights = [group.get("weights") for group in groups.values() if isinstance(group, dict)] if isinstance(groups, dict) else []
    bits = [each.get("num_bits") for each in weights if isinstance(each, dict)]
    return max((each for each in bits if isinstance(each, int)), default=None)


def _variants(config: Mapping[str, Any], own: Quantised | None, facts: Facts) -> Iterator[dict[str, Any]]:
    size = _size(facts)
    place = _place(facts.weights)
    if isinstance(facts.weights, HubWeights) and facts.weights.revision:
        place["revision"] = facts.weights.revision
    known = {"size": size} if size else {}
    if own:
        # The width of most elements: what is said of the quantisation tells the rest.
        precision = "fp8" if own.bits == _EIGHT else "mxfp4"
        told = {"quantization_config": _without_null(own.told)}
        yield {"name": own.method, "precision": precision, **place, "compute": _QUANTISED[own.method], **known, **told}
        return
    dtype = _dtype(config)
    precision = _DTYPES.get(dtype, "bf16")
    full: dict[str, Any] = {"name": precision, "precision": precision, **place, "compute": _COMPUTE[precision], **known}
    if dtype not in {"bfloat16", "float16"}:
        full["args"] = {"vllm": ["--dtype", "bfloat16"], "sglang": ["--dtype", "bfloat16"]}
    yield full
    # Quantised by the engine while it loads, as in the profiles that are shipped.
    for name, args in _WHILE_LOADING.items():
        yield {"name": name, "precision": name, **place, "compute": "8.0", **known, "args": args}


def _place(weights: Found) -> dict[str, str]:
    if isinstance(weights, HubWeights):
        return {"repo": weights.repo}
    return {"modelscope": weights.name} if isinstance(weights, ModelScopeWeights) else {"path": str(weights.path)}


def _dtype(config: Mapping[str, Any]) -> str:
    text = config.get("text_config")
    places = [config, text if isinstance(text, dict) else {}]
    said = next((place[key] for place in places for key in ("dtype", "torch_dtype") if place.get(key)), "")
    return str(said).removeprefix("torch.")


def _size(facts: Facts) -> int | None:
    """Bytes of all weights: of the files, if they are all known, else as the index tells; None where nothing does.

    Raises LauncherError for an index that tells no sizes, of files that are not known either.
    """
    if INDEX not in facts.texts:
        return sum(facts.sizes.values()) or None
    index = _object(facts, INDEX)
    names = index.get("weight_map")
    shards = {str(name) for name in names.values()} if isinstance(names, dict) else set()
    if shards and shards <= facts.sizes.keys():
        return sum(facts.sizes[name] for name in shards)
    metadata = index.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    if isinstance(total, int | float) and 0 < total < float("inf"):
        return int(total)
    raise LauncherError(
        f"{INDEX} of {facts.where} tells no sizes, and the weights are not there",
        hint="metadata.total_size is missing: fetch the file again",
    )


def _without_null(value: Any) -> Any:
    """The same without nulls, which TOML does not have: a fact that is null is one that is not told."""
    if isinstance(value, dict):
        return {key: _without_null(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_null(each) for each in value if each is not None]
    return value
