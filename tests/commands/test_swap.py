"""`launcher swap` and `launcher alias`: what serves changes, and whoever asks does not notice."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from launcher import environments, ports, probe, store
from launcher.commands import alias, down, ps, swap, up
from launcher.commands.swap import SwapRequest
from launcher.commands.up import UpRequest
from launcher.endpoint import Endpoint
from launcher.environment import Environment
from launcher.errors import LauncherError
from launcher.release import Release
from launcher.server import ServerSpec
from launcher.world import World
from tests.ports_for_tests import own_port
from tests.stub_engine import ANSWER
from tests.test_supervisor import awaited
from tests.world import POLICY, StubEngine, attend, ended, little_world, roomy, running

SGLANG = "sglang"


@pytest.fixture
def port() -> int:
    return own_port()


def engines(world: World, **flags: tuple[str, ...]) -> World:
    """The world with two engines; `flags` are the faults of each."""
    return replace(world, engines={name: StubEngine({"": flags.get(name, ())}, name) for name in ("vllm", SGLANG)})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = engines(little_world(tmp_path, models=("tiny", "other")))
    yield made
    down.run(made, None)


def served(world: World, port: int) -> Endpoint:
    return up.run(world, UpRequest(spec=ServerSpec("tiny", engine="vllm"), port=port, spare=False)).endpoint


def states(world: World) -> list[tuple[str, str, str]]:
    return [(row.server.name, row.server.engine, row.state) for row in ps.run(world).rows]


def gone(world: World) -> None:
    """Wait until one server alone is left."""
    deadline = time.monotonic() + 30
    while len(states(world)) > 1 and time.monotonic() < deadline:
        time.sleep(0.02)


@dataclass
class Asking:
    """What a client saw that asks without pause: its answers, and what failed."""

    answers: int = 0
    faults: list[str] = field(default_factory=list)


@contextmanager
def asking(endpoint: Endpoint) -> Iterator[Asking]:
    seen, over = Asking(), threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                assert probe.prove(endpoint).text == ANSWER
                seen.answers += 1
            except (LauncherError, AssertionError) as fault:
                seen.faults.append(str(fault))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_another_engine_serves_beside_and_then_instead_and_nobody_notices(world: World, port: int) -> None:
    endpoint = served(world, port)
    with asking(endpoint) as seen:
        result = swap.run(world, SwapRequest(SGLANG))
        before = seen.answers
        assert probe.prove(endpoint).text == ANSWER
    assert seen.faults == []
    assert seen.answers >= before > 0
    assert (result.kind, result.before.engine, result.after.engine, result.exit_code) == ("beside", "vllm", SGLANG, 0)
    assert result.swapped
    assert (result.swapped.failed, result.after.context) == (0, endpoint.context)
    gone(world)
    assert states(world) == [("tiny", SGLANG, "ready")]
    assert len(running(world)) == 1
    back = swap.run(world, SwapRequest("vllm"))
    gone(world)
    assert (back.kind, states(world)) == ("beside", [("tiny", "vllm", "ready")])


def test_where_both_do_not_fit_requests_wait_for_the_new_one(tmp_path: Path, port: int) -> None:
    world = engines(roomy(tmp_path))
    endpoint = served(world, port)
    with asking(endpoint) as seen:
        result = swap.run(world, SwapRequest(SGLANG))
    assert seen.faults == []
    assert result.kind == "in turn"
    assert result.swapped
    assert (result.swapped.held, result.swapped.failed) == (1, 0)
    assert result.swapped.stall > 0
    assert "hold" in result.seconds
    gone(world)
    assert states(world) == [("tiny", SGLANG, "ready")]
    down.run(world, None)


FAILURES = {
    "it dies": (("--die", "ValueError: No available memory for the cache blocks"), "no memory is left for the KV cache"),
    "it dies of something new": (("--die", "ZeroDivisionError: oh"), "ZeroDivisionError: oh"),
    "it serves another context": (("--wrong-context",), "instead of the planned"),
    "it answers with an error": (("--fault", "refuse"), "the engine runs but does not work"),
}


@pytest.mark.parametrize("beside", [True, False], ids=["beside", "in turn"])
@pytest.mark.parametrize(("flags", "message"), FAILURES.values(), ids=FAILURES)
def test_if_the_new_one_fails_the_old_one_serves(
    tmp_path: Path, port: int, flags: tuple[str, ...], message: str, *, beside: bool
) -> None:
    world = engines(little_world(tmp_path) if beside else roomy(tmp_path), sglang=flags)
    endpoint = served(world, port)
    (first,) = running(world)
    with asking(endpoint) as seen:
        result = swap.run(world, SwapRequest(SGLANG))
        assert probe.prove(endpoint).text == ANSWER
    assert seen.faults == []
    assert message in result.fault
    assert result.exit_code == 1
    gone(world)
    assert states(world) == [("tiny", "vllm", "ready")]
    (now,) = running(world)
    assert (now.handle == first.handle) is beside
    assert [want.planned.engine for want in store.wanted(world.home)] == ["vllm"]
    down.run(world, None)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(("--hang",), "said nothing for", id="a start that stands still"),
        pytest.param(("--fault", "mute"), "the engine runs but does not work", id="one that is well and generates nothing"),
    ],
)
def test_if_the_new_one_hangs_the_old_one_serves(tmp_path: Path, port: int, flags: tuple[str, ...], message: str) -> None:
    impatient = replace(POLICY, silence=1.5, proof=1.5)
    world = replace(engines(little_world(tmp_path), sglang=flags), attend=partial(attend, policy=impatient))
    endpoint = served(world, port)
    with asking(endpoint) as seen:
        result = swap.run(world, SwapRequest(SGLANG))
    assert seen.faults == []
    assert message in result.fault
    gone(world)
    assert states(world) == [("tiny", "vllm", "ready")]
    down.run(world, None)


def test_a_window_that_does_not_fit_is_no_smaller_one_behind_the_agents_back(tmp_path: Path, port: int) -> None:
    told = (
        "To serve at least one request with the models's max seq len (8192), (0.5 GiB KV cache is needed, which is larger than "
    )
    told += (
        "the available KV cache memory (0.3 GiB). Based on the available memory, the estimated maximum model length is 4096."
    )
    world = engines(little_world(tmp_path), sglang=("--die", f"ValueError: {told}"))
    endpoint = served(world, port)
    result = swap.run(world, SwapRequest(SGLANG))
    assert "KV cache" in result.fault
    assert [(server.engine, server.context) for server in running(world)] == [("vllm", endpoint.context)]
    down.run(world, None)


def test_another_version_is_chosen_for_good_if_it_serves_and_not_if_it_does_not(tmp_path: Path, port: int) -> None:
    world = engines(little_world(tmp_path))
    served(world, port)
    place = world.home.environments / "vllm-9-cpu"
    nine = Environment(place.name, place, Path(sys.executable), "vllm", "cpu", Release("9"), adopted=True)
    environments.adopt(world.home, nine)
    broken = engines(world, vllm=("--die", "ZeroDivisionError: oh"))
    # Before it is wished: whoever is at work may see the wish before `swap` looks for it.
    attend(broken)
    assert swap.run(broken, SwapRequest("vllm@9")).fault
    assert store.chosen(world.home) == {}
    attend(world)
    result = swap.run(world, SwapRequest("vllm@9"))
    assert (result.fault, store.chosen(world.home)) == ("", {"vllm-cpu": "vllm-9-cpu"})
    gone(world)
    down.run(world, None)


def test_an_interrupt_leaves_the_old_one_serving(tmp_path: Path, port: int) -> None:
    world = engines(roomy(tmp_path), sglang=("--hang",))
    endpoint = served(world, port)

    def interrupt() -> None:
        while not any(server.engine == SGLANG and server.handle and server.handle.pid for server in running(world)):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        swap.run(world, SwapRequest(SGLANG))
    assert probe.prove(endpoint).text == ANSWER
    gone(world)
    assert states(world) == [("tiny", "vllm", "ready")]
    down.run(world, None)
    ended(world)
    assert ports.holder(port) is None


def test_a_failure_long_after_a_swap_is_no_reason_to_go_back(world: World, port: int) -> None:
    endpoint = served(world, port)
    swap.run(world, SwapRequest(SGLANG))
    gone(world)
    (server,) = running(world)
    assert server.handle
    os.kill(server.handle.pid, signal.SIGKILL)
    assert probe.prove(endpoint).text == ANSWER
    assert states(world) == [("tiny", SGLANG, "ready")]


def test_another_model_serves_under_the_name_that_agents_know(world: World, port: int) -> None:
    endpoint = served(world, port)
    with asking(endpoint) as seen:
        result = swap.run(world, SwapRequest("other"))
    assert seen.faults == []
    assert (result.after.model, sorted(result.names)) == ("other", ["other", "tiny"])
    assert probe.prove(replace(endpoint, model="other")).text == ANSWER
    assert [want.name for want in store.wanted(world.home)] == ["other"]
    assert [(server.name, server.state) for server in running(world)] == [("other", "ready")]
    # Its own name is its own again as soon as a person wants it.
    up.run(world, UpRequest(spec=ServerSpec("tiny"), port=port, spare=False))
    assert store.aliases(world.home) == {}


def test_another_model_takes_the_place_in_turn_and_what_waited_is_its_own(tmp_path: Path, port: int) -> None:
    world = engines(roomy(tmp_path))
    endpoint = served(world, port)
    with asking(endpoint) as seen:
        result = swap.run(world, SwapRequest("other"))
        answered = seen.answers
        awaited(lambda: seen.answers > answered)
    assert seen.faults == []
    assert result.kind == "in turn"
    assert result.swapped
    assert result.swapped.held > 0
    down.run(world, None)


def test_a_model_that_serves_already_takes_the_place_at_once(world: World, port: int) -> None:
    endpoint = served(world, port)
    up.run(world, UpRequest(spec=ServerSpec("other"), port=port, spare=False))
    handles = {server.name: server.handle for server in running(world)}
    result = swap.run(world, SwapRequest("other", alias="tiny"))
    assert (result.exit_code, result.after.model) == (0, "other")
    assert [(server.name, server.handle) for server in running(world)] == [("other", handles["other"])]
    assert probe.prove(endpoint).text == ANSWER


def test_what_serves_already_is_left_alone(world: World, port: int) -> None:
    served(world, port)
    (first,) = running(world)
    result = swap.run(world, SwapRequest("vllm"))
    assert (result.kind, result.exit_code) == ("none", 0)
    assert running(world) == [first]


def test_an_alias_leads_to_a_model_at_once_and_to_another_one_when_it_is_told_so(world: World, port: int) -> None:
    endpoint = served(world, port)
    alias.run(world, "default", "tiny")
    other = replace(endpoint, model="default")

    def answers() -> bool:
        try:
            return probe.prove(other).text == ANSWER
        except LauncherError:
            return False

    deadline = time.monotonic() + 10
    while not answers():
        assert time.monotonic() < deadline
    swap.run(world, SwapRequest("other", alias="default"))
    assert answers()
    assert alias.run(world, None, None).aliases == {"default": "other", "tiny": "other"}
    alias.run(world, "default", None, remove=True)
    while answers():
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        pytest.param(SwapRequest("vllm@99"), "vllm 99 for cpu is not installed", id="a version that is not there"),
        pytest.param(SwapRequest("ollama@1"), "'ollama' is no engine", id="an engine that is none"),
        pytest.param(SwapRequest("nothing"), "nothing", id="a model that is none"),
        pytest.param(SwapRequest(SGLANG, context=10**8), "context", id="a window that fits nowhere"),
        pytest.param(SwapRequest(SGLANG, variant="none"), "has no variant 'none'", id="a variant that is none"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_touched(
    world: World, port: int, request_: SwapRequest, message: str
) -> None:
    served(world, port)
    (first,) = running(world)
    with pytest.raises(LauncherError, match=message):
        swap.run(world, request_)
    assert running(world) == [first]


def test_without_anything_served_it_says_what_to_do(world: World) -> None:
    with pytest.raises(LauncherError, match="nothing is served yet") as caught:
        swap.run(world, SwapRequest(SGLANG))
    assert "launcher up" in caught.value.hint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("default", "nobody", False), "nobody was never served here", id="of a model that never was"),
        pytest.param(("tiny", "tiny", False), "tiny is a model that is served", id="that is a model's name"),
        pytest.param(("default", None, False), "for which model", id="of nothing"),
        pytest.param(("default", None, True), "there is no alias default", id="that there is not"),
    ],
)
def test_an_alias_that_cannot_be(world: World, port: int, words: tuple[str, str | None, bool], message: str) -> None:
    served(world, port)
    name, model, remove = words
    with pytest.raises(LauncherError, match=message):
        alias.run(world, name, model, remove=remove)
