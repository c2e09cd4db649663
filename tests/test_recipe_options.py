from typing import Any

import pytest

from launcher.recipe_options import drafts, left_out, options, taken

WORDS: dict[str, tuple[Any, tuple[str, ...], tuple[str, ...]]] = {
    "options that change how it computes": (
        ["--moe-backend", "marlin", "--async-scheduling"],
        ("--moe-backend", "marlin", "--async-scheduling"),
        (),
    ),
    "an option with its value behind =": (["--attention-backend=FLASHINFER"], ("--attention-backend", "FLASHINFER"), ()),
    "an option and its value in one word": (["--tokenizer-mode mistral"], ("--tokenizer-mode", "mistral"), ()),
    "an option with underscores": (["--tokenizer_mode", "mistral"], ("--tokenizer-mode", "mistral"), ()),
    "a path into a JSON value, whose underscores count": (
        ["--kernel-config.enable_flashinfer_autotune=False"],
        ("--kernel-config.enable_flashinfer_autotune", "False"),
        (),
    ),
    "a value below zero": (["--mm-processor-cache-gb", "-1"], ("--mm-processor-cache-gb", "-1"), ()),
    "a value that is a number": (["--mm-processor-cache-gb", 0], ("--mm-processor-cache-gb", "0"), ()),
    "what the plan decides": (
        ["--max-model-len", "32768", "--tensor-parallel-size", "8", "--gpu-memory-utilization", "0.95", "--max-num-seqs=8"],
        (),
        (),
    ),
    "what the adapter gives": (
        ["--served-model-name", "x", "--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--host", "0.0.0.0"],  # noqa: S104  # not bound: the point is that it is left out
        (),
        (),
    ),
    "code out of a repository": (["--trust-remote-code", "--enforce-eager"], ("--enforce-eager",), ()),
    "code out of a file": (
        ["--tool-call-parser-plugin", "parser.py", "--logits-processors", "a.b:C", "--middleware", "m"],
        (),
        ("--tool-call-parser-plugin parser.py", "--logits-processors a.b:C", "--middleware m"),
    ),
    "options that nobody looked at": (["--brand-new", "1", "-cc.x=True"], (), ("--brand-new 1", "-cc.x True")),
    "the KV cache's type, which is planned with": (["--kv-cache-dtype", "fp8"], (), ("--kv-cache-dtype fp8",)),
    "a path on another machine": (["--generation-config", "/etc/x"], (), ("--generation-config /etc/x",)),
    "a variable of another shell": (["--moe-backend", "$BACKEND"], (), ("--moe-backend $BACKEND",)),
    "plain settings of compilation": (
        ["--compilation-config", '{"cudagraph_mode":"FULL_AND_PIECEWISE","custom_ops":["all"]}'],
        ("--compilation-config", '{"cudagraph_mode":"FULL_AND_PIECEWISE","custom_ops":["all"]}'),
        (),
    ),
    "settings of compilation that import code": (
        ["--compilation-config", '{"backend":"my.module"}'],
        (),
        ('--compilation-config {"backend":"my.module"}',),
    ),
    "settings of compilation that are no JSON": (["--compilation-config", "3"], (), ("--compilation-config 3",)),
    "words before any option": (["vllm", "serve", "--enforce-eager"], ("--enforce-eager",), ()),
    "things that are no words": ([None, {"a": 1}, "--enforce-eager"], ("--enforce-eager",), ()),
    "no list": ("--enforce-eager", (), ()),
    "nothing": (None, (), ()),
}


@pytest.mark.parametrize(("words", "kept", "others"), WORDS.values(), ids=WORDS.keys())
def test_which_options_a_profile_takes_over(words: Any, kept: tuple[str, ...], others: tuple[str, ...]) -> None:
    found = options(words)
    assert (taken(found), left_out(found)) == (kept, others)


DRAFTS: dict[str, tuple[list[str], int | None]] = {
    "its own heads": (["--speculative-config", '{"method":"mtp","num_speculative_tokens":3}'], 3),
    "its own heads under a family's name": (
        ["--speculative-config", '{"method":"deepseek_mtp","num_speculative_tokens":1}'],
        1,
    ),
    "its own heads, field by field": (
        ["--speculative-config.method", "mtp", "--speculative-config.num_speculative_tokens", "2"],
        2,
    ),
    "another model": (["--speculative-config", '{"method":"eagle3","model":"a/b","num_speculative_tokens":3}'], None),
    "another model's heads": (["--speculative-config", '{"method":"mtp","model":"a/b","num_speculative_tokens":3}'], None),
    "n-grams": (["--speculative-config", '{"method":"ngram","num_speculative_tokens":3}'], None),
    "no number": (["--speculative-config", '{"method":"mtp"}'], None),
    "no tokens": (["--speculative-config", '{"method":"mtp","num_speculative_tokens":0}'], None),
    "no JSON": (["--speculative-config", "mtp"], None),
    "no object": (["--speculative-config", "[]"], None),
    "nothing": ([], None),
}


@pytest.mark.parametrize(("words", "tokens"), DRAFTS.values(), ids=DRAFTS.keys())
def test_how_many_tokens_the_models_own_heads_draft(words: list[str], tokens: int | None) -> None:
    assert drafts(options(words)) == tokens
