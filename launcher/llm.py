"""What an agent is told about a model: the LLM configuration. Values and the rules for a local one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from launcher.endpoint import Endpoint

# OpenHands refuses to load an LLM whose max_input_tokens is below this (openhands-sdk, llm.py: MIN_CONTEXT_WINDOW_TOKENS).
SMALLEST_WINDOW = 16_384
LARGEST_OUTPUT = 8_192
# OpenHands gives up after 300, which a long prompt on small hardware needs for its first token.
LOCAL_SECONDS = 1800
# What is never printed and never typed as an option.
SECRETS = ("api_key", "aws_access_key_id", "aws_secret_access_key", "aws_session_token")
# Where a container finds the host's loopback listeners (Docker's --add-host host.docker.internal:host-gateway).
DOCKER_HOST = "host.docker.internal"
_LOOPBACK = re.compile(r"^(https?://)(?:127\.\d+\.\d+\.\d+|localhost|\[::1\])(?=[:/]|$)")


@dataclass(frozen=True, slots=True)
class LLMConfig:
    """All that an agent's LLM section says, under OpenHands' own field names; None leaves a field to the agent.

    `name` is the configuration's own, the served one of a local model; `provider` a key of providers.PROVIDERS. `base_url` ""
    is the provider's own address. Waits and `timeout` are in seconds, `num_retries` counts attempts, costs are US dollars a
    token. The embedding fields are OpenHands' old ones: kept, and written only as environment lines.
    """

    name: str
    model: str
    base_url: str = ""
    api_key: str = field(default="", repr=False)
    provider: str = "local"
    api_version: str | None = None
    custom_llm_provider: str | None = None
    # The four as OpenHands documents them (docs.openhands.dev, LLM configuration: API retries and rate limits).
    num_retries: int = 4
    retry_min_wait: int = 5
    retry_max_wait: int = 30
    retry_multiplier: float = 2.0
    timeout: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    input_cost_per_token: float | None = None
    output_cost_per_token: float | None = None
    drop_params: bool | None = None
    modify_params: bool | None = None
    disable_vision: bool | None = None
    caching_prompt: bool | None = None
    native_tool_calling: bool | None = None
    reasoning_effort: str | None = None
    custom_tokenizer: str | None = None
    litellm_extra_body: Mapping[str, Any] = field(default_factory=dict)
    aws_access_key_id: str | None = field(default=None, repr=False)
    aws_secret_access_key: str | None = field(default=None, repr=False)
    aws_session_token: str | None = field(default=None, repr=False)
    aws_region_name: str | None = None
    openrouter_site_url: str | None = None
    openrouter_app_name: str | None = None
    embedding_model: str | None = None
    embedding_deployment_name: str | None = None

    @classmethod
    def of(
        cls,
        endpoint: Endpoint,
        *,
        native_tool_calling: bool,
        vision: bool = False,
        reasoning_effort: str | None = None,
    ) -> "LLMConfig":
        """Tell an agent about `endpoint`.

        LiteLLM needs the `openai/` prefix for an OpenAI-compatible server. The window leaves a tenth free, since agents only
        estimate their token counts. Without prices every call of an unknown model warns. Without an effort a model thinks as
        its maker's chat template has it.
        """
        output = min(LARGEST_OUTPUT, endpoint.context // 4)
        return cls(
            name=endpoint.model,
            model=f"openai/{endpoint.model}",
            base_url=endpoint.base_url,
            api_key=endpoint.api_key,
            timeout=LOCAL_SECONDS,
            max_input_tokens=(endpoint.context - output) * 9 // 10,
            max_output_tokens=output,
            input_cost_per_token=0.0,
            output_cost_per_token=0.0,
            drop_params=True,
            disable_vision=not vision,
            caching_prompt=False,
            native_tool_calling=native_tool_calling,
            reasoning_effort=reasoning_effort,
        )

    @property
    def local(self) -> bool:
        """Whether the model is one that this launcher serves."""
        return self.provider == "local"

    @property
    def served(self) -> str:
        """A local model's name as its server knows it: without LiteLLM's word for the provider."""
        return self.model.removeprefix("openai/")

    @property
    def origin(self) -> str:
        """The address without /v1, for clients of Anthropic's kind, which add it themselves."""
        return self.base_url.removesuffix("/v1")

    @property
    def window(self) -> int:
        """Tokens of question and answer together, for agents that are told one number; 0 where none is told.

        It is what the two limits leave of the context, since these agents estimate their token counts as well.
        """
        return (self.max_input_tokens or 0) + (self.max_output_tokens or 0)


def effort(reasoning_parsers: Mapping[str, str]) -> str | None:
    """What a local model's `reasoning_effort` is, by its parsers of thoughts.

    gpt-oss is made for one of three efforts (huggingface.co/openai/gpt-oss-20b: reasoning levels). To all others both engines
    make a switch of it, thinking on or off (vLLM 0.32.0, chat_completion/protocol.py), and a model that always thinks has its
    thoughts taken for its answer where it is off: they are sent none.
    """
    return "medium" if {"openai_gptoss", "gpt-oss"} & set(reasoning_parsers.values()) else None


def too_small(llm: LLMConfig) -> str | None:
    """Why OpenHands' newer releases would not load a window, or None; one that is not told is the agent's own affair."""
    if llm.max_input_tokens is None or llm.max_input_tokens >= SMALLEST_WINDOW:
        return None
    return (
        f"OpenHands would not load it: {llm.name} has {llm.max_input_tokens:,} input tokens of {SMALLEST_WINDOW:,}; "
        "with ALLOW_SHORT_CONTEXT_WINDOWS=true in its environment it takes what `launcher llm env` prints"
    )


def from_a_container(llm: LLMConfig) -> LLMConfig:
    """The same for an agent in a container on this machine, to which loopback is the container itself."""
    return replace(llm, base_url=docker_url(llm.base_url))


def docker_url(base_url: str) -> str:
    """An address as a container on this machine reaches it."""
    return _LOOPBACK.sub(rf"\g<1>{DOCKER_HOST}", base_url)
