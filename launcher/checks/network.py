"""Whether the address of our own is free, and what has to be fetched can be: the hub and the index of packages."""

from collections.abc import Sequence
from dataclasses import dataclass

from launcher.exposure import Opening
from launcher.finding import Finding, fails, passes, warns

_REFUSED = {401, 403}
_BROKEN = 500


@dataclass(frozen=True, slots=True)
class PortSeen:
    """The port that agents were told, or would be. `holder` has it now ("" if nobody), `server` if that is a model of ours.

    `kept` tells whether agents know it already; `next_free` is the one that would be taken instead; `fault` is why nothing can
    listen at all.
    """

    number: int
    kept: bool = False
    holder: str = ""
    server: str = ""
    next_free: int | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class HubSeen:
    """What the hub's own client says. `status` is the answer to "who am I", None for none, and then `reason` says why.

    `needed`: weights are still to be fetched from it.
    """

    endpoint: str = ""
    offline: bool = False
    token: bool = False
    status: int | None = None
    user: str = ""
    reason: str = ""
    seconds: float = 0.0
    needed: bool = False


@dataclass(frozen=True, slots=True)
class IndexSeen:
    """What uv says of the index of packages. `name` is its address if one is configured, without passwords.

    It may be that one of `more` further indexes answered. `forbidden`: pip's settings allow no index. `needed`: an environment
    is still to be installed.
    """

    name: str = ""
    more: int = 0
    forbidden: bool = False
    offline: bool = False
    reason: str = ""
    seconds: float = 0.0
    needed: bool = False


def port(seen: PortSeen) -> Finding:
    """Whether a model can be served at the address that agents know."""
    if seen.fault:
        return fails("port", seen.fault, "`ip addr show lo` should show 127.0.0.1; `sudo ip link set lo up` brings it")
    address = f"127.0.0.1:{seen.number}"
    if seen.server:
        return passes("port", f"{address} is {seen.server}'s, which runs here")
    if not seen.holder:
        return passes("port", f"{address} is free{', the one that agents know' if seen.kept else ''}")
    if seen.kept:
        remedy = "end that program, or `launcher up --port N` serves on another port and tells the agents"
        return fails("port", f"{address}, which agents know, is taken by {seen.holder}", remedy)
    taken = f"{address} is taken by {seen.holder}"
    if seen.next_free is None:
        return fails("port", f"{taken}, and no higher port is free", "end that program, or choose a port with --port")
    return passes("port", f"{taken}: {seen.next_free} would be used")


def reach(openings: Sequence[Opening], number: int) -> Finding:
    """Who can reach the gateway, and who can read along."""
    title = "reachable from"
    if not openings:
        return passes(title, "this machine alone")
    if faults := [each.fault for each in openings if each.fault]:
        return warns(
            title, f"not where it is wished: {'; '.join(faults)}", "bring the address back, or `launcher up --no-host`"
        )
    if clear := [each for each in openings if each.is_overheard]:
        remedy = "`launcher up --tls-cert FILE --tls-key FILE`, or `--no-host`"
        return warns(title, "; ".join(each.text(number) for each in clear), remedy)
    return passes(title, "; ".join(each.text(number) for each in openings))


def hub(seen: HubSeen) -> Finding:
    """Whether models can be fetched, and in whose name."""
    title = "model hub"
    if seen.offline:
        if seen.needed:
            return fails(title, "HF_HUB_OFFLINE is set, and weights are still to be fetched", "unset HF_HUB_OFFLINE once")
        return passes(title, "HF_HUB_OFFLINE is set: only what is in the cache is used")
    if seen.status is None or seen.status >= _BROKEN:
        reason = seen.reason or f"it answered {seen.status}"
        remedy = "check the network and HTTPS_PROXY; HF_ENDPOINT names a mirror"
        return (fails if seen.needed else warns)(title, f"cannot reach {seen.endpoint}: {reason}", remedy)
    return _token(title, f"{seen.endpoint} answers in {seen.seconds:.1f} s", seen)


def index(seen: IndexSeen) -> Finding:
    """Whether engines can be installed."""
    title = "package index"
    name = (seen.name or "the default index") + (f" or one of {seen.more} more" if seen.more else "")
    if seen.forbidden:
        return passes(title, "pip's settings allow none: wheels come from its find-links alone")
    if seen.offline:
        detail = "UV_OFFLINE is set: only what uv has in its cache is used"
        return warns(title, detail, "unset UV_OFFLINE to install an engine") if seen.needed else passes(title, detail)
    if not seen.reason:
        return passes(title, f"{name} serves packages, in {seen.seconds:.1f} s")
    remedy = (
        "check the network and HTTPS_PROXY; UV_DEFAULT_INDEX or pip's index-url name another, SSL_CERT_FILE its certificates"
    )
    return (fails if seen.needed else warns)(title, f"{name} does not serve: {seen.reason}", remedy)


def _token(title: str, answers: str, seen: HubSeen) -> Finding:
    if not seen.token:
        return passes(title, f"{answers}; no token: public models only")
    if seen.user:
        return passes(title, f"{answers}; the token is {seen.user}'s")
    if seen.status in _REFUSED:
        # The hub refuses even public models to a wrong token.
        return fails(title, f"{answers}, and does not accept the token", "`hf auth login` anew, or unset HF_TOKEN")
    return passes(title, f"{answers}; it does not tell whose the token is")
