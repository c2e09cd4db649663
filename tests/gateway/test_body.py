import json

import pytest

from launcher.gateway.body import Asked, message, read, with_model


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b'{"model": "a", "stream": true}', Asked("a", stream=True), id="both"),
        pytest.param(b'{"messages": [{"model": "b"}], "model": "a"}', Asked("a"), id="not one of an inner object"),
        pytest.param(b'{"model": "a", "model": "b"}', Asked("b"), id="the last of two, as Python's parser has it"),
        pytest.param(b'{"model": "a", "stream": null}', Asked("a"), id="null is nothing"),
        pytest.param(b'{"model": "a", "stream": "true"}', Asked("a", stream=True), id="a word for true, as engines take it"),
        pytest.param(b'{"mod\\u0065l": "a"}', Asked("a"), id="an escaped name"),
        pytest.param(b"{}", Asked(), id="nothing"),
        pytest.param(b"", "the body is not JSON", id="no body"),
        pytest.param(b'{"model": "a"', "the body is not JSON", id="half a body"),
        pytest.param(b'{"model": "a"} {"model": "b"}', "the body is not JSON", id="two bodies"),
        pytest.param(b'{"model": "\xff"}', "the body is not JSON", id="not UTF-8"),
        pytest.param(b'{"model": 5}', "the body is not a request", id="a number for a name"),
        pytest.param(b"[]", "the body is not a request", id="a list"),
        pytest.param(
            b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "the body is nested too deeply", id="a hundred thousand deep"
        ),
    ],
)
def test_what_is_read_of_a_body(body: bytes, expected: Asked | str) -> None:
    found = read(body)
    if isinstance(expected, str):
        assert isinstance(found, str)
        assert found.startswith(expected)
    else:
        assert found == expected


def test_another_name_leaves_every_other_value_its_bytes() -> None:
    body = b'{ "temperature": 0.10, "model" : "gpt", "messages": [ {"content": "\\u00e4 \xc3\xa4"} ], "n": 1e0 }'
    changed = with_model(body, 'a "b"')
    assert json.loads(changed) == {**json.loads(body), "model": 'a "b"'}
    for kept in (b"0.10", b'[ {"content": "\\u00e4 \xc3\xa4"} ]', b"1e0"):
        assert kept in changed


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(b'{"error": {"message": "too long", "code": 400}}', "too long", id="vLLM's and OpenAI's"),
        pytest.param(b'{"object": "error", "message": "too long"}', "too long", id="SGLang's"),
        pytest.param(b'{"detail": "Not Found"}', "Not Found", id="FastAPI's"),
        pytest.param(b'{"error": "Unauthorized"}', "Unauthorized", id="a word"),
        pytest.param(b"<html>", None, id="a page"),
        pytest.param(b"[]", None, id="a list"),
    ],
)
def test_what_an_engine_says_in_an_error(answer: bytes, expected: str | None) -> None:
    assert message(answer) == expected
