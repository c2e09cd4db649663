import json
from pathlib import Path
from typing import Any

import pytest

from launcher import architecture, catalogue, layers
from launcher.architecture import Architecture, read
from launcher.errors import LauncherError
from launcher.layers import CHUNKED, FULL, NOTHING, SLIDING, STATE, Attention, Latent, State

# Facts of config.json files, each with its source.
CONFIGS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "measurements" / "configs.json").read_text())
PROFILES = catalogue.load_all([catalogue.shipped()])
DENSE = {
    "model_type": "llama",
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}


def of(name: str, **change: object) -> Architecture:
    return read({**CONFIGS[name]["config"], **change}, where=name)


def small(**change: object) -> Architecture:
    return read({**DENSE, **change}, where="config.json")


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        # model.safetensors of the converted SmolLM2: 134,515,008 elements.
        pytest.param(PROFILES["smollm2-135m"].architecture, 134_515_008, id="SmolLM2 135M, embeddings tied"),
        # Qwen2.5-Coder-32B's safetensors index: 65,527,752,704 bytes of bf16.
        pytest.param(PROFILES["openhands-lm-32b"].architecture, 65_527_752_704 // 2, id="Qwen2.5 32B, biases on q, k and v"),
        # The hub's count of elements, in configs.json.
        pytest.param(of("meta-llama/Llama-3.1-8B-Instruct"), 8_030_261_248, id="Llama 3.1 8B, grouped queries"),
        pytest.param(of("Qwen/Qwen3-30B-A3B-Instruct-2507"), 30_532_122_624, id="Qwen3 30B-A3B, 128 experts resident"),
        # The same page: "671B", and 685B with the draft head (https://huggingface.co/deepseek-ai/DeepSeek-R1).
        pytest.param(of("deepseek-ai/DeepSeek-R1-0528"), 671_026_404_352, id="DeepSeek R1, latents and first layers dense"),
    ],
)
def test_parameters_are_those_of_the_published_weights(model: Architecture, parameters: int) -> None:
    assert model.parameters == pytest.approx(parameters, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "billions", "tolerance"),
    [
        pytest.param("Qwen/Qwen3-235B-A22B-FP8", 235, 0.01, id="Qwen3 235B-A22B says so"),
        pytest.param("openai/gpt-oss-120b", 116.83, 0.001, id="gpt-oss 120b: 116.83 in its model card (arXiv 2508.10925)"),
        pytest.param("huihui-ai/Huihui-gpt-oss-20b-mxfp4-abliterated-v2", 20.91, 0.001, id="gpt-oss 20b: 20.91 there"),
        pytest.param("deepseek-ai/DeepSeek-V4-Flash", 284, 0.01, id="DeepSeek V4 Flash: 284B on its page"),
        pytest.param("deepseek-ai/DeepSeek-V4-Pro", 1600, 0.02, id="DeepSeek V4 Pro: 1.6T on its page"),
        pytest.param("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4", 31.6, 0.01, id="Nemotron 3 Nano: 31.6B on its page"),
        pytest.param("google/gemma-4-31B-it", 30.7, 0.01, id="Gemma 4 31B: 30.7B on its page"),
        pytest.param("google/gemma-4-26B-A4B-it", 25.2, 0.01, id="Gemma 4 26B-A4B: 25.2B on its page"),
    ],
)
def test_parameters_are_about_those_that_the_maker_tells(name: str, billions: float, tolerance: float) -> None:
    assert of(name).parameters == pytest.approx(billions * 1e9, rel=tolerance)


@pytest.mark.parametrize(
    ("facts", "kinds"),
    [
        pytest.param({}, [FULL] * 4, id="nothing said: all layers see all"),
        pytest.param({"layer_types": ["sliding_attention", "full_attention"] * 2}, [SLIDING, FULL] * 2, id="a list of types"),
        pytest.param({"layer_types": ["linear_attention"] * 3 + ["full_attention"]}, [STATE] * 3 + [FULL], id="linear layers"),
        pytest.param({"layer_types": ["chunked_attention"] * 3 + ["full_attention"]}, [CHUNKED] * 3 + [FULL], id="chunked"),
        pytest.param({"layers_block_type": ["mamba", "attention", "moe", "mlp"]}, [STATE, FULL, NOTHING, NOTHING], id="blocks"),
        pytest.param({"hybrid_override_pattern": "ME*-"}, [STATE, NOTHING, FULL, NOTHING], id="a pattern of letters"),
        pytest.param({"full_attention_interval": 2}, [STATE, FULL] * 2, id="an interval of full attention"),
        pytest.param({"attn_type_list": [0, 0, 0, 1]}, [STATE] * 3 + [FULL], id="MiniMax's list"),
        pytest.param({"hybrid_layer_pattern": [0, 1, 1, 0]}, [FULL, SLIDING, SLIDING, FULL], id="MiMo's list"),
        pytest.param({"attn_layer_period": 4, "attn_layer_offset": 1}, [STATE, FULL, STATE, STATE], id="Jamba's period"),
        pytest.param(
            {"linear_attn_config": {"full_attn_layers": [4], "kda_layers": [1, 2, 3]}},
            [STATE] * 3 + [FULL],
            id="Kimi counts from 1",
        ),
        pytest.param({"sliding_window": 8}, [SLIDING] * 4, id="a window everywhere"),
        pytest.param(
            {"sliding_window": 8, "sliding_window_pattern": 2}, [SLIDING, FULL] * 2, id="a window in every other layer"
        ),
        pytest.param({"sliding_window": 8, "use_sliding_window": False}, [FULL] * 4, id="a window that is not used"),
        pytest.param({"sliding_window": 8, "model_type": "qwen2"}, [FULL] * 4, id="Qwen's window is used on request"),
        pytest.param(
            {"sliding_window": 8, "model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 3},
            [FULL] * 3 + [SLIDING],
            id="Qwen's window in its last layers",
        ),
        pytest.param({"attention_chunk_size": 8, "no_rope_layers": [1, 1, 1, 0]}, [CHUNKED] * 3 + [FULL], id="Llama 4's list"),
        pytest.param({"model_type": "gpt_oss"}, [SLIDING, FULL] * 2, id="gpt-oss by default"),
        pytest.param({"model_type": "gemma4_text"}, [SLIDING] * 3 + [FULL], id="Gemma 4's last layer sees all"),
    ],
)
def test_what_kind_each_layer_is(facts: dict[str, object], kinds: list[str]) -> None:
    text = layers.with_defaults({**DENSE, **facts})
    assert list(layers.kinds(text)) == kinds


@pytest.mark.parametrize(
    ("name", "kind", "kept"),
    [
        pytest.param("meta-llama/Llama-3.1-8B-Instruct", "plain", {Attention(8, 128, 128): 32}, id="plain attention"),
        pytest.param("deepseek-ai/DeepSeek-R1-0528", "latent", {Latent(576): 61}, id="512 of latent and 64 of rotary"),
        pytest.param(
            "lukealonso/GLM-5.1-NVFP4-MTP", "latent", {Latent(576, indexer=128, sparse=True): 78}, id="with an indexer"
        ),
        pytest.param(
            "Qwen/Qwen3.5-27B",
            "hybrid",
            {State(10_240, 3, 6_144 * 128, 4): 48, Attention(4, 256, 256): 16},
            id="gated delta nets in 32 bits",
        ),
        pytest.param(
            "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4",
            "hybrid",
            {State(4_096, 3, 4_096 * 128, 4, 8, 256): 23, Attention(2, 128, 128): 6, None: 23},
            id="Mamba 2, and layers that keep nothing",
        ),
    ],
)
def test_what_each_layer_keeps(name: str, kind: str, kept: dict[object, int]) -> None:
    model = of(name)
    assert model.kind == kind
    assert {cache: model.caches.count(cache) for cache in set(model.caches)} == kept


def test_the_full_layers_of_gemma_4_have_heads_of_their_own() -> None:
    facts = {**CONFIGS["google/gemma-4-31B-it"]["config"], "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 10}
    model = read(facts, where="gemma 4")
    assert set(model.caches) == {Attention(16, 256, 256, window=1024), Attention(4, 512, 512)}


def test_layers_that_share_an_earlier_cache_are_marked() -> None:
    model = small(num_kv_shared_layers=3)
    assert [isinstance(cache, Attention) and cache.shared for cache in model.caches] == [False, True, True, True]


@pytest.mark.parametrize(
    ("facts", "own"),
    [
        pytest.param({}, 78, id="each layer has its own"),
        pytest.param({"indexer_types": ["full"] * 3 + ["shared"] * 75}, 3, id="by a list"),
        pytest.param({"index_topk_freq": 4, "index_skip_topk_offset": 3}, 21, id="each fourth after the first three (GLM 5.2)"),
        pytest.param({"index_topk_pattern": "FS" * 39}, 39, id="by a pattern"),
    ],
)
def test_sparse_layers_can_share_index_keys(facts: dict[str, object], own: int) -> None:
    caches = of("lukealonso/GLM-5.1-NVFP4-MTP", **facts).caches
    assert sum(isinstance(cache, Latent) and cache.indexer > 0 for cache in caches) == own
    assert all(isinstance(cache, Latent) and cache.sparse for cache in caches)


def test_experts_behind_a_latent_are_smaller() -> None:
    facts = {"num_experts": 8, "moe_intermediate_size": 32, "num_experts_per_token": 2}
    wide, narrow = small(**facts), small(**facts, routed_expert_hidden_size=16)
    experts = [next(part for part in model.parts if part.kind == "experts").elements for model in (wide, narrow)]
    assert experts[0] == 4 * experts[1]
    assert narrow.active == 2


def test_layers_are_counted_where_only_their_kinds_are_told() -> None:
    facts = {key: value for key, value in DENSE.items() if key != "num_hidden_layers"}
    model = read({**facts, "model_type": "nemotron_h", "layers_block_type": ["mamba", "attention", "mlp"]}, where="config.json")
    assert model.layers == 3


def test_a_model_with_a_vision_tower_has_its_decoder_nested() -> None:
    vision = {"hidden_size": 1152, "depth": 27, "intermediate_size": 4304, "patch_size": 16, "spatial_merge_size": 2}
    text = CONFIGS["Qwen/Qwen3.5-27B"]["config"]
    whole = read({"model_type": "qwen3_5", "text_config": text, "vision_config": vision}, where="qwen3.5")
    assert whole.vision
    assert whole.kind == "hybrid"
    # Qwen3.5 27B with all: 27,781,427,952 elements on the hub, of which the draft head is not loaded.
    drafts = sum(part.elements for part in whole.parts if part.draft)
    assert whole.parameters + drafts == pytest.approx(27_781_427_952, rel=0.001)
    assert not of("Qwen/Qwen3.5-27B").vision


@pytest.mark.parametrize(
    ("facts", "generic"),
    [
        pytest.param({}, False, id="a llama is known"),
        pytest.param({"model_type": "frobnicator"}, True, id="a type that nobody knows"),
        pytest.param({"model_type": ""}, True, id="no type at all"),
    ],
)
def test_an_unknown_model_type_is_planned_by_a_generic_rule_that_says_so(facts: dict[str, object], *, generic: bool) -> None:
    model = small(**facts)
    assert model.generic is generic
    assert model.parameters == small().parameters


@pytest.mark.parametrize(
    ("facts", "with_experts"),
    [
        pytest.param({}, 4, id="all layers"),
        pytest.param({"first_k_dense_replace": 1}, 3, id="but the first"),
        pytest.param({"mlp_only_layers": [0, 2]}, 2, id="but those listed"),
        pytest.param({"decoder_sparse_step": 2}, 2, id="each second"),
        pytest.param({"moe_layer_freq": [0, 1, 1, 1]}, 3, id="by a list of ones"),
        pytest.param({"mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]}, 3, id="by a list of words"),
        pytest.param({"moe_layers_enum": "1,3"}, 2, id="by numbers in a text"),
    ],
)
def test_which_layers_hold_experts(facts: dict[str, object], with_experts: int) -> None:
    model = small(num_experts=8, moe_intermediate_size=32, num_experts_per_tok=2, **facts)
    experts = next(part for part in model.parts if part.kind == "experts")
    assert experts.elements == with_experts * 8 * 3 * 64 * 32
    assert (model.experts, model.expert_size, model.active) == (8, 32, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"hidden_size": None}, "no whole number for hidden_size", id="a fact that is missing"),
        pytest.param({"intermediate_size": None}, "no whole number for intermediate_size", id="no MLP and no experts"),
        pytest.param(
            {"vocab_size": -1, "num_hidden_layers": "two"}, "num_hidden_layers, vocab_size", id="all wrong facts at once"
        ),
        pytest.param({"head_dim": "wide"}, "no whole number for head_dim", id="a size in words"),
        pytest.param({"num_key_value_heads": [1, "two"]}, "no whole number for num_key_value_heads", id="one of a list's"),
        pytest.param({"num_key_value_heads": [1, 2]}, "contradict", id="heads for each layer, which nobody here reads"),
        pytest.param({"linear_attn_config": {"full_attn_layers": [1]}}, "contradict", id="linear layers without their sizes"),
    ],
)
def test_a_config_that_cannot_be_planned_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(LauncherError, match=message):
        small(**change)


def test_what_a_config_leaves_out_has_the_models_own_default() -> None:
    model = small()
    assert (model.kv_heads, model.head_dim, model.rope_theta, model.tied_embeddings) == (4, 16, 10_000.0, False)
    assert small(model_type="gemma2").tied_embeddings


def test_older_words_are_understood() -> None:
    old = {
        "n_layer": 4,
        "n_embd": 64,
        "n_head": 4,
        "n_inner": 128,
        "n_positions": 512,
        "vocab_size": 100,
        "model_type": "gpt2x",
    }
    assert read(old, where="config.json").parameters == small().parameters


def test_every_known_type_is_small_letters() -> None:
    assert all(name == name.lower() for name in architecture.KNOWN)
