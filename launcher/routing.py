"""What the gateway is told of the servers: each one's route, from its wish and its record. Decisions only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from launcher import swap
from launcher.endpoint import place_of
from launcher.gateway.table import Backend, Route, State
from launcher.server import Server, Wanted
from launcher.server import State as ServerState

# What a request for a wanted model meets: one that waits for its next start is on its way as well.
_STATES: Mapping[ServerState, State] = {
    "waiting": "starting",
    "starting": "starting",
    "ready": "ready",
    "ending": "starting",
    "idle": "stopped",
    "held": "held",
    "asleep": "asleep",
    "failed": "failed",
    "stopped": "starting",
}


def routes(wanted: Iterable[Wanted], servers: Sequence[Server], keys: Mapping[str, str]) -> tuple[Route, ...]:
    """A route for all that is wanted or was ever served; `keys` are the engines' own, by model."""
    wishes = {want.name: want for want in wanted}
    made = []
    for name in sorted({*wishes, *(server.name for server in servers)}):
        there = [each for each in servers if each.name == name]
        server, want = swap.serving(wishes.get(name), there)
        ready = [each for each in sorted(there, key=lambda each: each.key) if each.state == "ready"]
        if want and ready and swap.is_replicated(want, there):
            made.append(_merged(want, ready, keys.get(name, "")))
        else:
            made.append(_route(name, want, server, keys.get(name, "")))
    return tuple(made)


def _route(name: str, want: Wanted | None, server: Server | None, key: str) -> Route:
    if want is None or server is None:
        context = server.context if server else (want.planned.context or 0) if want else 0
        fallback = want.fallback if want else ""
        engine = server.engine if server else ""
        return Route(
            name, "starting" if want else "off", context=context, engine=engine, fallback=fallback, down=want is not None
        )
    # A server that runs for an earlier wish is about to be ended.
    state = _STATES[server.state] if server.ask == want.ask else "starting"
    return Route(
        name,
        state,
        backends=(backend(server, key),) if state == "ready" else (),
        context=server.context,
        engine=server.engine,
        detail=server.detail,
        restarts=server.restarts,
        native_tool_calling=server.tools,
        fallback=want.fallback,
        down=is_down(want, server),
    )


def is_down(want: Wanted, server: Server) -> bool:
    """Whether its fallback is to answer: it comes for the first time or anew, after a failure, or was given up.

    What rests is not down: it made room in a swap, sleeps, or was unloaded, as a person wished, and comes as a request or that
    person calls it. What `down` stopped has no wish, and so no fallback.
    """
    if server.ask != want.ask:
        return True
    if server.state == "starting":
        return not server.rested or server.restarts > 0
    if server.state == "ending":
        # Without a reason it is what somebody wished: a sleep, a swap, an unloading.
        return bool(server.detail)
    return server.state in {"waiting", "failed", "stopped"}


def _merged(want: Wanted, ready: Sequence[Server], key: str) -> Route:
    """Several replicas are one route; one of an earlier wish answers until its turn to be replaced comes."""
    least = min(ready, key=lambda each: each.context)
    route = _route(want.name, replace(want, ask=least.ask), least, key)
    restarts = sum(each.restarts for each in ready)
    return replace(route, backends=tuple(backend(each, key) for each in ready), restarts=restarts)


def backend(server: Server, key: str) -> Backend:
    """Where the engine itself answers."""
    host, port = place_of(server.base_url)
    return Backend(host, port, key)
