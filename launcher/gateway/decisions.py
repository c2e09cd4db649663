"""What becomes of a request: decided from values, apart from the bytes."""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from launcher.gateway.limits import Limits
from launcher.gateway.paths import WAYS, Way
from launcher.gateway.spread import choose
from launcher.gateway.table import ON_DEMAND, Key, Route, Table


class Head(msgspec.Struct, frozen=True):
    """A request's head, as far as it decides; a Struct and not a dataclass, since it is made for each request.

    `host` is None and `credentials` empty where no such header came; `length` is -1 where none is told. `here`: the client is
    on this machine. `repeated`: a header that decides came twice. `preflight`: a browser asks for a page of an origin that is
    let in whether it may ask (Fetch, "CORS-preflight request").
    """

    method: bytes
    path: bytes
    host: bytes | None = None
    credentials: bytes = b""
    length: int = -1
    chunked: bool = False
    encoding: bytes = b""
    expect: bytes = b""
    upgrade: bool = False
    repeated: bool = False
    version: str = "1.1"
    here: bool = True
    preflight: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that the gateway gives itself. `retry_after` in seconds, 0 for no such header; `allow` names methods."""

    status: int
    message: str
    code: str
    retry_after: int = 0
    allow: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait for a turn; with `wake`, whoever starts engines is told that one is wanted."""

    wake: bool = False


@dataclass(frozen=True, slots=True)
class Divert:
    """Ask a provider's model: the one that was asked for, or the fallback of one that is down; with `wake` as in Hold."""

    wake: bool = False


class Admitted(msgspec.Struct, frozen=True):
    """A request that may be asked, and by whose key."""

    way: Way
    key: str


class Preflight(msgspec.Struct, frozen=True):
    """A browser's question, which comes without a key: what may be asked at this path."""

    way: Way


def allowed_origin(table: Table, origin: bytes | None) -> str:
    """What a browser is told of a page's origin: that origin, `*`, or nothing, for which it keeps answers from the page.

    Credentials are never allowed: what a browser would send by itself opens nothing here, a key is written by the page.
    """
    if origin is None or not table.origins:
        return ""
    name = origin.decode("latin-1").lower()
    return "*" if "*" in table.origins else name if name in table.origins else ""


def admit(table: Table, limits: Limits, head: Head) -> Admitted | Preflight | Refusal:
    """Whether a request may be asked at all, from its head alone, before a byte of its body is taken."""
    if fault := _malformed(head) or _unknown_host(table, head):
        return fault
    way = WAYS.get(head.path)
    if way is None or head.method not in way.methods:
        return _unusual(way, head)
    key = key_name(table.keys, head.credentials)
    if key is None:
        if way.opened != "all" and not (way.opened == "here" and head.here):
            return _NO_KEY
        key = ""
    if head.length > limits.body:
        return Refusal(413, f"a body may have {limits.body} bytes at most", "body_too_large")
    return Admitted(way, key)


def key_name(keys: Sequence[Key], credentials: bytes) -> str | None:
    """Whose key it is; every key is compared, each in constant time."""
    digest = hashlib.sha256(credentials).digest()
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key.name
    return found if credentials else None


def destination(table: Table, model: str | None) -> Route | Refusal:
    """Where a request for `model` goes. One that names none goes to the only model there is, as the engines do it."""
    if model:
        route = table.route(model)
        return route or Refusal(404, f"the model {model!r} does not exist; {_known(table)}", "model_not_found")
    if len(table.routes) == 1:
        return next(iter(table.routes.values()))
    return Refusal(400, f"the request names no model; {_known(table)}", "model_missing")


def decide(
    route: Route,
    loads: Sequence[int | None],
    *,
    waiting: int = 0,
    queue: int = 512,
    divert: bool = True,
    prefix: bytes = b"",
) -> int | Hold | Divert | Refusal:
    """Which backend a request goes to now, or that it waits, or why it does neither.

    `loads` are the requests at each of the route's backends, None for one that did not answer just now; `waiting` counts those
    that came before. Without `divert` no provider can be asked: it has no such path, or was asked in vain. Requests of one
    `prefix` should meet the same backend.
    """
    state = route.state
    if (
        state == "ready"
        and not waiting
        and (best := choose(route.backends, loads, slots=route.slots, prefix=prefix)) is not None
    ):
        return best
    unanswered = state == "ready" and all(load is None for load in loads)
    if divert and (state == "remote" or (route.fallback and (route.down or unanswered))):
        return Divert(wake=unanswered)
    if refusal := _unservable(route):
        return refusal
    if waiting >= queue:
        return Refusal(503, f"{waiting} requests wait for {route.name} already", "queue_full", retry_after=RETRY_AFTER)
    return Hold(wake=state in ON_DEMAND or unanswered)


def _unservable(route: Route) -> Refusal | None:
    """Why nobody has to wait for it, or None."""
    if route.state == "remote":
        return Refusal(404, f"{route.name} is a model of {route.engine}, which has no such path", "path_not_found")
    if route.state == "off":
        return Refusal(404, f"{route.name} was stopped; `launcher up {route.name}` serves it again", "model_stopped")
    if route.state == "failed":
        return Refusal(503, f"{route.name} cannot be served: {route.detail or 'its start failed'}", "model_failed")
    return None


# Seconds: an engine that is not swamped has served some of what waits by then.
RETRY_AFTER = 5
_UNKNOWN_HOST = Refusal(
    403, "this Host is not one of this server's names; `--allow-host NAME` on the launcher's side adds one", "host_not_allowed"
)
_NO_KEY = Refusal(401, "a key is needed: Authorization: Bearer KEY", "invalid_api_key")


def _unknown_host(table: Table, head: Head) -> Refusal | None:
    return None if head.host is None or _name(head.host) in table.hosts else _UNKNOWN_HOST


def _malformed(head: Head) -> Refusal | None:
    """What HTTP or this server does not allow: the first fault of the list."""
    # What nearly every request is, in one look.
    if head.version == "1.1" and head.host is not None and head.path[:1] == b"/" and not _is_odd(head):
        return None
    return next((fault for holds, fault in _FAULTS if holds(head)), None)


def _is_odd(head: Head) -> bool:
    return bool(head.upgrade or head.repeated or head.expect or head.encoding or head.method == b"CONNECT")


def _bad(message: str) -> Refusal:
    return Refusal(400, message, "bad_request")


def _unusual(way: Way | None, head: Head) -> Preflight | Refusal:
    if way is None:
        return Refusal(404, "there is no such path here", "path_not_found")
    if head.preflight:
        return Preflight(way)
    return Refusal(405, f"{way.path} takes {_words(way)}", "method_not_allowed", allow=_words(way))


_FAULTS: tuple[tuple[Callable[[Head], bool], Refusal], ...] = (
    (lambda head: head.upgrade or head.method == b"CONNECT", _bad("this server changes no protocols")),
    (lambda head: head.version not in {"1.0", "1.1"}, Refusal(505, "this server speaks HTTP/1.1", "http_version")),
    (lambda head: head.repeated, _bad("a header came twice that may come once")),
    (lambda head: head.path[:1] != b"/", _bad("the target of a request is a path")),
    (lambda head: head.host is None and head.version == "1.1", _bad("a Host header is missing")),
    (lambda head: head.chunked and head.version == "1.0", _bad("HTTP/1.0 has no chunks")),
    (
        lambda head: head.expect.lower() not in {b"", b"100-continue"},
        Refusal(417, "only 100-continue can be expected", "expectation_failed"),
    ),
    (
        lambda head: head.encoding.lower() not in {b"", b"identity"},
        Refusal(415, "bodies are taken as they are, not compressed", "content_encoding"),
    ),
)


def _name(host: bytes) -> str:
    """A Host header without its port, in lower case."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].removesuffix(".")


def _words(way: Way) -> str:
    return ", ".join(method.decode() for method in way.methods)


def _known(table: Table) -> str:
    names = sorted({*table.routes, *table.aliases})
    return f"there are {', '.join(names)}" if names else "no model is served yet"
