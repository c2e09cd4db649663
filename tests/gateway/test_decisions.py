"""What becomes of a request, as tables: no socket, no clock."""

from dataclasses import replace

import pytest

from launcher.gateway.decisions import Admitted, Head, Hold, Refusal, admit, decide, destination
from launcher.gateway.limits import Limits
from launcher.gateway.table import Backend, Key, Route, Table

TINY = Route("tiny", "ready", (Backend("127.0.0.1", 1), Backend("127.0.0.1", 2)))
TABLE = Table.of([TINY], keys=[Key.of("default", "secret"), Key.of("ci", "other")], aliases={"gpt": "tiny"}, hosts=["Box.lan"])
POST = Head(method=b"POST", path=b"/v1/chat/completions", host=b"localhost:8400", credentials=b"secret", length=10)
GET = Head(method=b"GET", path=b"/v1/models", host=b"localhost:8400", credentials=b"secret")


def change(head: Head, **fields: object) -> Head:
    values = {name: getattr(head, name) for name in head.__struct_fields__}
    return Head(**{**values, **fields})


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        pytest.param(POST, "default", id="a request with the default key"),
        pytest.param(change(POST, credentials=b"other"), "ci", id="a request with a named key"),
        pytest.param(change(POST, host=b"127.0.0.1"), "default", id="an address of loopback, without a port"),
        pytest.param(change(POST, host=b"[::1]:8400"), "default", id="IPv6's loopback"),
        pytest.param(change(POST, host=b"LOCALHOST.:8400"), "default", id="a name with capitals and the root's dot"),
        pytest.param(change(POST, host=b"host.docker.internal:8400"), "default", id="the name that containers use"),
        pytest.param(change(POST, host=b"box.lan"), "default", id="a host that was allowed, in any case"),
        pytest.param(change(POST, host=None, version="1.0"), "default", id="HTTP/1.0 needs no Host"),
        pytest.param(change(POST, expect=b"100-Continue"), "default", id="waits for a 100"),
        pytest.param(change(GET, path=b"/health", credentials=b""), "", id="health is open"),
        pytest.param(change(GET, path=b"/health", credentials=b"", here=False), "", id="health is open to all"),
        pytest.param(change(GET, path=b"/metrics", credentials=b""), "", id="metrics are open on this machine"),
        pytest.param(change(GET, path=b"/metrics", here=False), "default", id="metrics with a key, from elsewhere"),
        pytest.param(change(GET, method=b"HEAD"), "default", id="HEAD of a page"),
    ],
)
def test_who_is_let_in_and_by_whose_key(head: Head, expected: str) -> None:
    verdict = admit(TABLE, Limits(), head)
    assert isinstance(verdict, Admitted)
    assert (verdict.key, verdict.way.path.encode()) == (expected, head.path)


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        pytest.param(change(POST, credentials=b"wrong"), 401, "invalid_api_key", id="a wrong key"),
        pytest.param(change(POST, credentials=b""), 401, "invalid_api_key", id="no key"),
        pytest.param(
            change(GET, path=b"/metrics", credentials=b"", here=False), 401, "invalid_api_key", id="metrics, from afar"
        ),
        pytest.param(change(POST, host=b"evil.example:8400"), 403, "host_not_allowed", id="a name that was rebound to us"),
        pytest.param(change(POST, host=b"192.168.0.7"), 403, "host_not_allowed", id="an address that is not bound"),
        pytest.param(change(POST, host=b""), 403, "host_not_allowed", id="an empty Host"),
        pytest.param(change(POST, host=b"localhost@evil.example"), 403, "host_not_allowed", id="a user's part in the Host"),
        pytest.param(change(POST, host=None), 400, "bad_request", id="no Host"),
        pytest.param(change(POST, repeated=True), 400, "bad_request", id="two Hosts"),
        pytest.param(change(POST, upgrade=True), 400, "bad_request", id="an upgrade"),
        pytest.param(change(POST, method=b"CONNECT"), 400, "bad_request", id="CONNECT"),
        pytest.param(change(POST, path=b"http://localhost/v1/models"), 400, "bad_request", id="a whole address as target"),
        pytest.param(change(POST, path=b"*"), 400, "bad_request", id="a star as target"),
        pytest.param(change(POST, version="1.0", chunked=True), 400, "bad_request", id="chunks in HTTP/1.0"),
        pytest.param(change(POST, version="0.9"), 505, "http_version", id="HTTP/0.9"),
        pytest.param(change(POST, expect=b"payment"), 417, "expectation_failed", id="an expectation that nobody has"),
        pytest.param(change(POST, encoding=b"gzip"), 415, "content_encoding", id="a compressed body"),
        pytest.param(change(POST, length=(64 << 20) + 1), 413, "body_too_large", id="more than a body may have"),
        pytest.param(change(GET, method=b"POST"), 405, "method_not_allowed", id="POST to a page"),
        pytest.param(change(POST, method=b"GET"), 405, "method_not_allowed", id="GET of a completion"),
        pytest.param(change(POST, method=b"OPTIONS"), 405, "method_not_allowed", id="a browser's preflight: no CORS"),
        # vLLM's development endpoints (vllm/entrypoints/serve/) and SGLang's (srt/entrypoints/http_server.py).
        *(
            pytest.param(change(POST, path=path.encode()), 404, "path_not_found", id=path)
            for path in (
                *("/sleep", "/wake_up", "/collective_rpc", "/update_weights", "/init_weight_transfer_engine", "/pause"),
                *(
                    "/reset_prefix_cache",
                    "/v1/load_lora_adapter",
                    "/update_weights_from_disk",
                    "/flush_cache",
                    "/abort_request",
                ),
                *("/release_memory_occupation", "/invocations", "/docs", "/openapi.json", "/v1", "/", "//v1/chat/completions"),
                *("/v1/chat/completions/", "/v1/chat/../../sleep", "/v1/chat%2Fcompletions", "/V1/chat/completions"),
            )
        ),
    ],
)
def test_who_is_not_let_in(head: Head, status: int, code: str) -> None:
    verdict = admit(TABLE, Limits(), head)
    assert isinstance(verdict, Refusal)
    assert (verdict.status, verdict.code) == (status, code)


def test_a_table_without_keys_lets_nobody_in() -> None:
    for credentials in (b"", b"secret"):
        verdict = admit(Table.of([TINY], keys=[]), Limits(), change(POST, credentials=credentials))
        assert isinstance(verdict, Refusal)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        pytest.param("tiny", "tiny", id="by its name"),
        pytest.param("gpt", "tiny", id="by another name"),
        pytest.param(None, "tiny", id="the only one, where none is named"),
        pytest.param("", "tiny", id="the only one, where the name is empty"),
        pytest.param("large", "the model 'large' does not exist; there are gpt, tiny", id="one that is not there"),
    ],
)
def test_where_a_model_is(model: str | None, expected: str) -> None:
    found = destination(TABLE, model)
    assert (found.name if isinstance(found, Route) else found.message) == expected


def test_two_models_and_no_name_is_a_question_back() -> None:
    found = destination(Table.of([TINY, replace(TINY, name="large")], keys=[]), None)
    assert isinstance(found, Refusal)
    assert (found.status, found.message) == (400, "the request names no model; there are large, tiny")


@pytest.mark.parametrize(
    ("route", "loads", "waiting", "expected"),
    [
        pytest.param(TINY, [0, 0], 0, 0, id="the first of two that are idle"),
        pytest.param(TINY, [3, 2], 0, 1, id="the one with less to do"),
        pytest.param(TINY, [None, 9], 0, 1, id="the one that answers"),
        pytest.param(TINY, [None, None], 0, Hold(wake=True), id="none that answers: wait, and say so"),
        pytest.param(replace(TINY, slots=4), [4, 4], 0, Hold(), id="all slots taken"),
        pytest.param(replace(TINY, slots=4), [4, 3], 0, 1, id="one slot free"),
        pytest.param(TINY, [0, 0], 1, Hold(), id="after those who came before"),
        pytest.param(replace(TINY, state="starting", backends=()), [], 0, Hold(), id="while it starts"),
        pytest.param(replace(TINY, state="held"), [0, 0], 0, Hold(), id="while it is swapped"),
        pytest.param(replace(TINY, state="asleep"), [], 0, Hold(wake=True), id="asleep: it is wanted"),
        pytest.param(replace(TINY, state="stopped"), [], 0, Hold(wake=True), id="unloaded: it is wanted"),
        pytest.param(replace(TINY, state="off"), [], 0, (404, "model_stopped"), id="stopped by a person"),
        pytest.param(replace(TINY, state="failed"), [], 0, (503, "model_failed"), id="failed"),
        pytest.param(replace(TINY, state="starting"), [], 512, (503, "queue_full"), id="too many wait already"),
    ],
)
def test_a_turn(route: Route, loads: list[int | None], waiting: int, expected: int | Hold | tuple[int, str]) -> None:
    action = decide(route, loads, waiting=waiting, queue=512)
    assert ((action.status, action.code) if isinstance(action, Refusal) else action) == expected


def test_a_failure_tells_its_reason() -> None:
    action = decide(replace(TINY, state="failed", detail="the KV cache does not fit"), [])
    assert isinstance(action, Refusal)
    assert action.message == "tiny cannot be served: the KV cache does not fit"


def test_no_key_and_no_engines_key_is_in_what_a_table_shows() -> None:
    table = Table.of(
        [Route("tiny", "ready", (Backend("127.0.0.1", 1, "engine-secret"),))], keys=[Key.of("default", "sk-secret")]
    )
    assert "secret" not in repr(table)
