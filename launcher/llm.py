"""What an agent is told about a model: the LLM configuration, from where the model answers."""

from dataclasses import dataclass, field

from launcher.endpoint import Endpoint

# OpenHands refuses to load an LLM whose max_input_tokens is below this (openhands-sdk, llm.py: MIN_CONTEXT_WINDOW_TOKENS).
SMALLEST_WINDOW = 16_384
LARGEST_OUTPUT = 8_192


@dataclass(frozen=True, slots=True)
class LLMConfig:
    """All that an agent's LLM section says, under OpenHands' own field names; `name` is the served model name."""

    name: str
    model: str
    base_url: str
    api_key: str = field(repr=False)
    max_input_tokens: int
    max_output_tokens: int
    native_tool_calling: bool = False

    @classmethod
    def of(cls, endpoint: Endpoint, *, native_tool_calling: bool) -> "LLMConfig":
        """Tell an agent about `endpoint`.

        LiteLLM needs the `openai/` prefix for an OpenAI-compatible server. The window leaves a tenth free, since agents only
        estimate their token counts.
        """
        output = min(LARGEST_OUTPUT, endpoint.context // 4)
        return cls(
            name=endpoint.model,
            model=f"openai/{endpoint.model}",
            base_url=endpoint.base_url,
            api_key=endpoint.api_key,
            max_input_tokens=(endpoint.context - output) * 9 // 10,
            max_output_tokens=output,
            native_tool_calling=native_tool_calling,
        )
