"""What a supervisor knows of each server: its record, where each change is written and told the gateway, and what it saw."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from launcher import keys, lifecycle, processes, store
from launcher.estimate import Past
from launcher.launching import Launch
from launcher.lifecycle import Policy, Use
from launcher.server import Server, Wanted
from launcher.tail import Tail
from launcher.watch import Watch
from launcher.world import World


class Books:
    """The records of one home, by key, and the wishes, by name; each method may be called from any thread."""

    def __init__(self, world: World, *, policy: Policy, say: Callable[[str], None], gate: "Gate") -> None:
        self.world = world
        self.policy = policy
        self.say = say
        self.gate = gate
        self.wishes: dict[str, Wanted] = {}
        self.servers = {server.key: server for server in store.look(world.home)[0]}
        self.watched: dict[str, Watched] = {}
        self._lock = threading.Lock()
        # Who writes and tells: a look that was overtaken must not be told after a newer one, nor a record written.
        self._telling = threading.RLock()

    def everyone(self) -> tuple[Server, ...]:
        """All servers, as they are on record."""
        with self._lock:
            return tuple(self.servers.values())

    def watch(self, server: Server) -> "Watched":
        """What this process knows of a server that runs; begun anew for one that an earlier supervisor started."""
        server_id = server.handle.server_id if server.handle else ""
        known = self.watched.get(server.key)
        if known is None or known.server_id != server_id:
            known = self.watched[server.key] = Watched(server_id, Tail(server.log))
        return known

    def fail(self, server: Server, detail: str, hint: str) -> None:
        """Record a failure, when nothing of it runs any more: `detail` says why, `hint` what to do."""
        once = self.is_tried(server)
        self.record(lifecycle.failed(server, now=time.time(), detail=detail, hint=hint, policy=self.policy, once=once))

    def is_tried(self, server: Server) -> bool:
        """Whether it is to take another one's place, and has not proven yet that it can."""
        want = self.wishes.get(server.name)
        return want is not None and want.back is not None and want.ask == server.ask and not server.proven

    def record(self, server: Server) -> None:
        """Keep this record, and tell the gateway."""
        with self._telling:
            with self._lock:
                self.servers[server.key] = server
            store.see(self.world.home, server)
            self.publish()

    def forget(self, key: str) -> None:
        """Take a record away that tells nothing any more."""
        with self._telling:
            with self._lock:
                self.servers.pop(key, None)
            store.forget(self.world.home, key)

    def publish(self) -> None:
        """Tell the gateway where everything is."""
        with self._telling:
            servers = self.everyone()
            engine_keys = {server.name: self.key(server.name) for server in servers}
            self.gate.publish(tuple(self.wishes.values()), servers, engine_keys)

    def use(self, server: Server) -> Use:
        """What was asked of a server through the gateway."""
        return self.gate.use(server, self.key(server.name))

    def key(self, name: str) -> str:
        """What the engine of this model asks for."""
        return keys.ensure(self.world.home.engine_key(name))


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
class Watched:
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
