"""`launcher sleep` and `launcher wake`: a model gives its GPUs' memory back, and is there again in seconds."""

import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from launcher import lock, store
from launcher.errors import LauncherError
from launcher.following import looks
from launcher.server import Server, Wanted
from launcher.stopwatch import Stopwatch
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class SleepResult:
    """A model that sleeps, or is awake again, and the seconds that it took; `reason` why it was unloaded and does not sleep."""

    name: str
    state: str
    level: int
    seconds: float
    reason: str = ""
    exit_code: int = 0

    def json(self) -> object:
        told = {"name": self.name, "state": self.state, "level": self.level, "seconds": round(self.seconds, 3)}
        return {**told, "reason": self.reason}

    def text(self) -> "RenderableType":
        from rich.text import Text

        if self.state == "asleep":
            told = f"sleeps: its GPUs' memory is free. The next request wakes it, or `launcher wake {self.name}`."
        elif self.state == "idle":
            told = f"was unloaded: {self.reason}. The next request starts it, or `launcher wake {self.name}`."
        else:
            told = f"is awake and answers, after {self.seconds:.1f} s."
        return Text.assemble(("✓ ", "green"), (self.name, "bold"), " ", told)


def sleep(world: World, name: str | None, *, level: int = 1) -> SleepResult:
    """Put it to sleep once its requests are done, or unload one that cannot; raises LauncherError where it does not."""
    return _turned(world, name, f"sleep {level}", ("ready",))


def wake(world: World, name: str | None) -> SleepResult:
    """Wake it, and see it answer; raises LauncherError for one that does not sleep, or does not wake."""
    return _turned(world, name, "wake", ("asleep", "idle"))


def _turned(world: World, name: str | None, turn: str, states: tuple[str, ...]) -> SleepResult:
    world.home.make()
    watch = Stopwatch(world.progress)

    def wait(holder: lock.Holder) -> None:
        watch.say(f"waiting for `{holder.command}` (pid {holder.pid})")

    with lock.acquire(world.home.lock, f"launcher {turn.split(maxsplit=1)[0]}", waiting=wait, timeout=None):
        begun = time.monotonic()
        want, server = _meant(world, name, states)
        reason = _sleepless(world, server, int(turn.split()[1])) if turn.startswith("sleep") else ""
        turned = replace(want, turn=f"{'unload' if reason else turn} {uuid.uuid4()}")
        store.want(world.home, turned)
        watch.phase(turn.split(maxsplit=1)[0])
        done = _followed(world, turned)
        return SleepResult(done.name, done.state, done.slept, time.monotonic() - begun, reason)


def _meant(world: World, name: str | None, states: tuple[str, ...]) -> tuple[Wanted, Server]:
    """The model that is named, else the only one in such a state."""
    there = [(want, server) for want in store.wanted(world.home) if (server := _in(world, want, states))]
    named = [each for each in there if each[1].name == name] if name else [each for each in there if each[1].state in states]
    if not named:
        known = ", ".join(f"{server.name} ({server.state})" for _, server in there)
        hint = f"there are {known}" if known else "`launcher up` serves a model"
        raise LauncherError(f"{name} is not served" if name else f"no model is {' or '.join(states)}", hint=hint)
    if len(named) > 1:
        raise LauncherError(f"which one? {', '.join(server.name for _, server in named)} are {states[0]}", hint="name it")
    want, server = named[0]
    if server.state not in states:
        hint = f"`launcher up {server.name}` serves it" if server.state in {"idle", "failed", "stopped"} else "`launcher ps`"
        raise LauncherError(f"{server.name} is {server.state}", hint=hint)
    return want, server


def _in(world: World, want: Wanted, states: tuple[str, ...]) -> Server | None:
    """The server of a wish, of several replicas one in such a state if there is any."""
    there = store.every(world.home, want)
    return next((server for server in there if server.state in states), store.started(world.home, want))


def _sleepless(world: World, server: Server, level: int) -> str:
    """Why it cannot sleep, "" if it can; raises LauncherError for a level that its engine does not know."""
    if server.spec.cluster:
        return "what it holds of the cluster goes back to Ray"
    if not server.gpus:
        return "engines' builds for CPUs cannot sleep"
    if not server.spec.can_sleep:
        return f"it was not started to be able to sleep (`launcher up {server.name} --can-sleep`)"
    if level not in world.engines[server.engine].SLEEPS:
        levels = ", ".join(map(str, world.engines[server.engine].SLEEPS))
        raise LauncherError(f"{server.engine} does not sleep at level {level}", hint=f"it knows {levels}")
    return ""


def _latest(world: World, want: Wanted) -> Server | None:
    """Of several replicas the one that has not yet come to where this turn leads."""
    goals = ("ready",) if want.turn.startswith("wake") else ("asleep", "idle")
    there = store.every(world.home, want)
    return next((server for server in there if server.state not in goals), there[0] if there else None)


def _followed(world: World, want: Wanted) -> Server:
    """Show how it is done, until it is; raises LauncherError with the reason where it is not."""
    for _ in looks(world):
        server = _latest(world, want)
        if server and server.state == "idle" and want.turn.startswith("unload"):
            return server
        if server is None or server.state == "failed" or (server.state == "waiting" and server.detail):
            told = server.detail if server else ""
            raise LauncherError(told or f"{want.name} ended", hint=(server.hint if server else "") or "`launcher ps`")
        awake = want.turn.startswith("wake") and server.state == "ready"
        if awake or (server.turned == want.turn and server.state in {"ready", "asleep"}):
            if server.state == "ready" and want.turn.startswith("sleep"):
                raise LauncherError(server.detail or f"{want.name} does not sleep", hint=f"its log: {server.log}")
            return server
        if server.state == "asleep" and server.detail:
            raise LauncherError(server.detail, hint=server.hint)
        world.progress.update("its running requests finish" if server.state == "ending" else server.phase or "waits its turn")
    raise AssertionError  # looks have no end
