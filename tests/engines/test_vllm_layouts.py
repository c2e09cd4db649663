import pytest

from launcher.architecture import Architecture, read
from launcher.engines import vllm_layouts
from launcher.quantisation import PRECISIONS, Quantisation
from launcher.quantisation import read as read_quantisation
from tests.test_architecture import CONFIGS

# https://huggingface.co/Qwen/Qwen2.5-72B-Instruct: the width that its makers pad in quantised repositories, for these rules.
WIDE = {
    "model_type": "qwen2", "num_hidden_layers": 80, "hidden_size": 8192, "intermediate_size": 29568, "num_attention_heads": 64,
    "num_key_value_heads": 8, "vocab_size": 152064, "max_position_embeddings": 32768,
}  # fmt: skip
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}
BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128]}
# https://huggingface.co/Qwen/Qwen2.5-VL-7B-Instruct: 28 heads, 16 of them in its tower.
SEEING = {
    "model_type": "qwen2_5_vl", "num_hidden_layers": 28, "hidden_size": 3584, "intermediate_size": 18944,
    "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 128000,
    "vision_config": {"hidden_size": 1280, "depth": 32, "num_heads": 16, "intermediate_size": 3420},
}  # fmt: skip


def model(name: str | dict[str, object], **more: object) -> Architecture:
    return read({**(CONFIGS[name]["config"] if isinstance(name, str) else name), **more}, where="a model")


def loaded(architecture: Architecture, told: dict[str, object] | str | None) -> Quantisation:
    if isinstance(told, str):
        return PRECISIONS[told]
    own = read_quantisation({"quantization_config": told}) if told else architecture.quantisation
    return own or PRECISIONS["bf16"]


@pytest.mark.parametrize(
    ("name", "told", "tensor", "fault"),
    [
        pytest.param("openai/gpt-oss-120b", None, 3, "does not divide the 64 attention heads", id="heads"),
        pytest.param(
            {**WIDE, "num_attention_heads": 40, "intermediate_size": 29440},
            None,
            5,
            "neither divides the 8 KV heads",
            id="KV heads",
        ),
        pytest.param("Qwen/Qwen3-235B-A22B-FP8", None, 8, None, id="fewer KV heads than ranks are repeated"),
        pytest.param(SEEING, None, 4, None, id="four share 28 heads and a tower's 16"),
        pytest.param(SEEING, None, 7, "16 heads of the vision tower", id="a tower's heads"),
        pytest.param("Qwen/Qwen3.5-27B", None, 12, "does not divide the 16 heads of linear attention", id="heads of states"),
        pytest.param(
            "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4", "bf16", 16, "does not divide the 8 groups", id="groups of Mamba 2"
        ),
        pytest.param(WIDE, GPTQ, 4, "leaves 7392 of 29568 elements between an MLP's halves", id="GPTQ groups on four ranks"),
        pytest.param(WIDE, GPTQ, 2, "leaves 14784 of 29568", id="GPTQ groups on two ranks"),
        pytest.param(WIDE, {**GPTQ, "group_size": 32}, 4, None, id="smaller groups"),
        pytest.param(WIDE, {**GPTQ, "group_size": -1}, 8, None, id="a scale a column"),
        pytest.param(WIDE, {**GPTQ, "quant_method": "awq"}, 2, "no whole blocks of 128", id="AWQ groups"),
        pytest.param(WIDE, BLOCKS, 2, "no whole blocks of 128", id="FP8 in blocks"),
        pytest.param(WIDE, {"quant_method": "fp8"}, 8, None, id="FP8 with a scale a tensor"),
        pytest.param(WIDE, "mxfp4", 8, "no whole blocks of 32", id="MXFP4 made while loading"),
        pytest.param(WIDE, None, 8, None, id="16 bits know no blocks"),
        pytest.param(WIDE, {**BLOCKS, "modules_to_not_convert": ["mlp"]}, 2, None, id="what is not quantised is split anyhow"),
        pytest.param("Qwen/Qwen3-30B-A3B-Instruct-2507", BLOCKS, 4, None, id="experts of 192 take finer blocks of 64"),
        pytest.param(
            "Qwen/Qwen3-30B-A3B-Instruct-2507",
            {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 4, "group_size": 128}}}},
            4,
            "leaves 192 of 768 elements between an expert's halves",
            id="but not those of compressed-tensors",
        ),
        pytest.param("openai/gpt-oss-120b", None, 8, None, id="experts in MXFP4 are padded"),
        pytest.param("deepseek-ai/DeepSeek-R1-0528", BLOCKS, 8, None, id="latents and 256 experts on eight ranks"),
    ],
)
def test_a_group_must_divide_what_the_engine_splits(
    name: str | dict[str, object], told: dict[str, object] | str | None, tensor: int, fault: str | None
) -> None:
    architecture = model(name)
    found = vllm_layouts.fault(architecture, loaded(architecture, told), tensor=tensor, pipeline=1)
    if fault is None:
        assert found is None
    else:
        assert found
        assert fault in found


@pytest.mark.parametrize(
    ("change", "pipeline", "fault"),
    [
        pytest.param({}, 80, None, id="a layer a stage"),
        pytest.param({}, 81, "81 pipeline stages are more than the model's 80 layers", id="more stages than layers"),
        pytest.param({"model_type": "gemma3n_text"}, 2, "no gemma3n_text", id="a decoder that is not split"),
        pytest.param({"model_type": "gemma3n_text"}, 1, None, id="but runs on one"),
    ],
)
def test_stages_are_at_most_layers_and_for_decoders_that_can(
    change: dict[str, object], pipeline: int, fault: str | None
) -> None:
    architecture = model(WIDE, **change)
    found = vllm_layouts.fault(architecture, PRECISIONS["bf16"], tensor=1, pipeline=pipeline)
    assert found is None if fault is None else found and fault in found
