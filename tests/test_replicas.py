"""Several servers of one model: which are kept, begun and left, as tables; and real stub engines behind one address."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from launcher import lifecycle, probe, routing, store, swap
from launcher.commands import down, ps, up
from launcher.commands import swap as swap_verb
from launcher.commands.swap import SwapRequest
from launcher.commands.up import UpRequest
from launcher.endpoint import Endpoint
from launcher.errors import LauncherError
from launcher.lifecycle import Action, Policy, Sight
from launcher.prepared import Prepared
from launcher.runners.base import Handle
from launcher.server import Server, ServerSpec, State, Wanted
from launcher.world import World
from tests.ports_for_tests import own_port
from tests.stub_engine import ANSWER
from tests.world import little_world, running

NOW = 1_000_000.0
PREPARED = Prepared(Path("/e"), Path("/e/bin/python"), Path("/w"), Path("/c"), "1")
WELL = Sight(now=NOW, used=NOW - 1, alive=True, healthy=True, worked=NOW - 1)


def wish(replicas: int, ask: str = "new") -> Wanted:
    spec = ServerSpec("m", replicas=replicas)
    return Wanted(spec, ask, spec, PREPARED, {})


def server(number: int, ask: str = "new", state: State = "ready", *, runs: bool = True, context: int = 8192) -> Server:
    seat = f"~{number}" if number > 1 else ""
    handle = Handle(76 + number, NOW - 100, f"{ask}{number}", Path("/e")) if runs else None
    url = f"http://127.0.0.1:{12_000 + number}/v1"
    return Server(ServerSpec("m"), "vllm", "fp16", state, context, url, Path("/log"), NOW, ask=ask, handle=handle, seat=seat)


OLD = [server(number, "old") for number in (1, 2, 3)]
NEW = [server(number) for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("want", "servers", "actions"),
    [
        pytest.param(wish(3), [], {"m": "start", "m~2": "start", "m~3": "start"}, id="each is begun in a seat of its own"),
        pytest.param(wish(3), NEW, {}, id="all that serve are left alone"),
        pytest.param(wish(3), OLD, {"m": "leave"}, id="of an earlier wish one leaves first"),
        pytest.param(
            wish(3),
            [server(1, "old", "ending"), *OLD[1:]],
            {"m": "end"},
            id="and is ended for good when whoever let it finish was killed",
        ),
        pytest.param(
            wish(3),
            [server(1, "old", "stopped", runs=False), *OLD[1:]],
            {"m": "start"},
            id="once it has ended it is begun anew",
        ),
        pytest.param(wish(3), [server(1, state="starting"), *OLD[1:]], {"m": "prove"}, id="the others go on meanwhile"),
        pytest.param(wish(3), [NEW[0], *OLD[1:]], {"m~2": "leave"}, id="then the next one leaves"),
        pytest.param(
            wish(3),
            [NEW[0], OLD[1], server(3, state="waiting", runs=False)],
            {"m~3": "start"},
            id="none leaves while another one does not serve",
        ),
        pytest.param(
            wish(2),
            [server(1, "old"), server(2, state="starting")],
            {"m~2": "prove"},
            id="one more: the first goes on until it is there",
        ),
        pytest.param(wish(1), OLD, {"m": "leave"}, id="fewer: those too many serve until the one that stays was begun anew"),
        pytest.param(wish(1), [NEW[0], *OLD[1:]], {"m~2": "leave", "m~3": "leave"}, id="and then finish and leave"),
        pytest.param(None, NEW, {"m": "end", "m~2": "end", "m~3": "end"}, id="nobody wants any"),
    ],
)
def test_what_is_done_to_replicas(want: Wanted | None, servers: list[Server], actions: dict[str, Action]) -> None:
    by_key = {each.key: each for each in servers}
    told: dict[str, Action] = {}
    for seat in swap.seats({"m": want} if want else {}, by_key):
        there = by_key.get(seat.key)
        sight = replace(WELL, leaves=seat.leaves, alive=there is not None and there.handle is not None)
        action, _ = lifecycle.step(there, seat.want, sight, Policy())
        if action != "nothing":
            told[seat.key] = action
    assert told == actions


@pytest.mark.parametrize(
    ("servers", "state", "ports"),
    [
        pytest.param(NEW, "ready", [12_001, 12_002, 12_003], id="all that are ready"),
        pytest.param([server(1, state="starting"), NEW[1]], "ready", [12_002], id="one is enough"),
        pytest.param([NEW[0], OLD[1]], "ready", [12_001, 12_002], id="one of an earlier wish as well"),
        pytest.param([NEW[0], server(2, "old", "ending")], "ready", [12_001], id="not one that finishes its requests"),
        pytest.param([server(1, state="starting")], "starting", [], id="none is ready yet"),
        pytest.param(
            [server(1, state="waiting", runs=False), server(2, state="starting")], "starting", [], id="the first failed"
        ),
    ],
)
def test_who_answers_for_the_name(servers: list[Server], state: str, ports: list[int]) -> None:
    (route,) = routing.routes([wish(3)], servers, {"m": "key"})
    assert (route.state, [each.port for each in route.backends]) == (state, ports)


def test_agents_are_told_the_window_that_all_replicas_have() -> None:
    (route,) = routing.routes([wish(2)], [NEW[0], server(2, context=4096)], {"m": "key"})
    assert route.context == 4096


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = little_world(tmp_path)
    yield made
    down.run(made, None)


def served(world: World, port: int, replicas: int, *, context: int | None = None) -> Endpoint:
    spec = ServerSpec("tiny", replicas=replicas, context=context)
    return up.run(world, UpRequest(spec=spec, port=port, spare=False, proof=False)).endpoint


class Asking:
    """Somebody who asks all the time; what was answered, and what went wrong."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.answers = 0
        self.faults: list[str] = []
        self._endpoint = endpoint
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._over.is_set():
            try:
                assert probe.prove(self._endpoint).text == ANSWER
                self.answers += 1
            except LauncherError as fault:
                self.faults.append(fault.message)
            self._over.wait(0.02)


def awaited_replicas(world: World, count: int, other_than: set[int], seconds: float = 30) -> None:
    """Wait until so many serve, none of them of these processes."""
    deadline = time.monotonic() + seconds
    while True:
        there = [each for each in running(world) if each.state == "ready"]
        pids = {each.handle.pid for each in there if each.handle}
        if len(there) == count and not pids & other_than:
            return
        assert time.monotonic() < deadline, there
        time.sleep(0.02)


def test_one_of_several_is_killed_and_no_request_fails(world: World) -> None:
    endpoint = served(world, own_port(), 2)
    first, second = running(world)
    assert {first.key, second.key} == {"tiny", "tiny~2"}
    assert {row.server.key: row.state for row in ps.run(world).rows} == {"tiny": "ready", "tiny~2": "ready"}
    assert first.handle
    with Asking(endpoint) as asking:
        os.kill(first.handle.pid, signal.SIGKILL)
        awaited_replicas(world, 2, {first.handle.pid})
    assert asking.answers
    assert asking.faults == []
    again = next(each for each in running(world) if each.key == "tiny~2")
    assert again.handle == second.handle


def test_other_options_replace_them_one_by_one_and_no_request_fails(world: World) -> None:
    endpoint = served(world, own_port(), 2)
    before = {each.handle.pid for each in running(world) if each.handle}
    with Asking(endpoint) as asking:
        served(world, store.port(world.home) or 0, 2, context=4096)
    assert asking.faults == []
    assert {each.context for each in running(world)} == {4096}
    assert not before & {each.handle.pid for each in running(world) if each.handle}


def test_fewer_are_wanted(world: World) -> None:
    endpoint = served(world, own_port(), 2)
    before = {each.handle.pid for each in running(world) if each.handle}
    with Asking(endpoint) as asking:
        served(world, store.port(world.home) or 0, 1)
        awaited_replicas(world, 1, before)
    assert asking.faults == []


def test_a_swap_takes_the_place_of_one(world: World) -> None:
    served(world, own_port(), 2)
    with pytest.raises(LauncherError, match="tiny has 2 replicas, and a swap takes the place of one"):
        swap_verb.run(world, SwapRequest("vllm"))
