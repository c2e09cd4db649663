"""What to do with a server next, from its record, from what is wanted and from what a look at it found. Decisions only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from launcher.server import Server, State, Wanted

# `start` it, `prove` it for the first time, `probe` it again, `recover` from its failure, `end` what is not wanted.
# `unload` what is wanted only when somebody asks for it; one that has been replaced may `leave` once its requests are done.
# What is put to `sleep` gives its GPUs' memory back, until it is told to `wake`.
Action = Literal["start", "prove", "probe", "recover", "unload", "leave", "sleep", "wake", "end", "nothing"]

# The everyday reason for a probe, which nobody has to read of.
IDLE = "it finished nothing for a while"


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient a supervisor is; all in seconds but `attempts`.

    A frozen engine is found within `idle` + `patience`, which is to stay under a minute.
    """

    first_delay: float = 2.0
    longest_delay: float = 300.0
    # A server that worked for so long begins its failures anew.
    stable: float = 600.0
    attempts: int = 5
    # Large models are read from disk for many minutes; an engine that says nothing at all for so long is stuck.
    silence: float = 900.0
    idle: float = 20.0
    # How often the host's memory and disk are looked at.
    host: float = 30.0
    patience: float = 30.0
    # How long a new server may take for the answer that proves it.
    proof: float = 120.0
    # How long running requests are waited for when a server makes room, and when it leaves while another one serves already.
    drain: float = 60.0
    leave: float = 900.0

    def delay(self, restarts: int) -> float:
        """How long to wait after so many failures in a row."""
        return float(min(self.longest_delay, self.first_delay * 2 ** (restarts - 1)))


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look at a server found; times in seconds since the epoch, `quiet` in seconds since its log's last line.

    `alive`: its first process runs. `missing`: another process that was there when it was proven is gone. `healthy`: it says so
    itself. `fault` is what its last probe found wrong. `worked` is when it last generated something; `busy`: it has requests to
    answer now. `clear`: nothing else is being started or ended on this machine. `asked`: a request waits for it; `used` is
    when one last came; `room_for` is who shall have its memory. `rests`, `leaves` and `wakes` as in swap.Seat.
    """

    now: float
    alive: bool = False
    missing: bool = False
    healthy: bool = False
    fault: str = ""
    quiet: float = 0.0
    worked: float = 0.0
    busy: bool = False
    clear: bool = True
    asked: bool = False
    used: float = 0.0
    room_for: str = ""
    rests: bool = False
    leaves: bool = False
    wakes: bool = False


@dataclass(frozen=True, slots=True)
class Use:
    """What was asked of a server through the gateway; times in seconds since the epoch, 0.0 for never.

    `failed` requests for its model ended with a server's error, ever.
    """

    busy: bool = False
    waiting: int = 0
    asked: float = 0.0
    worked: float = 0.0
    failed: int = 0


def step(server: Server | None, want: Wanted | None, sight: Sight, policy: Policy) -> tuple[Action, str]:
    """The one thing to do now, and why."""
    if want is None:
        return _unwanted(server, sight) if server else ("nothing", "")
    if server is None or server.handle is None:
        return _started(sight) if _is_due(server, want, sight) else ("nothing", "")
    if server.ask != want.ask and sight.wakes and sight.alive:
        return _started(sight)
    if server.ask != want.ask:
        return _begun_anew(server, sight)
    if server.handle.pid == 0:
        # Whoever announced it was killed before it could say what it started.
        return "end", "its start was cut off"
    return _running(server, want, sight, policy)


def _begun_anew(server: Server, sight: Sight) -> tuple[Action, str]:
    """One of several finishes its requests first: the others take the new ones."""
    if sight.leaves and server.state == "ready" and sight.alive:
        return "leave", "it is replaced"
    return "end", "it is started anew"


def _unwanted(server: Server, sight: Sight) -> tuple[Action, str]:
    if sight.leaves and server.handle and server.state in {"ready", "ending"} and not server.detail:
        return "leave", "another one serves in its place"
    if sight.leaves and server.handle and server.state == "held" and sight.alive:
        # Asleep: back in seconds, should it be asked to take its place again.
        return "nothing", ""
    return ("end", "nobody wants it") if _is_anything(server) else ("nothing", "")


def _is_anything(server: Server) -> bool:
    return server.handle is not None or server.state not in {"stopped", "failed"}


def _is_due(server: Server | None, want: Wanted, sight: Sight) -> bool:
    """Whether what does not run is to run now."""
    if server is None or server.ask != want.ask:
        return True
    if server.state == "idle":
        return (sight.asked or _is_told(server, want, "wake")) and not sight.rests
    if server.state == "held":
        return not sight.rests
    return server.state != "failed" and sight.now >= server.again


def _started(sight: Sight) -> tuple[Action, str]:
    return ("start", "it is wanted") if sight.clear else ("nothing", "")


def _running(server: Server, want: Wanted, sight: Sight, policy: Policy) -> tuple[Action, str]:
    if server.state in {"asleep", "held"}:
        return _sleeping(server, want, sight)
    if server.state not in {"starting", "ready"}:
        return ("recover", server.detail) if sight.now >= server.again else ("nothing", "")
    if not sight.alive:
        return "recover", "it ended by itself"
    if sight.fault:
        return "recover", sight.fault
    return _coming(sight, policy) if server.state == "starting" else _working(server, want, sight, policy)


def _sleeping(server: Server, want: Wanted, sight: Sight) -> tuple[Action, str]:
    if not sight.alive:
        return "unload", "it ended in its sleep"
    called = not sight.rests if server.state == "held" else sight.asked or _is_told(server, want, "wake")
    return ("wake", "it is wanted") if called and sight.clear and sight.now >= server.again else ("nothing", "")


_RESTS: Mapping[str, Action] = {"sleep": "sleep", "unload": "unload"}


def _is_told(server: Server, want: Wanted, what: str) -> bool:
    """Whether a person told it so since it last did what it was told."""
    return want.turn.startswith(what) and want.turn != server.turned


def _coming(sight: Sight, policy: Policy) -> tuple[Action, str]:
    if sight.healthy:
        return "prove", "it accepts requests"
    if sight.quiet > policy.silence:
        return "recover", f"it said nothing for {policy.silence / 60:.0f} minutes"
    return "nothing", ""


def _working(server: Server, want: Wanted, sight: Sight, policy: Policy) -> tuple[Action, str]:
    if sight.room_for and (sight.rests or not want.keep):
        return "unload", f"{sight.room_for} takes its place"
    if want.idle_stop is not None and not sight.busy and sight.now - max(server.since, sight.used) > want.idle_stop:
        return "unload", f"nobody asked for {want.idle_stop / 60:g} minutes"
    if told := next((what for what in ("sleep", "unload") if _is_told(server, want, what)), None):
        return _RESTS[told], "it was told to"
    if sight.missing:
        return "probe", "one of its processes is gone"
    if not sight.healthy:
        return "probe", "it does not say that it is well"
    return ("probe", IDLE) if sight.now - sight.worked > policy.idle else ("nothing", "")


def failed(server: Server, *, now: float, detail: str, hint: str, policy: Policy, once: bool = False) -> Server:
    """Its record after a failure, when nothing of it runs any more: it waits for its next start, or is given up.

    `once`: at its first failure, since another server can serve in its place.
    """
    worked = server.state == "ready" and now - server.since >= policy.stable
    restarts = 1 if worked else server.restarts + 1
    gone = replace(
        server, handle=None, members=(), phase="", share=None, left=None, detail=detail, hint=hint, restarts=restarts, since=now
    )
    if once or restarts >= policy.attempts:
        return replace(gone, state="failed", again=0.0)
    return replace(gone, state="waiting", again=now + policy.delay(restarts))


def postponed(server: Server, *, now: float, detail: str, hint: str, policy: Policy) -> Server:
    """Its record when there was no room to start it: that is no failure of its own, and it never gives up for that."""
    return replace(server, state="waiting", detail=detail, hint=hint, again=now + policy.delay(policy.attempts), since=now)


def ended(server: Server, *, now: float) -> Server:
    """Its record when nobody wants it any more and nothing of it runs; what was told of its failure is kept."""
    gone = replace(server, handle=None, members=(), phase="", share=None, left=None, again=0.0, restarts=0)
    if server.detail and server.handle is None:
        return replace(gone, state="failed")
    return replace(gone, state="stopped", detail="", hint="", notes=(), since=now)


def robbed(server: Server, *, now: float, policy: Policy) -> Server:
    """Its record when somebody else had taken its port: no fault of its own, so that it decides no swap either."""
    gone = replace(server, handle=None, members=(), phase="", share=None, left=None, detail="", hint="", since=now)
    restarts = server.restarts + 1
    return replace(gone, state="waiting", restarts=restarts, again=now + policy.delay(restarts))


def shrunk(server: Server, *, now: float, context: int, why: str) -> Server:
    """Its record when it is to be started at once with less context, which the engine itself said would fit."""
    told = f"{context:,} tokens of context instead of {server.context:,}: {why}"
    gone = replace(server, handle=None, members=(), phase="", share=None, left=None, detail="", hint="", since=now)
    return replace(gone, state="waiting", again=now, shrunk=context, notes=(*server.notes, told))


def held(server: Server) -> Server:
    """Its record when nothing of it runs, so that another one may take its place."""
    return replace(
        server, state="held", handle=None, members=(), phase="", share=None, left=None, detail="", hint="", again=0.0
    )


def asleep(server: Server, *, now: float, level: int, state: State) -> Server:
    """Its record when it has given its GPUs' memory back."""
    return replace(server, state=state, slept=level, phase="", share=None, left=None, detail="", hint="", again=0.0, since=now)


def unloaded(server: Server, *, now: float) -> Server:
    """Its record when nothing of it runs until somebody asks for it."""
    gone = replace(server, handle=None, members=(), phase="", share=None, left=None, detail="", hint="")
    return replace(gone, state="idle", since=now, again=0.0, restarts=0)


def victim(idle: Sequence[tuple[Server, Wanted, Use]]) -> Server | None:
    """Of servers whose memory would do, the one that is needed least: not busy, not kept, longest unused; None if none is."""
    free = [(max(server.since, use.asked), server) for server, want, use in idle if not use.busy and not want.keep]
    return min(free, key=lambda each: each[0])[1] if free else None


def proven(server: Server, *, now: float, answer: str, seconds: float) -> Server:
    """Its record once it has answered."""
    told = replace(server, state="ready", since=now, phase="", share=None, left=None, answer=answer, seconds=seconds)
    return replace(told, detail="", hint="", proven=True)
