"""What a supervisor does next, as a table of what it can meet."""

from dataclasses import replace
from pathlib import Path

import pytest

from launcher import lifecycle
from launcher.lifecycle import Action, Policy, Sight
from launcher.prepared import Prepared
from launcher.runners.base import Handle
from launcher.server import Server, ServerSpec, State, Wanted

NOW = 1_000_000.0
POLICY = Policy()
SPEC = ServerSpec("m")
PREPARED = Prepared(Path("/e"), Path("/e/bin/python"), Path("/w"), Path("/c"), "1")
WANT = Wanted(SPEC, "ask", SPEC, PREPARED, {})
IDLE_STOP, KEEP = replace(WANT, idle_stop=60.0), replace(WANT, keep=True)
HANDLE = Handle(77, NOW - 100, "id", Path("/e"))
READY = Server(
    SPEC, "vllm", "fp16", "ready", 8192, "http://127.0.0.1:8400/v1", Path("/log"), NOW - 100, ask="ask", handle=HANDLE
)
WELL = Sight(now=NOW, used=NOW - 1, alive=True, healthy=True, worked=NOW - 1)


def was(state: State, *, runs: bool = False, again: float = 0.0, ask: str = "ask") -> Server:
    return replace(READY, state=state, handle=HANDLE if runs else None, again=again, ask=ask)


STARTING = was("starting", runs=True)


@pytest.mark.parametrize(
    ("server", "want", "sight", "action"),
    [
        pytest.param(None, None, WELL, "nothing", id="nobody wants what never was"),
        pytest.param(None, WANT, WELL, "start", id="what is wanted for the first time is started"),
        pytest.param(None, WANT, replace(WELL, clear=False), "nothing", id="not while something else is started or ended"),
        pytest.param(READY, None, WELL, "end", id="what nobody wants any more is ended"),
        pytest.param(STARTING, None, WELL, "end", id="in the middle of its start too"),
        pytest.param(was("ending", runs=True), None, WELL, "end", id="what was not ended yet is ended again"),
        pytest.param(was("waiting"), None, WELL, "end", id="what waits for its next start and is not wanted any more"),
        pytest.param(was("stopped"), None, WELL, "nothing", id="what is stopped and not wanted stays so"),
        pytest.param(was("failed"), None, WELL, "nothing", id="what failed and is not wanted stays on record"),
        pytest.param(was("ready", runs=True, ask="old"), WANT, WELL, "end", id="what serves another wish makes room"),
        pytest.param(was("stopped", ask="old"), WANT, WELL, "start", id="a new wish is a new start"),
        pytest.param(was("failed", ask="old"), WANT, WELL, "start", id="even of what was given up"),
        pytest.param(was("failed"), WANT, WELL, "nothing", id="what was given up is not tried again by itself"),
        pytest.param(was("stopped"), WANT, WELL, "start", id="what an ended supervisor stopped comes back"),
        pytest.param(was("waiting", again=NOW + 1), WANT, WELL, "nothing", id="a delay is waited for"),
        pytest.param(was("waiting", again=NOW - 1), WANT, WELL, "start", id="and then it is started again"),
        pytest.param(
            replace(STARTING, handle=replace(HANDLE, pid=0)), WANT, replace(WELL, alive=False), "end", id="a start cut off"
        ),
        pytest.param(STARTING, WANT, replace(WELL, healthy=False, quiet=60), "nothing", id="loading takes its time"),
        pytest.param(STARTING, WANT, replace(WELL, healthy=False, quiet=901), "recover", id="but not without a word"),
        pytest.param(STARTING, WANT, WELL, "prove", id="who accepts requests has to prove it"),
        pytest.param(STARTING, WANT, replace(WELL, fault="no words"), "recover", id="a proof that failed"),
        pytest.param(STARTING, WANT, replace(WELL, alive=False), "recover", id="a start that ended by itself"),
        pytest.param(READY, WANT, WELL, "nothing", id="what works is left alone"),
        pytest.param(READY, WANT, replace(WELL, alive=False), "recover", id="a dead one"),
        pytest.param(READY, WANT, replace(WELL, missing=True), "probe", id="a process of it is gone: it is asked"),
        pytest.param(READY, WANT, replace(WELL, healthy=False), "probe", id="it does not say that it is well: it is asked"),
        pytest.param(READY, WANT, replace(WELL, worked=NOW - 21), "probe", id="idle for long: it is asked"),
        pytest.param(READY, WANT, replace(WELL, worked=NOW - 21, busy=True), "probe", id="busy with nothing finished too"),
        pytest.param(READY, IDLE_STOP, replace(WELL, used=NOW - 61), "unload", id="nobody asked for as long as was said"),
        pytest.param(READY, IDLE_STOP, replace(WELL, used=NOW - 61, busy=True), "nothing", id="but it is still answering"),
        pytest.param(READY, IDLE_STOP, replace(WELL, used=NOW - 59), "nothing", id="not for so long yet"),
        pytest.param(READY, WANT, replace(WELL, room_for="x"), "unload", id="another one is to have its memory"),
        pytest.param(READY, KEEP, replace(WELL, room_for="x"), "nothing", id="never the one that is to be kept"),
        pytest.param(was("idle"), WANT, WELL, "nothing", id="what was unloaded waits to be asked for"),
        pytest.param(was("idle"), WANT, replace(WELL, asked=True), "start", id="and is started when it is"),
        pytest.param(was("idle"), None, replace(WELL, asked=True), "end", id="unless a person stopped it"),
        pytest.param(READY, replace(WANT, turn="sleep 1 x"), WELL, "sleep", id="what is told to sleep"),
        pytest.param(replace(READY, turned="sleep 1 x"), replace(WANT, turn="sleep 1 x"), WELL, "nothing", id="but only once"),
        pytest.param(READY, replace(WANT, turn="unload x"), WELL, "unload", id="what cannot sleep goes"),
        pytest.param(was("idle"), replace(WANT, turn="wake x"), WELL, "start", id="and is started when it is told to wake"),
        pytest.param(was("asleep", runs=True), WANT, WELL, "nothing", id="what sleeps is left alone, and never probed"),
        pytest.param(was("asleep", runs=True), WANT, replace(WELL, asked=True), "wake", id="until a request comes"),
        pytest.param(was("asleep", runs=True), replace(WANT, turn="wake x"), WELL, "wake", id="or a person's word"),
        pytest.param(
            was("asleep", runs=True), WANT, replace(WELL, asked=True, clear=False), "nothing", id="not while another one starts"
        ),
        pytest.param(
            was("asleep", runs=True, again=NOW + 9),
            WANT,
            replace(WELL, asked=True),
            "nothing",
            id="nor at once if it had no room",
        ),
        pytest.param(was("asleep", runs=True), WANT, replace(WELL, alive=False), "unload", id="what died in its sleep"),
        pytest.param(was("asleep", runs=True), None, WELL, "end", id="what sleeps and nobody wants"),
        pytest.param(was("held", runs=True), WANT, replace(WELL, rests=True), "nothing", id="what sleeps for another one"),
        pytest.param(was("held", runs=True), WANT, WELL, "wake", id="wakes if that came to nothing"),
        pytest.param(was("held", runs=True), None, replace(WELL, leaves=True), "nothing", id="replaced, it sleeps on"),
        pytest.param(was("held", runs=True), None, WELL, "end", id="but not once nobody wants its model"),
        pytest.param(
            was("held", runs=True, ask="old"), WANT, replace(WELL, wakes=True), "start", id="asked back, it is the start"
        ),
        pytest.param(was("held", runs=True, ask="old"), WANT, WELL, "end", id="in the way of another one, it ends"),
        pytest.param(READY, WANT, replace(WELL, fault="no answer"), "recover", id="it did not answer"),
        pytest.param(was("ending", runs=True), WANT, WELL, "recover", id="an end that was cut off goes on"),
        pytest.param(was("ending", runs=True, again=NOW + 9), WANT, WELL, "nothing", id="who cannot be ended is tried later"),
    ],
)
def test_the_next_thing_to_do(server: Server | None, want: Wanted | None, sight: Sight, action: Action) -> None:
    assert lifecycle.step(server, want, sight, POLICY)[0] == action


def test_a_frozen_engine_is_found_within_a_minute() -> None:
    assert POLICY.idle + POLICY.patience < 60


def test_failures_in_a_row_wait_twice_as_long_each_and_end_in_giving_up() -> None:
    server, waits = STARTING, []
    while server.state != "failed":
        server = lifecycle.failed(server, now=NOW, detail="oh", hint="do", policy=POLICY)
        waits.append(server.again - NOW if server.state == "waiting" else None)
    assert waits == [2, 4, 8, 16, None]
    assert (server.handle, server.detail, server.restarts) == (None, "oh", 5)


def test_the_longest_delay_is_five_minutes() -> None:
    assert [POLICY.delay(number) for number in (1, 2, 8, 9, 100)] == [2, 4, 256, 300, 300]


@pytest.mark.parametrize(
    ("worked", "restarts"),
    [pytest.param(599.0, 4, id="not yet stable"), pytest.param(600.0, 1, id="stable: its failures begin anew")],
)
def test_ten_good_minutes_are_forgiven(worked: float, restarts: int) -> None:
    server = replace(READY, restarts=3, since=NOW - worked)
    assert lifecycle.failed(server, now=NOW, detail="", hint="", policy=POLICY).restarts == restarts


def test_what_had_no_room_waits_for_it_without_a_failure_of_its_own() -> None:
    server = lifecycle.postponed(was("waiting"), now=NOW, detail="no room", hint="", policy=POLICY)
    assert (server.state, server.restarts, server.again > NOW) == ("waiting", 0, True)


@pytest.mark.parametrize(
    ("server", "state", "detail"),
    [
        pytest.param(READY, "stopped", "", id="what ran is stopped"),
        pytest.param(replace(was("waiting"), detail="oh"), "failed", "oh", id="what had failed still tells why"),
    ],
)
def test_what_is_not_wanted_any_more(server: Server, state: State, detail: str) -> None:
    ended = lifecycle.ended(server, now=NOW)
    assert (ended.state, ended.detail, ended.handle, ended.restarts) == (state, detail, None, 0)
