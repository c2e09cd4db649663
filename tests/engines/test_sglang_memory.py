import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.engines import sglang_memory
from launcher.engines.sglang_memory import Setting
from launcher.gpu import GIB
from tests.test_architecture import CONFIGS, of

STARTS: dict[str, dict[str, Any]] = {
    row["id"]: row
    for row in map(json.loads, (Path(__file__).parent.parent / "measurements" / "starts.jsonl").read_text().splitlines())
}


@pytest.mark.parametrize(
    ("identity", "setting", "facts"),
    [
        pytest.param("h140", Setting(4), {}, id="plain attention on four ranks"),
        pytest.param("h022", Setting(page=64), {}, id="layers with states take none of it"),
        # The twelve billion's full layers have one head of 512; its facts leave that out.
        pytest.param(
            "h057",
            Setting(),
            {"intermediate_size": 15_360, "attention_k_eq_v": True, "num_global_key_value_heads": 1},
            id="windows take 0.8 of a place",
        ),
        pytest.param(
            "h058",
            Setting(kv_dtype="fp8"),
            {"intermediate_size": 15_360, "attention_k_eq_v": True, "num_global_key_value_heads": 1},
            id="and in 8 bits",
        ),
    ],
)
def test_tokens_that_a_measured_pool_holds(identity: str, setting: Setting, facts: dict[str, object]) -> None:
    row = STARTS[identity]
    held = sglang_memory.tokens(of(row["model"], **facts), round(row["sgl_kv_gb"] * GIB), setting)
    assert held == pytest.approx(row["kv_tokens"], rel=0.001)


@pytest.mark.parametrize("identity", ["h057", "h058", "h060", "h082"])
def test_the_pool_is_what_is_left_of_a_share_of_what_was_free(identity: str) -> None:
    row = STARTS[identity]
    before, after = (round(row[f"sgl_avail_{when}_load_gb"] * GIB) for when in ("before", "after"))
    pool = sglang_memory.pool(before, before - after, row["mem_fraction_static"])
    assert pool / GIB == pytest.approx(row["sgl_kv_gb"], rel=0.015)


@pytest.mark.parametrize(
    ("model", "facts", "more"),
    [
        # pool_configurator.py: MLA's 576 elements in 16 bits, and the index keys of 128 with a scale.
        pytest.param("lukealonso/GLM-5.1-NVFP4-MTP", {}, 576 * 2 + 132, id="sparse latents"),
        # 4 KV heads of 256, keys and values in 16 bits.
        pytest.param("Qwen/Qwen3.5-27B", {}, 4 * 256 * 2 * 2, id="one layer that sees all, of a model with states"),
    ],
)
def test_a_draft_head_has_a_place_for_each_token_too(model: str, facts: dict[str, object], more: int) -> None:
    plain, drafted = (sglang_memory.cell_bytes(of(model, **facts), Setting(drafts=drafts)) for drafts in (0, 1))
    assert drafted - plain == more


def test_states_take_their_share_of_the_pool_first() -> None:
    row = STARTS["h022"]
    before, after = (round(row[f"sgl_avail_{when}_load_gb"] * GIB) for when in ("before", "after"))
    pool = sglang_memory.pool(before, before - after, row["mem_fraction_static"])
    assert sglang_memory.kv_pool(of(row["model"]), pool, Setting()) / GIB == pytest.approx(row["sgl_kv_gb"], rel=0.002)


def test_weights_larger_than_the_share_leave_less_than_nothing() -> None:
    # h160: 12.25 GiB were free after loading 125.65 of 137.9, and the server died.
    row = STARTS["h160"]
    after, weights = (round(row[key] * GIB) for key in ("sgl_avail_after_load_gb", "weights_gib"))
    assert sglang_memory.pool(after + weights, weights, row["mem_fraction_static"]) < 0


@pytest.mark.parametrize(
    ("name", "ratio", "expected"),
    [
        pytest.param("google/gemma-4-31B-it", 1.0, 10 * 8_192 + 50 * 16_384, id="windows as long as all"),
        pytest.param("google/gemma-4-31B-it", 0.1, 10 * 8_192 + 0.1 * 50 * 16_384, id="a tenth"),
        pytest.param("deepseek-ai/DeepSeek-R1-0528", None, 61 * 1_152, id="latents know no windows"),
    ],
)
def test_bytes_of_one_token_more(name: str, ratio: float | None, expected: float) -> None:
    assert sglang_memory.cell_bytes(of(name), Setting(8 if "R1" in name else 1, window_ratio=ratio)) == expected


def test_deepseek_v4_pays_for_compressed_latents_and_a_share_of_windows() -> None:
    model = of("deepseek-ai/DeepSeek-V4-Flash")
    without, default = (sglang_memory.cell_bytes(model, Setting(window_ratio=ratio)) for ratio in (0.0, None))
    # 21 layers of four to one with index keys, 20 of 128 to one (its config.json).
    assert without == pytest.approx(21 * (584 + 132) / 4 + 20 * 584 / 128)
    assert default > without + 0.1 * 43 * 584


@pytest.mark.parametrize(
    ("gib", "tensor", "prefill", "sequences"),
    [
        pytest.param(14.6, 1, 2_048, 8, id="a T4"),
        pytest.param(23.6, 1, 4_096, 48, id="an RTX 4090"),
        pytest.param(23.6, 4, 4_096, 160, id="four of them"),
        pytest.param(44.4, 1, 4_096, 32, id="an L40S"),
        pytest.param(79.2, 1, 8_192, 256, id="an H100"),
        pytest.param(139.8, 8, 8_192, 512, id="eight H200"),
        pytest.param(178.4, 1, 16_384, 512, id="a B200"),
    ],
)
def test_batches_by_card(gib: float, tensor: int, prefill: int, sequences: int) -> None:
    assert sglang_memory.batch_defaults(round(gib * GIB), tensor) == (prefill, sequences)


@pytest.mark.parametrize(
    ("options", "share"),
    [
        # MiB of 81,080: the source's own sums, by hand.
        pytest.param({}, 1 - (1_536 + 128) / 81_080, id="sized after the graphs are captured"),
        pytest.param(
            {"post_capture": False}, 1 - (512 + 12_288 + 128 + 512 + 58 * 8) / 81_080, id="sized before: activations and graphs"
        ),
        pytest.param({"latent": True}, 1 - (512 + 12_288 + 128 + 512 + 1_536) / 81_080, id="latents cost more in graphs"),
        pytest.param({"vision": True}, 1 - (1_536 + 128 + 8_192) / 81_080, id="eight GiB for images"),
    ],
)
def test_the_static_share_where_nobody_gives_it(options: dict[str, bool], share: float) -> None:
    assert sglang_memory.static_share(81_080 << 20, **options) == pytest.approx(share, abs=0.0006)


@given(
    name=st.sampled_from(sorted(name for name, entry in CONFIGS.items() if entry["exact"])),
    context=st.integers(1, 300_000),
    sequences=st.floats(0.1, 50),
    page=st.sampled_from([1, 64]),
)
def test_bytes_for_sequences_hold_them(name: str, context: int, sequences: float, page: int) -> None:
    model, setting = of(name), Setting(page=page)
    needed = sglang_memory.kv_bytes(model, context, sequences, setting)
    assert sglang_memory.tokens(model, needed, setting) >= int(context * sequences)
