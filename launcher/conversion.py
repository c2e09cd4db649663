"""GGUF -> safetensors: `python conversion.py FILE FOLDER`, run by an engine's interpreter and never imported by us."""

import functools
import sys
from pathlib import Path


def main(gguf: Path, folder: Path) -> None:
    """Write the model and its tokenizer into `folder`, in bf16, as engines load it."""
    say("loading PyTorch")
    import torch  # type: ignore[import-not-found]  # only an engine's environment has it
    from transformers import (  # type: ignore[import-not-found]  # the same
        AutoModelForCausalLM,
        AutoTokenizer,
        GgufConfig,
    )

    import gguf as reading  # type: ignore[import-not-found]  # isort: skip  # the same

    # transformers reads the file three times, for configuration, weights and tokenizer: once takes two seconds.
    reading.GGUFReader = functools.cache(reading.GGUFReader)
    say("reading the model")
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    say("writing the model")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def say(stage: str) -> None:
    """A line that the launcher shows."""
    sys.stdout.write(f"stage: {stage}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
