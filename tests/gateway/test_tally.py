"""The tokens that an engine tells at the end of an answer."""

import pytest

from launcher.gateway.tally import tokens


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        pytest.param(b'"usage":{"prompt_tokens":7,"completion_tokens":8,"total_tokens":15}', (7, 8), id="OpenAI's names"),
        pytest.param(b'"usage":{"input_tokens": 7, "output_tokens": 8}', (7, 8), id="Anthropic's, and the Responses API's"),
        pytest.param(b'"completion_tokens":8,"prompt_tokens":7', (7, 8), id="in the other order"),
        pytest.param(b'"completion_tokens":8', (0, 8), id="the answer's alone"),
        pytest.param(b'"prompt_tokens":7', None, id="the prompt's alone, as at a stream's begin"),
        pytest.param(b"x" * 5000 + b'"input_tokens":7,"output_tokens":8', (7, 8), id="behind a long answer"),
        pytest.param(b'_tokens" is no name; "completion_tokens":8', (0, 8), id="behind words that look like them"),
        pytest.param(b'{"content": "none"}', None, id="none"),
    ],
)
def test_the_tokens_of_an_answer(piece: bytes, expected: tuple[int, int] | None) -> None:
    assert tokens(piece) == expected
