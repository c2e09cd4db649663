"""What agents are told of a model, each in its own form: the same in a file, in a variable or in an option."""

from typing import Any

from launcher.llm import LLMConfig

# What our provider is called in configurations that list several, and the variable that holds its key there.
PROVIDER = "launcher"
KEY = "MODEL_LAUNCHER_KEY"
TITLE = "model-launcher"


def elsewhere(llm: LLMConfig) -> str | None:
    """Why an agent that knows OpenAI-compatible addresses alone is not told of a configuration, or None."""
    return None if llm.local else f"{llm.name} is a provider's: this agent is told of models that are served here"


def opencode(llm: LLMConfig, key: str) -> dict[str, Any]:
    """A provider (opencode.ai/docs/config). Without limits it asks for 32,000 tokens and never compacts."""
    model = {
        "name": llm.served,
        "tool_call": True,
        "attachment": not llm.disable_vision,
        "modalities": {"input": inputs(llm), "output": ["text"]},
        "limit": {"context": llm.window, "output": llm.max_output_tokens},
        "cost": {"input": 0, "output": 0},
    }
    return {
        "npm": "@ai-sdk/openai-compatible",
        "name": TITLE,
        "options": {"baseURL": llm.base_url, "apiKey": key, "timeout": _milliseconds(llm)},
        "models": {llm.served: model},
    }


def codex(llm: LLMConfig) -> dict[str, str | int]:
    """What stands at the head of its settings; it sends no limit of an answer, and its hosted web search is not this server's.

    Source: codex-rs, core/src/config.
    """
    return {
        "model": llm.served,
        "model_provider": PROVIDER,
        "model_context_window": llm.window,
        "model_auto_compact_token_limit": llm.max_input_tokens or 0,
        "web_search": "disabled",
    }


def claude(llm: LLMConfig) -> dict[str, str]:
    """The variables of docs.claude.com, "LLM gateway configuration" and "Model configuration".

    vLLM takes the bearer token alone. Without the window a model of an unknown name is taken for one of a million tokens; one
    for compaction alone is not told, since Claude Code 2.1.330 makes 100,000 of anything less. What changes with each request
    at the head of a prompt would keep the engine from using its prefix cache.
    """
    return {
        "ANTHROPIC_BASE_URL": llm.origin,
        "ANTHROPIC_AUTH_TOKEN": llm.api_key,
        "ANTHROPIC_API_KEY": "",
        "ANTHROPIC_MODEL": llm.served,
        **{f"ANTHROPIC_DEFAULT_{tier}_MODEL": llm.served for tier in ("OPUS", "SONNET", "HAIKU", "FABLE")},
        "CLAUDE_CODE_SUBAGENT_MODEL": llm.served,
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(llm.window),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(llm.max_output_tokens),
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_TOTAL_TOKENS_REMINDER": "off",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_USE_BEDROCK": "0",
        "CLAUDE_CODE_USE_VERTEX": "0",
        "CLAUDE_CODE_USE_FOUNDRY": "0",
        "API_TIMEOUT_MS": str(_milliseconds(llm)),
    }


def qwen(llm: LLMConfig) -> dict[str, Any]:
    """A model of Qwen Code's provider for OpenAI-compatible addresses (qwenlm.github.io/qwen-code-docs, model providers)."""
    return {
        "id": llm.served,
        "name": llm.served,
        "baseUrl": llm.base_url,
        "envKey": KEY,
        "generationConfig": {
            "contextWindowSize": llm.window,
            "timeout": _milliseconds(llm),
            "samplingParams": {"max_tokens": llm.max_output_tokens},
        },
    }


def litellm(llm: LLMConfig) -> dict[str, Any]:
    """What LiteLLM's list would say of a model that it does not know (docs.litellm.ai, "Add Model Pricing")."""
    return {
        "max_tokens": llm.max_output_tokens,
        "max_input_tokens": llm.max_input_tokens,
        "max_output_tokens": llm.max_output_tokens,
        "input_cost_per_token": 0,
        "output_cost_per_token": 0,
        "litellm_provider": "hosted_vllm",
        "mode": "chat",
    }


def litellm_proxy(llm: LLMConfig, key: str) -> dict[str, Any]:
    """The model in the list of a proxy's config.yaml (docs.litellm.ai, "Proxy config.yaml")."""
    return {
        "model_name": llm.served,
        "litellm_params": {
            "model": f"hosted_vllm/{llm.served}",
            "api_base": llm.base_url,
            "api_key": key,
            "timeout": llm.timeout,
        },
        "model_info": {
            **{name: value for name, value in litellm(llm).items() if name != "litellm_provider"},
            "supports_function_calling": bool(llm.native_tool_calling),
            "supports_vision": not llm.disable_vision,
        },
    }


def inputs(llm: LLMConfig) -> list[str]:
    """What a model takes."""
    return ["text"] if llm.disable_vision else ["text", "image"]


def _milliseconds(llm: LLMConfig) -> int:
    return (llm.timeout or 0) * 1000
