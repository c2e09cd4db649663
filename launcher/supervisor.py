"""Makes what is wanted so: looks at everything, decides one thing for each server, and does it. The one owner of servers.

Level-triggered: all that it knows is on the disk or can be seen, so that one that is killed and started again goes on.
"""

import queue
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

from launcher import lifecycle, lock, ports, probe, processes, remotes, store, swap
from launcher.acts import Acts, unstarted
from launcher.books import Books, Gate, NoGate, Watched
from launcher.endpoint import place_of
from launcher.estimate import estimate
from launcher.launching import GRACE, host_warning
from launcher.lifecycle import IDLE, Action, Policy, Sight
from launcher.runners import spares
from launcher.runners.base import Handle
from launcher.server import Server
from launcher.swap import Seat
from launcher.world import World

# Seconds between two looks at what is being started or ended, at what works, and at the list of wishes.
_SOON, _A_WHILE, _NOW_AND_THEN = 0.1, 1.0, 2.0
# Between two questions whether it is well, of a server that works.
_RARELY = 10.0
# Of a phase, that is worth a line.
_STEP = 0.1


class Supervisor:
    """One for each home, which the caller sees to by a lock. `tick` and `run` are for one thread; acts have theirs."""

    def __init__(
        self,
        world: World,
        *,
        policy: Policy | None = None,
        say: Callable[[str], None] = lambda _: None,
        gate: Gate | None = None,
    ) -> None:
        self._books = Books(world, policy=policy or Policy(), say=say, gate=gate or NoGate())
        self._doing = Acts(self._books)
        self._asked: set[str] = set()
        self._waking: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._awake = threading.Event()
        self._acts: dict[str, _Act] = {}
        self._host_seen = 0.0

    @property
    def world(self) -> World:
        return self._books.world

    @world.setter
    def world(self, world: World) -> None:
        self._books.world = world

    def publish(self) -> None:
        """Tell the gateway where everything is."""
        self._books.publish()

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
                if not stay and self._at_rest() and not self._is_needed():
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
        handles = [server.handle for server in self._books.servers.values() if server.handle]
        stopping = [threading.Thread(target=self.world.runner.stop, args=(each,), kwargs={"grace": GRACE}) for each in handles]
        for thread in stopping:
            thread.start()
        for thread in (*stopping, *(act.thread for act in list(self._acts.values()))):
            thread.join()
        for server in list(self._books.servers.values()):
            if server.handle:
                self._doing.end(server)
        spares.end(self.world.home)

    def tick(self) -> None:
        """Look at everything once, and begin what is to be done."""
        while not self._waking.empty():
            self._asked.add(self._waking.get())
        wanted, unreadable = store.wishes(self.world.home)
        wishes = {want.name: want for want in wanted}
        self._acts = {key: act for key, act in self._acts.items() if act.thread.is_alive()}
        if wishes != self._books.wishes:
            self._books.wishes = wishes
            self._books.publish()
        self._look_at_the_host()
        readable = {key: server for key, server in list(self._books.servers.items()) if server.name not in unreadable}
        seats = swap.seats(wishes, readable)
        # What runs first: a start must see what others are about to end.
        for seat in sorted(seats, key=lambda seat: (not self._runs(seat.key), seat.key)):
            self._step(seat)
        # Told once for each need: kept until it is on its way.
        self._asked = {name for name in self._asked if name in wishes and not self._is_coming(name)}
        for key in swap.forgotten(seats, readable, wishes):
            if key not in self._acts:
                self._books.forget(key)

    def _look_at_the_host(self) -> None:
        """What works is told of a host that runs out of memory or disk: before the kernel or a write ends it."""
        if time.monotonic() - self._host_seen < self._books.policy.host or self._at_rest():
            return
        self._host_seen = time.monotonic()
        told = host_warning(self.world)
        for server in list(self._books.servers.values()):
            if server.state == "ready" and server.detail != told and server.key not in self._acts:
                self._books.record(replace(server, detail=told))

    # -- one server --

    def _step(self, seat: Seat) -> None:
        server, want = self._books.servers.get(seat.key), seat.want
        act = self._acts.get(seat.key)
        if act:
            act.unwanted = want is None or act.ask != want.ask
            asks = act.kind in {"prove", "probe"} and not seat.leaves
            if act.unwanted and asks and server and server.handle and not act.hurried:
                # It may wait for an answer for minutes; without its engine it does not. One that is to leave has requests.
                act.hurried = True
                self.world.runner.stop(server.handle, grace=GRACE)
            return
        sight = replace(self._look(server), rests=seat.rests, leaves=seat.leaves, wakes=seat.wakes)
        action, why = lifecycle.step(server, want, sight, self._books.policy)
        if action != "nothing":
            self._begin(seat, action, why, server)

    def _is_coming(self, name: str) -> bool:
        there = [server for server in self._books.everyone() if server.name == name]
        want = self._books.wishes.get(name)
        # Of several replicas each is called.
        if want and swap.is_replicated(want, there) and any(server.state in {"idle", "asleep"} for server in there):
            return False
        return any(server.state in {"starting", "ready", "failed"} for server in there)

    def _runs(self, key: str) -> bool:
        return key in self._books.servers and self._books.servers[key].handle is not None

    def _look(self, server: Server | None) -> Sight:
        now = time.time()
        clear = not self._is_starting() and not any(act.kind not in {"prove", "probe", "leave"} for act in self._acts.values())
        if server is None or server.handle is None:
            return Sight(now=now, clear=clear, asked=server is not None and server.name in self._asked)
        watched = self._books.watch(server)
        alive = self.world.runner.alive(server.handle)
        use = self._books.use(server)
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
            used=max(use.asked, self._whole_since(server, now)),
            asked=server.name in self._asked,
            room_for=self._doing.room_for.get(server.key, ""),
            fault=watched.fault,
            clear=clear,
        )

    def _whole_since(self, server: Server, now: float) -> float:
        """Since when all replicas of its wish serve, 0.0 for the only one: until then nobody can do without it."""
        want = self._books.wishes.get(server.name)
        count = (want.spec.replicas or 1) if want and want.ask == server.ask else 1
        if count == 1:
            return 0.0
        there = [each for each in self._books.everyone() if (each.name, each.ask) == (server.name, server.ask)]
        coming = len(there) < count or any(each.state == "starting" for each in there)
        return now if coming else max((each.since for each in there if each.state == "ready"), default=0.0)

    def _is_healthy(self, server: Server, watched: Watched, *, busy: bool) -> bool:
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
        if handle.container:
            # Docker holds the port from before its start, by whichever means, or there is no start.
            return ""
        host, port = place_of(server.base_url)
        # On another machine its port was held until a moment before its start, and what it prints tells whether it got it.
        if host != ports.LOOPBACK or ports.is_held_by(port, self.world.runner.processes(handle)):
            return ""
        return f"port {port} was taken meanwhile by {ports.holder(port) or 'a program that is gone again'}"

    def _read_log(self, server: Server, watched: Watched) -> None:
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
            self._books.record(replace(server, phase=phase.words, share=phase.share, left=left))

    def _begin(self, seat: Seat, action: Action, why: str, server: Server | None) -> None:
        want = seat.want

        def act() -> None:
            try:
                self._do(action, why, server, seat)
            except Exception as fault:  # noqa: BLE001 - a fault of ours in one server's act must not leave all others alone
                self._books.say("".join(traceback.format_exception(fault)))
                kept = self._books.servers.get(seat.key)
                if want and (kept is None or kept.ask != want.ask):
                    kept = unstarted(want, seat, self.world.home.logs)
                if kept:
                    self._books.fail(kept, f"a fault of the launcher: {fault!r}", f"its log: {self.world.home.serve_log}")

        if why != IDLE:
            self._books.say(f"{seat.key}: {action} ({why})")
        thread = threading.Thread(target=act, name=f"{action} {seat.key}", daemon=True)
        self._acts[seat.key] = _Act(action, want.ask if want else "", thread)
        thread.start()

    def _do(self, action: Action, why: str, server: Server | None, seat: Seat) -> None:
        want, doing = seat.want, self._doing
        if action == "start" and want:
            doing.start(want, server, seat)
        elif server and want and action in {"prove", "sleep", "wake"}:
            {"prove": doing.prove, "sleep": doing.sleep, "wake": doing.wake}[action](server, want)
        elif server and action == "recover":
            doing.recover(server, why)
        elif server and action == "unload":
            doing.unload(server, held=seat.rests)
        elif server and action == "leave":
            doing.leave(server, lambda: self._ends(server))
        elif server and action in {"probe", "end"}:
            {"probe": doing.probe, "end": doing.end}[action](server)

    def _ends(self, server: Server) -> None:
        """Until now nothing else had to wait for one that was leaving."""
        self._acts[server.key].kind = "end"

    # -- what all of them need --

    def _is_starting(self) -> bool:
        return any(server.handle and server.state == "starting" for server in self._books.servers.values())

    def _is_about_to_wish(self) -> bool:
        """Whether an `up` plans or prepares: it started this supervisor early, and may have made a spare for its server."""
        holder = lock.holder(self.world.home.lock)
        return holder is not None and (holder.pid == 0 or holder.command.startswith("launcher up"))

    def _is_needed(self) -> bool:
        """Whether anything is wanted, a provider's model among it, or is about to be."""
        home = self.world.home
        return bool(store.wishes(home)[0] or remotes.served(home)[0] or self._is_about_to_wish())

    def _at_rest(self) -> bool:
        return not self._acts and not any(server.handle for server in self._books.servers.values())


@dataclass
class _Act:
    """Something that is being done to a server; `unwanted` says that its wish has changed meanwhile."""

    kind: Action
    ask: str
    thread: threading.Thread
    unwanted: bool = False
    hurried: bool = False
