"""A person's wish, from the moment that it is written down until the supervisor has made it so."""

import time
from collections.abc import Collection, Iterator

from launcher import probe, store
from launcher.errors import LauncherError
from launcher.server import Server, Wanted
from launcher.world import World

_LOOK = 0.05
# How often a supervisor is looked for, which may be killed while we wait for it.
_ATTEND = 1.0


def follow(world: World, want: Wanted) -> Server:
    """Show how the wish is made so, until the server is proven; raises LauncherError with the reason if its start fails."""
    shown, told, followed = "", 0, ""
    for _ in looks(world):
        server = store.started(world.home, want)
        if server and server.key != followed:
            # Of several replicas one comes after another.
            shown, told, followed = "", 0, server.key
        if server:
            for note in server.notes[told:]:
                world.progress.say(note)
            told = len(server.notes)
            shown = _show(world, want, server, shown)
            if server.state == "ready" or (server.state == "idle" and _was_there(world, want)):
                return server
            if server.state in {"waiting", "failed"} and server.detail:
                raise LauncherError(server.detail, hint=server.hint)
    raise AssertionError  # looks have no end


def _was_there(world: World, want: Wanted) -> bool:
    """Whether it was proven, and unloaded before anybody looked: an `--idle-stop` may be shorter than a look takes."""
    there = store.every(world.home, want)
    return len(there) >= (want.spec.replicas or 1) and all(each.proven for each in there)


def looks(world: World) -> Iterator[None]:
    """A turn each moment, without end, with a supervisor at work; raises LauncherError where none can be."""
    attended = 0.0
    while True:
        if time.monotonic() - attended >= _ATTEND:
            world.attend(world)
            attended = time.monotonic()
        yield
        time.sleep(_LOOK)


def _show(world: World, want: Wanted, server: Server, shown: str) -> str:
    """Tell the phase; the name of the one that is shown now."""
    if want.back and server.state == "waiting":
        return _show_room(world, want.back, shown)
    phase = "proof" if server.state == "ready" or server.phase == "proof" else "engine"
    for name in ("engine", "proof"):
        if (name, shown) in {("engine", ""), ("engine", "hold"), ("proof", "engine")} and phase in {name, "proof"}:
            world.progress.phase(name)
            shown = name
    if phase == "proof":
        world.progress.update(f"asking: {probe.QUESTION}")
    elif server.phase:
        done = round(server.share * 100) if server.share is not None else 0
        count = want.spec.replicas or 1
        which = f"{server.replica} of {count}: " if count > 1 else ""
        world.progress.update(which + server.phase, done, 100 if done else 0, left=server.left)
    return shown


def _show_room(world: World, back: Wanted, shown: str) -> str:
    """Tell that the one before makes room."""
    before = store.started(world.home, back)
    if before is None or before.state == "ready":
        return shown
    if shown != "hold":
        world.progress.phase("hold")
    running = before.handle is not None and before.state == "ending"
    world.progress.update(
        f"new requests wait; {before.engine} finishes the running ones" if running else "the memory comes back"
    )
    return "hold"


def _is_anything(server: Server) -> bool:
    return server.handle is not None or server.state not in {"stopped", "failed"}


def settled(world: World, asks: Collection[str]) -> None:
    """Wait until nothing runs that was started for these wishes; raises LauncherError if something cannot be ended."""
    turns = looks(world)
    while left := [server for server in store.look(world.home)[0] if server.ask in asks and _is_anything(server)]:
        next(turns)
        for server in left:
            # What is to be tried again did not end; a reason alone is why it is ended.
            if server.state == "ending" and server.detail and server.again:
                raise LauncherError(server.detail, hint=server.hint)
