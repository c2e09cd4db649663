import pytest

from launcher import catalogue, memory
from launcher.architecture import Architecture
from launcher.gpu import GIB
from launcher.layers import State
from launcher.quantisation import Quantisation
from launcher.quantisation import read as read_quantisation
from tests.test_architecture import of, small

PROFILES = catalogue.load_all([catalogue.shipped()])
SMOLLM = PROFILES["smollm2-135m"].architecture
OPENHANDS = PROFILES["openhands-lm-32b"].architecture


@pytest.mark.parametrize(
    ("architecture", "tensor", "kv_dtype", "expected"),
    [
        # vLLM 0.32 on a CPU printed 46,592 tokens for 1 GiB: whole blocks of 1 GiB / 23,040.
        pytest.param(SMOLLM, 1, "bf16", 23_040, id="SmolLM2: two for key and value, 30 layers, 3 heads of 64, 2 bytes"),
        pytest.param(OPENHANDS, 1, "bf16", 262_144, id="Qwen2.5 32B on one card"),
        pytest.param(OPENHANDS, 2, "bf16", 131_072, id="halved by two ranks"),
        pytest.param(OPENHANDS, 16, "bf16", 32_768, id="each rank holds at least one head"),
        pytest.param(OPENHANDS, 1, "fp8", 131_072, id="halved by an FP8 cache"),
    ],
)
def test_kv_cache_of_one_token(architecture: Architecture, tensor: int, kv_dtype: str, expected: int) -> None:
    assert memory.kv_bytes_per_token(architecture, kv_dtype, tensor) == expected


@pytest.mark.parametrize(
    ("precision", "tensor", "gib"),
    [
        pytest.param("bf16", 1, 61.04, id="full precision"),
        pytest.param("bf16", 2, 30.52, id="halved by two ranks"),
        pytest.param("fp8", 1, 31.97, id="fp8 halves the projections, not the embeddings"),
        pytest.param("mxfp4", 1, 18.35, id="mxfp4 with its scales"),
    ],
)
def test_weights_of_a_rank(precision: str, tensor: int, gib: float) -> None:
    assert memory.weights(OPENHANDS, precision, tensor) / GIB == pytest.approx(gib, abs=0.01)


def test_more_ranks_than_kv_heads_repeat_the_kv_projections() -> None:
    kv_projections = OPENHANDS.layers * 2 * OPENHANDS.hidden * OPENHANDS.kv_heads * OPENHANDS.head_dim * memory.SIXTEEN_BIT
    others = 15 * OPENHANDS.other_parameters * memory.SIXTEEN_BIT
    positions = 16 * OPENHANDS.context * OPENHANDS.head_dim * memory.SIXTEEN_BIT
    held = OPENHANDS.parameters * memory.SIXTEEN_BIT + kv_projections + others + positions
    assert 16 * memory.weights(OPENHANDS, "bf16", 16) == held


@pytest.mark.parametrize(
    ("name", "precision", "tensor", "gib", "tolerance"),
    [
        # Loaded weights a rank, as published starts of vLLM printed them: rows of tests/measurements/starts.jsonl.
        pytest.param("meta-llama/Llama-3.1-8B-Instruct", "bf16", 1, 14.99, 0.005, id="Llama 3.1 8B (h010)"),
        pytest.param("meta-llama/Llama-3.1-8B-Instruct", "bf16", 4, 3.77, 0.01, id="on four ranks (h178)"),
        pytest.param("meta-llama/Llama-3.1-8B-Instruct", "fp32", 1, 29.98, 0.005, id="in 32 bits (h189)"),
        pytest.param("meta-llama/Llama-3.1-8B-Instruct", "fp8", 1, 8.49, 0.005, id="quantised while loading (h190)"),
        pytest.param("Qwen/Qwen3-30B-A3B-Instruct-2507", "bf16", 1, 56.93, 0.005, id="all experts resident (h012)"),
        pytest.param("Qwen/Qwen3-30B-A3B-Instruct-2507", "fp8", 1, 29.08, 0.01, id="experts in FP8 (h011)"),
        pytest.param("Qwen/Qwen3-235B-A22B-FP8", "own", 8, 27.67, 0.01, id="FP8 in blocks, KV heads on more ranks (h004)"),
        pytest.param("openai/gpt-oss-120b", "own", 1, 65.97, 0.01, id="MXFP4 experts padded for Marlin (h143)"),
        pytest.param("openai/gpt-oss-120b", "own", 4, 17.22, 0.01, id="and on four ranks (h024)"),
        pytest.param(
            "neuralmagic/Meta-Llama-3.1-70B-Instruct-quantized.w8a8", "int8", 1, 67.72, 0.01, id="8-bit integers (h135)"
        ),
    ],
)
def test_weights_are_those_that_engines_loaded(name: str, precision: str, tensor: int, gib: float, tolerance: float) -> None:
    model = of(name)
    loaded = model.quantisation if precision == "own" else precision
    assert loaded
    assert memory.weights(model, loaded, tensor) / GIB == pytest.approx(gib, rel=tolerance)


def test_exact_bytes_of_the_files_set_the_scale() -> None:
    # h015: the embedding model has no output head; 14.1 GiB of files, 14.11 GiB loaded.
    model = of("Qwen/Qwen3-Embedding-8B")
    assert memory.weights(model, "bf16", 1, files=round(14.1 * GIB)) / GIB == pytest.approx(14.11, rel=0.005)
    # h011: of 56.87 GiB of files in 16 bits 29.08 GiB are left in FP8.
    experts = of("Qwen/Qwen3-30B-A3B-Instruct-2507")
    assert memory.weights(experts, "fp8", 1, files=round(56.87 * GIB)) / GIB == pytest.approx(29.08, rel=0.01)


def test_draft_heads_are_loaded_for_speculation_alone() -> None:
    # h084 and h085: 55.67 GiB on each of eight ranks without, 56.62 GiB with the draft head.
    model = of("lukealonso/GLM-5.1-NVFP4-MTP")
    experts_alone = Quantisation("modelopt", 4.5, kept=frozenset({"attention", "mlp", "shared"}))
    without, with_draft = (memory.weights(model, experts_alone, 8, drafts=drafts) / GIB for drafts in (False, True))
    assert without == pytest.approx(55.67, rel=0.03)
    assert 0.4 < with_draft - without < 1.0


@pytest.mark.parametrize(
    ("told", "bits"),
    [
        pytest.param({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8.002, id="FP8 with a scale for 128 x 128"),
        pytest.param({"quant_method": "awq", "bits": 4, "group_size": 128}, 4.156, id="AWQ: scale and zero for 128"),
        pytest.param({"quant_method": "gptq", "bits": 4, "group_size": 32}, 4.625, id="GPTQ: and for 32"),
        pytest.param({"quant_method": "gptq", "bits": 8, "group_size": -1}, 8, id="one scale a column"),
        pytest.param({"quant_method": "mxfp4"}, 4.25, id="MXFP4"),
        pytest.param({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 4.5, id="NVFP4 by ModelOpt"),
        pytest.param({"quant_method": "modelopt", "quantization": {"quant_algo": "FP8"}}, 8, id="FP8 by ModelOpt, nested"),
        pytest.param(
            {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 4, "group_size": 128}}}},
            4.125,
            id="w4a16: symmetric integers",
        ),
        pytest.param(
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"a": {"weights": {"num_bits": 4, "group_size": 16, "type": "float"}}},
            },
            4.5,
            id="NVFP4 by compressed-tensors",
        ),
        pytest.param(
            {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 8}}}}, 8, id="w8a8"
        ),
        pytest.param({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4.5, id="NF4"),
        pytest.param({"quant_method": "frobnicated"}, 8, id="a method that nobody knows counts as 8 bits"),
    ],
)
def test_bits_of_a_quantised_element(told: dict[str, object], bits: float) -> None:
    quantisation = read_quantisation({"quantization_config": told})
    assert quantisation
    assert quantisation.bits_of("experts", ["model.layers.0.mlp.experts.0.gate_proj"]) == pytest.approx(bits, abs=1e-3)
    for kept in ("embedding", "norm", "router", "vision"):
        assert quantisation.bits_of(kept, ["model.embed_tokens"]) == 16


@pytest.mark.parametrize(
    ("ignored", "attention", "head"),
    [
        pytest.param([], 8, 16, id="nothing ignored: an output head is not quantised"),
        pytest.param(["lm_head"], 8, 16, id="the head by its name"),
        pytest.param(["re:.*self_attn.*"], 16, 8, id="a regular expression"),
        pytest.param(["*self_attn*"], 16, 8, id="a glob"),
        pytest.param(["self_attn"], 16, 8, id="a part of a path"),
        pytest.param(["model.layers.0"], 12, 8, id="one layer of two"),
        pytest.param(["model.layers.1.self_attn.q_proj"], 12, 8, id="one module of two"),
    ],
)
def test_what_a_list_ignores_stays_in_16_bits(ignored: list[str], attention: float, head: float) -> None:
    quantisation = read_quantisation({"quantization_config": {"quant_method": "fp8", "modules_to_not_convert": ignored}})
    assert quantisation
    modules = [f"model.layers.{layer}.self_attn.q_proj" for layer in (0, 1)]
    assert quantisation.bits_of("attention", modules) == attention
    assert quantisation.bits_of("head", ["lm_head"]) == head


@pytest.mark.parametrize(
    "entry",
    ["language_model.lm_head", "lm_head", "re:.*lm_head", r"re:language_model\.lm_head"],
)
def test_a_decoder_one_level_down_is_the_same_decoder(entry: str) -> None:
    quantisation = read_quantisation({"quantization_config": {"quant_method": "fp8", "ignore": [entry]}})
    assert quantisation
    assert quantisation.bits_of("head", ["lm_head"]) == 16


@pytest.mark.parametrize(
    ("config", "gib"),
    [
        # Loaded over what lies in the files: 14.99 of 14.96 GiB (h010); a rank of Llama 4 Scout 53.12 of 50.2 (u017).
        pytest.param({"model_type": "llama", "head_dim": 128, "max_position_embeddings": 131_072}, 1 / 32, id="Llama 3.1"),
        pytest.param({"model_type": "llama", "head_dim": 128, "max_position_embeddings": 10_485_760}, 2.5, id="ten million"),
        pytest.param(
            {"model_type": "gemma3_text", "head_dim": 256, "num_hidden_layers": 6}, 2 / 64, id="windows have their own"
        ),
        pytest.param(
            {"model_type": "phi", "head_dim": 80, "partial_rotary_factor": 0.4}, 32 * 2 / 2**15, id="a part of each head"
        ),
    ],
)
def test_tables_of_positions_are_made_while_loading(config: dict[str, object], gib: float) -> None:
    rotary = next(part for part in small(**{"max_position_embeddings": 32_768, **config}).parts if part.kind == "rotary")
    assert rotary.elements * memory.SIXTEEN_BIT / GIB == pytest.approx(gib)


def test_deepseek_v4_has_its_experts_in_4_bits() -> None:
    told = {"model_type": "deepseek_v4", "quantization_config": {"quant_method": "fp8"}}
    four, eight = read_quantisation(told), read_quantisation({**told, "expert_dtype": "fp8"})
    assert four
    assert eight
    assert [each.bits_of("experts", ["experts"]) for each in (four, eight)] == [4.25, 8]
    assert four.bits_of("attention", ["self_attn"]) == 8


def test_a_model_in_16_bits_has_no_quantisation() -> None:
    assert read_quantisation({"model_type": "llama"}) is None


@pytest.mark.parametrize(
    ("told", "dtype"),
    [
        pytest.param(
            {"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8}}, "fp8", id="compressed-tensors"
        ),
        pytest.param({"quant_method": "modelopt", "kv_cache_quant_algo": "FP8"}, "fp8", id="ModelOpt"),
        pytest.param({"quant_method": "modelopt", "quant_algo": "FP8"}, "", id="not said"),
    ],
)
def test_what_a_checkpoint_asks_of_the_kv_cache(told: dict[str, object], dtype: str) -> None:
    quantisation = read_quantisation({"quantization_config": told})
    assert quantisation
    assert quantisation.kv_dtype == dtype


@pytest.mark.parametrize(
    ("name", "kv_dtype", "tensor", "expected"),
    [
        # 19.55 GiB held 341,504 tokens, and 18.51 GiB with the draft's layer 319,232 (h084, h085): 788 bytes a layer.
        pytest.param("lukealonso/GLM-5.1-NVFP4-MTP", "fp8", 8, 78 * (656 + 132), id="sparse latents in FP8 and index keys"),
        pytest.param("deepseek-ai/DeepSeek-R1-0528", "bf16", 8, 61 * 576 * 2, id="latents are the same on each rank"),
        pytest.param("Qwen/Qwen3.5-27B", "bf16", 1, 16 * 4 * 512 * 2, id="states take none"),
        pytest.param("Qwen/Qwen3-235B-A22B-FP8", "fp8", 8, 94 * 256, id="each rank holds one of four heads"),
    ],
)
def test_bytes_of_a_token_by_kind(name: str, kv_dtype: str, tensor: int, expected: int) -> None:
    assert memory.kv_bytes_per_token(of(name), kv_dtype, tensor) == expected


@pytest.mark.parametrize(
    ("name", "tensor", "expected"),
    [
        # Blocks of 1,024 and of 512 bytes a token that hold one: 784 (h077) and 4,176 tokens (h030, printed).
        pytest.param("Qwen/Qwen3.5-27B", 4, 801_792, id="a gated delta net on four ranks"),
        pytest.param("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4", 1, 2_134_016, id="a Mamba 2"),
    ],
)
def test_bytes_of_a_state(name: str, tensor: int, expected: int) -> None:
    state = next(cache for cache in of(name).caches if isinstance(cache, State))
    assert memory.state_bytes(state, tensor) == expected
