import pytest

from launcher.endpoint import Endpoint
from launcher.fitting import AGENT_CONTEXT, STEP
from launcher.llm import LLMConfig, too_small


def told(context: int) -> LLMConfig:
    return LLMConfig.of(Endpoint("m", "http://127.0.0.1:8400/v1", "k", context), native_tool_calling=False)


@pytest.mark.parametrize(
    ("context", "tokens_in", "tokens_out"),
    [
        pytest.param(8_192, 5_529, 2_048, id="a quarter of a small window is for the answer"),
        pytest.param(32_768, 22_118, 8_192, id="never more than 8,192"),
        pytest.param(131_072, 110_592, 8_192, id="a large window"),
    ],
)
def test_input_and_output_leave_a_tenth_of_the_window_free(context: int, tokens_in: int, tokens_out: int) -> None:
    assert (told(context).max_input_tokens, told(context).max_output_tokens) == (tokens_in, tokens_out)
    assert told(context).model == "openai/m"


def test_an_agents_context_is_the_smallest_that_openhands_loads() -> None:
    assert too_small(told(AGENT_CONTEXT)) is None
    assert too_small(told(AGENT_CONTEXT - STEP))
