"""What a repository says of its quantisation, in the words that vendors use."""

from typing import Any

import pytest

from launcher import quantisation

EXPERT, SHARED = "model.layers.1.mlp.experts.0.gate_proj", "model.layers.1.mlp.shared_experts.gate_proj"
QUERY, MAMBA = "model.layers.1.self_attn.q_proj", "model.layers.1.mixer.in_proj"
# https://huggingface.co/nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4, hf_quant_config.json: of each kind one layer.
MIXED = {
    "quant_method": "modelopt",
    "quant_algo": "MIXED_PRECISION",
    "kv_cache_quant_algo": "FP8",
    "quantized_layers": {
        "backbone.layers.0.mixer.in_proj": {"quant_algo": "FP8"},
        "backbone.layers.1.mixer.experts.0.up_proj": {"quant_algo": "W4A16_NVFP4", "group_size": 16},
        "backbone.layers.1.mixer.shared_experts.up_proj": {"quant_algo": "W4A16_NVFP4", "group_size": 16},
        "lm_head": {"quant_algo": "W4A16_NVFP4", "group_size": 16},
    },
    "exclude_modules": ["backbone.layers.5.mixer.q_proj", "mtp*"],
}


@pytest.mark.parametrize(
    ("part", "module", "bits"),
    [
        pytest.param("experts", EXPERT, 4.5, id="routed experts in NVFP4"),
        pytest.param("shared", SHARED, 4.5, id="the shared one too"),
        pytest.param("head", "lm_head", 4.5, id="and the output head"),
        pytest.param("state", MAMBA, 8.0, id="Mamba layers in FP8"),
        pytest.param("attention", QUERY, 16.0, id="what is not named in 16 bits"),
    ],
)
def test_a_mixed_checkpoint_names_the_algorithm_of_each_layer(part: str, module: str, bits: float) -> None:
    made = quantisation.read({"quantization_config": MIXED})
    assert made is not None
    assert made.bits_of(part, (module,)) == bits
    assert made.kv_dtype == "fp8"


@pytest.mark.parametrize(
    ("entry", "part", "module"),
    [
        # Entries of the ignore lists of nvidia's repositories in NVFP4.
        pytest.param("model.language_model.layers.1.self_attn*", "attention", QUERY, id="Gemma-4-31B-IT-NVFP4"),
        pytest.param("language_model.model.layers.1.mlp.shared_experts*", "shared", SHARED, id="Kimi-K2.6-NVFP4"),
        pytest.param("language_model.lm_head", "head", "lm_head", id="Kimi-K2.6-NVFP4's output head"),
        pytest.param("backbone.layers.1.mixer.q_proj", "attention", QUERY, id="NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4"),
        pytest.param("backbone.layers.1.mixer.in_proj", "state", MAMBA, id="its Mamba layers"),
    ],
)
def test_an_ignore_list_holds_whatever_the_decoder_is_wrapped_in(entry: str, part: str, module: str) -> None:
    made = quantisation.read({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": [entry]}})
    assert made is not None
    assert made.bits_of(part, (module,)) == made.rest
    assert made.bits_of("mlp", ("model.layers.1.mlp.up_proj",)) == 4.5


@pytest.mark.parametrize(
    ("scheme", "dtype"),
    [
        pytest.param({"num_bits": 8, "type": "float"}, "fp8", id="a scheme"),
        pytest.param({"num_bits": 4, "type": "float"}, "", id="a scheme in other bits"),
        pytest.param("FP8", "fp8", id="a word"),
    ],
)
def test_modelopt_asks_for_a_cache_in_fp8(scheme: Any, dtype: str) -> None:
    told = {"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_scheme": scheme}
    made = quantisation.read({"quantization_config": told})
    assert made is not None
    assert made.kv_dtype == dtype
