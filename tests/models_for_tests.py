"""Small files of models, as they lie in repositories, and whole models that are tiny."""

import json
from pathlib import Path
from typing import Any

# https://huggingface.co/Qwen/Qwen2.5-Coder-7B-Instruct: config.json and metadata of model.safetensors.index.json.
CODER = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "num_hidden_layers": 28,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
    "rope_theta": 1000000.0,
    "torch_dtype": "bfloat16",
    "sliding_window": None,
}
CODER_BYTES = 15_231_233_024
# What an engine makes besides while it loads: sines and cosines of 128 elements in 16 bits for each of 32,768 positions.
CODER_POSITIONS = 32_768 * 128 * 2
TINY_POSITIONS = 32_768 * 16 * 2
# What its chat template tells about tools.
CODER_TEMPLATE = '<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call>'


def index(total: int | None = CODER_BYTES, shards: tuple[str, ...] = ("model-1.safetensors", "model-2.safetensors")) -> str:
    """An index of shards; without `total` it tells no sizes."""
    metadata = {} if total is None else {"total_size": total}
    return json.dumps({"metadata": metadata, "weight_map": {f"layer.{n}": shard for n, shard in enumerate(shards)}})


def coder(**more: Any) -> dict[str, str]:
    """The texts of the 7B coder, with other facts in its config.json: None takes one out."""
    config = {key: value for key, value in {**CODER, **more}.items() if value is not None}
    return {
        "config.json": json.dumps(config),
        "model.safetensors.index.json": index(),
        "tokenizer_config.json": json.dumps({"chat_template": CODER_TEMPLATE}),
    }


def safetensors(size: int) -> bytes:
    """A whole file with one tensor of so many bytes."""
    header = json.dumps({"x": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


def tiny_folder(folder: Path, **more: Any) -> Path:
    """A model of one small layer: whole, though no engine was ever asked to load it."""
    small = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "vocab_size": 512}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(coder(**{**small, "num_key_value_heads": 2, **more})["config.json"])
    (folder / "model.safetensors").write_bytes(safetensors(4_000))
    return folder
