"""Pages in browsers: who may read answers, as https://fetch.spec.whatwg.org/#http-cors-protocol has it."""

from typing import Any

import pytest

from launcher.gateway.decisions import allowed_origin
from launcher.gateway.table import Route, Table
from tests.gateway.world import KEY, place, request, run

PAGE = "https://chat.example:8443"
# As OpenAI's client for browsers asks (openai-node, src/client.ts: x-stainless-*).
WANTED = "authorization,content-type,x-stainless-lang"


@pytest.mark.parametrize(
    ("origins", "origin", "expected"),
    [
        pytest.param([], PAGE.encode(), "", id="none unless asked for"),
        pytest.param([PAGE], PAGE.encode(), PAGE, id="the one that was named"),
        pytest.param([PAGE], b"https://Chat.example:8443", PAGE, id="in any case"),
        pytest.param([PAGE], b"https://chat.example", "", id="another port is another origin"),
        pytest.param([PAGE], b"https://chat.example:8443.evil.example", "", id="one that only begins so"),
        pytest.param([PAGE], b"null", "", id="a page of no origin"),
        pytest.param([PAGE], None, "", id="no browser"),
        pytest.param([PAGE, "*"], b"https://other.example", "*", id="any"),
    ],
)
def test_which_origin_a_browser_is_told(origins: list[str], origin: bytes | None, expected: str) -> None:
    assert allowed_origin(Table.of([], keys=[], origins=origins), origin) == expected


def preflight(path: str, *, origin: str = PAGE, host: str = "localhost", more: str = "") -> bytes:
    lines = f"Host: {host}\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\n"
    return f"OPTIONS {path} HTTP/1.1\r\n{lines}Access-Control-Request-Headers: {WANTED}\r\n{more}\r\n".encode()


def told(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("access-control") or name == "vary"}


@pytest.mark.parametrize(
    ("path", "methods"),
    [pytest.param("/v1/chat/completions", "POST", id="a model"), pytest.param("/v1/models", "GET, HEAD", id="a page")],
)
def test_a_preflight_is_answered_here_without_a_key_and_never_allows_credentials(path: str, methods: str) -> None:
    async def main() -> None:
        async with place() as here:
            here.publish(here.ready(), origins=[PAGE])
            client = await here.client()
            await client.send(preflight(path) + request(headers=[f"Origin: {PAGE}"]))
            status, headers = await client.head()
            assert (status, "content-length" in headers) == (204, False)
            assert told(headers) == {
                "access-control-allow-origin": PAGE,
                "vary": "origin",
                "access-control-allow-methods": methods.lower(),
                "access-control-allow-headers": WANTED,
                "access-control-max-age": "600",
                "access-control-expose-headers": "x-request-id, retry-after, x-launcher-fallback",
            }
            # The question itself comes next on the same connection.
            assert (await client.answer()).status == 200
            assert [seen.method for seen in here.engines[0].seen] == [b"POST"]

    run(main())


@pytest.mark.parametrize(
    ("said", "status"),
    [
        pytest.param(preflight("/v1/models", origin="https://evil.example"), 405, id="another origin"),
        pytest.param(preflight("/v1/models", host="evil.example"), 403, id="a name that was rebound to us"),
        pytest.param(preflight("/collective_rpc"), 404, id="a path that is not there"),
        pytest.param(preflight("/v1/models", more=f"Origin: {PAGE}\r\n"), 400, id="two origins"),
        pytest.param(preflight("/v1/models", more="Content-Length: 3\r\n") + b"abc", 405, id="a preflight with a body"),
    ],
)
def test_what_is_no_preflight_of_ours(said: bytes, status: int) -> None:
    async def main() -> None:
        async with place() as here:
            here.publish(here.ready(), origins=[PAGE])
            client = await here.client()
            await client.send(said)
            assert (await client.head())[0] == status

    run(main())


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        pytest.param({}, 200, id="an answer"),
        pytest.param({"stream": True}, 200, id="a stream"),
        pytest.param({"model": "none"}, 404, id="a refusal, which the page is to show"),
        pytest.param({"key": "wrong"}, 401, id="a wrong key"),
    ],
)
@pytest.mark.parametrize(
    ("origins", "expected"),
    [
        pytest.param([PAGE], {"access-control-allow-origin": PAGE, "vary": "origin"}, id="of an origin that is let in"),
        pytest.param(["*"], {"access-control-allow-origin": "*"}, id="where all are"),
        pytest.param(["https://other.example"], {}, id="of another origin"),
        pytest.param([], {}, id="where none is"),
    ],
)
def test_what_a_page_may_read(asked: dict[str, Any], status: int, origins: list[str], expected: dict[str, str]) -> None:
    async def main() -> None:
        async with place() as here:
            here.publish(here.ready(), origins=origins)
            client = await here.client()
            await client.send(request(headers=[f"Origin: {PAGE}", "Cookie: session=1"], **{"key": KEY, **asked}))
            said, headers = await client.head()
            exposed = {"access-control-expose-headers": "x-request-id, retry-after, x-launcher-fallback"} if expected else {}
            assert (said, told(headers)) == (status, {**expected, **exposed})
            assert not [
                name for seen in here.engines[0].seen for name, _ in seen.headers if name.lower() in {b"cookie", b"origin"}
            ]

    run(main())


def test_what_is_open_on_this_machine_is_not_open_to_pages_in_its_browsers() -> None:
    async def main() -> None:
        async with place() as here:
            here.publish(here.ready(), origins=["*"])
            client = await here.client()
            metrics = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
            await client.send(f"{metrics}\r\n{metrics}Origin: {PAGE}\r\n\r\n".encode())
            assert [(await client.answer()).status for _ in range(2)] == [200, 401]

    run(main())


def test_a_stream_that_waits_opens_with_the_pages_origin() -> None:
    async def main() -> None:
        async with place() as here:
            here.publish(Route("tiny", "starting"), origins=[PAGE])
            client = await here.client()
            await client.send(request(headers=[f"Origin: {PAGE}"], stream=True))
            status, headers = await client.head()
            assert (status, headers["access-control-allow-origin"]) == (200, PAGE)

    run(main())
