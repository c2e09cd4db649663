"""A command kept running: what is wanted, what was seen, and what that means. Values only."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launcher.runners.base import Handle

State = Literal["starting", "ready", "waiting", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """What a person asked to be served, in words that make the same plan again; None and () leave it to the planner.

    `model` is what was typed, and the served name once there is a plan; `origin` is then the repository or the folder that was
    typed, where the name alone would not find it again.
    """

    model: str
    engine: str | None = None
    variant: str | None = None
    context: int | None = None
    gpus: tuple[int, ...] = ()
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """What was last seen of a server. `context` in tokens, `since` in seconds since the epoch; `detail` says why it failed.

    `claim` is what it holds of each of `gpus`, in bytes: a driver does not always tell it.
    """

    spec: ServerSpec
    engine: str
    variant: str
    state: State
    context: int
    base_url: str
    log: Path
    since: float
    gpus: tuple[int, ...] = ()
    claim: int = 0
    handle: Handle | None = None
    detail: str = ""

    @property
    def name(self) -> str:
        return self.spec.model


def serves(server: Server, asked: ServerSpec) -> bool:
    """Whether this server is what a person asks for: where nothing was asked for, anything will do."""
    return (
        (not asked.model or (asked.model, asked.origin) == (server.name, server.spec.origin))
        and asked.engine in {None, server.engine}
        and asked.variant in {None, server.variant}
        and asked.context in {None, server.context}
        and asked.gpus in {(), server.gpus}
    )


def state_now(server: Server, *, alive: bool) -> tuple[State, str]:
    """The state that a look at the processes leaves of the recorded one, with the reason where it failed."""
    if server.state in {"starting", "ready", "waiting"} and not alive:
        return "failed", server.detail or "the engine ended by itself; its log tells why"
    return server.state, server.detail
