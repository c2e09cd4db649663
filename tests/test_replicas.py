"""Several servers of one model: which are kept, begun and left, as tables; and real stub engines behind one address."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import urlsplit

import pytest
from rich.console import Console

from launcher import lifecycle, probe, routing, store, swap, telling
from launcher.commands import down, explain, logs, ps, sleep, up
from launcher.commands import swap as swap_verb
from launcher.commands.swap import SwapRequest
from launcher.commands.up import UpRequest
from launcher.endpoint import Endpoint
from launcher.errors import LauncherError
from launcher.gpu import GIB, Gpu, GpuProcess, Inventory
from launcher.lifecycle import Action, Policy, Sight
from launcher.prepared import Prepared
from launcher.runners import local
from launcher.runners.base import Handle
from launcher.server import Server, ServerSpec, State, Wanted
from launcher.world import World
from tests.machines_for_tests import machine
from tests.ports_for_tests import own_port
from tests.stub_engine import ANSWER
from tests.world import StubEngine, Told, ended, little_world, running, with_engine

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


def awaited(happened: Callable[[], bool], seconds: float = 20) -> None:
    """Until it has happened; what never happens is a failure, not a wait without end."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


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


def roomy(root: Path, cards: int) -> World:
    """A world with so many GPUs, of which each server takes nearly all of its own while it is awake."""
    made, there = little_world(root, models=("tiny", "other"), context=32_768), machine(cards, 8.0).gpus

    def inventory() -> Inventory:
        awake = [each for each in running(made) if each.state not in {"asleep", "held"}]
        held = [(index, pid) for each in awake if each.handle for index in each.gpus for pid in local.processes(each.handle)]
        return replace(machine(ram=16), gpus=tuple(_taken(gpu, [pid for on, pid in held if on == gpu.index]) for gpu in there))

    return replace(made, inventory=inventory)


def _taken(gpu: Gpu, pids: list[int]) -> Gpu:
    taken = tuple(GpuProcess(pid, "engine", int(7.9 * GIB) // len(pids)) for pid in pids)
    return replace(gpu, free=gpu.total - sum(each.used for each in taken), processes=taken)


@pytest.fixture
def cards(tmp_path: Path) -> Iterator[World]:
    made = roomy(tmp_path, 4)
    yield made
    down.run(made, None)


def on_cards(replicas: int, **more: Any) -> UpRequest:
    # So many that the KV cache of one server takes most of a GPU.
    more = {"sessions": 8, **more}
    return UpRequest(spec=ServerSpec("tiny", replicas=replicas, **more), port=own_port(), spare=False, proof=False)


@pytest.mark.parametrize(
    ("more", "replicas", "message"),
    [
        pytest.param(
            {}, 5, "5 replicas of tiny do not fit on this machine: there is room for 4", id="more than there are GPUs"
        ),
        pytest.param({"gpus": (1, 2)}, 3, "there is room for 2", id="more than the GPUs that it may have"),
        pytest.param({"gpus": (2,)}, 2, "there is room for one alone", id="one GPU"),
    ],
)
def test_replicas_for_which_there_is_no_room_are_refused_before_anything_is_fetched(
    cards: World, more: dict[str, Any], replicas: int, message: str
) -> None:
    for verb in (up.dry_run, up.run):
        with pytest.raises(LauncherError, match=message) as caught:
            verb(cards, on_cards(replicas, **more))
        assert "--replicas" in caught.value.hint
    told = cards.progress
    assert isinstance(told, Told)
    assert "weights" not in told.phases


def test_replicas_stay_on_the_gpus_that_were_chosen_for_them(cards: World) -> None:
    up.run(cards, on_cards(2, gpus=(1, 3)))
    assert sorted(each.gpus for each in running(cards)) == [(1,), (3,)]


def test_all_of_them_sleep_and_each_wakes_on_its_own_gpu(cards: World) -> None:
    endpoint = up.run(cards, on_cards(2, can_sleep=True)).endpoint
    where = {each.key: each.gpus for each in running(cards)}
    assert sleep.sleep(cards, None).state == "asleep"
    assert {each.state for each in running(cards)} == {"asleep"}
    assert sleep.wake(cards, None).state == "ready"
    assert {each.key: (each.state, each.gpus) for each in running(cards)} == {key: ("ready", on) for key, on in where.items()}
    sleep.sleep(cards, "tiny")
    assert probe.prove(endpoint).text == ANSWER
    awaited_replicas(cards, 2, set())


def test_nobody_is_unloaded_while_others_come_and_a_request_loads_all(cards: World) -> None:
    slow = with_engine(cards, StubEngine({"": ("--slow-start", "1.5")}))
    endpoint = up.run(slow, replace(on_cards(2), idle_stop=0.5)).endpoint
    awaited(lambda: [row.state for row in ps.run(cards).rows] == ["idle", "idle"])
    kept = store.wanted(cards.home)[0]
    store.want(cards.home, replace(kept, idle_stop=60.0))
    assert probe.prove(endpoint).text == ANSWER
    awaited_replicas(cards, 2, set())


def test_one_that_made_room_for_another_model_comes_back_when_a_person_asks(cards: World) -> None:
    up.run(cards, on_cards(4))
    other = ServerSpec("other", sessions=8)
    up.run(cards, UpRequest(spec=other, spare=False, proof=False))
    gone = [row for row in ps.run(cards).rows if row.state == "idle"]
    assert [row.words for row in gone] == ["unloaded to make room; `launcher up tiny --replicas 4` starts it"]
    again = up.run(cards, UpRequest(spec=ServerSpec("tiny", replicas=4, sessions=8), spare=False, proof=False))
    assert not again.already
    states = {row.server.label: row.state for row in ps.run(cards).rows}
    assert states == {"other": "idle", **dict.fromkeys(("tiny", "tiny~2", "tiny~3", "tiny~4"), "ready")}
    assert up.run(cards, UpRequest(spec=ServerSpec("tiny"), spare=False, proof=False)).already


def test_each_has_a_log_and_an_end_of_its_own(world: World) -> None:
    served(world, own_port(), 2)
    paths = {name: logs.run(world, name, lines=5).path.name for name in ("tiny", "tiny~2")}
    assert paths == {"tiny": "tiny.log", "tiny~2": "tiny~2.log"}
    with pytest.raises(LauncherError, match="which log") as caught:
        logs.run(world, None, lines=5)
    assert caught.value.hint == "there are logs of tiny, tiny~2"
    with pytest.raises(LauncherError, match="tiny~2 runs: there is no end to explain"):
        explain.run(world, "tiny~2", stdin=())
    with pytest.raises(LauncherError, match="there is no log of tiny~3"):
        logs.run(world, "tiny~3", lines=5)


def test_agents_are_told_the_least_window_by_up_too(world: World) -> None:
    endpoint = served(world, own_port(), 2)
    first = next(each for each in running(world) if each.key == "tiny")
    store.see(world.home, replace(first, context=4096))
    assert served(world, urlsplit(endpoint.base_url).port or 0, 2).context == 4096
    assert telling.told(world, "tiny").llm.window < 4096


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param(ServerSpec("tiny"), "tiny runs already: it would be asked, and not started again", id="the same"),
        pytest.param(ServerSpec("other"), "\ntiny runs now: it would go on if both fit", id="another one"),
        pytest.param(
            ServerSpec("tiny", replicas=2, context=4096), "tiny runs now: its replicas would be replaced", id="other options"
        ),
    ],
)
def test_a_dry_run_tells_what_becomes_of_them(tmp_path: Path, spec: ServerSpec, words: str) -> None:
    world = little_world(tmp_path, models=("tiny", "other"))
    try:
        served(world, own_port(), 2)
        assert words in drawn(up.dry_run(world, UpRequest(spec=spec)))
    finally:
        down.run(world, None)


def test_up_and_ps_tell_how_many_there_are(world: World) -> None:
    # Its starts are looked at now and then: each must take longer than that.
    world = with_engine(world, StubEngine(flags={"": ("--slow-start", "1.0")}))
    request = UpRequest(spec=ServerSpec("tiny", replicas=2), port=own_port(), spare=False, proof=False)
    assert "2 replicas would share the requests" in drawn(up.dry_run(world, request))
    result = up.run(world, request)
    assert "replicas     2, which share the requests" in drawn(result)
    shown = [words for words, *_ in cast("Told", world.progress).updates]
    assert [any(words.startswith(f"{number} of 2: ") for words in shown) for number in (1, 2)] == [True, True]
    told: Any = result.json()
    assert (told["replicas"], Path(told["log"]).name) == (2, "tiny.log")
    assert [each.label for each in running(world)] == ["tiny", "tiny~2"]
    rows: Any = ps.run(world).json()
    assert [(each["name"], each["replica"]) for each in rows] == [("tiny", 1), ("tiny", 2)]
    down.run(world, None)
    served(world, own_port(), 1)
    rows = ps.run(world).json()
    assert [(each["name"], each["replica"]) for each in rows] == [("tiny", None)]


def test_what_was_stopped_is_one_row_under_the_models_own_name(world: World) -> None:
    served(world, own_port(), 3)
    down.run(world, None)
    ended(world)
    assert [(row.server.key, row.state) for row in ps.run(world).rows] == [("tiny", "stopped")]
    assert logs.run(world, "tiny", lines=1).path.name == "tiny.log"


def test_an_up_that_keeps_fewer_says_so(world: World) -> None:
    served(world, own_port(), 2)
    up.run(world, UpRequest(spec=ServerSpec("tiny", context=4096), spare=False, proof=False))
    told = world.progress
    assert isinstance(told, Told)
    assert told.said == ["tiny: of 2 replicas 1 is left (--replicas 2 keeps them), begun anew"]


def test_replicas_take_nobodys_place_in_a_swap(tmp_path: Path) -> None:
    world = little_world(tmp_path, models=("tiny", "other"))
    try:
        served(world, own_port(), 2)
        up.run(world, UpRequest(spec=ServerSpec("other"), spare=False, proof=False))
        with pytest.raises(LauncherError, match="tiny has 2 replicas, and takes nobody's place") as caught:
            swap_verb.run(world, SwapRequest("tiny", alias="other"))
        assert "launcher alias other tiny" in caught.value.hint
        assert {each.key: each.state for each in running(world)} == dict.fromkeys(("other", "tiny", "tiny~2"), "ready")
    finally:
        down.run(world, None)


def drawn(result: Any) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(result.text())
    return captured.get()


def test_one_that_is_asked_for_its_token_as_its_turn_to_leave_comes_still_ends_its_streams(tmp_path: Path) -> None:
    # Two seconds for each answer, the supervisor's own among them: one is nearly always on its way.
    world = little_world(tmp_path, engine=StubEngine({"": ("--fault", "slow 0.3")}))
    whole: list[bool] = []
    over = threading.Event()

    def listen(endpoint: Endpoint, number: int) -> None:
        while not over.is_set():
            asked = [{"role": "user", "content": f"What is the capital of country {number}?"}]
            try:
                whole.append("".join(probe.stream(endpoint, asked)).strip() == ANSWER)
            except LauncherError:
                whole.append(False)

    try:
        endpoint = served(world, own_port(), 2)
        threads = [threading.Thread(target=listen, args=(endpoint, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        served(world, store.port(world.home) or 0, 2, context=4096)
        over.set()
        for thread in threads:
            thread.join()
        assert {each.context for each in running(world)} == {4096}
        assert whole
        assert all(whole)
    finally:
        over.set()
        down.run(world, None)
