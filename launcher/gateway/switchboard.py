"""What runs through the gateway now: requests at each engine, those that wait for a turn, and the table that decides."""

from collections.abc import Callable, Mapping
from typing import Protocol

from launcher.gateway.access_log import Line
from launcher.gateway.decisions import Divert, Hold, Refusal, decide
from launcher.gateway.limits import Limits
from launcher.gateway.links import Pool
from launcher.gateway.table import Backend, Remote, Route, RouteUse, Table, Usage
from launcher.gateway.tally import Tally
from launcher.gateway.turns import Turns


class Request(Protocol):
    """One that asks for a turn at an engine."""

    key: str
    number: int
    # What tells which requests belong together, b"" where nothing has to.
    prefix: bytes
    # When its engine first did not answer, 0.0 if none failed it (`time.monotonic`).
    faulted: float

    def go(self, pool: Pool) -> None:
        """Its turn: ask this backend."""

    def route(self) -> None:
        """Ask for a turn where its model is now."""

    def divert(self, far: "Served") -> bool:
        """Ask this provider's model, if the provider has such a path and was not asked in vain already."""

    def refuse(self, why: Refusal) -> None:
        """It gets no turn."""


class Served:
    """A model's requests: who waits, where others are, what was counted. It stays when the table changes."""

    __slots__ = ("asked", "pools", "route", "succeeded", "tally", "turns", "woken")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.pools: list[Pool] = []
        self.turns: Turns[Request] = Turns()
        self.tally = Tally()
        self.asked = 0.0
        self.succeeded = 0.0
        self.woken = False


class Switchboard:
    """Gives turns. All but `usage` is called in the loop's thread."""

    def __init__(
        self, limits: Limits, *, pool: Callable[[Backend | Remote], Pool], pages: Pool, wake: Callable[[str], None]
    ) -> None:
        self.limits = limits
        self.table = Table()
        self.served: dict[str, Served] = {}
        # Providers' models that stand in for others.
        self.fallbacks: dict[str, Served] = {}
        # Of models that are in no table any more: what was counted goes on to be told.
        self.gone: dict[str, Served] = {}
        self.pools: dict[Backend | Remote, Pool] = {}
        # What the gateway itself answers, outside of the hot path.
        self.pages = pages
        self.log: list[Line] = []
        self.buffered = 0
        self.connections = 0
        self._new_pool = pool
        self._wake = wake

    def adopt(self, table: Table) -> None:
        """Decide by this table from now on: who runs goes on where it is, who waits is looked at again."""
        self.table = table
        before = self.served
        known = {**self.gone, **self.fallbacks, **before}
        told = {**table.fallbacks, **table.routes}
        self.gone = {name: served for name, served in known.items() if name not in told}
        current = {name: self._updated(known.get(name) or Served(route), route) for name, route in told.items()}
        self.served = {name: current[name] for name in table.routes}
        self.fallbacks = {name: current[name] for name in table.fallbacks}
        named = {backend for route in told.values() for backend in route.backends}
        for backend, pool in list(self.pools.items()):
            if backend not in named:
                pool.retire()
        self._forget_drained()
        for name, served in before.items():
            if name not in self.served:
                for request in served.turns:
                    served.turns.leave(request)
                    request.refuse(Refusal(404, f"the model {name!r} is not served any more", "model_not_found"))
        for name, served in self.served.items():
            if table.aliases.get(name, name) != name:
                # Another model has taken its place, and what waited for it.
                for request in served.turns:
                    served.turns.leave(request)
                    request.route()
            self._settle(served)

    def place(self, request: Request, served: Served) -> None:
        """Give the request a turn, a place in the line, or the reason why neither."""
        loads = [None if pool.bad_until else pool.in_flight for pool in served.pools]
        action = decide(served.route, loads, waiting=len(served.turns), queue=self.table.queue, prefix=request.prefix)
        if type(action) is int:
            request.go(served.pools[action])
        else:
            self._wait_or_refuse(request, served, action)

    def again(self, request: Request, served: Served) -> None:
        """For one whose engine did not answer: a place before all that came later."""
        if self.table.aliases.get(served.route.name, served.route.name) != served.route.name:
            request.route()
            return
        loads = [None if pool.bad_until else pool.in_flight for pool in served.pools]
        action = decide(served.route, loads, waiting=1, queue=2)
        self._wait_or_refuse(request, served, action)
        self.dispatch(served)

    def release(self, pool: Pool, served: Served | None) -> None:
        """A request has left the backend: whoever waits may go."""
        pool.in_flight -= 1
        if pool.retired and not pool.in_flight:
            self._forget_drained()
        if served is not None and served.turns:
            self.dispatch(served)

    def dispatch(self, served: Served) -> None:
        """Give turns to those who wait, for as long as there are any."""
        while served.turns:
            loads = [None if pool.bad_until else pool.in_flight for pool in served.pools]
            action = decide(served.route, loads)
            if type(action) is not int:
                return
            request = served.turns.take()
            # There is a place: this asks only which one is its own.
            own = decide(served.route, loads, prefix=request.prefix) if request.prefix else action
            request.go(served.pools[own if type(own) is int else action])

    def sweep(self, now: float) -> bool:
        """Ask engines again that did not answer, close what was idle too long; whether anything needs another sweep."""
        busy = False
        for pool in self.pools.values():
            pool.sweep(now)
            busy = busy or bool(pool.links)
            if pool.bad_until:
                busy = True
                if now >= pool.bad_until:
                    pool.bad_until = 0.0
        for served in list(self.served.values()):
            if served.turns:
                busy = True
                self._settle(served)
        return busy

    def usage(self) -> Usage:
        """What goes on, for another thread: each number is true for its moment."""
        return Usage(
            in_flight={backend: pool.in_flight for backend, pool in list(self.pools.items())},
            routes={
                name: RouteUse(len(served.turns), served.asked, served.succeeded, served.tally.failed)
                for name, served in list(self.served.items())
            },
            connections=self.connections,
        )

    @property
    def tallies(self) -> Mapping[str, Served]:
        """All models that were counted, fallbacks and gone ones included."""
        return {**self.gone, **self.fallbacks, **self.served}

    def _updated(self, served: Served, route: Route) -> Served:
        if route.state != served.route.state or route.backends != served.route.backends:
            served.woken = False
            for request in served.turns:
                request.faulted = 0.0
        served.route = route
        served.pools = [self._pool(backend) for backend in route.backends]
        return served

    def _pool(self, backend: Backend | Remote) -> Pool:
        pool = self.pools.get(backend)
        if pool is None or (pool.retired and not pool.in_flight):
            pool = self.pools[backend] = self._new_pool(backend)
        pool.retired = False
        return pool

    def _forget_drained(self) -> None:
        self.pools = {backend: pool for backend, pool in self.pools.items() if pool.in_flight or not pool.retired}

    def _settle(self, served: Served) -> None:
        """Those who wait, by what the route says now: they go, go on waiting, or are told why not."""
        self.dispatch(served)
        if not served.turns:
            return
        loads = [None if pool.bad_until else pool.in_flight for pool in served.pools]
        action = decide(served.route, loads, waiting=1, queue=2)
        if isinstance(action, Divert):
            for request in served.turns:
                if self._divert(request, served):
                    served.turns.leave(request)
            action = decide(served.route, loads, waiting=1, queue=2, divert=False)
        if isinstance(action, Refusal):
            for request in served.turns:
                served.turns.leave(request)
                request.refuse(action)
        elif isinstance(action, Hold) and action.wake:
            self._wake_once(served)

    def _wait_or_refuse(self, request: Request, served: Served, action: int | Hold | Divert | Refusal) -> None:
        if isinstance(action, Divert):
            if self._divert(request, served):
                if action.wake:
                    self._wake_once(served)
                return
            loads = [None if pool.bad_until else pool.in_flight for pool in served.pools]
            action = decide(served.route, loads, waiting=len(served.turns), queue=self.table.queue, divert=False)
        if isinstance(action, Refusal):
            request.refuse(action)
            return
        served.turns.add(request)
        if isinstance(action, Hold) and action.wake:
            self._wake_once(served)

    def _divert(self, request: Request, served: Served) -> bool:
        far = served if served.route.state == "remote" else self.fallbacks.get(served.route.fallback)
        return far is not None and request.divert(far)

    def _wake_once(self, served: Served) -> None:
        if not served.woken:
            served.woken = True
            self._wake(served.route.name)
