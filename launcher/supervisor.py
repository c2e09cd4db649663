"""Makes what is wanted so: looks at everything, decides one thing for each server, and does it. The one owner of servers.

Level-triggered: all that it knows is on the disk or can be seen, so that one that is killed and started again goes on.
"""

import queue
import secrets
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from launcher import disk, keys, lifecycle, local_model, lock, measuring, ports, probe, processes, store, swap
from launcher.diagnosis import Circumstances
from launcher.endpoint import place_of
from launcher.engines.base import Call, Site
from launcher.errors import LauncherError
from launcher.estimate import Past, estimate
from launcher.launching import (
    GRACE,
    GRACE_OF_REMAINS,
    Launch,
    announced,
    begin,
    end,
    endpoint,
    host_warning,
    members,
    proof,
    refuse_full_disk,
    why_it_died,
)
from launcher.lifecycle import IDLE, Action, Policy, Sight, Use
from launcher.progress import Silent
from launcher.runners import spares
from launcher.runners.base import Handle
from launcher.server import Server, Swapped, Wanted
from launcher.serving import plan_again
from launcher.swap import Seat
from launcher.tail import Tail
from launcher.watch import Watch
from launcher.world import World

# Seconds between two looks at what is being started or ended, at what works, and at the list of wishes.
_SOON, _A_WHILE, _NOW_AND_THEN = 0.1, 1.0, 2.0
# Between two questions whether it is well, of a server that works.
_RARELY = 10.0
# Of the processor, in so many seconds: an engine that computes is not frozen, however long its requests take.
_COMPUTES, _WATCHED_FOR = 0.1, 2.0
_SHORT_ANSWER = 1
# The levels at which the weights stay in the host's memory and do not, and what must be left of that beside them (bytes).
_LIGHT, _DEEP, SLEEPERS_RESERVE = 1, 2, 2 << 30
# Of a phase, that is worth a line.
_STEP = 0.1
# Engines' own ports, of which only the gateway knows: below those that Linux gives to connections (32768), and by chance, since
# an engine binds its port some time after it was chosen, and other homes choose as well.
FIRST_OF_ENGINES, MANY = 12_000, 8_000


class Supervisor:
    """One for each home, which the caller sees to by a lock. `tick` and `run` are for one thread; acts have theirs."""

    def __init__(
        self,
        world: World,
        *,
        policy: Policy | None = None,
        say: Callable[[str], None] = lambda _: None,
        gate: "Gate | None" = None,
    ) -> None:
        self.world = world
        self._say = say
        self._gate = gate or NoGate()
        self._wishes: dict[str, Wanted] = {}
        self._asked: set[str] = set()
        self._waking: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._room_for: dict[str, str] = {}
        self._awake = threading.Event()
        self._policy = policy or Policy()
        self._servers = {server.key: server for server in store.look(world.home)[0]}
        self._acts: dict[str, _Act] = {}
        self._watched: dict[str, _Watched] = {}
        self._lock = threading.Lock()
        self._host_seen = 0.0

    def run(self, ended: Callable[[], bool], *, stay: bool = False) -> None:
        """Go on until `ended` says so, or, unless it is to `stay`, until nothing is wanted and nothing runs."""
        looked, wishes = 0.0, -1
        while not ended():
            now = store.wishes_changed(self.world.home)
            if (
                self._acts
                or self._asked
                or not self._waking.empty()
                or self._is_starting()
                or now != wishes
                or time.monotonic() - looked > _NOW_AND_THEN
            ):
                looked, wishes = time.monotonic(), now
                self.tick()
                if not stay and self._at_rest() and not store.wishes(self.world.home)[0] and not self._is_about_to_wish():
                    spares.end(self.world.home)
                    return
            self._awake.wait(_SOON)
            self._awake.clear()

    def wake(self, name: str) -> None:
        """Somebody asks for a model that does not run; may be called from any thread, and does nothing but note it."""
        self._waking.put(name)
        self._awake.set()

    def settle(self) -> None:
        """Go on until everything is as it is wanted, or waits."""
        self.run(lambda: False)

    def close(self) -> None:
        """End every server, though it is still wanted: the next supervisor starts it again."""
        for act in list(self._acts.values()):
            act.unwanted = True
        handles = [server.handle for server in self._servers.values() if server.handle]
        stopping = [threading.Thread(target=self.world.runner.stop, args=(each,), kwargs={"grace": GRACE}) for each in handles]
        for thread in stopping:
            thread.start()
        for thread in (*stopping, *(act.thread for act in list(self._acts.values()))):
            thread.join()
        for server in list(self._servers.values()):
            if server.handle:
                self._end(server)
        spares.end(self.world.home)

    def tick(self) -> None:
        """Look at everything once, and begin what is to be done."""
        while not self._waking.empty():
            self._asked.add(self._waking.get())
        wanted, unreadable = store.wishes(self.world.home)
        wishes = {want.name: want for want in wanted}
        with self._lock:
            self._acts = {name: act for name, act in self._acts.items() if act.thread.is_alive()}
        if wishes != self._wishes:
            self._wishes = wishes
            self.publish()
        self._look_at_the_host()
        readable = {key: server for key, server in list(self._servers.items()) if server.name not in unreadable}
        seats = swap.seats(wishes, readable)
        # What runs first: a start must see what others are about to end.
        for seat in sorted(seats, key=lambda seat: (not self._runs(seat.key), seat.key)):
            self._step(seat)
        # Told once for each need: kept until it is on its way.
        self._asked = {name for name in self._asked if name in wishes and not self._is_coming(name)}
        for key in swap.forgotten(seats, readable, wishes):
            if key not in self._acts:
                self._forget(key)

    def _look_at_the_host(self) -> None:
        """What works is told of a host that runs out of memory or disk: before the kernel or a write ends it."""
        if time.monotonic() - self._host_seen < self._policy.host or self._at_rest():
            return
        self._host_seen = time.monotonic()
        told = host_warning(self.world)
        for server in list(self._servers.values()):
            if server.state == "ready" and server.detail != told and server.key not in self._acts:
                self._record(replace(server, detail=told))

    # -- one server --

    def _step(self, seat: Seat) -> None:
        server, want = self._servers.get(seat.key), seat.want
        act = self._acts.get(seat.key)
        if act:
            act.unwanted = want is None or act.ask != want.ask
            if act.unwanted and act.kind in {"prove", "probe"} and server and server.handle and not act.hurried:
                # It may wait for an answer for minutes; without its engine it does not.
                act.hurried = True
                self.world.runner.stop(server.handle, grace=GRACE)
            return
        sight = replace(self._look(server), rests=seat.rests, leaves=seat.leaves, wakes=seat.wakes)
        action, why = lifecycle.step(server, want, sight, self._policy)
        if action != "nothing":
            self._begin(seat, action, why, server)

    def _is_coming(self, name: str) -> bool:
        return any(server.name == name and server.state in {"starting", "ready", "failed"} for server in self._everyone())

    def _runs(self, key: str) -> bool:
        return key in self._servers and self._servers[key].handle is not None

    def _everyone(self) -> tuple[Server, ...]:
        with self._lock:
            return tuple(self._servers.values())

    def _look(self, server: Server | None) -> Sight:
        now = time.time()
        clear = not self._is_starting() and not any(act.kind not in {"prove", "probe", "leave"} for act in self._acts.values())
        if server is None or server.handle is None:
            return Sight(now=now, clear=clear, asked=server is not None and server.name in self._asked)
        watched = self._watch(server)
        alive = self.world.runner.alive(server.handle)
        use = self._gate.use(server, self._key(server.name))
        if server.state == "starting":
            self._read_log(server, watched)
        return Sight(
            now=now,
            alive=alive,
            missing=not all(processes.lives(pid, started) for pid, started in server.members),
            healthy=alive and server.state not in {"asleep", "held"} and self._is_healthy(server, watched, busy=use.busy),
            quiet=time.monotonic() - watched.last_word,
            worked=max(server.since, watched.worked, use.worked),
            busy=use.busy,
            used=use.asked,
            asked=server.name in self._asked,
            room_for=self._room_for.get(server.key, ""),
            fault=watched.fault,
            clear=clear,
        )

    def _is_healthy(self, server: Server, watched: "_Watched", *, busy: bool) -> bool:
        """Asked at each look while it starts, now and then when it works.

        Not while it is busy: SGLang generates a token for that, and on a CPU is late with it.
        """
        if busy and server.state == "ready":
            return True
        if server.state != "ready" or time.monotonic() - watched.asked >= _RARELY:
            watched.asked = time.monotonic()
            watched.healthy = probe.healthy(server.base_url, self.world.engines[server.engine].READY_PATH)
            if watched.healthy and server.state == "starting" and server.handle:
                watched.robbed = self._robber(server, server.handle)
                watched.fault = watched.robbed or watched.fault
        return watched.healthy

    def _robber(self, server: Server, handle: Handle) -> str:
        """What is to be told if somebody else answers there: an engine listens long after its port was chosen."""
        _, port = place_of(server.base_url)
        if ports.is_held_by(port, self.world.runner.processes(handle)):
            return ""
        return f"port {port} was taken meanwhile by {ports.holder(port) or 'a program that is gone again'}"

    def _watch(self, server: Server) -> "_Watched":
        """What this process knows of a server that runs; begun anew for one that an earlier supervisor started."""
        server_id = server.handle.server_id if server.handle else ""
        known = self._watched.get(server.key)
        if known is None or known.server_id != server_id:
            known = self._watched[server.key] = _Watched(server_id, Tail(server.log))
        return known

    def _read_log(self, server: Server, watched: "_Watched") -> None:
        engine, now = self.world.engines[server.engine], time.monotonic()
        for line in watched.log.new():
            watched.last_word = now
            watched.start = watched.start.fed(engine.phase(line), now)
        phase = watched.start.now
        # Written now and then: each time is a wait for the disk.
        moved = abs((phase.share or 0.0) - (server.share or 0.0)) >= _STEP
        if phase.words != server.phase or moved or now - watched.written >= _A_WHILE:
            watched.written = now
            left = estimate(watched.past, watched.start, now)
            self._record(replace(server, phase=phase.words, share=phase.share, left=left))

    def _begin(self, seat: Seat, action: Action, why: str, server: Server | None) -> None:
        want = seat.want

        def act() -> None:
            try:
                self._do(action, why, server, seat)
            except Exception as fault:  # noqa: BLE001 - a fault of ours in one server's act must not leave all others alone
                self._say("".join(traceback.format_exception(fault)))
                kept = self._servers.get(seat.key)
                if want and (kept is None or kept.ask != want.ask):
                    kept = _unstarted(want, seat, self.world.home.logs)
                if kept:
                    self._fail(kept, f"a fault of the launcher: {fault!r}", f"its log: {self.world.home.serve_log}")

        if why != IDLE:
            self._say(f"{seat.key}: {action} ({why})")
        thread = threading.Thread(target=act, name=f"{action} {seat.key}", daemon=True)
        self._acts[seat.key] = _Act(action, want.ask if want else "", thread)
        thread.start()

    def _do(self, action: Action, why: str, server: Server | None, seat: Seat) -> None:
        want = seat.want
        if action == "start" and want:
            self._start(want, server, seat)
        elif server and want and action in {"prove", "sleep", "wake"}:
            {"prove": self._prove, "sleep": self._sleep, "wake": self._wake}[action](server, want)
        elif server and action == "recover":
            self._recover(server, why)
        elif server and action == "unload":
            self._unload(server, held=seat.rests)
        elif server and action in {"probe", "leave", "end"}:
            {"probe": self._probe, "leave": self._leave, "end": self._end}[action](server)

    # -- acts, each in a thread of its own --

    def _start(self, want: Wanted, before: Server | None, seat: Seat) -> None:
        if before and seat.wakes:
            new = self._unstarted(want, seat)
            self._record(
                replace(before, spec=want.spec, ask=want.ask, proven=False, swapped=new.swapped, notes=(), since=time.time())
            )
            return
        again = before if before and before.ask == want.ask else self._unstarted(want, seat)
        try:
            what = self._launch(want, again)
        except LauncherError as fault:
            if self._makes_room(want, again):
                self._record(self._with_room(want, again))
                return
            if seat.once and not self._is_being_left(want):
                self._fail(again, fault.message, fault.hint)
                return
            now = time.time()
            self._record(lifecycle.postponed(again, now=now, detail=fault.message, hint=fault.hint, policy=self._policy))
            return
        server, spare = announced(what)
        kept = replace(server, restarts=again.restarts, shrunk=again.shrunk, notes=again.notes)
        kept = replace(kept, tools=what.plan.engine in what.plan.profile.tool_parser)
        kept = replace(kept, proven=again.proven, swapped=again.swapped)
        self._record(kept)
        try:
            started = begin(what, kept, spare)
        except LauncherError as fault:
            self._fail(replace(kept, handle=None), fault.message, fault.hint)
            return
        watched = self._watch(started)
        ahead = spare is not None and started.handle is not None and started.handle.pid == spare.handle.pid
        watched.launch, watched.start = what, Watch.begun(time.monotonic(), ahead=ahead)
        watched.past = measuring.past(self.world, what)
        self._record(started)

    def _launch(self, want: Wanted, before: Server) -> Launch:
        spec = replace(want.planned, context=before.shrunk or want.planned.context)
        refuse_full_disk(self.world.home)
        plan = plan_again(self.world, spec)
        # Files may have gone since: an engine must never start on a part.
        whole = want.prepared.whole and local_model.fault(want.prepared.weights) is None
        ready = want.prepared if whole else self.world.prepare(plan, Silent())
        key, port = self._key(want.name), ports.free(FIRST_OF_ENGINES + secrets.randbelow(MANY))
        return Launch(
            want=want,
            plan=plan,
            site=Site(python=ready.python, weights=ready.weights, host=ports.LOOPBACK, port=port, api_key=key),
            environment=ready.environment,
            caches=ready.caches,
            version=ready.version,
            engine=self.world.engines[plan.engine],
            home=self.world.home,
            runner=self.world.runner,
            seat=before.seat,
        )

    def _unstarted(self, want: Wanted, seat: Seat) -> Server:
        made = _unstarted(want, seat, self.world.home.logs)
        if not seat.once:
            return made
        return replace(made, swapped=Swapped(failed=self._gate.use(made, self._key(made.name)).failed))

    def _is_being_left(self, want: Wanted) -> bool:
        """Whether what it is to take the place of is still about to make room."""
        before = swap.of(want.back, self._everyone()) if want.back else None
        return before is not None and before.state != "held"

    def _with_room(self, want: Wanted, again: Server) -> Server:
        """Its record while another server makes room for it."""
        if again.handle is None:
            again = replace(again, state="idle" if again.state == "idle" else "waiting")
        if want.back and again.swapped and not again.proven:
            again = replace(again, swapped=replace(again.swapped, beside=False))
        return replace(again, detail="", again=time.time())

    def _makes_room(self, want: Wanted, again: Server) -> bool:
        """Whether another server is about to make room: one that is not needed now, or, for a person's new wish, any."""
        before = swap.of(want.back, self._everyone()) if want.back and not again.proven else None
        if before and before.state == "ready" and self._fits(want, again, [before]):
            self._room_for[before.key] = want.name
            return True
        others = [s for s in self._everyone() if s.state == "ready" and s.name != want.name and s.name in self._wishes]
        person = again.state not in {"idle", "asleep"}
        would_do = [server for server in others if self._fits(want, again, [server])]
        seen = [(server, self._wishes[server.name], self._gate.use(server, self._key(server.name))) for server in would_do]
        chosen = lifecycle.victim([(s, w, replace(use, busy=use.busy and not person)) for s, w, use in seen])
        leaving = [chosen] if chosen else others if person and others and self._fits(want, again, others) else []
        for server in leaving:
            self._room_for[server.key] = want.name
        return bool(leaving)

    def _fits(self, want: Wanted, again: Server, without: list[Server]) -> bool:
        try:
            plan_again(self.world, replace(want.planned, context=again.shrunk or want.planned.context), without)
        except LauncherError:
            return False
        return True

    def _prove(self, server: Server, want: Wanted) -> None:
        watched = self._watch(server)
        watched.start = watched.start.ended(time.monotonic())
        self._record(replace(server, phase="proof", share=None, left=None))
        try:
            answer = proof(server, self._key(server.name), timeout=self._policy.proof)
        except LauncherError as fault:
            self._doubt(server, watched, fault)
            return
        ready = self._with_members(lifecycle.proven(server, now=time.time(), answer=answer.text, seconds=answer.seconds))
        if watched.launch:
            ready = replace(ready, notes=(*ready.notes, *measuring.note(self.world, watched.launch, ready, watched.start)))
        if want.back and ready.swapped and not server.proven:
            self._switch(ready, ready.swapped, want.back)
        else:
            self._record(ready)
        if watched.launch and want.spare and server.handle:
            what, room = watched.launch, self.world.inventory().ram.available
            spares.learn(self.world.home, what.command, server.handle, inherited=want.env)
            spares.make(self.world.home, what.command, environment=what.environment, room=room, inherited=want.env)

    def _switch(self, ready: Server, swapped: Swapped, back: Wanted) -> None:
        """From now on requests are its own; and how long they waited for it."""
        use, before = self._gate.use(ready, self._key(ready.name)), swap.of(back, self._everyone())
        begun = before.since if before and before.state == "held" else time.time()
        self._record(ready)
        told = Swapped(swapped.beside, time.time() - begun, use.waiting, max(0, use.failed - swapped.failed))
        self._record(replace(ready, swapped=told))

    def _probe(self, server: Server) -> None:
        watched = self._watch(server)
        try:
            probe.prove(endpoint(server, self._key(server.name)), timeout=self._policy.patience, tokens=_SHORT_ANSWER)
        except LauncherError as fault:
            if self._gate.use(server, self._key(server.name)).busy and self._computes(server):
                watched.worked = time.time()
            else:
                self._doubt(server, watched, fault)
            return
        watched.worked = time.time()
        now = self._with_members(server)
        if now != server:
            self._record(now)

    def _computes(self, server: Server) -> bool:
        """Whether its processes use the processor: one that has all its places taken answers late, and is not frozen."""
        pids = self.world.runner.processes(server.handle) if server.handle else ()
        before = processes.processor_seconds(pids)
        time.sleep(_WATCHED_FOR)
        return processes.processor_seconds(pids) - before > _COMPUTES

    def _with_members(self, server: Server) -> Server:
        """Its record with the processes that it has now, and the shared memory that would stay if all of them were killed."""
        found = members(self.world.runner, server.handle) if server.handle else ()
        return replace(server, members=found, shared=tuple(sorted(processes.shared_memory(pid for pid, _ in found))))

    def _doubt(self, server: Server, watched: "_Watched", fault: LauncherError) -> None:
        """A server that does not answer: if it just died, its log tells more."""
        time.sleep(_SOON)
        if server.handle and self.world.runner.alive(server.handle):
            watched.fault = f"the engine runs but does not work: {fault.message}"

    def _recover(self, server: Server, why: str) -> None:
        watched = self._watch(server)
        detail, hint, retry = why, f"its log: {server.log}", None
        alive = server.handle is not None and self.world.runner.alive(server.handle)
        if server.state in {"starting", "ready"} and not (alive and watched.fault):
            detail, hint, found = why_it_died(server, self.world.engines[server.engine], self._circumstances(server, watched))
            retry = found.retry
        if not self._ended(server, grace=GRACE_OF_REMAINS):
            return
        if watched.robbed and server.restarts < self._policy.attempts:
            self._say(f"{server.key}: {watched.robbed}; it is started on another one")
            self._record(lifecycle.robbed(server, now=time.time(), policy=self._policy))
            return
        if server.state == "starting" and watched.launch:
            told = measuring.unlearn(self.world, watched.launch)
            server = replace(server, notes=(*server.notes, *told))
        smaller = retry and retry.context and retry.context < server.context and server.state == "starting"
        if retry and retry.context and smaller and not server.shrunk and not self._is_tried(server):
            self._say(f"{server.name}: {detail}; it is started with {retry.context:,} tokens of context")
            self._record(lifecycle.shrunk(server, now=time.time(), context=retry.context, why=found.cause))
        else:
            self._fail(server, detail, hint)

    def _circumstances(self, server: Server, watched: "_Watched") -> Circumstances:
        """What was seen of its end beside its log."""
        code = self.world.runner.exit_code(server.handle) if server.handle else None
        alive = server.handle is not None and self.world.runner.alive(server.handle)
        pids = set(self.world.runner.processes(server.handle)) if server.handle else set()
        others = (each for gpu in self.world.inventory().gpus if gpu.index in server.gpus for each in gpu.processes)
        return Circumstances(
            exit_code=code,
            oom_kills=processes.oom_kills() - watched.oom_kills if code == -signal.SIGKILL else 0,
            silence=time.monotonic() - watched.last_word if alive else None,
            phase=server.phase,
            holders=tuple(each for each in others if each.pid not in pids),
        )

    def _unload(self, server: Server, *, held: bool) -> None:
        leaving = replace(server, since=time.time())
        self._drain(leaving, self._policy.drain)
        self._room_for.pop(server.key, None)
        want = self._wishes.get(server.name)
        leaving = replace(leaving, turned=want.turn if want and want.ask == server.ask else leaving.turned)
        if held and self._rests_asleep(leaving):
            return
        if self._ended(leaving):
            self._record(lifecycle.held(leaving) if held else lifecycle.unloaded(leaving, now=time.time()))

    def _rests_asleep(self, server: Server) -> bool:
        """Whether it sleeps instead of ending, so that it is back in seconds: it can, and the host has room for its weights."""
        engine = self.world.engines[server.engine]
        if not server.spec.can_sleep or not server.handle or not self.world.runner.alive(server.handle):
            return False
        room = self.world.inventory().ram.available >= disk.usage(self._weights(server)).size + SLEEPERS_RESERVE
        level = _LIGHT if room else _DEEP
        if level not in engine.SLEEPS:
            self._say(f"{server.key}: the host's memory has no room for its weights, so it is ended and does not sleep")
            return False
        try:
            self._call(server, engine.SLEEPS[level].down)
        except LauncherError as fault:
            self._say(f"{server.key}: it does not sleep, and is ended: {fault.message}")
            return False
        self._record(lifecycle.asleep(server, now=server.since, level=level, state="held"))
        return True

    def _weights(self, server: Server) -> Path:
        wishes = [each for want in self._wishes.values() for each in (want, want.back) if each]
        return next(each.prepared.weights for each in wishes if (each.name, each.ask) == (server.name, server.ask))

    def _call(self, server: Server, calls: tuple[Call, ...]) -> None:
        for call in calls:
            probe.tell(server.base_url, self._key(server.name), call)

    def _sleep(self, server: Server, want: Wanted) -> None:
        """As a person told it; whether it can was asked before, and what it says is told."""
        self._drain(replace(server, since=time.time()), self._policy.drain)
        level = int(want.turn.split()[1])
        try:
            self._call(server, self.world.engines[server.engine].SLEEPS[level].down)
        except (LauncherError, KeyError) as fault:
            told = fault.message if isinstance(fault, LauncherError) else f"{server.engine} knows no level {level}"
            self._record(replace(server, turned=want.turn, detail=f"it does not sleep: {told}"))
            return
        self._record(replace(lifecycle.asleep(server, now=time.time(), level=level, state="asleep"), turned=want.turn))

    def _wake(self, server: Server, want: Wanted) -> None:
        """Its memory first, if others have it; then it has to prove itself as one that was started."""
        try:
            plan_again(self.world, want.planned)
        except LauncherError as fault:
            if self._makes_room(want, server):
                self._record(self._with_room(want, server))
            elif want.back and not server.proven and not self._is_being_left(want):
                self._ended(server)
                self._fail(replace(server, handle=None), fault.message, fault.hint)
            else:
                again = time.time() + self._policy.patience
                self._record(replace(server, again=again, detail=fault.message, hint=fault.hint))
            return
        turned = want.turn if want.turn.startswith("wake") else server.turned
        woken = replace(server, state="starting", phase="waking", detail="", hint="", turned=turned)
        self._record(woken)
        watched = self._watch(woken)
        try:
            self._call(woken, self.world.engines[server.engine].SLEEPS[server.slept].up)
        except LauncherError as fault:
            watched.fault = f"it does not wake: {fault.message}"
            return
        self._record(replace(woken, slept=0))

    def _leave(self, server: Server) -> None:
        self._drain(server, self._policy.leave)
        # Until now nothing else had to wait for it.
        self._acts[server.key].kind = "end"
        self._end(server)

    def _drain(self, server: Server, seconds: float) -> None:
        """No new requests for it, and the running ones to their end, but no longer than this."""
        self._record(replace(server, state="ending", detail="", hint=""))
        deadline = time.monotonic() + seconds
        while self._gate.use(server, self._key(server.name)).busy and time.monotonic() < deadline:
            time.sleep(_SOON)

    def _end(self, server: Server) -> None:
        if self._ended(server):
            self._record(lifecycle.ended(server, now=time.time()))
        if not any(each.handle for each in self._servers.values()) and not store.wishes(self.world.home)[0]:
            # It waits for the next of several servers, not for another day.
            spares.end(self.world.home)

    def _ended(self, server: Server, *, grace: float = GRACE) -> bool:
        """Whether nothing of it runs any more; what survives is on record, and is tried again later."""
        if server.handle:
            self._record(replace(server, state="ending", detail="", hint=""))
        try:
            taken = end(self.world, server, grace=grace)
        except LauncherError as fault:
            again = time.time() + self._policy.patience
            self._record(replace(server, state="ending", detail=fault.message, hint=fault.hint, again=again))
            return False
        if taken:
            self._say(f"{server.name}: {taken}")
        self._watched.pop(server.key, None)
        return True

    def _fail(self, server: Server, detail: str, hint: str) -> None:
        once = self._is_tried(server)
        self._record(lifecycle.failed(server, now=time.time(), detail=detail, hint=hint, policy=self._policy, once=once))

    def _is_tried(self, server: Server) -> bool:
        """Whether it is to take another one's place, and has not proven yet that it can."""
        want = self._wishes.get(server.name)
        return want is not None and want.back is not None and want.ask == server.ask and not server.proven

    # -- what all of them need --

    def _record(self, server: Server) -> None:
        with self._lock:
            self._servers[server.key] = server
        store.see(self.world.home, server)
        self.publish()

    def _forget(self, key: str) -> None:
        with self._lock:
            self._servers.pop(key, None)
        store.forget(self.world.home, key)

    def publish(self) -> None:
        """Tell the gateway where everything is."""
        servers = self._everyone()
        self._gate.publish(tuple(self._wishes.values()), servers, {server.name: self._key(server.name) for server in servers})

    def _key(self, name: str) -> str:
        """What the engine of this model asks for."""
        return keys.ensure(self.world.home.engine_key(name))

    def _is_starting(self) -> bool:
        return any(server.handle and server.state == "starting" for server in self._servers.values())

    def _is_about_to_wish(self) -> bool:
        """Whether an `up` plans or prepares: it started this supervisor early, and may have made a spare for its server."""
        holder = lock.holder(self.world.home.lock)
        return holder is not None and (holder.pid == 0 or holder.command.startswith("launcher up"))

    def _at_rest(self) -> bool:
        return not self._acts and not any(server.handle for server in self._servers.values())


class Gate(Protocol):
    """The gateway, as the supervisor knows it."""

    def publish(self, wanted: Sequence[Wanted], servers: Sequence[Server], engine_keys: Mapping[str, str]) -> None:
        """Route by these from now on."""

    def use(self, server: Server, key: str) -> Use:
        """What was asked of a server, whose engine has this key."""


class NoGate:
    """For a supervisor that nobody can ask anything."""

    def publish(self, wanted: Sequence[Wanted], servers: Sequence[Server], engine_keys: Mapping[str, str]) -> None: ...

    def use(self, server: Server, key: str) -> Use:  # noqa: ARG002 - the protocol's
        return Use()


@dataclass
class _Act:
    """Something that is being done to a server; `unwanted` says that its wish has changed meanwhile."""

    kind: Action
    ask: str
    thread: threading.Thread
    unwanted: bool = False
    hurried: bool = False


@dataclass
class _Watched:
    """What only this process knows of a server that runs: all of it can be found again, or done without."""

    server_id: str
    log: Tail
    launch: Launch | None = None
    start: Watch = field(default_factory=lambda: Watch.begun(time.monotonic()))
    past: Past = field(default_factory=Past)
    written: float = 0.0
    last_word: float = field(default_factory=time.monotonic)
    worked: float = 0.0
    oom_kills: int = field(default_factory=processes.oom_kills)
    asked: float = 0.0
    healthy: bool = False
    fault: str = ""
    robbed: str = ""


def _unstarted(want: Wanted, seat: Seat, logs: Path) -> Server:
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
