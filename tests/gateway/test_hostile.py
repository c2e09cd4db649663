"""Clients that mean harm, or are broken: they get a 4xx or an end, and the gateway serves the next one."""

import asyncio
import os
import random
from dataclasses import replace

import pytest

from launcher.gateway.limits import Limits
from tests.gateway.world import KEY, QUICK, Client, Place, place, request, run, until

AUTH = f"Host: localhost\r\nAuthorization: Bearer {KEY}\r\n"
POST = f"POST /v1/completions HTTP/1.1\r\n{AUTH}"
BODY = '{"model": "tiny"}'
CHUNKED = f"{POST}Transfer-Encoding: chunked\r\n\r\n"


async def fate(client: Client) -> int:
    """The status of what comes, 0 for an end without a word."""
    try:
        return (await client.answer()).status
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return 0


async def still_serves(here: Place) -> None:
    assert (await here.ask()).status == 200
    await until(lambda: sum(here.gateway.usage().in_flight.values()) == 0)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        pytest.param(f"{POST}Content-Length: 17\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, id="a length and chunks"),
        pytest.param(f"{POST}Transfer-Encoding: chunked\r\nContent-Length: 17\r\n\r\n0\r\n\r\n", 400, id="chunks and a length"),
        pytest.param(f"{POST}Content-Length: 17\r\nContent-Length: 18\r\n\r\n{BODY}", 400, id="two lengths"),
        pytest.param(f"{POST}Content-Length: 17\r\nContent-Length: 17\r\n\r\n{BODY}", 400, id="the same length twice"),
        pytest.param(f"{POST}Content-Length: 17, 17\r\n\r\n{BODY}", 400, id="a list of lengths"),
        pytest.param(f"{POST}Content-Length: +17\r\n\r\n{BODY}", 400, id="a length with a sign"),
        pytest.param(f"{POST}Content-Length: -1\r\n\r\n{BODY}", 400, id="a negative length"),
        pytest.param(f"{POST}Content-Length: 0x11\r\n\r\n{BODY}", 400, id="a hexadecimal length"),
        pytest.param(f"{POST}Content-Length: 99999999999999999999999\r\n\r\n{BODY}", 400, id="a length beyond 64 bits"),
        pytest.param(f"{POST}Content-Length : 17\r\n\r\n{BODY}", 400, id="a space before the colon"),
        pytest.param(f"{POST}Transfer-Encoding: identity\r\n\r\n{BODY}", 400, id="an encoding that is none"),
        pytest.param(f"{POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, id="an encoding that nobody knows"),
        pytest.param(f"{POST}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400, id="chunks twice"),
        pytest.param(f"{POST}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400, id="a control character before the value"),
        pytest.param(f"{CHUNKED}zz\r\n{BODY}\r\n0\r\n\r\n", 400, id="a chunk's size that is no number"),
        pytest.param(f"{CHUNKED}-5\r\n{BODY}\r\n0\r\n\r\n", 400, id="a negative chunk"),
        pytest.param(f"{CHUNKED}0x11\r\n{BODY}\r\n0\r\n\r\n", 400, id="a chunk's size with a prefix"),
        pytest.param(f"{CHUNKED}3\r\n{BODY}\r\n0\r\n\r\n", 400, id="a chunk that is longer than it says"),
        pytest.param(f"{CHUNKED}FFFFFFFFFFFFFFFFF\r\n{BODY}\r\n0\r\n\r\n", 400, id="a chunk beyond 64 bits"),
        pytest.param(f"{CHUNKED}11\n{BODY}\n0\n\n", 400, id="chunks with bare line feeds"),
        pytest.param(f"{CHUNKED}11\r\n{BODY}\r\n0\r\nContent-Length: 5\r\n\r\n", 400, id="a length in the trailer"),
        pytest.param(f"GET /health HTTP/1.1\r\n{AUTH}X: a\r\n b\r\n\r\n", 400, id="a folded header"),
        pytest.param(f"GET /health HTTP/1.1\n{AUTH}\n", 400, id="bare line feeds"),
        pytest.param(f"GET /health HTTP/1.1\r\nX: a\rb\r\n{AUTH}\r\n", 400, id="a bare carriage return"),
        pytest.param(f"GET /health HTTP/1.1\r\nX: a\0b\r\n{AUTH}\r\n", 400, id="a null byte in a header"),
        pytest.param(f"GET /health HTTP/1.1\r\n: a\r\n{AUTH}\r\n", 400, id="a header without a name"),
        pytest.param("GET /health HTTP/1.1\r\n\r\n", 400, id="no Host"),
        pytest.param(f"GET /health HTTP/1.1\r\n{AUTH}Host: evil\r\n\r\n", 400, id="two Hosts"),
        pytest.param(f"{POST}X-Api-Key: a\r\nX-Api-Key: b\r\nContent-Length: 17\r\n\r\n{BODY}", 400, id="two keys"),
        pytest.param(f"GET http://localhost/health HTTP/1.1\r\n{AUTH}\r\n", 400, id="a proxy's request"),
        pytest.param(f"CONNECT localhost:22 HTTP/1.1\r\n{AUTH}\r\n", 400, id="CONNECT"),
        pytest.param(f"GET /health HTTP/1.1\r\n{AUTH}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 400, id="an upgrade"),
        pytest.param("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="HTTP/2"),
        pytest.param("GET /health\r\n\r\n", 505, id="HTTP/0.9"),
        pytest.param("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="TLS on a plain port"),
        pytest.param(f"GET /health HTTP/1.1\r\n{AUTH}X: {'x' * 100_000}\r\n\r\n", 431, id="a header of 100 KB"),
        pytest.param(f"GET /{'x' * 100_000} HTTP/1.1\r\n{AUTH}\r\n", 431, id="a path of 100 KB"),
        pytest.param(
            f"GET /health HTTP/1.1\r\n{AUTH}{'X: y' + chr(13) + chr(10)}" * 1 + "X: y\r\n" * 200 + "\r\n", 431, id="200 headers"
        ),
        pytest.param(f"{POST}Content-Length: 17\r\nContent-Encoding: gzip\r\n\r\n{BODY}", 415, id="a compressed body"),
        pytest.param(f"{POST}Content-Length: 100000000\r\n\r\n", 413, id="100 MB, announced"),
        pytest.param(f"{POST}Content-Length: 4\r\n\r\n{{{{{{{{", 400, id="no JSON"),
        pytest.param(f"POST /sleep HTTP/1.1\r\n{AUTH}Content-Length: 0\r\n\r\n", 404, id="an engine's development endpoint"),
    ],
)
def test_what_is_not_right_is_refused_and_reaches_no_engine(said: str, status: int) -> None:
    async def main() -> None:
        async with place() as here:
            client = await here.client()
            await client.send(said.encode("latin-1"))
            assert await fate(client) == status
            assert here.engines[0].seen == []
            await still_serves(here)

    run(main())


def test_what_follows_a_request_that_was_refused_is_not_heard() -> None:
    async def main() -> None:
        async with place() as here:
            client = await here.client()
            await client.send(f"{POST}Content-Length: 17\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode() + request())
            assert await fate(client) == 400
            assert await client.closed()
            assert here.engines[0].seen == []

    run(main())


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in chunks"])
def test_a_hundred_megabytes_are_refused_and_the_client_hears_it(announced: bool) -> None:  # noqa: FBT001 - a column of the table
    async def main() -> None:
        async with place(limits=replace(QUICK, body=1 << 20, linger=5.0)) as here:
            client = await here.client()
            await client.send((f"{POST}Content-Length: 100000000\r\n\r\n" if announced else CHUNKED).encode())
            piece = bytes(1_000_000) if announced else b"f4240\r\n" + bytes(1_000_000) + b"\r\n"

            async def push() -> None:
                for _ in range(100):
                    await client.send(piece)

            pushing = asyncio.create_task(push())
            assert await fate(client) == 413
            pushing.cancel()
            assert here.gateway.buffered == 0
            await still_serves(here)

    run(main())


def test_all_bodies_together_are_bounded() -> None:
    async def main() -> None:
        async with place(limits=replace(QUICK, buffered=3_000_000)) as here:
            clients = [await here.client() for _ in range(5)]
            for client in clients:
                await client.send(f"{POST}Content-Length: 1000001\r\n\r\n".encode() + bytes(1_000_000))
            answered = [asyncio.create_task(fate(client)) for client in clients]
            done, waiting = await asyncio.wait(answered, timeout=0.5)
            assert [task.result() for task in done] == [503, 503]
            assert here.gateway.buffered <= 3_000_000
            for task in waiting:
                task.cancel()
            for client in clients:
                client.leave()
            await until(lambda: here.gateway.buffered == 0)

    run(main())


@pytest.mark.parametrize(
    ("start", "drip", "status"),
    [
        pytest.param(b"GET /health HT", b"", 408, id="half a line, then silence"),
        pytest.param(b"GET /health HTTP/1.1\r\n", b"X: y\r\n", 408, id="a header now and then"),
        pytest.param(f"{POST}Content-Length: 10000\r\n\r\n".encode(), b"x", 408, id="a byte of a body now and then"),
        pytest.param(CHUNKED.encode(), b"1\r\nx\r\n", 408, id="a chunk of one byte now and then"),
        pytest.param(f"{CHUNKED}5;".encode(), b"x", 408, id="a chunk's extension without end"),
        pytest.param(b"", b"", 0, id="nothing at all"),
        pytest.param(b"", b"\r\n", 0, id="empty lines"),
    ],
)
def test_whoever_is_too_slow_is_let_go(start: bytes, drip: bytes, status: int) -> None:
    async def main() -> None:
        limits = replace(QUICK, head_time=0.3, idle_time=0.3, body_grace=0.3)
        async with place(limits=limits) as here:
            client = await here.client()
            await client.send(start)

            async def go_on() -> None:
                while drip:
                    await client.send(drip)
                    await asyncio.sleep(0.02)

            dripping = asyncio.create_task(go_on())
            async with asyncio.timeout(3):
                assert await fate(client) == status
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)
            await still_serves(here)

    run(main())


def test_more_connections_than_there_may_be_are_told_so() -> None:
    async def main() -> None:
        async with place(limits=replace(QUICK, connections=3)) as here:
            kept = [await here.client() for _ in range(3)]
            await until(lambda: here.gateway.usage().connections == 3)
            assert await fate(await here.client()) == 503
            kept[0].leave()
            await until(lambda: here.gateway.usage().connections < 3)
            await still_serves(here)

    run(main())


SEEDS = [
    request(),
    request(stream=True),
    f"{CHUNKED}11\r\n{BODY}\r\n0\r\n\r\n".encode(),
    b"GET /v1/models HTTP/1.1\r\n" + AUTH.encode() + b"\r\n",
]


def mutated(random_: random.Random) -> bytes:
    """A request with a few bytes changed, doubled or cut."""
    said = bytearray(random_.choice(SEEDS))
    for _ in range(random_.randint(1, 8)):
        at = random_.randrange(len(said) or 1)
        kind = random_.randrange(5)
        if kind == 0 and said:
            said[at] = random_.randrange(256)
        elif kind == 1:
            del said[at : at + random_.randint(1, 20)]
        elif kind == 2:
            said[at:at] = said[at : at + random_.randint(1, 60)]
        elif kind == 3:
            said[at:at] = random_.choice(
                (b"\r\n", b"\n", b"\0", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n")
            )
        else:
            said = said[: at + 1]
    return bytes(said)


def test_requests_with_faults_anywhere_never_stop_the_gateway() -> None:
    async def main() -> None:
        random_ = random.Random(6)  # noqa: S311 - faults, not secrets
        async with place(limits=replace(QUICK, head_time=0.2, idle_time=0.2, body_grace=0.2)) as here:

            async def one() -> int:
                client = await here.client()
                await client.send(mutated(random_))
                return await fate(client)

            statuses: set[int] = set()
            for _ in range(15):
                statuses |= set(await asyncio.gather(*(one() for _ in range(20))))
            # 200: the fault was where nobody looks, in a prompt.
            assert statuses <= {0, 200, 400, 401, 403, 404, 405, 408, 413, 415, 417, 431, 505}
            assert {200, 400} <= statuses
            await still_serves(here)
            await until(lambda: here.gateway.usage().connections <= 1)
            assert here.gateway.buffered == 0

    run(main())


def test_bytes_that_are_nothing_never_stop_the_gateway() -> None:
    async def main() -> None:
        async with place() as here:
            for size in (1, 100, 10_000, 300_000):
                client = await here.client()
                await client.send(os.urandom(size))
                client.leave()
            await still_serves(here)

    run(main())


def test_the_limits_that_ship_hold_what_agents_send() -> None:
    # The largest window of the shipped profiles, 1,048,576 tokens, at four bytes each, and as much again of images.
    assert Limits().body >= 2 * 4 * 1_048_576
