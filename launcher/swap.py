"""What becomes of each server where one is to take another one's place. Decisions only.

A wish with a `back` is a swap: what serves by `back` goes on until the new server is proven, or makes room for it and is held;
if the new one fails before it was proven, what was before comes back. Nothing of this is kept anywhere but in the wish and the
records, so that whoever goes on after a kill decides the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from launcher.server import REPLICA, Server, Wanted

# A model has two seats: while one server serves, another may come.
SEATS = ("", "@2")

Outcome = Literal["coming", "there", "failed"]


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of a server, by its key, and the wish that it is kept by; None for one that is to go.

    `rests`: another one comes in its place, so it stays held if it is; `leaves`: another one has come, so it finishes its
    requests and goes; `once`: its first failure decides the swap; `wakes`: what sleeps there is what the wish wants.
    """

    key: str
    want: Wanted | None
    rests: bool = False
    leaves: bool = False
    once: bool = False
    wakes: bool = False


def of(want: Wanted, servers: Iterable[Server]) -> Server | None:
    """The server that was started for this wish."""
    return next((server for server in servers if (server.name, server.ask) == (want.name, want.ask)), None)


def outcome(want: Wanted, servers: Iterable[Server]) -> Outcome:
    """How a swap stands; a wish that is none is there."""
    if want.back is None:
        return "there"
    server = of(want, servers)
    if server and server.proven:
        return "there"
    return "failed" if server and server.state == "failed" else "coming"


def seats(wishes: Mapping[str, Wanted], servers: Mapping[str, Server]) -> tuple[Seat, ...]:
    """Each server's seat, and one for each that is to be started; `servers` by key, `wishes` by name."""
    everyone = tuple(servers.values())
    told: dict[str, Seat] = {}
    resting = {_id(want.back) for want in wishes.values() if want.back and outcome(want, everyone) == "coming"}
    for want in wishes.values():
        if is_displaced(want, wishes, everyone):
            continue
        if is_replicated(want, everyone):
            told |= _replicas(want, servers)
            continue
        for each in _kept(want, everyone):
            if key := _key(each, want, servers, told):
                wakes = _is_twin(servers.get(key), each)
                told[key] = Seat(key, each, _id(each) in resting, once=_is_tried(each, everyone), wakes=wakes)
    gone = {_id(want.back) for want in wishes.values() if want.back and outcome(want, everyone) == "there"}
    for key, server in servers.items():
        told.setdefault(key, Seat(key, None, leaves=(server.name, server.ask) in gone))
    return tuple(told.values())


def is_replicated(want: Wanted, servers: Iterable[Server]) -> bool:
    """Whether several servers answer for this wish, or did until it was made."""
    several = (want.spec.replicas or 1) > 1 or any(REPLICA in each.seat for each in servers if each.name == want.name)
    return several and want.back is None


def _replicas(want: Wanted, servers: Mapping[str, Server]) -> dict[str, Seat]:
    """The seats of its replicas. Those of an earlier wish leave one by one, each once all the others serve."""
    count = want.spec.replicas or 1
    keys = [f"{want.name}{REPLICA}{number}" if number > 1 else want.name for number in range(1, count + 1)]
    old = [key for key in keys if key in servers and _serves_before(servers[key], want)]
    left = next((key for key in old if servers[key].state == "ending"), None)
    if left is None and all(_is_ready(servers.get(key)) for key in keys):
        left = next(iter(old), None)
    told = {}
    for key in keys:
        stays = key in old and key != left
        told[key] = Seat(key, replace(want, ask=servers[key].ask) if stays else want, leaves=key == left)
    there = not old and all(_is_ready(servers.get(key)) for key in keys)
    for key, server in servers.items():
        if server.name == want.name and key not in told:
            stays = not there and server.ask != want.ask and _serves_before(server, want)
            told[key] = Seat(key, replace(want, ask=server.ask) if stays else None, leaves=not stays)
    return told


def _serves_before(server: Server, want: Wanted) -> bool:
    """Whether it was started for an earlier wish, and still answers."""
    return server.ask != want.ask and server.handle is not None and server.state in {"ready", "ending"}


def _is_ready(server: Server | None) -> bool:
    return server is not None and server.state == "ready"


def serving(want: Wanted | None, servers: Iterable[Server]) -> tuple[Server | None, Wanted | None]:
    """Of one model's servers the one that requests are for, and the wish that it is kept by."""
    there = sorted(servers, key=lambda server: (server.handle is None, -server.since))
    newest = there[0] if there else None
    if want is None:
        return newest, None
    if want.back and want.back.name == want.name and outcome(want, there) != "there":
        return of(want.back, there) or newest, want.back
    return of(want, there) or newest, want


def is_displaced(want: Wanted, wishes: Mapping[str, Wanted], servers: Iterable[Server]) -> bool:
    """Whether another model has taken this one's place."""
    everyone = tuple(servers)
    others = (each for each in wishes.values() if each.back and each.name != want.name)
    return any(_id(each.back) == _id(want) and outcome(each, everyone) == "there" for each in others)


def aliases(wishes: Mapping[str, Wanted], servers: Iterable[Server], chosen: Mapping[str, str]) -> dict[str, str]:
    """Other names of models: those that were chosen, and of each that another has displaced its own; none leads to another."""
    everyone = tuple(servers)
    swapped = {
        want.back.name: want.name
        for want in wishes.values()
        if want.back and want.back.name in wishes and is_displaced(wishes[want.back.name], wishes, everyone)
    }
    return {alias: swapped.get(name, name) for alias, name in {**chosen, **swapped}.items()}


def forgotten(seats: Iterable[Seat], servers: Mapping[str, Server], wishes: Mapping[str, Wanted]) -> tuple[str, ...]:
    """The keys of records that tell nothing any more: a model keeps one, and what a swap still has to tell."""
    wanted = {seat.key for seat in seats if seat.want}
    gone = []
    for name in {server.name for server in servers.values()}:
        there = {key: server for key, server in servers.items() if server.name == name}
        want = wishes.get(name)
        tried = of(want, there.values()) if want else None
        # Of several replicas the first one's, which has the model's own name.
        kept = name if any(REPLICA in server.seat for server in there.values()) else ""
        idle = [key for key, s in there.items() if s.handle is None and key not in {*wanted, kept} and s is not tried]
        if len(idle) == len(there):
            idle.remove(max(idle, key=lambda key: there[key].since))
        gone += [key for key in idle if there[key].state in {"stopped", "failed"}]
    return tuple(gone)


def _kept(want: Wanted, servers: Iterable[Server]) -> tuple[Wanted, ...]:
    """The wishes that servers of this model are kept by."""
    if want.back is None or want.back.name != want.name:
        return () if want.back and outcome(want, servers) == "failed" else (want,)
    by_outcome: dict[Outcome, tuple[Wanted, ...]] = {"coming": (want.back, want), "there": (want,), "failed": (want.back,)}
    return by_outcome[outcome(want, servers)]


def _is_tried(want: Wanted, servers: Iterable[Server]) -> bool:
    return want.back is not None and outcome(want, servers) == "coming"


def _key(each: Wanted, want: Wanted, servers: Mapping[str, Server], taken: Iterable[str]) -> str | None:
    """Where the server of this wish is or is to be; None while both seats are taken."""
    if server := of(each, servers.values()):
        return server.key
    of_model = [f"{want.name}{seat}" for seat in SEATS]
    there = [key for key in of_model if key in servers]
    if want.back is None or want.back.name != want.name:
        # It takes the seat of what it replaces, once that has ended.
        return min(there, key=lambda key: servers[key].handle is None, default=of_model[0])
    free = [key for key in of_model if key not in taken and not _is_needed(servers.get(key), want)]
    # One that sleeps and is this very server; else an empty seat; else that of one that sleeps, and has to end for it.
    for suits in (partial(_is_twin, want=each), _is_empty, _sleeps):
        if found := next((key for key in free if suits(servers.get(key))), None):
            return found
    return None


def _is_empty(server: Server | None) -> bool:
    return server is None or server.handle is None


def _sleeps(server: Server | None) -> bool:
    return server is not None and server.handle is not None and server.state == "held"


def _is_twin(server: Server | None, want: Wanted) -> bool:
    """Whether what sleeps there would be started as the same for this wish."""
    if server is None or not _sleeps(server) or server.ask == want.ask or server.handle is None:
        return False
    asked = replace(want.planned, pinned=server.spec.pinned)
    return server.planned == asked and server.handle.environment == want.prepared.environment


def _is_needed(server: Server | None, want: Wanted) -> bool:
    return server is not None and want.back is not None and server.ask == want.back.ask


def _id(want: Wanted | None) -> tuple[str, str]:
    return (want.name, want.ask) if want else ("", "")
