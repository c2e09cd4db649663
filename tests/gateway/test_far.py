"""Providers' models behind a real gateway: under their own names and as fallbacks, over real TLS on this machine."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from launcher.gateway import tls
from launcher.gateway.decisions import Divert, Hold, Refusal, decide
from launcher.gateway.table import Backend, Route
from launcher.llm import LLMConfig
from launcher.providers import PROVIDERS, with_prefix
from launcher.remote import remote
from tests.certificates import certificate
from tests.gateway.engine import Engine
from tests.gateway.world import KEY, Place, place, request, run, until

CLOUD_KEY = "sk-cloud-0123456789"
STREAM: dict[str, Any] = {"stream": True}
EVENTS = b'data: {"n":0}\n\ndata: {"n":1}\n\ndata: {"n":2}\n\ndata: [DONE]\n\n'


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("certificate"), "127.0.0.1")


@pytest.fixture
def trusted(files: tuple[Path, Path]) -> ssl.SSLContext:
    """What trusts the certificate of the test's provider alone, as SSL_CERT_FILE would have it."""
    made = ssl.create_default_context(cafile=str(files[0]))
    made.set_alpn_protocols(["http/1.1"])
    return made


@dataclass
class Sky:
    """A gateway with one engine, and a provider behind TLS."""

    here: Place
    cloud: Engine

    def config(self, provider: str = "openai", *, path: str = "/v1", **more: Any) -> LLMConfig:
        address = f"https://localhost:{self.cloud.port}{path}"
        fields = {"base_url": address, "api_key": CLOUD_KEY, "provider": provider, **more}
        return LLMConfig("sky", with_prefix(PROVIDERS[provider], "big-1"), **fields)

    def route(self, llm: LLMConfig | None = None, **fields: Any) -> Route:
        return Route("sky", "remote", (remote(llm or self.config()),), **{"engine": "OpenAI", **fields})

    def publish(self, *routes: Route, llm: LLMConfig | None = None) -> None:
        self.here.publish(*routes, fallbacks=[self.route(llm)])


@asynccontextmanager
async def sky(files: tuple[Path, Path], trusted: ssl.SSLContext, **more: Any) -> AsyncIterator[Sky]:
    cloud = await Engine("cloud", tls=tls.context(*files)).start()
    try:
        async with place(trust=lambda: trusted, **more) as here:
            yield Sky(here, cloud)
    finally:
        await cloud.stop()


DOWN = Route("tiny", "starting", fallback="sky", down=True)


# -- decisions --

UP = Route("tiny", "ready", (Backend("127.0.0.1", 1),), fallback="sky")


@pytest.mark.parametrize(
    ("route", "loads", "expected"),
    [
        pytest.param(UP, [0], 0, id="one that is ready answers itself"),
        pytest.param(replace(UP, slots=1), [1], Hold(), id="one that is full is not down"),
        pytest.param(UP, [None], Divert(wake=True), id="one that is ready and does not answer"),
        pytest.param(replace(UP, backends=UP.backends * 2), [None, 3], 1, id="one of two does not answer"),
        pytest.param(DOWN, [], Divert(), id="one that comes for the first time, or again after a failure"),
        pytest.param(replace(DOWN, state="failed"), [], Divert(), id="one that was given up"),
        pytest.param(replace(DOWN, down=False), [], Hold(), id="one that comes as it was asked to: it was unloaded, or slept"),
        pytest.param(replace(DOWN, state="held", down=False), [], Hold(), id="one that makes room in a swap"),
        pytest.param(replace(DOWN, state="asleep", down=False), [], Hold(wake=True), id="one that is asleep is woken"),
        pytest.param(replace(DOWN, state="stopped", down=False), [], Hold(wake=True), id="one that was unloaded is loaded"),
        pytest.param(replace(DOWN, fallback=""), [], Hold(), id="without a fallback everybody waits"),
        pytest.param(Route("sky", "remote"), [0], Divert(), id="a provider's model under its own name"),
    ],
)
def test_a_provider_is_asked_only_for_its_own_model_or_in_the_place_of_one_that_is_down(
    route: Route, loads: list[int | None], expected: int | Hold | Divert
) -> None:
    assert decide(route, loads) == expected


@pytest.mark.parametrize(
    ("route", "loads", "expected"),
    [
        pytest.param(UP, [None], Hold(wake=True), id="waits for the engine"),
        pytest.param(DOWN, [], Hold(), id="waits for the start"),
        pytest.param(replace(DOWN, state="failed"), [], 503, id="nothing to wait for"),
        pytest.param(Route("sky", "remote", engine="OpenAI"), [0], 404, id="a path that the provider has not"),
    ],
)
def test_where_no_provider_can_be_asked_all_is_as_without_one(
    route: Route, loads: list[int | None], expected: Hold | int
) -> None:
    action = decide(route, loads, divert=False)
    assert (action.status if isinstance(action, Refusal) else action) == expected


def test_providers_are_trusted_by_this_systems_authorities_or_by_those_that_we_carry(tmp_path: Path) -> None:
    nowhere = ssl.get_default_verify_paths()._replace(cafile="", capath=str(tmp_path))
    for made in (tls.trust(), tls.trust(nowhere)):
        assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(tls.trust(nowhere).get_ca_certs()) > 50, "an empty folder is no system's"


# -- a provider's model under its own name --

# By provider: the path of its address, ours, the target there, the key's header, what is told beside.
ASKED: Mapping[str, tuple[str, str, str, tuple[str, str], Mapping[str, str]]] = {
    "azure": (
        "",
        "/v1/chat/completions",
        "/openai/deployments/big-1/chat/completions?api-version=2024-12-01-preview",
        ("api-key", CLOUD_KEY),
        {"api_version": "2024-12-01-preview"},
    ),
    "gemini": ("/v1beta", "/v1/chat/completions", "/v1beta/openai/chat/completions", ("authorization", ""), {}),
    "groq": ("/openai/v1", "/v1/chat/completions", "/openai/v1/chat/completions", ("authorization", ""), {}),
    "openai": ("/v1", "/v1/responses", "/v1/responses", ("authorization", ""), {}),
    "openrouter": ("/api/v1", "/v1/chat/completions", "/api/v1/chat/completions", ("authorization", ""), {}),
    "anthropic": ("", "/v1/messages", "/v1/messages", ("x-api-key", CLOUD_KEY), {}),
    "deepseek": ("", "/v1/chat/completions", "/chat/completions", ("authorization", ""), {}),
    "mistral": ("/v1", "/v1/chat/completions", "/v1/chat/completions", ("authorization", ""), {}),
    "moonshot": ("/v1", "/v1/chat/completions", "/v1/chat/completions", ("authorization", ""), {}),
    "litellm": ("", "/v1/chat/completions", "/v1/chat/completions", ("authorization", ""), {}),
    "openhands": ("", "/v1/chat/completions", "/v1/chat/completions", ("authorization", ""), {}),
    "compatible": ("/v1", "/v1/embeddings", "/v1/embeddings", ("authorization", ""), {}),
}


@pytest.mark.parametrize("provider", ASKED)
def test_each_provider_gets_its_own_path_key_and_name_and_all_else_as_it_was_sent(
    provider: str, files: tuple[Path, Path], trusted: ssl.SSLContext
) -> None:
    base, ours, target, (header, value), more = ASKED[provider]

    async def main() -> None:
        async with sky(files, trusted) as it:
            it.here.publish(it.here.ready(), it.route(it.config(provider, path=base, **more)))
            told = ["User-Agent: agent/1", "Cookie: a=b", "traceparent: 00-1-2-01", "X-Forwarded-For: 1.2.3.4"]
            answer = await it.here.ask(ours, model="sky", temperature=0.25, headers=told)
            assert (answer.status, answer.json["engine"]) == (200, "cloud")
            assert "x-launcher-fallback" not in answer.headers
            [seen] = it.cloud.seen
            assert seen.path.decode() == target
            assert seen.json == {"model": "big-1", "messages": [], "temperature": 0.25}
            headers = {name.decode(): text.decode() for name, text in seen.headers}
            assert headers[header] == (value or f"Bearer {CLOUD_KEY}")
            assert headers["host"] == f"localhost:{it.cloud.port}"
            assert [name for name, text in headers.items() if CLOUD_KEY in text] == [header]
            known = {"host", header, "content-type", "content-length", "x-request-id", "user-agent"}
            assert set(headers) == known | ({"anthropic-version"} if ours == "/v1/messages" else set())
            assert KEY.encode() not in it.cloud.raw
            assert not it.here.engines[0].seen

    run(main())


def test_every_provider_that_can_be_asked_is_in_the_table() -> None:
    assert set(ASKED) == {key for key, each in PROVIDERS.items() if each.api}


def test_a_path_that_the_provider_has_not_is_refused_here(files: tuple[Path, Path], trusted: ssl.SSLContext) -> None:
    async def main() -> None:
        async with sky(files, trusted) as it:
            it.here.publish(it.route())
            answer = await it.here.ask("/tokenize", model="sky")
            assert (answer.status, answer.json["error"]["code"]) == (404, "path_not_found")
            assert not it.cloud.raw

    run(main())


def test_of_a_providers_answer_only_what_clients_need_is_passed(files: tuple[Path, Path], trusted: ssl.SSLContext) -> None:
    theirs = {
        "Set-Cookie": "a=b",
        "CF-Ray": "1",
        "X-Launcher-Fallback": "nobody",
        "Access-Control-Allow-Origin": "*",
        "Alt-Svc": "h3",
        "Retry-After": "7",
        "x-ratelimit-remaining-requests": "0",
    }

    async def main() -> None:
        async with sky(files, trusted) as it:
            it.here.publish(it.route())
            answer = await it.here.ask(model="sky", status=429, more=theirs)
            assert (answer.status, answer.json["error"]["message"]) == (429, "no: 429")
            kept = {"content-type", "content-length", "retry-after", "x-ratelimit-remaining-requests", "x-request-id"}
            assert set(answer.headers) == kept
            assert answer.headers["retry-after"] == "7"

    run(main())


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
def test_what_a_provider_refuses_is_passed_as_it_is_and_not_asked_twice(
    status: int, files: tuple[Path, Path], trusted: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with sky(files, trusted) as it:
            it.publish(DOWN)
            answer = await it.here.ask(status=status)
            assert (answer.status, answer.json["error"]["message"]) == (status, f"no: {status}")
            assert len(it.cloud.seen) == 1

    run(main())


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("SSH-2.0-OpenSSH\r\n\r\n", id="another protocol"),
        pytest.param("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", id="two lengths"),
        pytest.param("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", id="a length below zero"),
        pytest.param("HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", id="another protocol from here on"),
        pytest.param("HTTP/1.1 200 OK\r\nA: " + "x" * 70_000, id="a head without an end"),
    ],
)
def test_an_answer_that_is_no_http_is_told_and_ends_that_connection(
    raw: str, files: tuple[Path, Path], trusted: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with sky(files, trusted) as it:
            it.here.publish(it.route())
            answer = await it.here.ask(model="sky", raw=raw)
            assert (answer.status, answer.json["error"]["code"]) == (502, "provider_gone")
            assert (await it.here.ask(model="sky")).status == 200

    run(main())


def test_a_provider_whose_certificate_nobody_vouches_for_gets_no_key(files: tuple[Path, Path]) -> None:
    async def main() -> None:
        async with sky(files, ssl.create_default_context()) as it:
            it.here.publish(it.route())
            answer = await it.here.ask(model="sky")
            assert (answer.status, answer.json["error"]["code"]) == (502, "provider_gone")
            assert "certificate" in answer.json["error"]["message"]
            assert not it.cloud.raw

    run(main())


def test_a_connection_is_kept_and_made_anew_where_the_provider_closed_it(
    files: tuple[Path, Path], trusted: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with sky(files, trusted) as it:
            it.here.publish(it.route())
            for _ in range(2):
                assert (await it.here.ask(model="sky")).status == 200
            assert len(it.cloud.connections) == 1
            it.cloud.close_idle()
            assert (await it.here.ask(model="sky")).status == 200

    run(main())


@pytest.mark.parametrize("host", ["a..b", "nowhere.invalid", "x" * 64])
def test_a_name_that_leads_nowhere_is_told(host: str) -> None:
    async def main() -> None:
        async with place() as here:
            far = remote(LLMConfig("sky", "openai/m", base_url=f"https://{host}/v1", api_key="k", provider="openai"))
            here.publish(Route("sky", "remote", (far,)))
            answer = await here.ask(model="sky")
            assert (answer.status, answer.json["error"]["code"]) == (502, "provider_gone")
            assert answer.json["error"]["message"].startswith(f"sky ({host}) does not answer: ")

    run(main())


# -- a fallback --


def test_a_fallback_answers_for_one_that_is_down_and_says_so(
    tmp_path: Path, files: tuple[Path, Path], trusted: ssl.SSLContext
) -> None:
    log = tmp_path / "access.log"

    async def main() -> None:
        async with sky(files, trusted, log=log) as it:
            it.publish(DOWN)
            plain = await it.here.ask()
            assert (plain.status, plain.json["model"], plain.headers["x-launcher-fallback"]) == (200, "big-1", "sky")
            client = await it.here.client()
            await client.send(request(**STREAM))
            answer = await client.answer()
            assert (answer.body, answer.headers["x-launcher-fallback"]) == (EVENTS, "sky")
            listed = (await it.here.get("/v1/models")).json["data"]
            assert [(each["id"], each["fallback"]) for each in listed] == [("tiny", "sky")]
            assert (await it.here.ask(model="sky")).status == 404, "it has no name of its own here"
            told = (await it.here.get("/metrics")).body.decode()
            assert 'launcher_fallbacks_total{fallback="sky",model="tiny"} 2.0' in told
            assert 'launcher_requests_total{model="sky",status="200"} 2.0' in told
            # The model that is there again answers itself.
            it.publish(replace(it.here.ready(), fallback="sky"))
            again = await it.here.ask()
            assert (again.json["engine"], "x-launcher-fallback" in again.headers) == ("engine-0", False)
            assert it.here.gateway.usage().routes["tiny"].failed == 0

    run(main())
    lines = log.read_text().splitlines()
    assert [line.split()[5] for line in lines if "/chat/" in line] == ["tiny>sky", "tiny>sky", "-", "tiny"]
    assert CLOUD_KEY not in log.read_text()


def test_what_the_provider_answers_proves_nothing_of_the_local_engine(
    files: tuple[Path, Path], trusted: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with sky(files, trusted) as it:
            it.publish(DOWN)
            await it.here.ask()
            use = it.here.gateway.usage().routes["tiny"]
            assert use.asked > 0
            assert use.succeeded == 0.0

    run(main())


@pytest.mark.parametrize("streams", [True, False], ids=["a stream", "a plain answer"])
def test_a_request_whose_engine_dies_before_a_byte_is_answered_by_the_fallback(
    files: tuple[Path, Path], trusted: ssl.SSLContext, *, streams: bool
) -> None:
    async def main() -> None:
        async with sky(files, trusted) as it:
            it.publish(replace(it.here.ready(), fallback="sky"))
            asking = asyncio.create_task(it.here.ask(delay=0.5, stream=streams))
            await until(lambda: bool(it.here.engines[0].seen))
            await it.here.engines[0].stop()
            answer = await asking
            assert (answer.status, answer.headers["x-launcher-fallback"]) == (200, "sky")
            assert it.here.woken == ["tiny"], "the supervisor hears that it is needed"
            # And the next one, though the table still calls it ready.
            assert (await it.here.ask()).headers["x-launcher-fallback"] == "sky"

    run(main())


def test_a_stream_that_has_begun_is_not_moved(files: tuple[Path, Path], trusted: ssl.SSLContext) -> None:
    async def main() -> None:
        async with sky(files, trusted) as it:
            it.publish(replace(it.here.ready(), fallback="sky"))
            answer = await it.here.ask(**STREAM, die="middle")
            assert b"engine_gone" in answer.body
            assert not it.cloud.seen

    run(main())


def test_those_who_wait_are_sent_on_when_the_model_goes_down(files: tuple[Path, Path], trusted: ssl.SSLContext) -> None:
    async def main() -> None:
        async with sky(files, trusted) as it:
            held = replace(DOWN, state="held", down=False)
            it.publish(held)
            plain = asyncio.create_task(it.here.ask())
            client = await it.here.client()
            await client.send(request(**STREAM))
            await client.head()
            assert await client.chunk() == b": tiny is held, 1 before this one\n\n"
            it.publish(replace(DOWN, state="failed"))
            assert (await plain).headers["x-launcher-fallback"] == "sky"
            pieces = []
            while piece := await client.chunk():
                pieces.append(piece)
            assert b"".join(pieces).endswith(b": sky answers in its place\n\n" + EVENTS)

    run(main())


def test_where_the_provider_cannot_be_reached_the_request_waits_for_the_local_model(
    files: tuple[Path, Path], trusted: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with sky(files, trusted) as it:
            await it.cloud.stop()
            it.publish(DOWN)
            asking = asyncio.create_task(it.here.ask())
            await until(lambda: it.here.gateway.usage().routes["tiny"].waiting == 1)
            it.publish(replace(it.here.ready(), fallback="sky"))
            answer = await asking
            assert (answer.status, answer.json["engine"], answer.json["model"]) == (200, "engine-0", "tiny")
            assert "x-launcher-fallback" not in answer.headers

    run(main())


def test_where_neither_can_be_had_both_reasons_are_told(files: tuple[Path, Path], trusted: ssl.SSLContext) -> None:
    async def main() -> None:
        async with sky(files, trusted) as it:
            await it.cloud.stop()
            it.publish(replace(DOWN, state="failed", detail="no room"))
            answer = await it.here.ask()
            message = answer.json["error"]["message"]
            assert answer.status == 503
            assert message.startswith("tiny cannot be served: no room; sky (localhost) does not answer: ")

    run(main())


def test_a_path_that_only_engines_have_waits_for_the_engine(files: tuple[Path, Path], trusted: ssl.SSLContext) -> None:
    async def main() -> None:
        async with sky(files, trusted) as it:
            it.publish(DOWN)
            asking = asyncio.create_task(it.here.ask("/tokenize"))
            await until(lambda: it.here.gateway.usage().routes["tiny"].waiting == 1)
            it.publish(it.here.ready())
            assert (await asking).json["engine"] == "engine-0"
            assert not it.cloud.raw

    run(main())


def test_a_client_that_goes_away_ends_the_providers_work(files: tuple[Path, Path], trusted: ssl.SSLContext) -> None:
    async def main() -> None:
        async with sky(files, trusted) as it:
            it.publish(DOWN)
            client = await it.here.client()
            await client.send(request(**STREAM, gap=0.2, chunks=100))
            await client.head()
            client.leave()
            await until(lambda: it.cloud.left == 1)
            await until(lambda: not any(it.here.gateway.usage().in_flight.values()))

    run(main())


def test_a_fallback_that_is_taken_back_is_asked_no_more_and_finishes_what_it_began(
    files: tuple[Path, Path], trusted: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with sky(files, trusted) as it:
            it.publish(DOWN)
            client = await it.here.client()
            await client.send(request(**STREAM, gap=0.1))
            await client.head()
            it.here.publish(replace(it.here.ready(), fallback=""))
            assert (await it.here.ask()).json["engine"] == "engine-0"
            pieces = []
            while piece := await client.chunk():
                pieces.append(piece)
            assert b"".join(pieces) == EVENTS
            assert len(it.cloud.seen) == 1

    run(main())


def test_an_alias_of_a_model_that_is_down_leads_to_its_fallback(files: tuple[Path, Path], trusted: ssl.SSLContext) -> None:
    async def main() -> None:
        async with sky(files, trusted) as it:
            it.here.publish(DOWN, fallbacks=[it.route()], aliases={"gpt": "tiny"})
            answer = await it.here.ask(model="gpt")
            assert (answer.json["model"], answer.headers["x-launcher-fallback"]) == ("big-1", "sky")

    run(main())


def test_a_provider_in_clear_text_and_without_a_key_is_asked_as_well() -> None:
    async def main() -> None:
        async with place(engines=2) as here:
            address = f"http://127.0.0.1:{here.engines[1].port}/v1"
            far = remote(LLMConfig("sky", "openai/big-1", base_url=address, provider="litellm", api_key="k"))
            here.publish(DOWN, fallbacks=[Route("sky", "remote", (far,))])
            answer = await here.ask()
            assert (answer.json["engine"], answer.headers["x-launcher-fallback"]) == ("engine-1", "sky")

    run(main())


def test_a_providers_model_tells_its_window_as_the_others_do(files: tuple[Path, Path], trusted: ssl.SSLContext) -> None:
    async def main() -> None:
        async with sky(files, trusted) as it:
            it.here.publish(it.route(context=128_000, output=16_384, native_tool_calling=True))
            [listed] = (await it.here.get("/v1/models")).json["data"]
            told = {"id": "sky", "owned_by": "OpenAI", "max_model_len": 128_000, "state": "remote"}
            assert listed.items() >= told.items()
            [info] = (await it.here.get("/v1/model/info")).json["data"]
            window = {"max_input_tokens": 128_000, "max_output_tokens": 16_384, "supports_function_calling": True}
            assert info["model_info"].items() >= window.items()
            assert "input_cost_per_token" not in info["model_info"], "it is not free, and what it costs is not known here"

    run(main())
