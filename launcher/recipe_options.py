"""Which of a recipe's engine options a profile takes over: those that change how the engine computes, and nothing else.

Options are named here that may be taken, not those that may not: a recipe's words come from the network, the format grows, and
some options run code (plugins, logits processors, remote code), open files or ports, or decide what the plan decides.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# vLLM 0.32 (engine/arg_utils.py, entrypoints). What a plan decides (lengths, shares, sizes of batches and groups, the KV cache)
# is not among them, nor what the adapter gives (parsers, names, keys).
_TAKEN = frozenset(
    {
        "--async-scheduling", "--attention-backend", "--attention-config", "--chat-template-content-format",
        "--config-format", "--default-chat-template-kwargs", "--disable-cascade-attn", "--disable-custom-all-reduce",
        "--enable-chunked-prefill", "--enable-expert-parallel", "--enable-flashinfer-autotune",
        "--enable-prefix-caching", "--enforce-eager", "--generation-config", "--kernel-config", "--language-model-only",
        "--limit-mm-per-prompt", "--linear-backend", "--mamba-backend", "--mamba-cache-mode", "--mamba-ssm-cache-dtype",
        "--mm-encoder-tp-mode", "--mm-processor-cache-gb", "--mm-processor-cache-type", "--moe-backend",
        "--no-async-scheduling", "--no-enable-flashinfer-autotune", "--no-enable-prefix-caching", "--reasoning-config",
        "--tokenizer-mode",
    }
)  # fmt: skip
# Of these, only values with these keys: `backend` in the same object names code to import.
_COMPILATION = "--compilation-config"
_COMPILED = frozenset({"mode", "cudagraph_mode", "custom_ops", "pass_config"})
# Left out without a word: the plan and the adapter give these, and code out of repositories is never run.
OURS = frozenset(
    {
        "--api-key", "--enable-auto-tool-choice", "--gpu-memory-utilization", "--host", "--max-model-len",
        "--max-num-batched-tokens", "--max-num-seqs", "--port", "--reasoning-parser", "--served-model-name",
        "--speculative-config", "--tensor-parallel-size", "--tool-call-parser", "--trust-remote-code",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Option:
    """One option as typed, in vLLM's spelling (`_` and `-` are one there), with the values that follow it."""

    name: str
    values: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        return self.name, *self.values

    @property
    def plain(self) -> str:
        """The name without a path into a JSON value (`--kernel-config.enable_x`)."""
        return self.name.partition(".")[0]


def options(words: Any) -> tuple[Option, ...]:
    """What a list of words says, as options; anything else is no option."""
    return tuple(_options(words if isinstance(words, list) else []))


def _options(words: list[Any]) -> Iterator[Option]:
    name, values = "", list[str]()
    for word in (str(each) for each in words if isinstance(each, str | int | float)):
        if not re.match(r"-+[A-Za-z]", word):  # -1 is a value
            values.append(word)
            continue
        if name:
            yield Option(name, tuple(values))
        typed, is_joined, value = word.partition("=")
        values = [value] if is_joined else []
        # "--option value" in one word is written by hand in places.
        typed, _, behind = typed.partition(" ")
        values += [behind] if behind else []
        head, dot, rest = typed.partition(".")
        name = head.replace("_", "-") + dot + rest
    if name:
        yield Option(name, tuple(values))


def value(found: tuple[Option, ...], name: str) -> str | None:
    """The value of an option that has one; the last one counts, as for the engine."""
    return next((each.values[0] for each in reversed(found) if each.name == name and each.values), None)


def taken(found: tuple[Option, ...]) -> tuple[str, ...]:
    """The words that a profile takes over."""
    return tuple(word for each in found if _is_taken(each) for word in each.words)


def left_out(found: tuple[Option, ...], *, some: bool = True) -> tuple[str, ...]:
    """The others (all, where not `some` were taken), as typed, but for what the launcher decides itself."""
    others = (each for each in found if not (some and _is_taken(each)))
    return tuple(" ".join(each.words) for each in others if each.plain not in OURS)


def _is_taken(option: Option) -> bool:
    # A path, a repository or a shell's variable means something on the machine of whoever wrote it.
    if any("/" in word or "$" in word for word in option.values):
        return False
    if option.name == _COMPILATION:
        return len(option.values) == 1 and _is_plain_compilation(option.values[0])
    return option.plain in _TAKEN


def _is_plain_compilation(text: str) -> bool:
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and found.keys() <= _COMPILED


def drafts(found: tuple[Option, ...]) -> int | None:
    """Tokens at a time, where the model's own heads for multi-token prediction draft; None for other ways, or for none."""
    text = value(found, "--speculative-config")
    told: Any = {"method": value(found, "--speculative-config.method")}
    told["num_speculative_tokens"] = value(found, "--speculative-config.num_speculative_tokens")
    if text is not None:
        try:
            told = json.loads(text)
        except ValueError:
            return None
    if not isinstance(told, dict) or "model" in told or not str(told.get("method")).endswith("mtp"):
        return None
    tokens = str(told.get("num_speculative_tokens"))
    return int(tokens) if tokens.isdecimal() and int(tokens) > 0 else None
