"""What the gateway is told: which models there are, where they answer, who may ask. And what it tells back. Values only."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

# What is "remote" is a provider's, and never starts or stops here.
State = Literal["ready", "starting", "held", "asleep", "stopped", "off", "failed", "remote"]
# A request for a model in one of these states starts it; one in "off" was stopped by a person and stays so.
ON_DEMAND: frozenset[State] = frozenset({"asleep", "stopped"})
# The names of this machine that no other machine's page can claim, and Docker's name for it.
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1", "host.docker.internal"})


@dataclass(frozen=True, slots=True)
class Backend:
    """One engine that answers for a model; `key` is its own, and leaves the machine with nobody."""

    host: str
    port: int
    key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Remote:
    """A provider's model, called `model` there; `heads` are how requests begin, by our paths, each with the key."""

    host: str
    port: int
    tls: bool
    model: str
    heads: tuple[tuple[str, bytes], ...] = field(repr=False)

    def head(self, path: str) -> bytes | None:
        """How a request for this path of ours begins there, None if the provider has nothing like it."""
        return next((head for each, head in self.heads if each == path), None)


@dataclass(frozen=True, slots=True)
class Route:
    """A model that can be served. `context` in tokens, 0 while it is not known; `detail` says why it is in this state.

    `slots` is how many requests each backend is given at once, 0 for any number; `restarts` counts its engine's later starts.
    `fallback` names the provider's model that answers while this one is `down`: it is not ready, and does not merely rest.
    `output` in tokens, where a provider's model has a limit of its own.
    """

    name: str
    state: State
    backends: tuple[Backend | Remote, ...] = ()
    context: int = 0
    engine: str = ""
    detail: str = ""
    slots: int = 0
    restarts: int = 0
    native_tool_calling: bool = False
    fallback: str = ""
    down: bool = False
    output: int = 0


@dataclass(frozen=True, slots=True)
class Key:
    """Who may ask: a name for the log, and the SHA-256 of the key, so that no table holds a key."""

    name: str
    digest: bytes = field(repr=False)

    @classmethod
    def of(cls, name: str, text: str) -> "Key":
        return cls(name, hashlib.sha256(text.encode()).digest())


@dataclass(frozen=True, slots=True)
class Table:
    """All that a request's way depends on, replaced as a whole.

    `fallbacks` are providers' models that stand in for routes; under their own names they are asked only where they are routes
    too. `aliases` are other names of routes; `hosts` are the names that a Host header may have, in lower case and without
    ports; `origins` are those whose pages browsers let ask, `*` for all; `queue` is how many requests may wait for one model.
    """

    routes: Mapping[str, Route] = field(default_factory=lambda: MappingProxyType({}))
    fallbacks: Mapping[str, Route] = field(default_factory=lambda: MappingProxyType({}))
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    keys: tuple[Key, ...] = ()
    hosts: frozenset[str] = LOOPBACK_NAMES
    origins: frozenset[str] = frozenset()
    queue: int = 512

    @classmethod
    def of(
        cls,
        routes: Iterable[Route],
        *,
        keys: Iterable[Key],
        fallbacks: Iterable[Route] = (),
        aliases: Mapping[str, str] | None = None,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
    ) -> "Table":
        """The table of these routes; loopback's names are among its hosts always."""
        return cls(
            routes={route.name: route for route in routes},
            fallbacks={route.name: route for route in fallbacks},
            aliases=aliases or {},
            keys=tuple(keys),
            hosts=LOOPBACK_NAMES | {host.lower() for host in hosts},
            origins=frozenset(origins),
        )

    def route(self, name: str) -> Route | None:
        """The route of that name, or of what it is another name for."""
        return self.routes.get(self.aliases.get(name, name))


@dataclass(frozen=True, slots=True)
class RouteUse:
    """What was asked of a model: how many wait, and when one last came and last succeeded.

    Times are `time.monotonic`'s; 0.0 is never. `failed` ended with a server's error or were cut off by their engine.
    """

    waiting: int = 0
    asked: float = 0.0
    succeeded: float = 0.0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What goes on now: requests at each backend, those that an older table named included until they end."""

    in_flight: Mapping[Backend | Remote, int]
    routes: Mapping[str, RouteUse]
    connections: int = 0

    def drained(self, backend: Backend | Remote) -> bool:
        """Whether no request is at `backend`: none comes once a table without it was published."""
        return not self.in_flight.get(backend)
