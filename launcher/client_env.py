"""A local model as the variables that other programs read: SDKs, proxies, and agents that are configured by nothing else."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from launcher import forms, llm_env
from launcher.llm import LLMConfig


@dataclass(frozen=True, slots=True)
class Client:
    """Who reads variables: which, and what else there is to know, in lines for a person."""

    variables: Callable[[LLMConfig], dict[str, str]]
    notes: Callable[[LLMConfig], tuple[str, ...]] = lambda _: ()


def _openai(llm: LLMConfig) -> dict[str, str]:
    """Both names of the address: LlamaIndex reads the old one alone, OpenAI's own SDK the new one."""
    return {
        "OPENAI_BASE_URL": llm.base_url,
        "OPENAI_API_BASE": llm.base_url,
        "OPENAI_API_KEY": llm.api_key,
        "OPENAI_MODEL": llm.served,
    }


def _anthropic(llm: LLMConfig) -> dict[str, str]:
    """The token, not the key: that one is sent in a header that vLLM does not read."""
    return {"ANTHROPIC_BASE_URL": llm.origin, "ANTHROPIC_AUTH_TOKEN": llm.api_key, "ANTHROPIC_MODEL": llm.served}


def _litellm(llm: LLMConfig) -> dict[str, str]:
    return {"HOSTED_VLLM_API_BASE": llm.base_url, "HOSTED_VLLM_API_KEY": llm.api_key}


def _litellm_notes(llm: LLMConfig) -> tuple[str, ...]:
    """LiteLLM knows neither window nor price of a model that is in no list."""
    model = f"hosted_vllm/{llm.served}"
    return (
        f"litellm.register_model({json.dumps({model: forms.litellm(llm)})})",
        f'litellm.completion("{model}", messages=[...], timeout={llm.timeout})',
    )


def _copilot(llm: LLMConfig) -> dict[str, str]:
    """As `copilot help providers` tells them (GitHub Copilot CLI 1.0)."""
    return {
        "COPILOT_PROVIDER_BASE_URL": llm.base_url,
        "COPILOT_PROVIDER_API_KEY": llm.api_key,
        "COPILOT_PROVIDER_WIRE_API": "completions",
        "COPILOT_PROVIDER_MAX_PROMPT_TOKENS": str(llm.max_input_tokens),
        "COPILOT_PROVIDER_MAX_OUTPUT_TOKENS": str(llm.max_output_tokens),
        "COPILOT_MODEL": llm.served,
        "COPILOT_OFFLINE": "true",
    }


def _open_webui(llm: LLMConfig) -> dict[str, str]:
    return {
        "ENABLE_OPENAI_API": "True",
        "OPENAI_API_BASE_URLS": llm.base_url,
        "OPENAI_API_KEYS": llm.api_key,
        "ENABLE_OLLAMA_API": "False",
    }


def _open_webui_notes(_: LLMConfig) -> tuple[str, ...]:
    """docs.openwebui.com, "Environment Variable Configuration": these are kept in its database."""
    return ("Open WebUI reads these at its first start alone; later its own settings count (ENABLE_PERSISTENT_CONFIG=False)",)


def _zed(llm: LLMConfig) -> dict[str, str]:
    """The variable that Zed makes of the provider's name, which `launcher wire zed` writes (zed.dev/docs/ai/use-api-access)."""
    return {f"{forms.PROVIDER.upper()}_API_KEY": llm.api_key}


CLIENTS: Mapping[str, Client] = MappingProxyType(
    {
        "openhands": Client(llm_env.variables),
        "openai": Client(_openai),
        "anthropic": Client(_anthropic),
        "litellm": Client(_litellm, _litellm_notes),
        "copilot": Client(_copilot),
        "open-webui": Client(_open_webui, _open_webui_notes),
        "zed": Client(_zed),
    }
)
