"""`launcher sleep` and `launcher wake`, and swaps of models that can sleep."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import probe, store
from launcher.commands import down, ps, sleep, swap, up
from launcher.commands.swap import SwapRequest
from launcher.commands.up import UpRequest
from launcher.endpoint import Endpoint
from launcher.errors import LauncherError
from launcher.server import Server, ServerSpec
from launcher.world import World
from tests.commands.test_swap import engines, gone, states
from tests.ports_for_tests import own_port
from tests.stub_engine import ANSWER
from tests.world import little_world, roomy, running


@pytest.fixture
def port() -> int:
    return own_port()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = engines(roomy(tmp_path))
    yield made
    down.run(made, None)


def served(world: World, port: int, *, can_sleep: bool = True, model: str = "tiny") -> Endpoint:
    spec = ServerSpec(model, engine="vllm", can_sleep=can_sleep)
    return up.run(world, UpRequest(spec=spec, port=port, spare=False)).endpoint


def handles(world: World) -> dict[str, int]:
    return {server.engine: server.handle.pid for server in running(world) if server.handle}


def only(world: World) -> Server:
    (server,) = store.seen(world.home)
    return server


def test_what_sleeps_is_woken_by_a_person(world: World, port: int) -> None:
    endpoint = served(world, port)
    before = handles(world)
    assert sleep.sleep(world, None).state == "asleep"
    assert (only(world).state, handles(world)) == ("asleep", before)
    assert sleep.wake(world, None).state == "ready"
    assert (only(world).state, handles(world), only(world).restarts) == ("ready", before, 0)
    assert probe.prove(endpoint).text == ANSWER


@pytest.mark.parametrize("level", [1, 2])
def test_what_sleeps_is_woken_by_a_request_and_sleeps_no_more(world: World, port: int, level: int) -> None:
    endpoint = served(world, port)
    before = handles(world)
    assert sleep.sleep(world, "tiny", level=level).level == level
    assert probe.prove(endpoint).text == ANSWER
    assert (only(world).state, handles(world)) == ("ready", before)
    assert sleep.sleep(world, "tiny").state == "asleep"


def test_while_one_sleeps_another_has_its_memory_and_makes_room_when_it_is_woken(world: World, port: int) -> None:
    endpoint = served(world, port)
    before = handles(world)
    sleep.sleep(world, "tiny")
    up.run(world, UpRequest(spec=ServerSpec("other", engine="vllm"), port=port, spare=False))
    assert {row.server.name: row.state for row in ps.run(world).rows} == {"other": "ready", "tiny": "asleep"}
    assert probe.prove(endpoint).text == ANSWER
    assert {row.server.name: row.state for row in ps.run(world).rows} == {"other": "idle", "tiny": "ready"}
    assert handles(world) == before


def test_what_dies_in_its_sleep_is_started_by_the_next_request(world: World, port: int) -> None:
    endpoint = served(world, port)
    sleep.sleep(world, "tiny")
    server = only(world)
    assert server.handle
    world.runner.stop(server.handle, grace=0)
    assert probe.prove(endpoint).text == ANSWER
    assert (only(world).state, only(world).restarts) == ("ready", 0)


def test_down_ends_what_sleeps(world: World, port: int) -> None:
    served(world, port)
    sleep.sleep(world, "tiny")
    assert down.run(world, None).stopped == ("tiny",)
    assert running(world) == []


def test_in_a_swap_the_one_before_sleeps_and_is_back_without_a_start(world: World, port: int) -> None:
    endpoint = served(world, port)
    first = handles(world)["vllm"]
    assert swap.run(world, SwapRequest("sglang")).kind == "in turn"
    assert states(world) == [("tiny", "vllm", "held"), ("tiny", "sglang", "ready")]
    second = handles(world)["sglang"]
    assert swap.run(world, SwapRequest("vllm")).kind == "in turn"
    assert states(world) == [("tiny", "vllm", "ready"), ("tiny", "sglang", "held")]
    assert handles(world) == {"vllm": first, "sglang": second}
    assert probe.prove(endpoint).text == ANSWER
    down.run(world, None)
    assert running(world) == []


def test_if_the_new_one_fails_the_one_that_sleeps_wakes(tmp_path: Path, port: int) -> None:
    world = engines(roomy(tmp_path), sglang=("--die", "ZeroDivisionError: oh"))
    endpoint = served(world, port)
    before = handles(world)
    assert swap.run(world, SwapRequest("sglang")).fault
    gone(world)
    assert states(world) == [("tiny", "vllm", "ready")]
    assert handles(world) == before
    assert probe.prove(endpoint).text == ANSWER
    down.run(world, None)


def test_a_swap_to_something_else_ends_what_sleeps(world: World, port: int) -> None:
    served(world, port)
    swap.run(world, SwapRequest("sglang"))
    swap.run(world, SwapRequest("vllm", context=4096))
    assert states(world) == [("tiny", "vllm", "ready"), ("tiny", "sglang", "held")]
    assert [server.context for server in running(world) if server.engine == "vllm"] == [4096]


def test_an_engine_that_refuses_to_sleep_goes_on(tmp_path: Path, port: int) -> None:
    # It says that it may, and is an engine that cannot.
    world = engines(roomy(tmp_path))
    endpoint = served(world, port, can_sleep=False)
    server = only(world)
    store.see(world.home, replace(server, spec=replace(server.spec, can_sleep=True)))
    with pytest.raises(LauncherError, match="it does not sleep: /sleep"):
        sleep.sleep(world, "tiny")
    assert probe.prove(endpoint).text == ANSWER
    assert only(world).state == "ready"
    down.run(world, None)


def test_what_is_not_there_cannot_sleep(world: World, port: int) -> None:
    served(world, port)
    with pytest.raises(LauncherError, match="nobody is not served") as caught:
        sleep.sleep(world, "nobody")
    assert "tiny (ready)" in caught.value.hint
    with pytest.raises(LauncherError, match="no model is asleep or idle"):
        sleep.wake(world, None)


@pytest.mark.parametrize(
    ("gpu", "reason"),
    [
        pytest.param(True, "it was not started to be able to sleep", id="not started for it"),
        pytest.param(False, "builds for CPUs cannot sleep", id="on a CPU"),
    ],
)
def test_what_cannot_sleep_is_unloaded_and_woken_by_a_start(tmp_path: Path, port: int, reason: str, *, gpu: bool) -> None:
    world = engines(roomy(tmp_path) if gpu else little_world(tmp_path))
    endpoint = served(world, port, can_sleep=False)
    before = handles(world)
    result = sleep.sleep(world, None)
    assert result.state == "idle"
    assert reason in result.reason
    assert running(world) == []
    assert sleep.wake(world, None).state == "ready"
    assert handles(world) != before
    assert probe.prove(endpoint).text == ANSWER
    sleep.sleep(world, None)
    assert probe.prove(endpoint).text == ANSWER
    down.run(world, None)


def test_one_that_is_unloaded_before_anybody_looks_was_up_all_the_same(tmp_path: Path) -> None:
    world = little_world(tmp_path)
    try:
        result = up.run(world, UpRequest(spec=ServerSpec("tiny"), port=own_port(), spare=False, proof=False, idle_stop=0.001))
        assert result.proof.text
    finally:
        down.run(world, None)
