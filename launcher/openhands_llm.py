"""OpenHands' own LLM object (openhands-sdk, llm.py: the fields of LLM), which all its newer files hold."""

from typing import Any

from launcher.llm import SECRETS, LLMConfig

# What makes an LLM object ours: where it sends requests, and for which model.
POINTS = ("model", "base_url")
# The fields of ours that LLM has under the same name, in the order of its files.
_SAME = (
    "model",
    "base_url",
    *SECRETS,
    "aws_region_name",
    "api_version",
    "openrouter_site_url",
    "openrouter_app_name",
    "max_input_tokens",
    "max_output_tokens",
    "native_tool_calling",
    "timeout",
    "num_retries",
    "retry_min_wait",
    "retry_max_wait",
    "retry_multiplier",
    "temperature",
    "top_p",
    "input_cost_per_token",
    "output_cost_per_token",
    "disable_vision",
    "caching_prompt",
    "drop_params",
    "modify_params",
    "reasoning_effort",
    "custom_tokenizer",
)


def fields_of(llm: LLMConfig, *, usage: str = "agent", null_lives: bool = False) -> dict[str, Any]:
    """The object for one use of the model; `null_lives` tells that the file's reader keeps a null.

    Where it does not, a null does not survive OpenHands' own next save, and its default of the effort is "high": that drops the
    sampling parameters and turns thinking on in hybrid models. A local model without an effort is sent none: by the null, or by
    an override, where "none" keeps the default out. Releases ignore the keys that they do not know.
    """
    told = {key: value for key in _SAME if (value := getattr(llm, key)) not in (None, "")}
    told["usage_id"] = usage
    if llm.litellm_extra_body:
        told["litellm_extra_body"] = dict(llm.litellm_extra_body)
    if not llm.local:
        return told
    if llm.reasoning_effort is None:
        told["reasoning_effort"] = None if null_lives else "none"
    told["api_mode"] = "chat"
    told["capability_overrides"] = {
        "supports_reasoning_effort": llm.reasoning_effort is not None,
        "supports_sampling_params": True,
        "supports_vision": not llm.disable_vision,
        "supports_prompt_cache": False,
        "supports_responses_api": False,
    }
    return told


def condenser_of(llm: LLMConfig) -> dict[str, Any]:
    """A condenser for an agent of OpenHands' command, which counts tokens by the condenser's own limit alone."""
    condensed = fields_of(llm, usage="condenser", null_lives=True)
    made = {"kind": "LLMSummarizingCondenser", "llm": condensed, "max_size": 240, "keep_first": 2}
    return {**made, "max_tokens": llm.max_input_tokens}


def is_ours(now: object, after: object) -> bool:
    """Whether a value in a file is what we wrote, however OpenHands completed it since."""
    if not isinstance(now, dict) or not isinstance(after, dict):
        return now == after
    if "model" in after:
        return all(now.get(key) == after.get(key) for key in POINTS)
    if "llm" in after:
        return is_ours(now.get("llm"), after["llm"])
    return now == after
