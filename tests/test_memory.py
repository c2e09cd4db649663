import pytest

from launcher import catalogue, memory
from launcher.architecture import Architecture, read
from launcher.errors import LauncherError
from launcher.gpu import GIB

PROFILES = catalogue.load_all([catalogue.shipped()])
SMOLLM = PROFILES["smollm2-135m"].architecture
OPENHANDS = PROFILES["openhands-lm-32b"].architecture
CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}


@pytest.mark.parametrize(
    ("architecture", "parameters"),
    [
        # model.safetensors of the converted SmolLM2: 134,515,008 elements.
        pytest.param(SMOLLM, 134_515_008, id="SmolLM2 135M, embeddings tied"),
        # Qwen2.5-Coder-32B's safetensors index: 65,527,752,704 bytes of bf16.
        pytest.param(OPENHANDS, 65_527_752_704 // 2, id="Qwen2.5 32B, with biases on q, k and v"),
    ],
)
def test_parameters_are_those_of_the_published_weights(architecture: Architecture, parameters: int) -> None:
    assert architecture.parameters == parameters


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
        pytest.param("bf16", 1, 61.03, id="full precision"),
        pytest.param("bf16", 2, 30.51, id="halved by two ranks"),
        pytest.param("fp8", 1, 31.96, id="fp8 halves the projections, not the embeddings"),
        pytest.param("mxfp4", 1, 18.34, id="mxfp4 with its scales"),
    ],
)
def test_weights_of_a_rank(precision: str, tensor: int, gib: float) -> None:
    assert memory.weights(OPENHANDS, precision, tensor) / GIB == pytest.approx(gib, abs=0.01)


def test_more_ranks_than_kv_heads_repeat_the_kv_projections() -> None:
    kv_projections = OPENHANDS.layers * 2 * OPENHANDS.hidden * OPENHANDS.kv_heads * OPENHANDS.head_dim * memory.SIXTEEN_BIT
    others = 15 * OPENHANDS.other_parameters * memory.SIXTEEN_BIT
    assert 16 * memory.weights(OPENHANDS, "bf16", 16) == OPENHANDS.parameters * memory.SIXTEEN_BIT + kv_projections + others


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"model_type": "mamba2"}, "model_type 'mamba2'", id="a kind of model that is not modelled"),
        pytest.param({"hidden_size": None}, "no whole number for hidden_size", id="a fact that is missing"),
        pytest.param(
            {"vocab_size": -1, "num_hidden_layers": "two"}, "num_hidden_layers, vocab_size", id="all wrong facts at once"
        ),
    ],
)
def test_a_config_that_cannot_be_planned_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(LauncherError, match=message):
        read({**CONFIG, **change}, where="config.json")


def test_what_a_config_leaves_out_has_the_models_own_default() -> None:
    architecture = read(CONFIG, where="config.json")
    assert (architecture.kv_heads, architecture.head_dim, architecture.rope_theta) == (4, 16, 10_000.0)
