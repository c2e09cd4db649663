"""What stops, what waits and what comes back in each kind of swap, as a table of what a supervisor may meet."""

from dataclasses import replace
from pathlib import Path

import pytest

from launcher import lifecycle, routing, swap
from launcher.gateway.table import State as RouteState
from launcher.lifecycle import Action, Policy, Sight
from launcher.prepared import Prepared
from launcher.runners.base import Handle
from launcher.server import Server, ServerSpec, State, Wanted

NOW = 1_000_000.0
PREPARED = Prepared(Path("/e"), Path("/e/bin/python"), Path("/w"), Path("/c"), "1")
OLD = Wanted(ServerSpec("m", engine="vllm"), "old", ServerSpec("m", engine="vllm"), PREPARED, {})
NEW = replace(OLD, ask="new", planned=ServerSpec("m", engine="sglang"), back=OLD)
# Another model in the place of the first.
OTHER = Wanted(ServerSpec("n"), "new", ServerSpec("n"), PREPARED, {}, back=OLD)
WELL = Sight(now=NOW, used=NOW - 1, alive=True, healthy=True, worked=NOW - 1)


def server(ask: str, state: State, *, runs: bool = True, seat: str = "", name: str = "m", proven: bool = False) -> Server:
    handle = Handle(77, NOW - 100, f"{ask}{seat}", Path("/e")) if runs else None
    url = f"http://127.0.0.1:{12_000 + len(ask + seat)}/v1"
    made = Server(ServerSpec(name), "vllm", "fp16", state, 8192, url, Path("/log"), NOW - 100, ask=ask, handle=handle)
    return replace(made, seat=seat, proven=proven)


SERVES = server("old", "ready", proven=True)
HELD = server("old", "held", runs=False, proven=True)
COMES = server("new", "starting", seat="@2")
WAITS = server("new", "waiting", runs=False, seat="@2")
IS_THERE = server("new", "ready", seat="@2", proven=True)
SLEEPS = replace(HELD, handle=Handle(78, NOW - 100, "sleeps", Path("/e")))
# Swaps back to what sleeps, and to a third one.
AGAIN = replace(OLD, ask="again", planned=SLEEPS.planned, back=replace(NEW, back=None))
LATER = replace(AGAIN, planned=replace(SLEEPS.planned, context=4096))
FAILED = server("new", "failed", runs=False, seat="@2")


def done(*wishes: Wanted, servers: tuple[Server, ...], room_for: str = "") -> dict[str, Action]:
    """What is done next to each server, or in each seat, where anything is."""
    by_key = {each.key: each for each in servers}
    told: dict[str, Action] = {}
    for seat in swap.seats({want.name: want for want in wishes}, by_key):
        there = by_key.get(seat.key)
        sight = replace(
            WELL, rests=seat.rests, leaves=seat.leaves, wakes=seat.wakes, room_for=room_for if there is SERVES else ""
        )
        sight = replace(sight, alive=there is not None and there.handle is not None)
        action, _ = lifecycle.step(there, seat.want, sight, Policy())
        if action != "nothing":
            told[seat.key] = action
    return told


@pytest.mark.parametrize(
    ("wish", "servers", "actions"),
    [
        pytest.param(NEW, (SERVES,), {"m@2": "start"}, id="the new one starts in the free seat, and the old one goes on"),
        pytest.param(NEW, (SERVES, COMES), {"m@2": "prove"}, id="it has to prove itself beside the old one"),
        pytest.param(NEW, (SERVES, IS_THERE), {"m": "leave"}, id="once it has, the old one finishes and leaves"),
        pytest.param(NEW, (HELD, WAITS), {"m@2": "start"}, id="what was held stays so while the new one comes"),
        pytest.param(NEW, (HELD, COMES), {"m@2": "prove"}, id="and while that starts"),
        pytest.param(NEW, (HELD, IS_THERE), {"m": "end"}, id="what was held is over once the new one is there"),
        pytest.param(NEW, (HELD, FAILED), {"m": "start"}, id="what was held comes back if the new one failed"),
        pytest.param(NEW, (SERVES, FAILED), {}, id="what still serves goes on, and the new one is not tried again"),
        pytest.param(
            NEW, (SERVES, server("older", "ending", seat="@2")), {"m@2": "end"}, id="a seat that is not free yet is waited for"
        ),
        pytest.param(NEW, (IS_THERE,), {}, id="long after, the new one is simply what serves"),
        pytest.param(
            NEW,
            (server("new", "waiting", runs=False, seat="@2", proven=True),),
            {"m@2": "start"},
            id="and comes again by itself if it fails",
        ),
        pytest.param(
            NEW, (server("new", "failed", runs=False, seat="@2", proven=True),), {}, id="given up, it is not replaced either"
        ),
        pytest.param(NEW, (SLEEPS, WAITS), {"m@2": "start"}, id="one that sleeps in its place rests as well"),
        pytest.param(NEW, (SLEEPS, IS_THERE), {}, id="and sleeps on once the new one is there"),
        pytest.param(NEW, (SLEEPS, FAILED), {"m": "wake"}, id="and wakes if that failed"),
        pytest.param(AGAIN, (SLEEPS, IS_THERE), {"m": "start"}, id="asked back, it is found by its plan"),
        pytest.param(LATER, (SLEEPS, IS_THERE), {"m": "end"}, id="for something else it has to end"),
        pytest.param(OLD, (SERVES, COMES), {"m@2": "end"}, id="taken back in the middle, the new one ends"),
        pytest.param(OLD, (HELD, COMES), {"m": "start", "m@2": "end"}, id="and what was held comes back"),
        pytest.param(replace(NEW, back=None), (SERVES,), {"m": "end"}, id="a wish without a way back is started anew"),
        pytest.param(None, (SERVES, COMES), {"m": "end", "m@2": "end"}, id="what nobody wants ends, both of them"),
    ],
)
def test_what_is_done_in_the_swap_of_an_engine(
    wish: Wanted | None, servers: tuple[Server, ...], actions: dict[str, Action]
) -> None:
    assert done(*([wish] if wish else []), servers=servers) == actions


N_COMES = server("new", "starting", name="n")
N_IS_THERE = server("new", "ready", name="n", proven=True)
N_FAILED = server("new", "failed", runs=False, name="n")


@pytest.mark.parametrize(
    ("wishes", "servers", "actions", "aliases"),
    [
        pytest.param((OLD, OTHER), (SERVES,), {"n": "start"}, {}, id="the other model starts"),
        pytest.param((OLD, OTHER), (SERVES, N_COMES), {"n": "prove"}, {}, id="it proves itself beside the old one"),
        pytest.param(
            (OLD, OTHER),
            (SERVES, N_IS_THERE),
            {"m": "leave"},
            {"m": "n"},
            id="then the old name is its own too",
        ),
        pytest.param((OTHER,), (SERVES, N_IS_THERE), {"m": "leave"}, {}, id="with its wish away too, requests are finished"),
        pytest.param((OLD, OTHER), (HELD, N_COMES), {"n": "prove"}, {}, id="what was held waits"),
        pytest.param((OLD, OTHER), (HELD, N_FAILED), {"m": "start"}, {}, id="and comes back if the other one failed"),
        pytest.param((OLD, OTHER), (SERVES, N_FAILED), {}, {}, id="what still serves goes on"),
        pytest.param(
            (replace(OLD, ask="later"), OTHER),
            (server("later", "ready"), N_IS_THERE),
            {},
            {},
            id="what a person wants again later is not displaced by what once was",
        ),
    ],
)
def test_what_is_done_in_the_swap_of_a_model(
    wishes: tuple[Wanted, ...], servers: tuple[Server, ...], actions: dict[str, Action], aliases: dict[str, str]
) -> None:
    assert done(*wishes, servers=servers) == actions
    assert swap.aliases({want.name: want for want in wishes}, servers, {}) == aliases


def test_the_old_one_makes_room_for_the_new_one_even_if_it_is_to_be_kept() -> None:
    kept = replace(OLD, keep=True)
    assert done(replace(NEW, back=kept), servers=(SERVES, WAITS), room_for="m") == {"m": "unload", "m@2": "start"}
    assert done(kept, servers=(SERVES,), room_for="n") == {}


@pytest.mark.parametrize(
    ("servers", "state", "ask"),
    [
        pytest.param((SERVES,), "ready", "old", id="the old one answers before the new one exists"),
        pytest.param((SERVES, COMES), "ready", "old", id="and while it comes"),
        pytest.param((replace(SERVES, state="ending"), WAITS), "starting", "", id="while the old one makes room requests wait"),
        pytest.param((HELD, COMES), "held", "", id="and while the new one starts"),
        pytest.param((SERVES, IS_THERE), "ready", "new", id="the new one answers as soon as it is proven"),
        pytest.param((replace(SERVES, state="ending"), IS_THERE), "ready", "new", id="while the old one finishes"),
        pytest.param((HELD, FAILED), "held", "", id="requests wait for the old one if the new one failed"),
        pytest.param((SERVES, FAILED), "ready", "old", id="or go on to it"),
    ],
)
def test_where_requests_go(servers: tuple[Server, ...], state: RouteState, ask: str) -> None:
    (route,) = routing.routes([NEW], servers, {"m": "key"})
    assert route.state == state
    expected = [each for each in servers if ask and each.ask == ask]
    assert route.backends == tuple(routing.backend(each, "key") for each in expected)


def test_names_lead_to_the_model_itself_and_never_to_another_name() -> None:
    told = swap.aliases({"m": OLD, "n": OTHER}, (SERVES, N_IS_THERE), {"default": "m", "mine": "n"})
    assert told == {"default": "n", "mine": "n", "m": "n"}


@pytest.mark.parametrize(
    ("wish", "servers", "gone"),
    [
        pytest.param(NEW, (server("old", "stopped", runs=False), IS_THERE), {"m"}, id="the one that has left"),
        pytest.param(NEW, (SERVES, FAILED), set(), id="not the one whose failure is still to be told"),
        pytest.param(OLD, (SERVES, FAILED), {"m@2"}, id="but once the swap was taken back"),
        pytest.param(
            None,
            (replace(IS_THERE, state="stopped", handle=None), server("old", "stopped", runs=False)),
            {"m"},
            id="all but one",
        ),
        pytest.param(None, (server("old", "stopped", runs=False),), set(), id="not the only one"),
        pytest.param(NEW, (HELD, COMES), set(), id="not what may come back"),
    ],
)
def test_which_records_are_forgotten(wish: Wanted | None, servers: tuple[Server, ...], gone: set[str]) -> None:
    by_key = {each.key: each for each in servers}
    wishes = {wish.name: wish} if wish else {}
    # Of two that ended, the newer one is kept.
    newer = {key: replace(each, since=each.since + (each.seat == "@2")) for key, each in by_key.items()}
    assert set(swap.forgotten(swap.seats(wishes, newer), newer, wishes)) == gone
