#!/usr/bin/env python3
"""The memory model against measured starts: `scripts/check_memory.py MEASUREMENTS.jsonl CONFIGS.json [--json]`.

MEASUREMENTS.jsonl has one start of vLLM or SGLang a line, CONFIGS.json the facts of each model's config.json (the files in
tests/measurements show both formats). Printed are the median, the 90th percentile and the worst absolute relative error, with
the number of rows: of weights a rank, of tokens given the measured KV cache by kind of attention, and of the KV cache from the
card's total; which rows could not be judged and why; and those worse than 15 %. With --json: predictions alone.

Run it with the project's interpreter, so that it measures the launcher's own functions.
"""

import argparse
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from launcher import architecture, layers, machines, memory, parts
from launcher.architecture import Architecture
from launcher.engines import sglang_memory, vllm_memory
from launcher.errors import LauncherError
from launcher.gpu import GIB
from launcher.quantisation import PRECISIONS, Quantisation

BAD = 0.15
NO_TOTAL = "the card's total is not known: no KV cache from it"
NO_DRAFT = "a draft model whose facts are not given takes part of the memory"
KINDS = ("plain", "sliding", "hybrid", "latent")
# Facts that such files leave out: what the released models of the type have, where its class has another default.
RELEASED: Mapping[str, Mapping[str, Any]] = {
    "gemma3": {"sliding_window": 1024},
    "gemma3_text": {"sliding_window": 512},
    "gemma4_unified": {"attention_k_eq_v": True, "num_global_key_value_heads": 1},
    "laguna": {"sliding_window": 512, "sliding_window_pattern": 4},
}
# Databases tell a window that is stretched; the released models have this one, and tables of positions as long.
STRETCHED: Mapping[str, int] = {"gemma3": 131_072, "gemma3_text": 32_768}
LETTERS = {"S": "sliding_attention", "F": "full_attention", "L": "linear_attention", "C": "chunked_attention"}
# Memory that NVML does not tell, and of which the system's share grows while an engine loads (GB10: 0.4 to 6 GiB).
UNIFIED = re.compile(r"GB10|Thor|Orin|Jetson")
UNIFIED_EXTRA = 5 * GIB // 2
# A CUDA context and the driver take this of a card before anything is loaded (78.57 of 79.18 GiB were free on an H100).
CONTEXT = round(0.6 * GIB)
# And a group's communication (137.9 of an H200's 139.8 GiB were free for each of eight ranks).
COMMUNICATION = round(1.3 * GIB)
# vLLM's old engine took a whole context at once, but longer ones than this in chunks of 512 (0.6, engine/arg_utils.py).
V0_LONG = 32_768
# A build of one model whose file sizes are those of its facts' twin: not this far from what is counted.
TWIN = 0.15


@dataclass(frozen=True, slots=True)
class Prediction:
    """What would be measured: GiB a rank, tokens, whether it starts. None: cannot be said; `skipped` has the reason then."""

    id: str
    weights_gib: float | None = None
    kv_tokens_from_measured_kv: int | None = None
    kv_gib: float | None = None
    would_start: bool | None = None
    skipped: str | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """A measured start, and the model as this row loads it."""

    row: Mapping[str, Any]
    model: Architecture
    loaded: Quantisation
    files: int | None

    def number(self, key: str, default: float = 0) -> float:
        """A number of the row, or a default where it has none."""
        value = self.row.get(key)
        return value if isinstance(value, int | float) else default

    @property
    def tensor(self) -> int:
        return int(self.number("tp", 1)) or 1

    @property
    def pipeline(self) -> int:
        return int(self.number("pp", 1)) or 1

    @property
    def gpu(self) -> str:
        return str(self.row.get("gpu_name") or "")

    @property
    def total(self) -> int | None:
        """Bytes of the card: as the row says, or as machines.py knows the card; None if neither does."""
        told = self.number("gpu_mem_total_gib")
        return round(told * GIB) if told else _known_total(self.gpu)


def main() -> int:
    """Read, predict, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measurements", type=Path)
    parser.add_argument("configs", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        rows = [json.loads(line) for line in options.measurements.read_text(encoding="utf-8").splitlines() if line.strip()]
        configs = json.loads(options.configs.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"cannot read the measurements: {error}", file=sys.stderr)
        return 1
    predictions = [predict(row, configs) for row in rows]
    if options.json:
        print(json.dumps({"rows": [asdict(each) for each in predictions]}, indent=2))
    else:
        print(report(rows, predictions, configs))
    return 0


def predict(row: Mapping[str, Any], configs: Mapping[str, Any]) -> Prediction:
    """What the launcher's memory model says about a row."""
    identity = str(row.get("id"))
    try:
        start = read_start(row, configs)
    except LauncherError as error:
        return Prediction(identity, skipped=str(error))
    engine = {"vllm": _on_vllm, "sglang": _on_sglang}.get(str(row.get("engine")))
    if engine is None:
        return Prediction(identity, skipped=f"no rule for the engine {row.get('engine')!r}")
    predicted = engine(start)
    return replace(predicted, weights_gib=None if predicted.weights_gib is None else round(predicted.weights_gib, 3))


def read_start(row: Mapping[str, Any], configs: Mapping[str, Any]) -> Start:
    """The row with its model's facts, completed; raises LauncherError with the reason where there are none."""
    name = str(row.get("model"))
    entry = configs.get(name)
    if not isinstance(entry, Mapping) or not isinstance(entry.get("config"), Mapping):
        raise LauncherError(f"no facts about {name}")
    elements = entry.get("total_parameters")
    try:
        facts = completed(entry["config"], elements)
    except (TypeError, ValueError) as error:
        raise LauncherError(f"the facts about {name} are no numbers: {error}") from None
    model = architecture.read(facts, where=name)
    loaded = _precision(row, model)
    files = _files(row, model, elements if isinstance(elements, int) else None, loaded, whole="hidden_size" in entry["config"])
    if files and files < 0.75 * _stored(model) and not model.quantisation and loaded.bits < PRECISIONS["bf16"].bits:
        model = replace(model, quantisation=loaded)  # the files are quantised already
    return Start(row, model, loaded, files)


def completed(config: Mapping[str, Any], elements: object = None) -> Mapping[str, Any]:
    """A config.json's facts out of a database's, which leave some out and call others by another name."""
    facts = dict(config)
    if not facts.get("num_experts") and not facts.get("n_routed_experts") and not facts.get("num_local_experts"):
        facts.setdefault("intermediate_size", facts.get("moe_intermediate_size"))
    model_type = str(facts.get("model_type", ""))
    for key, value in RELEASED.get(model_type, {}).items():
        facts.setdefault(key, value)
    if model_type in STRETCHED:
        facts["max_position_embeddings"] = min(facts.get("max_position_embeddings") or math.inf, STRETCHED[model_type])
    heads = int(facts.get("num_attention_heads") or 1)
    facts["hidden_size"] = facts.get("hidden_size") or heads * int(facts.get("head_dim") or 128)
    facts["vocab_size"] = facts.get("vocab_size") or (262_144 if model_type.startswith("gemma") else 131_072)
    if not facts.get("intermediate_size") and not facts.get("moe_intermediate_size"):
        facts["intermediate_size"] = _between(facts, elements)
    told = facts.get("layer_types_count")
    if isinstance(told, Mapping) and "layer_types" not in facts:
        facts["layer_types"] = _layer_types(facts, told)
    return {key: value for key, value in facts.items() if value is not None}


def _between(facts: Mapping[str, Any], elements: object) -> int:
    """The size between an MLP's halves that gives the model its number of elements."""
    hidden, number = int(facts["hidden_size"]), int(facts.get("num_hidden_layers") or 1)
    if not isinstance(elements, int):
        return 4 * hidden
    left = elements - int(facts["vocab_size"]) * hidden - number * 4 * hidden**2
    return max(hidden, left // (number * 3 * hidden))


def _layer_types(facts: Mapping[str, Any], told: Mapping[str, Any]) -> list[str]:
    """The layers' kinds: by the facts' own interval if its counts are those told, else the pattern's letters, repeated."""
    text = layers.with_defaults(facts)
    words = {layers.SLIDING: "sliding_attention", layers.FULL: "full_attention", layers.STATE: "linear_attention"}
    by_rule = [words.get(kind, "chunked_attention") for kind in layers.kinds(text)]
    if Counter(by_rule) == Counter(told):
        return by_rule
    shown = [LETTERS[letter] for letter in str(facts.get("layer_types_pattern", "")).split() if letter in LETTERS]
    spread = [name for name, count in told.items() for _ in range(int(count))]
    for period in range(1, len(shown) + 1):
        found = [shown[number % period] for number in range(len(spread))] if shown else []
        if Counter(found) == Counter(told):
            return found
    return spread


def _precision(row: Mapping[str, Any], model: Architecture) -> Quantisation:
    """What the row says that the weights are loaded in: by its own words, else the model's name, else the facts."""
    told = f"{row.get('quantization') or ''} {row.get('model') or ''}".lower()
    words = (
        ("mxfp4", "mxfp4"), ("nvfp4", "nvfp4"), ("modelopt_fp4", "nvfp4"), ("w8a8", "int8"), ("int8", "int8"),
        ("w4a16", "int4"),
        ("awq", "int4"), ("gptq", "int4"), ("int4", "int4"), ("4bit", "int4"), ("fp8", "fp8"),
    )  # fmt: skip
    name = next((precision for word, precision in words if word in told), None)
    if model.quantisation and (name is None or model.quantisation.method.endswith(name) or name == "fp8"):
        return model.quantisation
    if name is None:
        wide = row.get("dtype") == "float32"
        return PRECISIONS["fp32" if wide else "bf16"]
    if name == "mxfp4":
        return Quantisation("mxfp4", PRECISIONS["mxfp4"].bits, kept=frozenset({"attention", "state", "mlp", "shared"}))
    if name == "nvfp4" and "fp8" in told:
        return replace(PRECISIONS["nvfp4"], groups=(("attention", 8.0), ("state", 8.0)))
    if name == "nvfp4" and model.experts and "compressed" not in told:
        # NVIDIA's own builds of mixtures keep what is not an expert.
        return replace(PRECISIONS["nvfp4"], kept=frozenset({"attention", "shared", "mlp"}))
    return PRECISIONS[name]


def _stored(model: Architecture) -> int:
    """Bytes of the model in 16 bits, or in what its checkpoint is, with its draft heads."""
    elements = sum(part.elements for part in model.parts if part.kind not in parts.MADE)
    return elements * model.element_bytes


def _files(
    row: Mapping[str, Any], model: Architecture, elements: int | None, loaded: Quantisation, *, whole: bool
) -> int | None:
    """Bytes of the weight files: as the row tells, or two for each element; None where neither can be trusted."""
    told = row.get("checkpoint_size_gib")
    if isinstance(told, int | float) and told > 0:
        return round(told * GIB)
    if elements is None or model.quantisation:
        return None
    vocabulary = model.vocab * model.hidden
    counted = _stored(model) // model.element_bytes
    if whole and model.tied_embeddings and 0.8 * vocabulary < elements - counted < 1.8 * vocabulary:
        elements -= vocabulary  # a tied head that was counted twice
    # Elements of quantised files are counted packed: only those of a twin in 16 bits can be these.
    alike = abs(elements / counted - 1) < TWIN
    return elements * model.element_bytes if alike or not whole or loaded.bits >= PRECISIONS["bf16"].bits else None


def _weights(start: Start, *, drafts: bool) -> int:
    """Bytes a rank; of a pipeline those of the fullest stage."""
    stages = vllm_memory.stages(start.model.layers, start.pipeline) if start.pipeline > 1 else (None,)
    return max(
        memory.weights(start.model, start.loaded, start.tensor, files=start.files, drafts=drafts, stage=stage)
        for stage in stages
    )


def _kv_dtype(start: Start) -> str:
    told = str(start.row.get("kv_cache_dtype") or "auto")
    if told.startswith("fp8"):
        return "fp8"
    if told == "auto" and start.loaded.kv_dtype:
        return start.loaded.kv_dtype
    return "fp32" if told == "auto" and start.row.get("dtype") == "float32" else "bf16"


def _speculates(start: Start) -> str:
    return str(start.row.get("speculative") or "").lower()


def _on_vllm(start: Start) -> Prediction:
    version = vllm_memory.parse_version(str(start.row.get("engine_version") or ""))
    name = _speculates(start)
    drafts = "mtp" in name and start.model.drafts > 0
    setting = _vllm_setting(start, version, drafts=drafts)
    weights = _weights(start, drafts=drafts)
    context = int(start.number("max_concurrency_len") or start.number("max_model_len") or start.model.context)
    identity = str(start.row.get("id"))
    kv = _vllm_kv(start, weights, setting)
    if name and not drafts:
        return Prediction(identity, weights_gib=weights / GIB, skipped=NO_DRAFT)
    starts = None if kv is None else kv > 0 and vllm_memory.tokens(start.model, kv, context, setting) >= context
    measured = start.number("kv_avail_gib")
    tokens = vllm_memory.tokens(start.model, round(measured * GIB), context, setting) if measured > 0 else None
    return Prediction(
        identity,
        weights_gib=weights / GIB,
        kv_tokens_from_measured_kv=None if tokens is None else _as_printed(start, tokens),
        kv_gib=None if kv is None else round(kv / GIB, 3),
        would_start=starts,
        skipped=None if kv is not None else NO_TOTAL,
    )


def _as_printed(start: Start, tokens: int) -> int:
    """What a log tells of them: where it is the maximum concurrency, two decimals of it (kv_cache_utils.py, "%.2fx")."""
    length = start.number("max_concurrency_len")
    return round(round(tokens / length, 2) * length) if length else tokens


def _vllm_setting(start: Start, version: vllm_memory.Version, *, drafts: bool) -> vllm_memory.Setting:
    unified = bool(UNIFIED.search(start.gpu))
    # A card that the row does not name: by the size in its name, else of 80 GB as most that are published.
    sized = re.search(r"(\d+)\s?GB", start.gpu)
    total = None if unified else start.total or (int(sized[1]) if sized else 80) * GIB
    batched, _ = vllm_memory.batch_defaults(total, start.gpu, version)
    context = int(start.number("max_model_len") or start.model.context)
    if version < (0, 9) and not start.row.get("max_num_batched_tokens"):
        batched = max(2_048, context) if context <= V0_LONG else 512
    if start.model.kind == "sliding" and start.model.model_type.startswith("gemma4") and version >= (0, 23):
        batched = max(batched, 2_496)  # an image or a video must fit into one batch (arg_utils.py, prefix-LM models)
    setting = vllm_memory.Setting(
        tensor=start.tensor,
        kv_dtype=_kv_dtype(start),
        batched=int(start.number("max_num_batched_tokens", batched)),
        version=version,
        drafts=start.model.drafts if drafts else 0,
        speculated=int(start.number("num_speculative_tokens", 1)) if drafts else 0,
        contexts=_context_ranks(start.row),
    )
    return _with_printed_block(start, setting)


def _context_ranks(row: Mapping[str, Any]) -> int:
    """Ranks of decode context parallelism: the row's `dcp`, or what its log's name says ("glm-dcp2-mtp0/final.log")."""
    told = row.get("dcp")
    if isinstance(told, int) and told > 0:
        return told
    found = re.search(r"\bdcp(\d+)\b", str(row.get("source") or ""))
    return int(found[1]) if found else 1


def _with_printed_block(start: Start, setting: vllm_memory.Setting) -> vllm_memory.Setting:
    """An attention block that the start printed tells the KV cache's dtype where the checkpoint, not the row, decides it."""
    printed = start.number("attention_block_size")
    if not printed or str(start.row.get("kv_cache_dtype") or "auto") != "auto":
        return setting

    def distance(kv_dtype: str) -> float:
        groups = vllm_memory.kv_groups(start.model, replace(setting, kv_dtype=kv_dtype))
        return min(abs(math.log(group.pages.block / printed)) for group in groups)

    return replace(setting, kv_dtype=min(("bf16", "fp8"), key=distance))


def _vllm_kv(start: Start, weights: int, setting: vllm_memory.Setting) -> int | None:
    if start.total is None:
        return None
    unified = bool(UNIFIED.search(start.gpu))
    _, sequences = vllm_memory.batch_defaults(None if unified else start.total, start.gpu, setting.version)
    share = start.number("gpu_memory_utilization") or vllm_memory.default_share(setting.version)
    besides = vllm_memory.overhead(
        start.model,
        setting,
        sequences=int(start.number("max_num_seqs", sequences)),
        context=int(start.number("max_model_len")) or None,
        eager=bool(start.row.get("enforce_eager")),
    )
    return math.floor(start.total * share) - weights - besides - (UNIFIED_EXTRA if unified else 0)


def _on_sglang(start: Start) -> Prediction:
    identity = str(start.row.get("id"))
    ratio = start.row.get("swa_full_tokens_ratio")
    setting = sglang_memory.Setting(
        tensor=start.tensor,
        kv_dtype=_kv_dtype(start),
        page=int(start.number("page_size", 1)) or 1,
        window_ratio=float(ratio) if isinstance(ratio, int | float) else None,
        state_ratio=start.number("mamba_full_memory_ratio", sglang_memory.STATE_RATIO),
    )
    unified = bool(UNIFIED.search(start.gpu))
    weights = sglang_memory.loaded(_weights(start, drafts="mtp" in _speculates(start)), unified=unified)
    measured = start.number("sgl_kv_gb")
    tokens = sglang_memory.tokens(start.model, round(measured * GIB), setting) if measured > 0 else None
    unknown = bool(_speculates(start)) and "mtp" not in _speculates(start)
    kv = None if unknown else _sglang_kv(start, weights, setting)
    # Latents are mostly served with data-parallel attention and a draft head there, which rows do not tell: a start is promised
    # only if it works like that as well.
    at_worst = None if kv is None else _sglang_kv(start, max(weights, _whole_attention(start)), setting)
    return Prediction(
        identity,
        weights_gib=weights / GIB,
        kv_tokens_from_measured_kv=tokens,
        kv_gib=None if kv is None else round(kv / GIB, 3),
        would_start=None if at_worst is None else at_worst > 0,
        skipped=None if kv is not None else NO_DRAFT if unknown else NO_TOTAL,
    )


def _whole_attention(start: Start) -> int:
    """Bytes a rank where each holds all but the experts whole; 0 for models without latents, or alone."""
    if start.model.kind != "latent" or start.tensor == 1:
        return 0
    whole = [part if part.kind == "experts" else replace(part, shards=1) for part in start.model.parts]
    return memory.weights(replace(start.model, parts=tuple(whole)), start.loaded, start.tensor, files=start.files, drafts=True)


def _sglang_kv(start: Start, weights: int, setting: sglang_memory.Setting) -> int | None:
    told = start.number("sgl_avail_before_load_gb")
    if not told and start.total is None:
        return None
    taken = CONTEXT + (COMMUNICATION if start.tensor > 1 else 0)
    before = round(told * GIB) if told else (start.total or 0) - taken
    total = start.total or before + taken
    share = start.number("mem_fraction_static") or sglang_memory.static_share(
        total, tensor=start.tensor, latent=start.model.kind == "latent", post_capture=False
    )
    return sglang_memory.kv_pool(start.model, sglang_memory.pool(before, weights, share), setting)


def _known_total(name: str) -> int | None:
    """Bytes of the card that a row names ("NVIDIA A100 80GB"), as machines.py knows it; None for others."""
    if not name:
        return None
    plain = re.sub(r"[^A-Z0-9]", "", name.upper().replace("GEFORCE", "").replace("NVIDIA", ""))
    fitting = []
    for card, facts in machines.CARDS.items():
        words = [re.sub(r"[^A-Z0-9]", "", word) for word in card.upper().split("-")]
        sized = [word for word in words if word.endswith("GB")]
        if all(word in plain for word in words if word not in sized):
            exact = all(re.search(rf"(?<!\d){word}", plain) or word in plain for word in sized)
            fitting.append((len("".join(words)) if exact else 0, len("".join(words)), facts.total))
    if not fitting:
        return None
    matched, _, gib = max(fitting)
    return round(gib * GIB) if matched else None


def report(rows: Iterable[Mapping[str, Any]], predictions: Iterable[Prediction], configs: Mapping[str, Any]) -> str:
    """The errors as a table, for people."""
    pairs = list(zip(rows, predictions, strict=True))
    lines = ["", f"{'':<34} {'engine':<7} {'median':>8} {'p90':>8} {'worst':>8} {'rows':>5}"]
    bad: list[str] = []
    for title, errors in _sections(pairs, configs):
        for engine in ("vllm", "sglang"):
            found = {name: error for name, error in errors.items() if _engine_of(pairs, name) == engine}
            lines.append(f"{title:<34} {engine:<7} {_columns(list(found.values()))}")
            bad += [f"  {name:<6} {title:<34} {error:+8.1%}" for name, error in found.items() if abs(error) > BAD]
    lines += ["", *_starts(pairs), "", f"worse than {BAD:.0%}:", *(bad or ["  none"]), "", *_skipped(pairs)]
    return "\n".join(lines)


def _sections(
    pairs: list[tuple[Mapping[str, Any], Prediction]], configs: Mapping[str, Any]
) -> Iterable[tuple[str, dict[str, float]]]:
    yield "weights a rank", _errors(pairs, lambda _, each: each.weights_gib, lambda row: row.get("weights_gib"))
    kinds = {str(row.get("id")): _kind(row, configs) for row, _ in pairs}
    for kind in KINDS:
        alike = [(row, each) for row, each in pairs if kinds[str(row.get("id"))] == kind]
        yield (
            f"tokens given the KV cache: {kind}",
            _errors(alike, lambda _, each: each.kv_tokens_from_measured_kv, _true_tokens),
        )
    yield "KV cache from the total", _errors(pairs, lambda _, each: each.kv_gib, _true_kv)


def _kind(row: Mapping[str, Any], configs: Mapping[str, Any]) -> str:
    try:
        return read_start(row, configs).model.kind
    except LauncherError:
        return ""


def _errors(
    pairs: Iterable[tuple[Mapping[str, Any], Prediction]],
    predicted: Callable[[Mapping[str, Any], Prediction], float | None],
    truth: Callable[[Mapping[str, Any]], object],
) -> dict[str, float]:
    """Relative errors by row, of those that have both numbers."""
    found = {}
    for row, each in pairs:
        value, real = predicted(row, each), truth(row)
        if value is not None and isinstance(real, int | float) and real > 0:
            found[each.id] = value / real - 1
    return found


def _true_tokens(row: Mapping[str, Any]) -> object:
    if not (row.get("kv_avail_gib") or row.get("sgl_kv_gb")):
        return None
    return row.get("kv_capacity_tokens_from_concurrency") or row.get("kv_tokens")


def _true_kv(row: Mapping[str, Any]) -> object:
    return row.get("kv_avail_gib") or row.get("sgl_kv_gb")


def _engine_of(pairs: Iterable[tuple[Mapping[str, Any], Prediction]], name: str) -> str:
    return next(str(row.get("engine")) for row, each in pairs if each.id == name)


def _columns(errors: list[float]) -> str:
    if not errors:
        return f"{'-':>8} {'-':>8} {'-':>8} {0:>5}"
    ordered = sorted(abs(error) for error in errors)
    figures = (_at(ordered, 0.5), _at(ordered, 0.9), ordered[-1])
    return " ".join(f"{figure:>8.1%}" for figure in figures) + f" {len(ordered):>5}"


def _at(ordered: list[float], share: float) -> float:
    """A quantile, between its neighbours."""
    place = share * (len(ordered) - 1)
    low, high = math.floor(place), math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _starts(pairs: Iterable[tuple[Mapping[str, Any], Prediction]]) -> list[str]:
    """Whether what failed was foreseen, and what worked not refused."""
    told = [(str(row.get("outcome") or ""), each) for row, each in pairs if each.would_start is not None]
    failed = [each for outcome, each in told if outcome.startswith("fail")]
    worked = [each for outcome, each in told if outcome == "ok"]
    missed = [each.id for each in failed if each.would_start]
    refused = [each.id for each in worked if not each.would_start]
    return [
        f"failed starts foreseen: {len(failed) - len(missed)} of {len(failed)} {' '.join(missed)}".rstrip(),
        f"good starts refused: {len(refused)} of {len(worked)} {' '.join(refused)}".rstrip(),
    ]


def _skipped(pairs: Iterable[tuple[Mapping[str, Any], Prediction]]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for _, each in pairs:
        if each.skipped:
            reasons.setdefault(each.skipped, []).append(each.id)
    count = sum(map(len, reasons.values()))
    return [
        f"not judged, or in part: {count} rows",
        *(f"  {len(ids):>3} {why}: {' '.join(ids)}" for why, ids in reasons.items()),
    ]


if __name__ == "__main__":
    sys.exit(main())
