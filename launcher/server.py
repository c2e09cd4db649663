"""A command kept running: what is wanted, what was seen, and what that means. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from launcher.prepared import Prepared
from launcher.runners.base import Handle

# A server that waits is to be started: a moment after it failed, or when there is room for it.
# An idle one was unloaded, and is started again for the first request. A held one has made room for another that is to take its
# place, and comes back if that fails: it has ended, or it sleeps. One that is asleep wakes for the first request.
State = Literal["waiting", "starting", "ready", "ending", "idle", "held", "asleep", "failed", "stopped"]

# In a replica's seat, before its number: the first has the model's own.
REPLICA = "~"


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """What a person asked to be served, in words that make the same plan again; None and () leave it to the planner.

    `model` is what was typed, and the served name once there is a plan; `origin` is then the repository or the folder that was
    typed, where the name alone would not find it again. `engine_args` are options for the engine, as typed. Code of the
    commit `trust_remote_code` may run. `pinned` is what was served, REPOSITORY@COMMIT: a restart serves the same weights.
    So many `replicas` of it answer for its name. `cluster` is the address of the Ray cluster that it runs on, "" for this
    machine, each replica on so many `nodes`.
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
    replicas: int | None = None
    cluster: str = ""
    nodes: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be served: as a person asked for it, and as it was planned and prepared.

    `ask` is another one each time that a person wants it started anew. `env` is the environment that the engine gets, so that a
    restart on another day is the same start. `spare`: a warm spare is kept for the next one.
    After `idle_stop` seconds without a request it is unloaded until the next one; with `keep` it never makes room for another.
    It is to take the place of what serves by `back`, which comes back if it fails before it is proven. `turn` is what a person
    told it last: `sleep LEVEL ID` or `wake ID`, each done once. While it is down, requests go to the provider's model that the
    configuration `fallback` names.
    """

    spec: ServerSpec
    ask: str
    planned: ServerSpec
    prepared: Prepared
    env: Mapping[str, str]
    spare: bool = True
    idle_stop: float | None = None
    keep: bool = False
    back: "Wanted | None" = None
    turn: str = ""
    fallback: str = ""

    @property
    def name(self) -> str:
        return self.spec.model


@dataclass(frozen=True, slots=True)
class Swapped:
    """How a server took another one's place: `beside` it, or after it. `held` requests waited, `stall` seconds at most.

    `failed` requests failed meanwhile; before that it is the number of all that had failed until it began.
    """

    beside: bool = True
    stall: float = 0.0
    held: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Server:
    """What was last seen of a server, in the words of its plan; `detail` says why it failed, `hint` what to do.

    `context` in tokens, `since` (when it took this state) in seconds since the epoch. `claim` is what it holds of each of
    `gpus`, in bytes: a driver does not always tell it. `ask` is the wish that it was started for. `restarts` counts its
    failures in a row, `again` is when it is started next, in seconds since the epoch. `phase` is where its start is, `share`
    (0 to 1) how much of that is done, `left` what the start may still take, in seconds. `members` are its processes when it was
    proven: pid and start time; `shared` the inodes of their shared memory. `answer` and `seconds` are its proof, `shrunk` the
    context that it was given in place of the planned one, `notes` what is to be told. `seat` tells it from another server of
    the same model. Once it was `proven` for its wish, it is no new one that may yet fail to take another's place.
    `turned` is the last turn that it took, `slept` the level at which it sleeps. `rested`: its start ended a rest, in which
    it was unloaded, asleep or held.
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
    hint: str = ""
    ask: str = ""
    restarts: int = 0
    again: float = 0.0
    phase: str = ""
    share: float | None = None
    left: float | None = None
    members: tuple[tuple[int, float], ...] = ()
    shared: tuple[int, ...] = ()
    answer: str = ""
    seconds: float = 0.0
    shrunk: int | None = None
    notes: tuple[str, ...] = ()
    tools: bool = False
    seat: str = ""
    proven: bool = False
    swapped: Swapped | None = None
    turned: str = ""
    slept: int = 0
    rested: bool = False

    @property
    def name(self) -> str:
        return self.spec.model

    @property
    def key(self) -> str:
        """What its record is called."""
        return f"{self.name}{self.seat}"

    @property
    def label(self) -> str:
        """What a person calls it: the model, or one of its replicas."""
        return self.key if REPLICA in self.seat else self.name

    @property
    def replica(self) -> int | None:
        """Which of several it is, from 1; None for the only one."""
        number = self.seat.partition(REPLICA)[2]
        return int(number) if number.isdecimal() else 1 if (self.spec.replicas or 1) > 1 else None

    @property
    def planned(self) -> ServerSpec:
        """The wish in the words of what came of it, so that the same plan is made again."""
        return replace(
            self.spec,
            engine=self.engine,
            variant=self.variant,
            context=self.context,
            # Each replica has others.
            gpus=self.spec.gpus if (self.spec.replicas or 1) > 1 else self.gpus,
            tensor=self.tensor,
            pipeline=self.pipeline,
        )


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
        and asked.replicas in {None, server.spec.replicas or 1}
        and asked.cluster in {"", server.spec.cluster}
        and asked.nodes in {None, server.spec.nodes or 1}
    )


def state_now(server: Server, *, alive: bool) -> tuple[State, str]:
    """The state that a look at the processes leaves of the recorded one, with the reason where it failed."""
    if server.state in {"starting", "ready"} and not alive:
        return "failed", server.detail or "the engine ended by itself; its log tells why"
    return server.state, server.detail
