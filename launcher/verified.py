"""Models that OpenHands' people found to work with it, by list and date. A remark, never a rule: any model may be used."""

from dataclasses import dataclass

# The page `LLM backends` of OpenHands' documentation, as it stood in spring 2025.
_PAGE = "https://docs.all-hands.dev/usage/llms"
# openhands-sdk 1.58.0, openhands/sdk/llm/utils/verified_models.py.
_SDK = "https://github.com/OpenHands/software-agent-sdk"
_PAGE_DATE = "2025-05-01"
_SDK_DATE = "2026-11-22"


@dataclass(frozen=True, slots=True)
class Verified:
    """A model with its LiteLLM prefix, the list that names it and the day of that list; `note` tells what changed since."""

    model: str
    source: str
    date: str
    note: str = ""


VERIFIED: tuple[Verified, ...] = (
    Verified("anthropic/claude-3-7-sonnet-20250219", _PAGE, _PAGE_DATE, "recommended then; newer lists have newer ones"),
    Verified("gemini/gemini-2.5-pro", _PAGE, _PAGE_DATE),
    Verified("deepseek/deepseek-chat", _PAGE, _PAGE_DATE),
    Verified("openai/o3-mini", _PAGE, _PAGE_DATE),
    Verified("openai/o3", _PAGE, _PAGE_DATE),
    Verified("openai/o4-mini", _PAGE, _PAGE_DATE),
    Verified(
        "openrouter/all-hands/openhands-lm-32b-v0.1",
        _PAGE,
        _PAGE_DATE,
        "`launcher up openhands-lm-32b` serves the same weights here",
    ),
    *(
        Verified(model, _SDK, _SDK_DATE)
        for model in (
            "anthropic/claude-opus-5-5",
            "anthropic/claude-opus-5",
            "anthropic/claude-sonnet-5-5",
            "anthropic/claude-sonnet-5",
            "anthropic/claude-haiku-5-5",
            "anthropic/claude-haiku-4-5-20251001",
            "anthropic/claude-fable-5-1",
            "anthropic/claude-fable-5",
            "openai/gpt-6.1-sol",
            "openai/gpt-6-sol",
            "openai/gpt-6-luna",
            "openai/gpt-6-astra",
            "openai/gpt-5.6",
            "openai/gpt-5.6-sol",
            "openai/gpt-5.6-terra",
            "openai/gpt-5.6-luna",
            "openai/gpt-5.3-codex",
            "openai/gpt-5.2-codex",
            "mistral/devstral-2512",
            "mistral/devstral-medium-2512",
            "gemini/gemini-4-argon",
            "gemini/gemini-3.1-pro",
            "gemini/gemini-3.1-pro-preview",
            "gemini/gemini-3.8-flash",
            "gemini/gemini-3.7-flash",
            "gemini/gemini-3.5-flash-lite",
            "gemini/gemini-3.1-flash-lite",
            "deepseek/deepseek-v4-pro",
            "deepseek/deepseek-v4-flash",
            "deepseek/deepseek-v4.1-flash",
            "deepseek/deepseek-v3.2-reasoner",
            "moonshot/kimi-k3",
            "moonshot/kimi-k2.7-code",
            "moonshot/kimi-for-coding",
            "openrouter/anthropic/claude-opus-5",
            "openrouter/anthropic/claude-sonnet-5.5",
            "openrouter/openai/gpt-6.1-sol",
            "openrouter/deepseek/deepseek-v4-pro",
            "openrouter/google/gemini-3.1-pro-preview",
            "openrouter/moonshotai/kimi-k3",
            "openrouter/mistralai/devstral-2512",
            "openrouter/z-ai/glm-5.3",
            "openrouter/minimax/minimax-m3",
            "openhands/claude-opus-5-5",
            "openhands/claude-sonnet-5-5",
            "openhands/gpt-6.1-sol",
            "openhands/gemini-3.1-pro",
            "openhands/deepseek-v4-pro",
            "openhands/kimi-k3",
            "openhands/devstral-2512",
            "openhands/glm-5.3",
            "openhands/qwen3-coder-480b",
        )
    ),
)


def said_of(model: str) -> Verified | None:
    """What the lists say of a model; None where none names it."""
    return next((each for each in VERIFIED if each.model == model), None)


def beginning_with(typed: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """The known models that what was typed may become: those that begin so, else those that hold it."""
    starts = tuple(each for each in known if each.startswith(typed))
    return starts or tuple(each for each in known if typed and typed.lower() in each.lower())
