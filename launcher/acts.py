"""What is done to a server, one act at a time: it is started, proven, asked, put to sleep, woken, left and ended."""

import secrets
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from launcher import disk, lifecycle, local_model, measuring, ports, probe, processes, store, swap
from launcher.books import Books, Watched
from launcher.diagnosis import Circumstances
from launcher.engines.base import Call, Site
from launcher.errors import LauncherError
from launcher.launching import (
    GRACE,
    GRACE_OF_REMAINS,
    Launch,
    announced,
    begin,
    end,
    endpoint,
    members,
    proof,
    refuse_full_disk,
    why_it_died,
)
from launcher.lifecycle import Policy, Use
from launcher.plan import Plan
from launcher.progress import Silent
from launcher.runners import spares
from launcher.server import REPLICA, Server, Swapped, Wanted
from launcher.serving import plan_again, plan_beside, size
from launcher.swap import Seat
from launcher.watch import Watch
from launcher.world import World

_SOON = 0.1
# Of the processor, in so many seconds: an engine that computes is not frozen, however long its requests take.
_COMPUTES, _WATCHED_FOR = 0.1, 2.0
_SHORT_ANSWER = 1
# The levels at which the weights stay in the host's memory and do not, and what must be left of that beside them (bytes).
_LIGHT, _DEEP, SLEEPERS_RESERVE = 1, 2, 2 << 30
# Engines' own ports, of which only the gateway knows: below those that Linux gives to connections (32768), and by chance, since
# an engine binds its port some time after it was chosen, and other homes choose as well.
FIRST_OF_ENGINES, MANY = 12_000, 8_000


class Acts:
    """Each act runs in a thread of its own, for one server, and leaves a record from which the next look goes on."""

    def __init__(self, books: Books) -> None:
        self._books = books
        # The key of a server that is to make room -> the model that shall have its memory.
        self.room_for: dict[str, str] = {}

    @property
    def _world(self) -> World:
        return self._books.world

    @property
    def _policy(self) -> Policy:
        return self._books.policy

    def start(self, want: Wanted, before: Server | None, seat: Seat) -> None:
        """Plan it again and start its engine, wake the one that sleeps there, or have another one make room."""
        if before and seat.wakes:
            new = self._unstarted(want, seat)
            self._books.record(
                replace(before, spec=want.spec, ask=want.ask, proven=False, swapped=new.swapped, notes=(), since=time.time())
            )
            return
        again = before if before and before.ask == want.ask else self._unstarted(want, seat)
        # Asked before memory is looked at, which may come free in between.
        leaving = self._is_being_left(want)
        try:
            what = self._launch(want, again)
        except LauncherError as fault:
            if self._makes_room(want, again) or leaving:
                self._books.record(self._with_room(want, again))
                return
            if seat.once:
                self._books.fail(again, fault.message, fault.hint)
                return
            now = time.time()
            self._books.record(lifecycle.postponed(again, now=now, detail=fault.message, hint=fault.hint, policy=self._policy))
            return
        server, spare = announced(what)
        kept = replace(server, restarts=again.restarts, shrunk=again.shrunk, notes=again.notes)
        kept = replace(kept, tools=what.plan.engine in what.plan.profile.tool_parser)
        kept = replace(kept, proven=again.proven, swapped=again.swapped, rested=again.state in {"idle", "held"})
        self._books.record(kept)
        try:
            started = begin(what, kept, spare)
        except LauncherError as fault:
            self._books.fail(replace(kept, handle=None), fault.message, fault.hint)
            return
        watched = self._books.watch(started)
        ahead = spare is not None and started.handle is not None and started.handle.pid == spare.handle.pid
        watched.launch, watched.start = what, Watch.begun(time.monotonic(), ahead=ahead)
        watched.past = measuring.past(self._world, what)
        self._books.record(started)

    def _launch(self, want: Wanted, before: Server) -> Launch:
        spec = want.planned
        refuse_full_disk(self._world.home)
        plan = self._plan(want, before)
        # Files may have gone since: an engine must never start on a part.
        whole = want.prepared.whole and local_model.fault(want.prepared.weights) is None
        ready = want.prepared if whole else self._world.prepare(plan, Silent())
        placed = self._world.clusters.place(self._world.home, size(self._world, plan, spec)) if spec.cluster else None
        host, port = (placed.hosts[0], placed.ports[0]) if placed else (ports.LOOPBACK, 0)
        key, port = self._books.key(want.name), port or ports.free(FIRST_OF_ENGINES + secrets.randbelow(MANY))
        return Launch(
            want=want,
            plan=plan,
            site=Site(python=ready.python, weights=ready.weights, host=host, port=port, api_key=key),
            environment=ready.environment,
            caches=ready.caches,
            version=ready.version,
            engine=self._world.engines[plan.engine],
            home=self._world.home,
            runner=self._world.runner,
            clusters=self._world.clusters,
            placed=placed,
            seat=before.seat,
            image=ready.image,
            daemon=ready.daemon,
        )

    def _plan(self, want: Wanted, record: Server, without: Sequence[Server] = ()) -> Plan:
        """Its plan, now: what sleeps is where it was; of several replicas each goes where there is room."""
        spec = replace(want.planned, context=record.shrunk or want.planned.context)
        if record.handle and record.ask == want.ask:
            return plan_again(self._world, replace(spec, gpus=record.gpus), without)
        several = (spec.replicas or 1) > 1 or REPLICA in record.seat
        if several and not spec.cluster:
            return plan_beside(self._world, replace(spec, gpus=want.spec.gpus), without, gpus=bool(spec.gpus))
        return plan_again(self._world, spec, without)

    def _unstarted(self, want: Wanted, seat: Seat) -> Server:
        made = unstarted(want, seat, self._world.home.logs)
        if not seat.once:
            return made
        return replace(made, swapped=Swapped(failed=sum(use.failed for use in self._uses(made, want.back))))

    def _uses(self, server: Server, back: Wanted | None) -> list[Use]:
        """What is asked of a server, and of another model whose place it takes."""
        before = swap.of(back, self._books.everyone()) if back else None
        asked = [server, before] if before and before.name != server.name else [server]
        return [self._books.use(each) for each in asked]

    def _is_being_left(self, want: Wanted) -> bool:
        """Whether what it is to take the place of is still about to make room."""
        before = swap.of(want.back, self._books.everyone()) if want.back else None
        return before is not None and (before.state in {"starting", "ending"} or before.key in self.room_for)

    def _with_room(self, want: Wanted, again: Server) -> Server:
        """Its record while another server makes room for it."""
        if again.handle is None:
            again = replace(again, state="idle" if again.state == "idle" else "waiting")
        if want.back and again.swapped and not again.proven:
            again = replace(again, swapped=replace(again.swapped, beside=False))
        return replace(again, detail="", again=time.time())

    def _makes_room(self, want: Wanted, again: Server) -> bool:
        """Whether another server is about to make room: one that is not needed now, or, for a person's new wish, any."""
        before = swap.of(want.back, self._books.everyone()) if want.back and not again.proven else None
        if before and before.state == "ready" and self._fits(want, again, [before]):
            self.room_for[before.key] = want.name
            return True
        wishes = self._books.wishes
        others = [s for s in self._books.everyone() if s.state == "ready" and s.name != want.name and s.name in wishes]
        person = again.state not in {"idle", "asleep"}
        would_do = [server for server in others if self._fits(want, again, [server])]
        seen = [(server, wishes[server.name], self._books.use(server)) for server in would_do]
        chosen = lifecycle.victim([(s, w, replace(use, busy=use.busy and not person)) for s, w, use in seen])
        leaving = [chosen] if chosen else others if person and others and self._fits(want, again, others) else []
        for server in leaving:
            self.room_for[server.key] = want.name
        return bool(leaving)

    def _fits(self, want: Wanted, again: Server, without: list[Server]) -> bool:
        try:
            self._plan(want, again, without)
        except LauncherError:
            return False
        return True

    def prove(self, server: Server, want: Wanted) -> None:
        """Ask a new server the question that proves it; in a swap, requests are its own from then on."""
        watched = self._books.watch(server)
        watched.start = watched.start.ended(time.monotonic())
        self._books.record(replace(server, phase="proof", share=None, left=None))
        try:
            answer = proof(server, self._books.key(server.name), timeout=self._policy.proof)
        except LauncherError as fault:
            self._doubt(server, watched, fault)
            return
        ready = self._with_members(lifecycle.proven(server, now=time.time(), answer=answer.text, seconds=answer.seconds))
        if watched.launch:
            ready = replace(ready, notes=(*ready.notes, *measuring.note(self._world, watched.launch, ready, watched.start)))
        if want.back and ready.swapped and not server.proven:
            self._switch(ready, ready.swapped, want.back)
        else:
            self._books.record(ready)
        if watched.launch and want.spare and server.handle and not (watched.launch.placed or watched.launch.image):
            what, room = watched.launch, self._world.inventory().ram.available
            spares.learn(self._world.home, what.command, server.handle, inherited=want.env)
            spares.make(self._world.home, what.command, environment=what.environment, room=room, inherited=want.env)

    def _switch(self, ready: Server, swapped: Swapped, back: Wanted) -> None:
        """From now on requests are its own; and how long they waited for it."""
        uses, before = self._uses(ready, back), swap.of(back, self._books.everyone())
        begun = before.since if before and before.state == "held" else time.time()
        self._books.record(ready)
        held, failed = sum(use.waiting for use in uses), sum(use.failed for use in uses)
        told = Swapped(swapped.beside, time.time() - begun, held, max(0, failed - swapped.failed))
        self._books.record(replace(ready, swapped=told))

    def probe(self, server: Server) -> None:
        """Ask it for one token."""
        watched = self._books.watch(server)
        try:
            probe.prove(endpoint(server, self._books.key(server.name)), timeout=self._policy.patience, tokens=_SHORT_ANSWER)
        except LauncherError as fault:
            if self._books.use(server).busy and self._computes(server):
                watched.worked = time.time()
            else:
                self._doubt(server, watched, fault)
            return
        watched.worked = time.time()
        now = self._with_members(server)
        if now != server:
            self._books.record(now)

    def _computes(self, server: Server) -> bool:
        """Whether its processes use the processor: one that has all its places taken answers late, and is not frozen."""
        pids = self._world.runner.processes(server.handle) if server.handle else ()
        before = processes.processor_seconds(pids)
        time.sleep(_WATCHED_FOR)
        return processes.processor_seconds(pids) - before > _COMPUTES

    def _with_members(self, server: Server) -> Server:
        """Its record with the processes that it has now, and the shared memory that would stay if all of them were killed."""
        found = members(self._world.runner, server.handle) if server.handle else ()
        # A container's is its own, and goes with it: its inodes say nothing of ours.
        shares = () if server.handle and server.handle.container else tuple(pid for pid, _ in found)
        return replace(server, members=found, shared=tuple(sorted(processes.shared_memory(shares))))

    def _doubt(self, server: Server, watched: Watched, fault: LauncherError) -> None:
        """A server that does not answer: if it just died, its log tells more."""
        time.sleep(_SOON)
        if server.handle and self._world.runner.alive(server.handle):
            watched.fault = f"the engine runs but does not work: {fault.message}"

    def recover(self, server: Server, why: str) -> None:
        """End what is left of it, and have it started again or given up, with the cause."""
        watched = self._books.watch(server)
        detail, hint, retry = why, f"its log: {server.log}", None
        alive = server.handle is not None and self._world.runner.alive(server.handle)
        if server.state in {"starting", "ready"} and not (alive and watched.fault):
            detail, hint, found = why_it_died(server, self._world.engines[server.engine], self._circumstances(server, watched))
            retry = found.retry
        if not self._ended(server, grace=GRACE_OF_REMAINS, why=detail):
            return
        if watched.robbed and server.restarts < self._policy.attempts:
            self._books.say(f"{server.key}: {watched.robbed}; it is started on another one")
            self._books.record(lifecycle.robbed(server, now=time.time(), policy=self._policy))
            return
        if server.state == "starting" and watched.launch:
            told = measuring.unlearn(self._world, watched.launch)
            server = replace(server, notes=(*server.notes, *told))
        smaller = retry and retry.context and retry.context < server.context and server.state == "starting"
        if retry and retry.context and smaller and not server.shrunk and not self._books.is_tried(server):
            self._books.say(f"{server.name}: {detail}; it is started with {retry.context:,} tokens of context")
            self._books.record(lifecycle.shrunk(server, now=time.time(), context=retry.context, why=found.cause))
        else:
            self._books.fail(server, detail, hint)

    def _circumstances(self, server: Server, watched: Watched) -> Circumstances:
        """What was seen of its end beside its log."""
        code = self._world.runner.exit_code(server.handle) if server.handle else None
        alive = server.handle is not None and self._world.runner.alive(server.handle)
        pids = set(self._world.runner.processes(server.handle)) if server.handle else set()
        others = (each for gpu in self._world.inventory().gpus if gpu.index in server.gpus for each in gpu.processes)
        return Circumstances(
            exit_code=code,
            oom_kills=processes.oom_kills() - watched.oom_kills if code == -signal.SIGKILL else 0,
            silence=time.monotonic() - watched.last_word if alive else None,
            phase=server.phase,
            holders=tuple(each for each in others if each.pid not in pids),
        )

    def unload(self, server: Server, *, held: bool) -> None:
        """Let it finish its requests and end it, or have it sleep; `held` where another one comes in its place."""
        leaving = replace(server, since=time.time())
        self._drain(leaving, self._policy.drain)
        self.room_for.pop(server.key, None)
        want = self._books.wishes.get(server.name)
        leaving = replace(leaving, turned=want.turn if want and want.ask == server.ask else leaving.turned)
        if held and self._rests_asleep(leaving):
            return
        if self._ended(leaving):
            self._books.record(lifecycle.held(leaving) if held else lifecycle.unloaded(leaving, now=time.time()))

    def _rests_asleep(self, server: Server) -> bool:
        """Whether it sleeps instead of ending, so that it is back in seconds: it can, and the host has room for its weights."""
        engine = self._world.engines[server.engine]
        if not server.spec.can_sleep or not server.handle or not self._world.runner.alive(server.handle):
            return False
        room = self._world.inventory().ram.available >= disk.usage(self._weights(server)).size + SLEEPERS_RESERVE
        level = _LIGHT if room else _DEEP
        if level not in engine.SLEEPS:
            self._books.say(f"{server.key}: the host's memory has no room for its weights, so it is ended and does not sleep")
            return False
        try:
            self._call(server, engine.SLEEPS[level].down)
        except LauncherError as fault:
            self._books.say(f"{server.key}: it does not sleep, and is ended: {fault.message}")
            return False
        self._books.record(lifecycle.asleep(server, now=server.since, level=level, state="held"))
        return True

    def _weights(self, server: Server) -> Path:
        wishes = [each for want in self._books.wishes.values() for each in (want, want.back) if each]
        return next(each.prepared.weights for each in wishes if (each.name, each.ask) == (server.name, server.ask))

    def _call(self, server: Server, calls: tuple[Call, ...]) -> None:
        for call in calls:
            probe.tell(server.base_url, self._books.key(server.name), call)

    def sleep(self, server: Server, want: Wanted) -> None:
        """As a person told it; whether it can was asked before, and what it says is told."""
        self._drain(replace(server, since=time.time()), self._policy.drain)
        level = int(want.turn.split()[1])
        try:
            self._call(server, self._world.engines[server.engine].SLEEPS[level].down)
        except (LauncherError, KeyError) as fault:
            told = fault.message if isinstance(fault, LauncherError) else f"{server.engine} knows no level {level}"
            self._books.record(replace(server, turned=want.turn, detail=f"it does not sleep: {told}"))
            return
        self._books.record(replace(lifecycle.asleep(server, now=time.time(), level=level, state="asleep"), turned=want.turn))

    def wake(self, server: Server, want: Wanted) -> None:
        """Its memory first, if others have it; then it has to prove itself as one that was started."""
        leaving = self._is_being_left(want)
        try:
            self._plan(want, server)
        except LauncherError as fault:
            if self._makes_room(want, server) or leaving:
                self._books.record(self._with_room(want, server))
            elif want.back and not server.proven:
                self._ended(server)
                self._books.fail(replace(server, handle=None), fault.message, fault.hint)
            else:
                again = time.time() + self._policy.patience
                self._books.record(replace(server, again=again, detail=fault.message, hint=fault.hint))
            return
        turned = want.turn if want.turn.startswith("wake") else server.turned
        woken = replace(server, state="starting", phase="waking", detail="", hint="", turned=turned, rested=True)
        self._books.record(woken)
        watched = self._books.watch(woken)
        try:
            self._call(woken, self._world.engines[server.engine].SLEEPS[server.slept].up)
        except LauncherError as fault:
            watched.fault = f"it does not wake: {fault.message}"
            return
        self._books.record(replace(woken, slept=0))

    def leave(self, server: Server, drained: Callable[[], None]) -> None:
        """Let it finish its requests, call `drained`, and end it."""
        self._drain(server, self._policy.leave)
        drained()
        self.end(server)

    def _drain(self, server: Server, seconds: float) -> None:
        """No new requests for it, and the running ones to their end, but no longer than this."""
        self._books.record(replace(server, state="ending", detail="", hint=""))
        deadline = time.monotonic() + seconds
        while self._books.use(server).busy and time.monotonic() < deadline:
            time.sleep(_SOON)

    def end(self, server: Server) -> None:
        """End it; what was told of its failure is kept."""
        if self._ended(server):
            self._books.record(lifecycle.ended(server, now=time.time()))
        if not any(each.handle for each in self._books.servers.values()) and not store.wishes(self._world.home)[0]:
            # It waits for the next of several servers, not for another day.
            spares.end(self._world.home)

    def _ended(self, server: Server, *, grace: float = GRACE, why: str = "") -> bool:
        """Whether nothing of it runs any more; what survives is on record, and is tried again later. `why` it has failed."""
        if server.handle:
            self._books.record(replace(server, state="ending", detail=why, hint="", again=0.0))
        try:
            taken = end(self._world, server, grace=grace)
        except LauncherError as fault:
            again = time.time() + self._policy.patience
            self._books.record(replace(server, state="ending", detail=fault.message, hint=fault.hint, again=again))
            return False
        if taken:
            self._books.say(f"{server.name}: {taken}")
        self._books.watched.pop(server.key, None)
        return True


def unstarted(want: Wanted, seat: Seat, logs: Path) -> Server:
    """The record of what was never started for this wish."""
    planned = want.planned
    return Server(
        spec=want.spec,
        engine=planned.engine or "",
        variant=planned.variant or "",
        state="waiting",
        context=planned.context or 0,
        base_url="",
        log=logs / f"{seat.key}.log",
        since=time.time(),
        ask=want.ask,
        seat=seat.key.removeprefix(want.name),
    )
