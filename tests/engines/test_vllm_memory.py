import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import memory
from launcher.architecture import read
from launcher.engines import vllm_memory
from launcher.engines.vllm_memory import CURRENT, Setting
from launcher.gpu import GIB
from tests.test_architecture import CONFIGS, of, small

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
QWEN = "Qwen/Qwen3.5-27B"
GLM = "lukealonso/GLM-5.1-NVFP4-MTP"
GEMMA = "google/gemma-4-26B-A4B-it"
MEASUREMENTS = Path(__file__).parent.parent / "measurements"
STARTS: dict[str, dict[str, Any]] = {
    row["id"]: row
    for name in ("starts.jsonl", "unseen.jsonl")
    for row in map(json.loads, (MEASUREMENTS / name).read_text().splitlines())
}
UNSEEN = json.loads((MEASUREMENTS / "unseen_configs.json").read_text())


@pytest.mark.parametrize(
    ("identity", "setting", "tolerance"),
    [
        pytest.param("h010", Setting(version=(0, 17)), 0.001, id="plain attention"),
        pytest.param("h189", Setting(version=(0, 19), kv_dtype="fp32"), 0.001, id="a cache in 32 bits"),
        pytest.param("h187", Setting(version=(0, 19), kv_dtype="fp8"), 0.001, id="a cache in 8 bits"),
        pytest.param("h004", Setting(8, "fp8", version=(0, 10)), 0.001, id="fewer KV heads than ranks"),
        pytest.param("h014", Setting(version=(0, 13), batched=2048), 0.001, id="gpt-oss 20b, windows of 128"),
        pytest.param("h024", Setting(4, version=(0, 10), batched=2048), 0.001, id="gpt-oss 120b on four ranks"),
        pytest.param("h048", Setting(version=(0, 22), batched=2048), 0.001, id="Gemma 4's pages of two sizes"),
        pytest.param("h049", Setting(version=(0, 22), kv_dtype="fp8", batched=2048), 0.001, id="and in 8 bits"),
        pytest.param("h071", Setting(version=(0, 20), batched=4096), 0.001, id="windows that hold a larger batch"),
        pytest.param("h077", Setting(4, version=(0, 19), batched=2048), 0.002, id="a state takes one page of 784 tokens"),
        pytest.param("h079", Setting(4, version=(0, 19), batched=2048), 0.002, id="and at a longer context"),
        pytest.param("h084", Setting(8, "fp8", version=(0, 20)), 0.003, id="latents and index keys"),
        pytest.param("h085", Setting(8, "fp8", version=(0, 20), drafts=1), 0.02, id="and a draft's layer"),
        pytest.param("h090", Setting(8, "fp8", version=(0, 20), contexts=8), 0.003, id="eight ranks share a sequence"),
        pytest.param("h157", Setting(2, "fp8", version=(0, 23)), 0.06, id="DeepSeek V4's packed pages"),
    ],
)
def test_tokens_that_a_measured_cache_holds(identity: str, setting: Setting, tolerance: float) -> None:
    row = STARTS[identity]
    context = row["max_concurrency_len"] if "max_concurrency_len" in row else row["max_model_len"]
    held = vllm_memory.tokens(of(row["model"]), round(row["kv_avail_gib"] * GIB), context, setting)
    assert held == pytest.approx(row.get("kv_capacity_tokens_from_concurrency") or row["kv_tokens"], rel=tolerance)


OLDER = Setting(version=(0, 19))


@pytest.mark.parametrize(
    ("identity", "setting", "weights", "tokens"),
    [
        # Loaded GiB a rank, and the sequences of 8,192 tokens (phi-2: 2,048) that the measured cache holds, as vLLM 0.19
        # printed them: rows of tests/measurements/unseen.jsonl, each with its log's address.
        pytest.param("u001", OLDER, 12.56, 15.41, id="as many KV heads as heads (CodeLlama 7B)"),
        pytest.param("u002", OLDER, 29.43, 183.78, id="latents, a dense layer before experts (DeepSeek V2 Lite)"),
        pytest.param("u003", replace(OLDER, tensor=2), 33.88, 29.82, id="FP8 a channel on two ranks (Llama 3.3 70B)"),
        pytest.param("u004", replace(OLDER, tensor=4), 16.96, 86.55, id="and on four"),
        pytest.param("u006", OLDER, 50.72, 7.16, id="each other layer a window, a tied head (Gemma 2 27B)"),
        pytest.param("u010", OLDER, 51.45, 4.46, id="five windows of six, and a tower (Gemma 3 27B)"),
        pytest.param("u012", OLDER, 15.91, 15.84, id="heads wider than the hidden size (Gemma 7B)"),
        pytest.param("u013", OLDER, 4.74, 110.85, id="a tied head (Granite 3.1 2B)"),
        pytest.param("u016", OLDER, 5.54, 109.84, id="a tower before it (Granite Vision 3.3)"),
        pytest.param("u017", replace(OLDER, tensor=4), 53.12, 44.68, id="chunks, and ten million positions (Llama 4 Scout)"),
        pytest.param("u018", OLDER, 5.19, 110.41, id="MLPs without a gate (phi-2)"),
        pytest.param("u021", replace(OLDER, tensor=2), 43.51, 56.88, id="experts in every layer (Mixtral)"),
        pytest.param("u025", replace(OLDER, tensor=2), 15.53, 230.82, id="latents are whole on both ranks (Kimi-VL)"),
        pytest.param("u026", replace(OLDER, tensor=2), 7.01, 316.07, id="experts in MXFP4, windows (gpt-oss 20B)"),
        pytest.param("u027", OLDER, 26.67, 30.55, id="a wide shared expert (Qwen1.5 MoE)"),
        pytest.param("u034", OLDER, 5.38, 67.71, id="integers of four bits in groups (Llama 3.1 8B w4a16)"),
        pytest.param("u035", OLDER, 24.07, 38.98, id="integers of eight bits, a tower in 16 (Mistral Small 3.1 w8a8)"),
    ],
)
def test_what_real_starts_loaded_and_held(identity: str, setting: Setting, weights: float, tokens: float) -> None:
    row = STARTS[identity]
    model = read(UNSEEN[row["model"]]["config"], where=row["model"])
    loaded = memory.weights(model, model.quantisation or "bf16", setting.tensor)
    assert loaded / GIB == pytest.approx(weights, rel=0.013)
    held = vllm_memory.tokens(model, round(row["kv_avail_gib"] * GIB), row["max_model_len"], setting)
    assert held / row["max_model_len"] == pytest.approx(tokens, rel=0.003)


@pytest.mark.parametrize(
    ("name", "setting", "block"),
    [
        # Printed as "Setting attention block size to N tokens".
        pytest.param("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4", Setting(kv_dtype="fp8"), 4176, id="Nemotron 3 Nano (h030)"),
        pytest.param(QWEN, Setting(kv_dtype="fp8", drafts=1, speculated=3), 1600, id="Qwen3.8 that speculates (h125)"),
        pytest.param(QWEN, Setting(), 784, id="Qwen3.5 27B"),
        pytest.param(LLAMA, Setting(), 16, id="nothing to align: the default"),
    ],
)
def test_blocks_grow_until_a_page_holds_a_state(name: str, setting: Setting, block: int) -> None:
    assert {group.pages.block for group in vllm_memory.kv_groups(of(name), setting)} == {block}


@pytest.mark.parametrize(
    ("name", "version", "groups"),
    [
        pytest.param(LLAMA, CURRENT, 1, id="all alike: one group"),
        pytest.param(GLM, CURRENT, 1, id="latents and index keys lie in one"),
        pytest.param("openai/gpt-oss-120b", CURRENT, 2, id="half and half"),
        pytest.param("openai/gpt-oss-120b", (0, 9), 1, id="windows took a full cache once"),
        pytest.param(GEMMA, CURRENT, 6, id="five with windows for one that sees all"),
        pytest.param(QWEN, CURRENT, 4, id="three with states for one that sees all"),
    ],
)
def test_layers_share_groups_as_large_as_the_rarest_kind(name: str, version: tuple[int, int], groups: int) -> None:
    assert len(vllm_memory.kv_groups(of(name), Setting(version=version))) == groups


def test_kinds_nearly_as_frequent_are_padded_to_one_size() -> None:
    # kv_cache_utils.py: gpt-oss-20b with a drafter, 12 with windows and 13 without, becomes two groups of 13.
    model = of("huihui-ai/Huihui-gpt-oss-20b-mxfp4-abliterated-v2")
    assert [group.bytes // group.pages.bytes for group in vllm_memory.kv_groups(model, Setting(drafts=1))] == [13, 13]


def test_layers_that_share_a_cache_take_none() -> None:
    alone, shared = (vllm_memory.kv_groups(small(num_kv_shared_layers=number), Setting())[0] for number in (0, 3))
    assert alone.bytes == 4 * shared.bytes


def test_a_window_holds_what_is_in_flight() -> None:
    model = of(GEMMA)
    older, newer = (vllm_memory.kv_bytes(model, 131_072, 1, Setting(version=version)) for version in ((0, 25), (0, 26)))
    assert newer > older


def test_states_are_kept_for_reuse_by_default_since_0_27() -> None:
    model = of(QWEN)
    older, newer = (vllm_memory.kv_bytes(model, 32_768, 1, Setting(version=version)) for version in ((0, 26), (0, 27)))
    assert newer - older == 3 * vllm_memory.kv_groups(model, Setting())[0].bytes


@pytest.mark.parametrize(
    ("text", "version"),
    [
        pytest.param("v0.23.0", (0, 23), id="a release"),
        pytest.param("0.10.1 (Aug 2025)", (0, 10), id="a release with its month"),
        pytest.param("0.26.1rc1.dev608+g99a10304d", (0, 26), id="a candidate"),
        pytest.param("v0.13.0+faa43dbf.nv26.01", (0, 13), id="a maker's build"),
        pytest.param("v0.1.dev1+gda1daf40b", (0, 22), id="a checkout that knows no tag"),
        pytest.param("2026-07", (0, 25), id="a month"),
        pytest.param("Oct 2025", (0, 11), id="a month in words"),
        pytest.param("", CURRENT, id="nothing"),
    ],
)
def test_versions_as_people_write_them(text: str, version: tuple[int, int]) -> None:
    assert vllm_memory.parse_version(text) == version


@pytest.mark.parametrize(
    ("gib", "name", "batched", "sequences"),
    [
        pytest.param(79.18, "NVIDIA H100 80GB HBM3", 8_192, 1_024, id="a large card"),
        pytest.param(79.25, "NVIDIA A100-SXM4-80GB", 2_048, 256, id="but not an A100"),
        pytest.param(178.35, "NVIDIA B200", 16_384, 1_024, id="a huge one"),
        pytest.param(23.58, "NVIDIA GeForce RTX 3090", 2_048, 256, id="a small one"),
        pytest.param(None, "NVIDIA GB10", 2_048, 256, id="memory that NVML does not tell"),
    ],
)
def test_batches_by_card(gib: float | None, name: str, batched: int, sequences: int) -> None:
    assert vllm_memory.batch_defaults(None if gib is None else round(gib * GIB), name) == (batched, sequences)


@pytest.mark.parametrize(
    ("name", "setting", "sequences", "gib", "tolerance"),
    [
        # 0.95 or 0.9 of 79.18 GiB, less the weights and the KV cache that was left.
        pytest.param(LLAMA, Setting(version=(0, 19)), 1_024, 75.23 - 14.99 - 58.11, 0.02, id="sampling for 1,024 (h185)"),
        pytest.param(LLAMA, Setting(version=(0, 11)), 1_024, 71.26 - 14.99 - 51.38, 0.02, id="and before 0.17 (h172)"),
        pytest.param(LLAMA, Setting(2, version=(0, 19)), 1_024, 2.07 + 1.89, 0.03, id="two ranks (h177)"),
        pytest.param("Qwen/Qwen3-30B-A3B-Instruct-2507", Setting(version=(0, 22)), 64, 1.23, 0.25, id="few sequences (h011)"),
        pytest.param(
            LLAMA, Setting(version=(0, 6), batched=20_000), 256, 0.35 + 2.071, 0.12, id="a long batch of the old engine (h133)"
        ),
    ],
)
def test_what_is_neither_weights_nor_cache(name: str, setting: Setting, sequences: int, gib: float, tolerance: float) -> None:
    assert vllm_memory.overhead(of(name), setting, sequences=sequences) / GIB == pytest.approx(gib, rel=tolerance)


def test_graphs_are_counted_since_0_21_unless_there_are_none() -> None:
    model = of(LLAMA)
    before, after = (vllm_memory.overhead(model, Setting(version=version), sequences=64) for version in ((0, 20), (0, 21)))
    assert after - before == vllm_memory.GRAPHS
    assert vllm_memory.overhead(model, Setting(), sequences=64, eager=True) == before


def test_sparse_attention_has_workspaces_as_long_as_the_context() -> None:
    short, long = (vllm_memory.overhead(of(GLM), Setting(8), sequences=64, context=context) for context in (32_768, 131_072))
    assert long - short == (131_072 - 32_768) * (5 * 576 * 2 + 40 * 132)


@given(
    name=st.sampled_from(sorted(name for name, entry in CONFIGS.items() if entry["exact"])),
    context=st.integers(1, 300_000),
    sequences=st.floats(0.1, 50),
    tensor=st.sampled_from([1, 2, 4, 8]),
    version=st.sampled_from([(0, 9), (0, 19), (0, 25), (0, 32)]),
)
def test_bytes_for_sequences_hold_them_and_more_hold_no_fewer(
    name: str, context: int, sequences: float, tensor: int, version: tuple[int, int]
) -> None:
    model, setting = of(name), Setting(tensor, version=version)
    needed = vllm_memory.kv_bytes(model, context, sequences, setting)
    held = vllm_memory.tokens(model, needed, context, setting)
    assert held >= int(context * sequences) - 1
    assert vllm_memory.tokens(model, needed + GIB, context, setting) >= held
