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
    typed, where the name alone would not find it again. `engine_args` are options for the engine, as typed. Code of the
    commit `trust_remote_code` may run. `pinned` is what was served, REPOSITORY@COMMIT: a restart serves the same weights.
    """

    model: str
    engine: str | None = None
    variant: str | None = None
    context: int | None = None
    gpus: tuple[int, ...] = ()
    origin: str = ""
    tensor: int | None = None
    pipeline: int | None = None
    memory_share: float | None = None
    kv_dtype: str | None = None
    sessions: int | None = None
    speculative: bool | None = None
    can_sleep: bool = False
    engine_args: tuple[str, ...] = ()
    trust_remote_code: str = ""
    pinned: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """What was last seen of a server, in the words of its plan; `detail` says why it failed.

    `context` in tokens, `since` in seconds since the epoch. `claim` is what it holds of each of `gpus`, in bytes: a driver does
    not always tell it.
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
    tensor: int = 1
    pipeline: int = 1
    kv_dtype: str = ""
    speculative: bool = False
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
        and asked.tensor in {None, server.tensor}
        and asked.pipeline in {None, server.pipeline}
        and asked.kv_dtype in {None, server.kv_dtype}
        and asked.speculative in {None, server.speculative}
        and (server.spec.can_sleep or not asked.can_sleep)
        and asked.engine_args in {(), server.spec.engine_args}
        and asked.trust_remote_code in {"", server.spec.trust_remote_code}
        # What a plan made of these is its context: that it would come out the same, only the same words say.
        and asked.memory_share in {None, server.spec.memory_share}
        and asked.sessions in {None, server.spec.sessions}
    )


def state_now(server: Server, *, alive: bool) -> tuple[State, str]:
    """The state that a look at the processes leaves of the recorded one, with the reason where it failed."""
    if server.state in {"starting", "ready", "waiting"} and not alive:
        return "failed", server.detail or "the engine ended by itself; its log tells why"
    return server.state, server.detail
