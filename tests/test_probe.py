import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from launcher import probe
from launcher.endpoint import Endpoint
from launcher.errors import LauncherError
from tests.model_server import ModelServer, serving


@contextmanager
def server(answer: bytes, *, hang: bool = False) -> Iterator[Endpoint]:
    """A server that gives every connection these bytes and closes it, or leaves it open."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.recv(65536)
                connection.sendall(answer)
                kept.append(connection) if hang else connection.close()

        threading.Thread(target=serve, daemon=True).start()
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        yield Endpoint(model="m", base_url=base_url, api_key="k", context=8192)
        listener.shutdown(socket.SHUT_RDWR)
        for connection in kept:
            connection.close()


def http(body: str, *, status: str = "200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n{body}".encode()


ANSWER = json.dumps({"choices": [{"message": {"content": " Paris. "}}]})


def test_the_models_own_words_are_the_proof() -> None:
    with server(http(ANSWER)) as endpoint:
        assert probe.prove(endpoint).text == "Paris."


FAULTS = [
    pytest.param(http("{}", status="401 Unauthorized"), "/v1/chat/completions answered 401", id="another key"),
    pytest.param(http("oops", status="500 Internal Server Error"), "answered 500: oops", id="an error"),
    pytest.param(http("hello"), "something else than JSON", id="no JSON"),
    pytest.param(http("[]"), "something else than an object", id="another JSON"),
    pytest.param(http("{}"), "no words", id="no choice"),
    pytest.param(http(ANSWER.replace(" Paris. ", "  ")), "no words", id="an empty answer"),
    pytest.param(http("{", length=100), "broke off", id="an answer that is cut"),
    pytest.param(b"", "broke off", id="no answer at all"),
    pytest.param(b"SSH-2.0\r\n", "broke off", id="another protocol"),
]


@pytest.mark.parametrize(("answer", "message"), FAULTS)
def test_what_is_no_proof_is_told_in_a_line(answer: bytes, message: str) -> None:
    with server(answer) as endpoint, pytest.raises(LauncherError) as caught:
        probe.prove(endpoint)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_a_server_that_hangs_in_its_answer_is_told() -> None:
    with (
        server(http("{", length=100), hang=True) as endpoint,
        pytest.raises(LauncherError, match=r"no answer from .* within 0 s"),
    ):
        probe.prove(endpoint, timeout=0.2)


def test_nobody_there_is_told() -> None:
    with server(b"") as endpoint:
        pass
    with pytest.raises(LauncherError, match=r"broke off: .*refused"):
        probe.prove(endpoint)
    assert not probe.healthy(endpoint.base_url, "/health")


@pytest.mark.parametrize(
    ("manner", "verdict", "choice", "requests"),
    [
        pytest.param("call", "parsed", "auto", 2, id="a call by itself"),
        pytest.param("shy", "parsed", "required", 3, id="a call only when it must"),
        pytest.param("text", "text", "auto", 1, id="a call that is left in the words"),
        pytest.param("words", "text", "required", 2, id="words whatever is asked"),
        pytest.param("broken", "broken", "required", 2, id="arguments that are cut"),
        pytest.param("refuse", "refused", "auto", 1, id="no tools at all"),
    ],
)
def test_a_tool_call_is_proven_as_agents_ask_for_it(manner: str, verdict: str, choice: str, requests: int) -> None:
    with serving(ModelServer(manner=manner, refusal='"auto" tool choice requires --enable-auto-tool-choice')) as server:
        proof = probe.tools(Endpoint("m", f"{server.address}/v1", "k", 8192))
    assert (proof.verdict, proof.choice, len(server.asked)) == (verdict, choice, requests)
    assert all(asked.body["stream"] and asked.headers["authorization"] == "Bearer k" for asked in server.asked)


def test_a_wrong_key_is_no_refusal_of_tools() -> None:
    with serving(ModelServer(statuses=[401])) as server, pytest.raises(LauncherError, match="answered 401"):
        probe.tools(Endpoint("m", f"{server.address}/v1", "k", 8192))


def stream(*events: str) -> bytes:
    return b"HTTP/1.1 200 OK\r\n\r\n" + "".join(f"data: {event}\n\n" for event in events).encode()


def piece(text: str) -> str:
    return json.dumps({"choices": [{"delta": {"content": text}}]})


def test_a_stream_comes_word_by_word() -> None:
    with server(stream(piece("Pa"), piece("ris"), "[DONE]")) as endpoint:
        assert list(probe.stream(endpoint, [])) == ["Pa", "ris"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(stream(piece("Pa"), '{"error": "engine dead"}'), "engine dead", id="an error in the middle"),
        pytest.param(stream(piece("Pa")), "broke off", id="an end too early"),
        pytest.param(stream(piece("Pa"), "{"), "something else than JSON", id="half an event"),
    ],
)
def test_a_stream_that_breaks_off_is_told_after_what_came(answer: bytes, message: str) -> None:
    with server(answer) as endpoint:
        words = probe.stream(endpoint, [])
        assert next(words) == "Pa"
        with pytest.raises(LauncherError, match=message):
            next(words)


@pytest.mark.parametrize(
    ("answer", "context"),
    [
        pytest.param({"data": [{"id": "other"}, {"id": "m", "max_model_len": 4096}]}, 4096, id="among others"),
        pytest.param({"data": [{"id": "m", "max_model_len": 8192}]}, 8192, id="alone"),
    ],
)
def test_the_context_is_the_one_that_the_engine_reports(answer: object, context: int) -> None:
    with server(http(json.dumps(answer))) as endpoint:
        assert probe.context(endpoint.base_url, "k", "m") == context


def test_a_server_of_another_model_is_told() -> None:
    with server(http('{"data": []}')) as endpoint, pytest.raises(LauncherError, match="does not serve m"):
        probe.context(endpoint.base_url, "k", "m")
