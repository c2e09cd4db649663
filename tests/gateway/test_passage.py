"""Requests through a real gateway to a real engine: what passes, what waits, what is told when something breaks."""

import asyncio
import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from launcher.gateway.table import Key, Route, Table
from tests.gateway.engine import Engine
from tests.gateway.world import ENGINE_KEY, KEY, QUICK, place, request, run, until

STREAM: dict[str, Any] = {"stream": True}
# The events of the engine's streams, as they come.
EVENTS = b'data: {"n":0}\n\ndata: {"n":1}\n\ndata: {"n":2}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"),
        *("/v1/embeddings", "/v1/rerank", "/v1/score", "/tokenize", "/detokenize"),
    ],
)
def test_a_request_reaches_the_engine_in_our_own_words_and_the_answer_comes_back(path: str) -> None:
    async def main() -> None:
        async with place() as here:
            headers = [
                "X-Forwarded-For: 1.2.3.4",
                "Cookie: a=b",
                "User-Agent: agent/1",
                "X-Request-Id: mine",
                "Connection: keep-alive",
            ]
            answer = await here.ask(path, headers=headers, temperature=0.5)
            assert (answer.status, answer.json["path"], answer.headers["x-own"]) == (200, path, "1")
            assert "server" not in answer.headers
            [seen] = here.engines[0].seen
            assert seen.json == {"model": "tiny", "messages": [], "temperature": 0.5}
            told = dict(seen.headers)
            assert set(told) == {b"host", b"authorization", b"content-type", b"content-length", b"x-request-id", b"user-agent"}
            assert told[b"authorization"] == f"Bearer {ENGINE_KEY}".encode()
            assert told[b"x-request-id"].decode() == answer.headers["x-request-id"] != "mine"
            assert KEY.encode() not in here.engines[0].raw

    run(main())


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [10, 300_000], ids=["small", "large"])
def test_an_answer_comes_whole_however_the_engine_frames_it(framing: str, size: int) -> None:
    async def main() -> None:
        async with place() as here:
            client = await here.client()
            for _ in range(2):
                await client.send(request(framing=framing, size=size))
                answer = await client.answer()
                assert (answer.status, answer.json["filler"]) == (200, "x" * size)

    run(main())


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_stream_comes_as_the_engine_sends_it(framing: str) -> None:
    async def main() -> None:
        async with place() as here:
            client = await here.client()
            await client.send(request(**STREAM, gap=0.05, framing=framing))
            status, headers = await client.head()
            assert (status, headers["content-type"], headers["transfer-encoding"]) == (200, "text/event-stream", "chunked")
            began = asyncio.get_running_loop().time()
            assert await client.chunk() == b'data: {"n":0}\n\n'
            assert await client.chunk() == b'data: {"n":1}\n\n'
            assert asyncio.get_running_loop().time() - began < 0.15

    run(main())


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_http_1_0_gets_no_chunks_and_an_end(framing: str) -> None:
    async def main() -> None:
        async with place() as here:
            client = await here.client()
            await client.send(request(framing=framing, size=100).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            answer = await client.answer()
            assert (answer.status, answer.json["filler"], answer.headers["connection"]) == (200, "x" * 100, "close")
            assert "transfer-encoding" not in answer.headers
            assert await client.closed()
            streaming = await here.client()
            await streaming.send(request(**STREAM).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            assert (await streaming.answer()).body == EVENTS

    run(main())


def test_a_chunked_body_reaches_the_engine_with_a_length_and_without_its_trailers() -> None:
    async def main() -> None:
        async with place() as here:
            client = await here.client()
            head, _, body = request(n=1).partition(b"\r\n\r\n")
            lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
            await client.send(b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", b""]))
            for byte in body:
                await client.send(b"1;ext=1\r\n%c\r\n" % byte)
            await client.send(b"0\r\nX-Evil: 1\r\nHost: evil\r\n\r\n")
            assert (await client.answer()).status == 200
            [seen] = here.engines[0].seen
            assert (seen.body, dict(seen.headers)[b"content-length"]) == (body, b"%d" % len(body))
            assert b"evil" not in here.engines[0].raw.lower()

    run(main())


def test_only_another_name_changes_the_body() -> None:
    async def main() -> None:
        async with place() as here:
            here.publish(here.ready(), aliases={"gpt": "tiny"})
            assert (await here.ask(model="gpt", top_p=0.25)).json["model"] == "tiny"
            own = request(top_p=0.25)
            client = await here.client()
            await client.send(own)
            await client.answer()
            assert here.engines[0].seen[0].json["top_p"] == 0.25
            assert here.engines[0].seen[1].body == own.partition(b"\r\n\r\n")[2]

    run(main())


def test_requests_in_one_piece_are_answered_in_their_order() -> None:
    async def main() -> None:
        async with place(engines=2) as here:
            client = await here.client()
            page = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
            missing = b"GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n"
            await client.send(request(delay=0.1) + page + missing * 500 + request(**STREAM) + page)
            assert (await client.answer()).json["model"] == "tiny"
            assert (await client.answer()).json == {"status": "ok"}
            for _ in range(500):
                assert (await client.answer()).status == 404
            assert (await client.answer()).body == EVENTS
            assert (await client.answer()).json == {"status": "ok"}

    run(main())


def _again(
    *, line: str = "POST /v1/completions HTTP/1.1", host: str = "localhost", key: str = KEY, length: str = "", more: str = ""
) -> bytes:
    """A request of which a part is another one than in `_again()`."""
    body = b'{"model": "tiny", "n": 2}'
    lengths = length or f"Content-Length: {len(body)}"
    return f"{line}\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n{lengths}\r\n{more}\r\n".encode() + body


@pytest.mark.parametrize(
    ("then", "status"),
    [
        pytest.param(_again(), 200, id="the same"),
        pytest.param(_again(key="wrong"), 401, id="another key"),
        pytest.param(_again(host="evil.example"), 403, id="another host"),
        pytest.param(_again(line="POST /v1/none HTTP/1.1"), 404, id="another path"),
        pytest.param(_again(line="GET /v1/completions HTTP/1.1"), 405, id="another method"),
        pytest.param(_again(more="Content-Encoding: gzip\r\n"), 415, id="a header more"),
        pytest.param(_again(length=f"Content-Length: {QUICK.body + 1}"), 413, id="a body that is too large"),
        pytest.param(_again(length="Content-Length: 25\r\nContent-Length: 25"), 400, id="two lengths"),
        pytest.param(_again(length="Content-Length: 25\r\nTransfer-Encoding: chunked"), 400, id="a length and chunks"),
        pytest.param(_again(line="POST /v1/completions HTTP/2.0"), 505, id="another version"),
    ],
)
def test_each_request_of_a_connection_is_decided_by_its_own_head(then: bytes, status: int) -> None:
    async def main() -> None:
        async with place() as here:
            client = await here.client()
            await client.send(_again())
            assert (await client.answer()).status == 200
            await client.send(then)
            assert (await client.answer()).status == status
            assert len(here.engines[0].seen) == 1 + (status == 200)

    run(main())


@pytest.mark.parametrize("name", ["Content-Length", "content-length", "CONTENT-LENGTH"])
def test_bodies_of_one_connection_may_have_any_length(name: str) -> None:
    async def main() -> None:
        async with place() as here:
            client = await here.client()
            for size in (0, 3, 70_000, 1):
                body = json.dumps({"model": "tiny", "prompt": "x" * size}).encode()
                await client.send(_again(length=f"{name}: {len(body)}")[: -len(b'{"model": "tiny", "n": 2}')] + body)
                assert (await client.answer()).status == 200
            assert [len(seen.json["prompt"]) for seen in here.engines[0].seen] == [0, 3, 70_000, 1]

    run(main())


def test_what_an_engine_is_told_of_a_client_is_of_this_request() -> None:
    async def main() -> None:
        async with place() as here:
            client = await here.client()
            for agent in ("a/1", "a/1", "b/2"):
                await client.send(_again(more=f"User-Agent: {agent}\r\n"))
                assert (await client.answer()).status == 200
            assert [dict(seen.headers)[b"user-agent"] for seen in here.engines[0].seen] == [b"a/1", b"a/1", b"b/2"]

    run(main())


def test_a_key_that_is_taken_away_opens_nothing_on_a_connection_that_is_there() -> None:
    async def main() -> None:
        async with place() as here:
            client = await here.client()
            for _ in range(2):
                await client.send(_again())
                assert (await client.answer()).status == 200
            here.gateway.publish(Table.of([here.ready()], keys=[Key.of("other", "sk-other")]))
            await client.send(_again())
            assert (await client.answer()).status == 401

    run(main())


def test_a_connection_that_a_client_closes_is_closed_after_its_answer() -> None:
    async def main() -> None:
        async with place() as here:
            client = await here.client()
            await client.send(_again() + _again(more="Connection: close\r\n"))
            assert (await client.answer()).status == 200
            assert (await client.answer()).headers["connection"] == "close"
            assert await client.closed()

    run(main())


@pytest.mark.parametrize(
    ("head", "first"),
    [
        pytest.param("Expect: 100-continue", 100, id="a body that may come"),
        pytest.param("Expect: 100-continue\r\nX-Api-Key: wrong\r\nAuthorization: Basic x", 401, id="one that may not"),
    ],
)
def test_who_asks_first_is_told_before_the_body(head: str, first: int) -> None:
    async def main() -> None:
        async with place() as here:
            client = await here.client()
            lines = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 17\r\n{head}\r\n"
            lines += "" if first == 401 else f"Authorization: Bearer {KEY}\r\n"
            await client.send(f"{lines}\r\n".encode())
            assert (await client.answer(bare=first == 100)).status == first
            if first == 100:
                await client.send(b'{"model": "tiny"}')
                assert (await client.answer()).status == 200

    run(main())


def test_an_anthropic_client_sends_its_key_as_it_does_and_gets_its_errors_form() -> None:
    async def main() -> None:
        async with place() as here:
            client = await here.client()
            head = f"POST /v1/messages?beta=true HTTP/1.1\r\nHost: localhost\r\nx-api-key: {KEY}\r\n"
            head += "anthropic-version: 2023-06-01\r\n"
            for body, status in ((b'{"model": "tiny"}', 200), (b'{"model": "none"}', 404)):
                await client.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                answer = await client.answer()
                assert answer.status == status
            assert answer.json["type"] == "error"
            assert answer.json["error"]["type"] == "not_found_error"
            [seen] = here.engines[0].seen
            assert (seen.path, dict(seen.headers)[b"anthropic-version"]) == (b"/v1/messages", b"2023-06-01")

    run(main())


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streaming"])
def test_the_engines_own_refusal_comes_through(stream: bool) -> None:  # noqa: FBT001 - a column of the table
    async def main() -> None:
        async with place() as here:
            answer = await here.ask(status=422, stream=stream)
            assert (answer.status, answer.json["error"]["message"]) == (422, "no: 422")

    run(main())


# -- clients that go --


@pytest.mark.parametrize(
    "fields", [{"delay": 5}, {"stream": True, "gap": 0.05, "chunks": 1000}], ids=["waiting", "in a stream"]
)
def test_a_client_that_goes_takes_its_request_from_the_engine(fields: dict[str, Any]) -> None:
    async def main() -> None:
        async with place() as here:
            client = await here.client()
            await client.send(request(**fields))
            await until(lambda: bool(here.engines[0].seen))
            assert sum(here.gateway.usage().in_flight.values()) == 1
            client.leave()
            await until(lambda: here.engines[0].left == 1)
            await until(lambda: sum(here.gateway.usage().in_flight.values()) == 0)

    run(main())


def test_a_client_that_does_not_read_holds_back_the_engine_and_not_memory() -> None:
    async def main() -> None:
        async with place() as here:
            client = await here.client()
            client.reader._limit = 1  # type: ignore[attr-defined]  # noqa: SLF001 - the stream stops reading at twice this
            await client.send(request(**STREAM, chunks=1_000_000))
            await until(lambda: bool(here.engines[0].seen))
            [connection] = here.engines[0].connections
            await until(lambda: connection.transport.get_write_buffer_size() > 100_000)
            [front] = here.gateway._fronts  # noqa: SLF001 - what must stay small
            buffered = front._transport.get_write_buffer_size() if front._transport else 0  # noqa: SLF001
            assert buffered < 1_000_000
            client.leave()
            await until(lambda: here.engines[0].left == 1)

    run(main())


def test_a_client_that_never_reads_on_is_let_go() -> None:
    async def main() -> None:
        async with place(limits=replace(QUICK, stall=0.2)) as here:
            client = await here.client()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # asyncio's own has it
            await client.send(request(**STREAM, chunks=1_000_000))
            await until(lambda: here.engines[0].left == 1)

    run(main())


# -- waiting --


def test_requests_that_come_together_share_one_start_and_go_in_their_order() -> None:
    async def main() -> None:
        async with place() as here:
            here.publish(Route("tiny", "stopped"))
            asked = []
            for number in range(5):
                asked.append(asyncio.create_task(here.ask(n=number)))
                await until(lambda: here.gateway.usage().routes["tiny"].waiting == len(asked))
            assert here.woken == ["tiny"]
            here.publish(Route("tiny", "starting"))
            await asyncio.sleep(0.05)
            here.publish(here.ready(slots=1))
            assert [answer.status for answer in await asyncio.gather(*asked)] == [200] * 5
            assert [seen.json["n"] for seen in here.engines[0].seen] == [0, 1, 2, 3, 4]
            assert here.woken == ["tiny"]
            here.publish(Route("tiny", "asleep"))
            again = asyncio.create_task(here.ask())
            await until(lambda: here.woken == ["tiny", "tiny"])
            here.publish(here.ready())
            assert (await again).status == 200

    run(main())


def test_a_stream_that_waits_gets_comments_and_then_its_answer() -> None:
    async def main() -> None:
        async with place() as here:
            here.publish(Route("tiny", "starting"))
            client = await here.client()
            await client.send(request(**STREAM) + request())
            status, headers = await client.head()
            assert (status, headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
            for _ in range(2):
                assert await client.chunk() == b": tiny is starting\n\n"
            here.publish(here.ready())
            body = b""
            while piece := await client.chunk():
                body += b"" if piece.startswith(b":") else piece
            assert body == EVENTS
            assert (await client.answer()).status == 200

    run(main())


@pytest.mark.parametrize(
    ("path", "said"),
    [
        pytest.param("/v1/chat/completions", {"error": {"message": "no: 400"}}, id="OpenAI"),
        pytest.param("/v1/messages", {"type": "error", "error": {"message": "no: 400"}}, id="Anthropic"),
        pytest.param("/v1/responses", {"type": "error", "message": "no: 400"}, id="Responses"),
    ],
)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_after_a_200_a_refusal_is_an_event(path: str, said: dict[str, object], framing: str) -> None:
    async def main() -> None:
        async with place() as here:
            here.publish(Route("tiny", "starting"))
            client = await here.client()
            await client.send(request(path, **STREAM, status=400, framing=framing))
            assert (await client.head())[0] == 200
            assert (await client.chunk()).startswith(b": ")
            here.publish(here.ready())
            event = await client.chunk()
            while event.startswith(b":"):
                event = await client.chunk()
            told = json.loads(event.partition(b"data: ")[2])
            for name, value in said.items():
                assert {**told[name], **value} == told[name] if isinstance(value, dict) else told[name] == value
            assert await client.chunk() == b""

    run(main())


@pytest.mark.parametrize(
    ("then", "status", "said"),
    [
        pytest.param(
            Route("tiny", "failed", detail="no memory"), 503, "tiny cannot be served: no memory", id="its start fails"
        ),
        pytest.param(Route("tiny", "off"), 404, "tiny was stopped; `launcher up tiny` serves it again", id="a person stops it"),
        pytest.param(Route("other", "ready"), 404, "the model 'tiny' is not served any more", id="it is taken away"),
    ],
)
def test_who_waits_is_told_when_there_is_nothing_to_wait_for(then: Route, status: int, said: str) -> None:
    async def main() -> None:
        async with place() as here:
            here.publish(Route("tiny", "starting"))
            asked = [asyncio.create_task(here.ask()) for _ in range(3)]
            await until(lambda: here.gateway.usage().routes["tiny"].waiting == 3)
            here.publish(then)
            for answer in await asyncio.gather(*asked):
                assert (answer.status, answer.json["error"]["message"]) == (status, said)

    run(main())


def test_beyond_the_queue_and_beyond_the_longest_wait_is_503() -> None:
    async def main() -> None:
        async with place(limits=replace(QUICK, wait=0.3)) as here:
            here.gateway.publish(replace(here.gateway._board.table, routes={"tiny": Route("tiny", "starting")}, queue=1))  # noqa: SLF001
            waits = asyncio.create_task(here.ask())
            await until(lambda: here.gateway.usage().routes["tiny"].waiting == 1)
            full = await here.ask()
            assert (full.status, full.headers["retry-after"], full.json["error"]["code"]) == (503, "5", "queue_full")
            assert (await waits).json["error"]["code"] == "waited_too_long"

    run(main())


def test_no_more_requests_than_slots_are_at_an_engine_and_keys_take_turns() -> None:
    async def main() -> None:
        async with place() as here:
            here.publish(here.ready(slots=1))
            asked = []
            for number, key in enumerate([KEY, KEY, KEY, f"{KEY}-2"]):
                asked.append(asyncio.create_task(here.ask(key=key, n=number, delay=0.5 if number == 0 else 0)))
                await until(lambda: len(here.engines[0].seen) + here.gateway.usage().routes["tiny"].waiting == len(asked))
            await asyncio.gather(*asked)
            assert [seen.json["n"] for seen in here.engines[0].seen] == [0, 1, 3, 2]

    run(main())


def test_replicas_share_what_comes() -> None:
    async def main() -> None:
        async with place(engines=2) as here:
            await asyncio.gather(*(here.ask(delay=0.05) for _ in range(6)))
            assert [len(engine.seen) for engine in here.engines] == [3, 3]

    run(main())


def test_when_the_engine_changes_running_requests_stay_and_new_ones_go_to_the_new_one() -> None:
    async def main() -> None:
        async with place(engines=2) as here:
            old, new = here.engines
            here.publish(here.ready(old))
            [backend] = here.gateway.usage().in_flight
            running = asyncio.create_task(here.ask(**STREAM, gap=0.05))
            await until(lambda: bool(old.seen))
            here.publish(replace(here.ready(old), state="held"))
            held = asyncio.create_task(here.ask())
            await until(lambda: here.gateway.usage().routes["tiny"].waiting == 1)
            here.publish(here.ready(new))
            assert (await held).json["engine"] == "engine-1"
            assert not here.gateway.usage().drained(backend)
            assert (await running).body == EVENTS
            await until(lambda: here.gateway.usage().drained(backend))
            assert len(old.seen) == 1
            await until(lambda: not old.connections)

    run(main())


def test_what_waits_for_a_model_goes_on_to_the_one_that_took_its_place() -> None:
    async def main() -> None:
        async with place(engines=2) as here:
            old, new = here.engines
            here.publish(replace(here.ready(old), state="held"))
            asking = [asyncio.create_task(here.ask(**more)) for more in ({}, STREAM)]
            await until(lambda: here.gateway.usage().routes["tiny"].waiting == 2)
            here.publish(replace(here.ready(old), state="held"), here.ready(new, name="other"), aliases={"tiny": "other"})
            plain, stream = await asyncio.gather(*asking)
            assert (plain.json["engine"], plain.json["model"], stream.body) == ("engine-1", "other", EVENTS)
            assert here.gateway.usage().routes["tiny"].waiting == 0
            assert not old.seen

    run(main())


# -- engines that break --


def test_a_connection_that_the_engine_closed_while_idle_is_made_anew() -> None:
    async def main() -> None:
        async with place() as here:
            client = await here.client()
            for _ in range(5):
                await client.send(request())
                assert (await client.answer()).status == 200
                here.engines[0].close_idle()

    run(main())


@pytest.mark.parametrize("how", ["before", "head"])
def test_an_engine_that_ends_before_it_answers_is_asked_once_more(how: str) -> None:
    async def main() -> None:
        async with place() as here:
            answer = await here.ask(die=how)
            if how == "before":
                assert (answer.status, answer.json["error"]["code"]) == (502, "engine_gone")
                assert len(here.engines[0].seen) == 2

    if how == "head":
        # The head was passed on: the client sees that the body is missing.
        with pytest.raises(asyncio.IncompleteReadError):
            run(main())
    else:
        run(main())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_an_engine_that_ends_in_the_middle_of_a_stream_ends_it_with_an_error(path: str) -> None:
    async def main() -> None:
        async with place() as here:
            client = await here.client()
            await client.send(request(path, **STREAM, die="middle", chunks=9))
            assert (await client.head())[0] == 200
            pieces = [await client.chunk() for _ in range(4)]
            assert b"".join(pieces[:2]) == b'data: {"n":0}\n\ndata: {"n":1}\n\n'
            told = json.loads(pieces[2].partition(b"data: ")[2])
            assert "the engine ended in the middle of its answer" in json.dumps(told)
            assert pieces[3] == b""
            assert await client.closed()

    run(main())


def test_an_engine_that_ends_in_the_middle_of_a_chunk_leaves_no_room_for_words() -> None:
    async def main() -> None:
        async with place() as here:
            client = await here.client()
            await client.send(request(**STREAM, die="chunk", chunks=9))
            await client.head()
            assert await client.chunk() == b'data: {"n":0}\n\n'
            with pytest.raises(asyncio.IncompleteReadError):
                await client.chunk()

    run(main())


def test_requests_for_an_engine_that_is_gone_wait_for_the_one_that_is_started_instead() -> None:
    async def main() -> None:
        async with place() as here:
            await here.engines[0].stop()
            asked = [asyncio.create_task(here.ask()) for _ in range(3)]
            await until(lambda: here.woken == ["tiny"])
            here.publish(Route("tiny", "starting"))
            await asyncio.sleep(QUICK.grace * 1.5)
            fresh = await Engine("fresh").start()
            here.engines[0] = fresh
            here.publish(here.ready(fresh))
            assert [answer.json["engine"] for answer in await asyncio.gather(*asked)] == ["fresh"] * 3

    run(main())


def test_an_engine_that_is_gone_for_good_is_told_after_a_while() -> None:
    async def main() -> None:
        async with place() as here:
            await here.engines[0].stop()
            answer = await here.ask()
            assert (answer.status, answer.json["error"]["code"]) == (502, "engine_gone")
            streaming = await here.ask(**STREAM)
            assert streaming.status in {200, 502}
            assert b"engine_gone" in streaming.body
            here.engines[0] = await Engine("fresh").start()
            here.publish(here.ready())
            assert (await here.ask()).status == 200

    run(main())


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", id="two lengths"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", id="two answers"
        ),
        pytest.param(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", id="another protocol from here on"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, id="a head without end"),
    ],
)
def test_what_is_no_answer_is_not_passed_on(said: bytes) -> None:
    async def main() -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"}")
            writer.write(said)
            await writer.drain()
            await reader.read()
            writer.close()

        async with place() as here:
            server = await asyncio.start_server(speak, "127.0.0.1", 0)
            engine = Engine(port=server.sockets[0].getsockname()[1])
            here.publish(here.ready(engine))
            answer = await here.ask()
            assert (answer.status, answer.json["error"]["code"]) == (502, "engine_gone")
            server.close()

    run(main())


# -- from another thread --


def test_tables_come_from_another_thread_and_are_in_force_when_publish_returns() -> None:
    async def main() -> None:
        async with place(engines=2) as here:
            tables = [here.ready(engine) for engine in here.engines]
            found = []

            def supervise() -> None:
                for number in range(40):
                    here.publish(tables[number % 2])
                    found.append(
                        sorted(
                            backend.port
                            for backend in here.gateway.usage().in_flight
                            if backend not in tables[number % 2].backends
                        )
                    )

            thread = threading.Thread(target=supervise)
            thread.start()
            answers = [(await here.ask()).status for _ in range(40)]
            await asyncio.get_running_loop().run_in_executor(None, thread.join)
            assert answers == [200] * 40
            assert len(found) == 40
            usage = here.gateway.usage()
            assert sum(usage.in_flight.values()) == 0
            assert usage.routes["tiny"].succeeded >= usage.routes["tiny"].asked > 0

    run(main())
