"""The way to a provider through a proxy: a small one on this machine, and real TLS inside."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from launcher.gateway import tls
from launcher.gateway.table import Route
from launcher.gateway.tunnel import Proxy, proxy
from launcher.llm import LLMConfig
from launcher.remote import remote
from tests.certificates import certificate
from tests.gateway.engine import Engine
from tests.gateway.world import place, run

BASIC = base64.b64encode(b"ada:se:cret").decode()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({}, None, id="none is set"),
        pytest.param({"https": "http://box:3128"}, Proxy("box", 3128), id="with a scheme"),
        pytest.param({"https": "box:3128"}, Proxy("box", 3128), id="without one"),
        pytest.param({"https": "http://box"}, Proxy("box", 80), id="without a port"),
        pytest.param({"https": "http://ada:se%3Acret@box:3128"}, Proxy("box", 3128, BASIC), id="with credentials"),
        pytest.param({"http": "http://box:3128"}, None, id="one for plain HTTP alone"),
        pytest.param({"https": "http://box:3128", "no": "example.org"}, None, id="the host is asked directly"),
        pytest.param({"https": "http://box:3128", "no": "example.com"}, Proxy("box", 3128), id="another host is"),
        pytest.param({"https": "http://box:3128", "no": "*"}, None, id="all are"),
    ],
)
def test_which_proxy_is_between(settings: Mapping[str, str], expected: Proxy | None) -> None:
    found = proxy("api.example.org", 443, settings)
    assert found == expected
    assert BASIC not in repr(found)


def test_a_proxy_that_wants_tls_itself_is_told() -> None:
    with pytest.raises(OSError, match="HTTPS_PROXY names no proxy that begins with http://"):
        proxy("api.example.org", 443, {"https": "https://box:3128"})


@dataclass
class Between:
    """A proxy that lets through, or says `answer` instead; `heads` are what it was asked."""

    answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"
    heads: list[bytes] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        writer.write(self.answer)
        if b" 200 " in self.answer:
            host, _, port = head.split(b" ")[1].decode().rpartition(":")
            there, theirs = await asyncio.open_connection(host, int(port))
            await asyncio.gather(_pass(reader, theirs), _pass(there, writer))
        writer.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
    writer.close()


@asynccontextmanager
async def between(made: Between) -> AsyncIterator[Between]:
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


def through(made: Between, files: tuple[Path, Path], status: int, words: str) -> None:
    """One request to a provider behind this proxy."""

    async def main() -> None:
        trusted = ssl.create_default_context(cafile=str(files[0]))
        cloud = await Engine("cloud", tls=tls.context(*files)).start()
        async with between(made):
            settings = {"https": f"http://ada:se%3Acret@127.0.0.1:{made.port}", "no": "elsewhere"}
            async with place(trust=lambda: trusted, proxies=settings) as here:
                address = f"https://localhost:{cloud.port}/v1"
                far = remote(LLMConfig("sky", "openai/m", base_url=address, api_key="sk-cloud", provider="openai"))
                here.publish(Route("sky", "remote", (far,), engine="OpenAI"))
                for _ in range(2):
                    answer = await here.ask(model="sky")
                    assert answer.status == status
                    assert words in answer.body.decode()
                assert b"sk-cloud" not in b"".join(made.heads)
                place_of = f"localhost:{cloud.port}"
                asked = f"CONNECT {place_of} HTTP/1.1\r\nHost: {place_of}\r\nProxy-Authorization: Basic {BASIC}\r\n\r\n"
                assert set(made.heads) == {asked.encode()}
        await cloud.stop()

    run(main())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("certificate"), "127.0.0.1")


def test_a_provider_is_asked_through_the_proxy_on_one_connection(files: tuple[Path, Path]) -> None:
    made = Between()
    through(made, files, 200, '"engine": "cloud"')
    assert len(made.heads) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "answered 'HTTP/1.1 407", id="it refuses"),
        pytest.param(b"SSH-2.0\r\n\r\n", "the proxy answered 'SSH-2.0'", id="it is no proxy"),
        pytest.param(b"HTTP/1.1 502 Bad Gateway\r\n\r\nno way", "the proxy answered", id="it says more than a head"),
        pytest.param(b"", "the proxy ended the connection", id="it says nothing"),
    ],
)
def test_a_proxy_that_lets_nobody_through_is_told(answer: bytes, words: str, files: tuple[Path, Path]) -> None:
    through(Between(answer), files, 502, words)
