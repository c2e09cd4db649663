"""How much of everything one client, and all of them, may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes, seconds and counts.

    `buffered` is for the bodies of all requests together, until an engine has begun to answer. A body must come with
    `body_rate` bytes a second after its first `body_grace` seconds. A client that takes nothing for `stall` seconds is let go.
    `comments`: a stream that has waited that long gets its 200 and a comment line each such time. `wait` is the longest wait
    for a turn. An engine that the table calls ready and that does not answer is asked again each `retry` seconds, for `grace`.
    A provider's model has `remote_connect` for a connection, and keeps one that is idle for `remote_idle`.
    """

    connections: int = 2048
    head: int = 64 << 10
    headers: int = 100
    body: int = 64 << 20
    buffered: int = 512 << 20
    pipelined: int = 16
    head_time: float = 15.0
    idle_time: float = 120.0
    body_grace: float = 30.0
    body_rate: int = 16 << 10
    stall: float = 120.0
    linger: float = 2.0
    comments: float = 10.0
    wait: float = 1800.0
    connect: float = 5.0
    retry: float = 0.25
    grace: float = 10.0
    # Below uvicorn's timeout_keep_alive (5 s), by which both engines close idle connections.
    engine_idle: float = 4.0
    remote_connect: float = 10.0
    remote_idle: float = 30.0
    tick: float = 0.5
