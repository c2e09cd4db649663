"""In how many bits a checkpoint's elements are stored, read from config.json's `quantization_config`."""

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any

SIXTEEN = 16.0
# What no method quantises: engines gather from embeddings, and routers and norms are too small and too sensitive.
NEVER = frozenset({"embedding", "norm", "router", "vision", "convolution", "rotary"})


@dataclass(frozen=True, slots=True)
class Quantisation:
    """`bits` of one quantised element, scales included; `kept` parts and modules matching `ignored` have `rest` bits.

    `groups` are other bits of some parts (a checkpoint of FP4 experts and FP8 attention); `kv_dtype` is what the checkpoint
    asks of the KV cache, "" for nothing. `block` are the outputs and inputs that share a scale; 0: all of them.
    """

    method: str
    bits: float
    kept: frozenset[str] = frozenset()
    ignored: tuple[str, ...] = ()
    groups: tuple[tuple[str, float], ...] = ()
    kv_dtype: str = ""
    rest: float = SIXTEEN
    block: tuple[int, int] = (0, 0)

    def bits_of(self, part: str, modules: Iterable[str], layers: Iterable[int] = ()) -> float:
        """Bits of an element of `part`, whose weights lie in `modules` ("mlp.gate_proj") of `layers`: their average.

        Without layers the modules are whole names ("lm_head").
        """
        names = tuple(modules)
        if part in NEVER or part in self.kept or not names:
            return self.rest
        # An output head is quantised only where a list of what is not leaves it out.
        quantised = self.rest if part == "head" and not self.ignored else dict(self.groups).get(part, self.bits)
        left = _ignored_share(self.ignored, names, tuple(layers)) if self.ignored else 0.0
        return left * self.rest + (1 - left) * quantised


@lru_cache(maxsize=1024)
def _ignored_share(ignored: tuple[str, ...], modules: tuple[str, ...], layers: tuple[int, ...]) -> float:
    """The share of modules that an ignore list covers: some lists have hundreds of entries, and each plan asks anew."""
    plain, patterns = _sorted(ignored)
    names = [f"model.layers.{layer}.{module}" for layer in layers for module in modules] or list(modules)
    return sum(_covered(name, plain, patterns) for name in names) / len(names)


@lru_cache(maxsize=128)
def _sorted(ignored: tuple[str, ...]) -> tuple[frozenset[str], tuple[re.Pattern[str], ...]]:
    """Entries that are a module or a part of a path, and those that are a regular expression ("re:...") or a glob."""
    # Models with more than text put their decoder one level down.
    ignored = tuple(re.sub(r"language_model\\?\.", "", entry) for entry in ignored)
    plain = frozenset(entry for entry in ignored if not entry.startswith("re:") and "*" not in entry)
    told = [entry.removeprefix("re:") for entry in ignored if entry.startswith("re:")]
    starred = [entry for entry in ignored if "*" in entry and not entry.startswith("re:")]
    globs = [fnmatch.translate(form) for entry in starred for form in (entry, f"*{entry}")]
    return plain, tuple(map(re.compile, (*told, *globs)))


def _covered(name: str, plain: frozenset[str], patterns: Iterable[re.Pattern[str]]) -> bool:
    words = name.split(".")
    paths = (".".join(words[first:end]) for first in range(len(words)) for end in range(first + 1, len(words) + 1))
    return any(path in plain for path in paths) or any(pattern.match(name) for pattern in patterns)


# What a variant is quantised to while it loads, or was before; bits of one element with its share of scales. mxfp4: an 8-bit
# exponent for 32 elements (OCP MX 1.0); nvfp4: an 8-bit scale for 16; int4: a 16-bit scale and a 4-bit zero for 128.
PRECISIONS: Mapping[str, Quantisation] = MappingProxyType(
    {
        "fp32": Quantisation("fp32", 32.0, rest=32.0),
        "bf16": Quantisation("bf16", SIXTEEN),
        "fp16": Quantisation("fp16", SIXTEEN),
        "fp8": Quantisation("fp8", 8.0),
        "int8": Quantisation("int8", 8.0),
        "mxfp4": Quantisation("mxfp4", 4.25, block=(1, 32)),
        "nvfp4": Quantisation("nvfp4", 4.5, block=(1, 16)),
        "int4": Quantisation("int4", 4 + (16 + 4) / 128),
    }
)
_FP4_EXPERTS = MappingProxyType({"deepseek_v4": "fp4", "deepseek_v41": "fp4"})
_ATTENTION = frozenset({"attention", "state"})
_QUANTISED = frozenset({*_ATTENTION, "mlp", "experts", "shared", "head"})
# Nemotron-H's own names: all of its layers are called mixers.
_WRAPPED = (
    (re.compile(r"^backbone\.layers\b"), "model.layers"),
    (re.compile(r"\.mixer\.([qkvo]_proj)$"), r".self_attn.\1"),
)


def read(config: Mapping[str, Any]) -> Quantisation | None:
    """What `quantization_config` (or `compression_config`) says; None where all is in 16 bits. Others count as 8."""
    text = config.get("text_config")
    inner = text.get("quantization_config") if isinstance(text, Mapping) else None
    told = config.get("quantization_config") or config.get("compression_config") or inner
    if not isinstance(told, Mapping):
        return None
    method = str(told.get("quant_method") or told.get("quant_algo") or "").lower()
    if method == "mxfp4":
        # OpenAI's checkpoints: the experts alone (transformers, integrations/mxfp4.py).
        return replace(PRECISIONS["mxfp4"], kept=_ATTENTION | {"mlp", "shared", "head"})
    reader = {
        "fp8": _fp8,
        "fbgemm_fp8": _fp8,
        "compressed-tensors": _compressed,
        "modelopt": _modelopt,
        "modelopt_fp4": _modelopt,
        "bitsandbytes": _bitsandbytes,
    }.get(method, _grouped)
    found = reader(told, method)
    # DeepSeek V4 has its experts in FP4 unless it says otherwise (vllm, models/deepseek_v41: expert_dtype).
    if method == "fp8" and config.get("expert_dtype", _FP4_EXPERTS.get(str(config.get("model_type")))) == "fp4":
        return replace(found, groups=(("experts", PRECISIONS["mxfp4"].bits),))
    return found


def _fp8(told: Mapping[str, Any], method: str) -> Quantisation:
    block = told.get("weight_block_size")
    if not isinstance(block, list) or len(block) != 2:  # noqa: PLR2004 - outputs, inputs
        return Quantisation(method, 8.0, ignored=_ignored(told))
    outputs, inputs = map(int, block)
    return Quantisation(method, 8 + 32 / (outputs * inputs), ignored=_ignored(told), block=(outputs, inputs))


def _compressed(told: Mapping[str, Any], method: str) -> Quantisation:
    """compressed-tensors: `config_groups` with the bits and the group size of their weights."""
    groups = told.get("config_groups")
    schemes = [each.get("weights") or {} for each in groups.values()] if isinstance(groups, Mapping) else []
    bits = [_scheme_bits(scheme) for scheme in schemes] or [8.0]
    targets = [" ".join(map(str, each.get("targets") or ())) for each in groups.values()] if isinstance(groups, Mapping) else []
    parts: dict[str, float] = {}
    if len(bits) > 1:
        for target, width in zip(targets, bits, strict=True):
            parts |= dict.fromkeys(_parts_of(target), width)
    cache = told.get("kv_cache_scheme")
    return Quantisation(
        method,
        max(bits),
        ignored=_ignored(told),
        groups=tuple(parts.items()),
        kv_dtype="fp8" if isinstance(cache, Mapping) and cache.get("num_bits") == 8 else "",  # noqa: PLR2004 - bits
        block=max(map(_scheme_block, schemes), default=(0, 0)),
    )


def _scheme_bits(scheme: Mapping[str, Any]) -> float:
    bits, size = float(scheme.get("num_bits") or 8), scheme.get("group_size") or 0
    if size <= 0:
        return bits
    # FP4 has 8-bit scales, integers 16-bit ones and, if not symmetric, a zero point.
    scale = 8 if scheme.get("type") == "float" else 16 + (0 if scheme.get("symmetric", True) else bits)
    return bits + scale / size


def _scheme_block(scheme: Mapping[str, Any]) -> tuple[int, int]:
    block = scheme.get("block_structure")
    if isinstance(block, list) and len(block) == 2:  # noqa: PLR2004 - outputs, inputs
        return int(block[0]), int(block[1])
    size = scheme.get("group_size") or 0
    return (1, int(size)) if size > 0 else (0, 0)


def _parts_of(target: str) -> set[str]:
    if "expert" in target:
        return {"shared"} if "shared" in target else {"experts"}
    if "lm_head" in target:
        return {"head"}
    if "in_proj" in target or "out_proj" in target:
        return {"state"}
    if "attn" in target or "attention" in target:
        return set(_ATTENTION)
    return {"mlp", "shared"} if "mlp" in target else set()


def _modelopt(told: Mapping[str, Any], method: str) -> Quantisation:
    """NVIDIA's: `quant_algo` NVFP4, FP8, W4A16_AWQ or MIXED_PRECISION; `kv_cache_quant_algo`; `ignore` or `exclude_modules`."""
    inner = told.get("quantization")
    facts = {**told, **inner} if isinstance(inner, Mapping) else dict(told)
    algorithm = str(facts.get("quant_algo") or method).upper()
    cache = facts.get("kv_cache_quant_algo") or facts.get("kv_cache_scheme") or ""
    eight = cache.get("num_bits") == 8 if isinstance(cache, Mapping) else "FP8" in str(cache).upper()  # noqa: PLR2004 - bits
    bits = _algorithm_bits(algorithm)
    size = {4.5: 16, 4.25: 32}.get(bits, int(facts.get("group_size") or 0))
    found = Quantisation(
        method,
        bits,
        ignored=_ignored(facts),
        kv_dtype="fp8" if eight else "",
        block=(1, size) if size > 0 else (0, 0),
    )
    layers = facts.get("quantized_layers")
    if not isinstance(layers, Mapping) or not layers:
        return found
    # Mixed: each layer is named with its own algorithm, and what is not named is in 16 bits.
    widths: dict[str, float] = {}
    for name, scheme in layers.items():
        for part in _parts_of(str(name)):
            widths[part] = max(widths.get(part, 0.0), _algorithm_bits(str(scheme.get("quant_algo") or "").upper()))
    return replace(found, kept=_QUANTISED - widths.keys(), groups=tuple(widths.items()))


def _algorithm_bits(algorithm: str) -> float:
    known = ("MXFP8", 8.25), ("MXFP4", 4.25), ("FP4", 4.5), ("FP8", 8.0), ("W4", 4 + 20 / 128), ("MIXED", 4.5)
    return next((width for word, width in known if word in algorithm), 8.0)


def _bitsandbytes(told: Mapping[str, Any], method: str) -> Quantisation:
    # NF4: a 32-bit maximum for 64 elements, itself in 8 bits where it is quantised twice (bitsandbytes, functional.py).
    four = 4 + (8 if told.get("bnb_4bit_use_double_quant") else 32) / 64
    skipped = told.get("llm_int8_skip_modules") or ()
    return Quantisation(method, four if told.get("load_in_4bit") else 8.0, ignored=tuple(map(str, skipped)))


def _grouped(told: Mapping[str, Any], method: str) -> Quantisation:
    """AWQ, GPTQ, auto-round and their like: `bits` in groups of `group_size`, each with a 16-bit scale and a zero point."""
    bits, size = float(told.get("bits") or told.get("w_bit") or 8), told.get("group_size") or told.get("q_group_size") or 0
    if size <= 0:
        return Quantisation(method, bits, ignored=_ignored(told))
    return Quantisation(method, bits + (16 + bits) / size, ignored=_ignored(told), block=(1, int(size)))


def _ignored(told: Mapping[str, Any]) -> tuple[str, ...]:
    names: list[str] = []
    for key in ("ignore", "modules_to_not_convert", "exclude_modules", "ignored_layers"):
        names += [_unwrapped(str(each)) for each in told.get(key) or ()]
    return tuple(dict.fromkeys(names))


def _unwrapped(name: str) -> str:
    """An entry of an ignore list, as the decoder's modules are called here."""
    for pattern, ours in _WRAPPED:
        name = pattern.sub(ours, name)
    return name
