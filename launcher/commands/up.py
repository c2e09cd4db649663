"""`launcher up`: from nothing to a proven model in the agents' configuration."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from launcher import configurations, exposing, introducing, keys, lock, ports, probe, processes, remotes, store, telling
from launcher.command import inheritable
from launcher.commands import down
from launcher.commands.plan import PlanResult
from launcher.commands.up_result import DryRunResult, UpResult
from launcher.configurations import Traits
from launcher.deciding import command_of, meant, with_a_gpu
from launcher.endpoint import Endpoint, base_url
from launcher.errors import LauncherError
from launcher.exposure import Change
from launcher.fitting import AGENT_CONTEXT
from launcher.following import follow, settled
from launcher.llm import LLMConfig
from launcher.plan import Plan
from launcher.probe import Proof
from launcher.runners import spares
from launcher.server import Server, ServerSpec, Wanted, serves, state_now
from launcher.serving import as_planned, plan_now, refuse_replicas, running_now
from launcher.stopwatch import Stopwatch
from launcher.tool_call import ToolProof
from launcher.wiring import apply
from launcher.wiring.apply import Proposal
from launcher.wiring.base import Place, Target
from launcher.world import World

_LOOK = 0.5
# How long the gateway may take to listen (seconds).
_LISTENS = 5.0


@dataclass(frozen=True, slots=True)
class UpRequest:
    """What a person typed after `launcher up`: an empty model leaves the choice to us; without targets nothing is wired.

    `spare`: a process with the engine's imports done is kept for the next start, if the host's memory has room for it.
    `idle_stop` and `keep` as in Wanted. `chosen` targets' files are made where there are none; of the `known` ones those
    that are wired follow the address.
    `proof`: it is asked to call a tool, too, which takes a while on a CPU.
    `exposure`: what changes of who else is let near. `fallback`: the configuration that answers while it is down; "" takes it
    back, None leaves it as it was wished.
    """

    spec: ServerSpec
    targets: Mapping[str, Target] = field(default_factory=dict)
    chosen: frozenset[str] = frozenset()
    known: Mapping[str, Target] = field(default_factory=dict)
    config_file: Path | None = None
    register_only: bool = False
    port: int | None = None
    spare: bool = True
    idle_stop: float | None = None
    keep: bool = False
    proof: bool = True
    exposure: Change = field(default_factory=Change)
    fallback: str | None = None


def dry_run(world: World, request: UpRequest) -> DryRunResult:
    """What `run` would do, without touching anything."""
    running = running_now(world)
    _refuse_fallback(world, request)
    asked = meant(world, request.spec)
    spec = _as_it_runs(asked, running)
    plan = plan_now(world, spec, running)
    refuse_replicas(world, replace(spec, model=plan.profile.name, origin=plan.profile.origin), plan, running)
    port = _port(world, request)
    key = keys.read(world.home.key) or "sk-local-new"
    endpoint = Endpoint(model=plan.profile.name, base_url=_address(port), api_key=key, context=plan.context)
    proposal = _propose(world, request, plan, endpoint)
    fallback = _fallback(world, request, plan.profile.name)
    return DryRunResult(
        plan=PlanResult(plan, command_of(world, plan, port)),
        proposal=proposal,
        running=_fate(running, asked, plan),
        reachable=tuple(each.text(port) for each in exposing.foreseen(exposing.meant(world.home, request.exposure))),
        fallback=_fallback_notes(world, endpoint.model, fallback, _llm(world, plan, endpoint)),
        replicas=spec.replicas or 1,
    )


def run(world: World, request: UpRequest) -> UpResult:
    """Serve, prove and wire a model; whatever goes wrong is told in one LauncherError and leaves nothing half done."""
    world.home.make()
    words = f"launcher up {request.spec.model}".strip()

    def wait(holder: lock.Holder) -> None:
        world.progress.phase("waiting")
        world.progress.update(f"for `{holder.command}` (pid {holder.pid}), which is at work")

    with lock.acquire(world.home.lock, words, waiting=wait, timeout=None):
        port_before = store.port(world.home)
        try:
            with exposing.kept(world.home, request.exposure):
                return _up(world, request)
        except BaseException:
            nothing = not store.wishes(world.home)[0]
            if nothing and not any(server.handle for server in store.look(world.home)[0]):
                spares.end(world.home)
            if nothing and port_before is None:
                store.forget_port(world.home)
            raise


def stay(world: World, name: str, show: Callable[[], None]) -> None:
    """Show what was done, and keep the server company until nobody wants it any more; an interrupt stops it.

    Raises LauncherError if it is given up.
    """
    try:
        show()
        while any(want.name == name for want in store.wanted(world.home)):
            world.attend(world)
            server = store.find(world.home, name)
            if server and server.state == "failed":
                raise LauncherError(f"{name} was given up: {server.detail}", hint=server.hint)
            time.sleep(_LOOK)
    except KeyboardInterrupt:
        down.run(world, name)
        raise


def _up(world: World, request: UpRequest) -> UpResult:
    watch = Stopwatch(world.progress)
    world = replace(world, progress=watch)
    watch.phase("plan")
    _refuse_fallback(world, request)
    # It imports while we plan; whether it came up is asked when it is needed.
    early = threading.Thread(target=_attend_early, args=(world,), daemon=True)
    early.start()
    running = running_now(world)
    asked = _as_it_runs(meant(world, request.spec), running)
    plan = plan_now(world, asked, running)
    spec = replace(asked, model=plan.profile.name, origin=plan.profile.origin)
    port = _port(world, request)
    key = keys.ensure(world.home.key)
    expected = Endpoint(model=spec.model, base_url=_address(port), api_key=key, context=plan.context)
    # A file that cannot be wired is better told now than after a quarter of an hour.
    _refuse_faults(_propose(world, request, plan, expected))
    if store.port(world.home) is None:
        # The gateway takes it at once: before environment and weights are there, somebody else might.
        store.keep_port(world.home, port)
    if running:
        early.join()
    for server in running:
        if told := _still_good(world, asked, server, expected):
            _keep_fallback(world, request, server.name)
            return _told(world, request, plan, server, told, watch, replaced="", already=True)
    # What fits once may not fit twice: that too is better told before anything is fetched.
    refuse_replicas(world, spec, plan, running)
    ready = world.prepare(plan, watch)
    early.join()
    want = Wanted(
        spec=replace(spec, pinned=ready.pinned),
        ask=str(uuid.uuid4()),
        planned=as_planned(spec, plan),
        prepared=ready,
        env=inheritable(world.env),
        spare=request.spare and not spec.cluster,
        idle_stop=request.idle_stop,
        keep=request.keep,
        fallback=_fallback(world, request, spec.model),
    )
    with _wished(world, want, port):
        if any(server.name == want.name for server in running):
            world.progress.say(_anew(want, running))
        server = follow(world, want)
        # Its words are on record; what is left to prove is that the agent's address and key lead to it.
        _proof(world, replace(expected, context=server.context), tokens=1)
        proof = Proof(server.answer, server.seconds)
        replaced = ", ".join(each.name for each in running if each.name != want.name and not _is_ready(world, each.name))
        return _told(world, request, plan, server, proof, watch, replaced=replaced, already=False)


def _anew(want: Wanted, running: Sequence[Server]) -> str:
    """What happens to the servers of this model that run now."""
    count, there = want.spec.replicas or 1, sum(each.name == want.name for each in running)
    if count == there == 1:
        return f"{want.name} is stopped: it is started anew"
    if count < there:
        left = f"{count} is left" if count == 1 else f"{count} are left"
        return f"{want.name}: of {there} replicas {left} (--replicas {there} keeps them), begun anew"
    return f"{want.name}: its replicas are replaced one by one"


def _refuse_fallback(world: World, request: UpRequest) -> None:
    """What cannot stand in is told before anything else is done."""
    if request.fallback:
        remotes.asked(world, request.fallback)


def _fallback(world: World, request: UpRequest, name: str) -> str:
    """The fallback that is wished from now on."""
    if request.fallback is not None:
        return request.fallback
    return next((want.fallback for want in store.wishes(world.home)[0] if want.name == name), "")


def _fallback_notes(world: World, name: str, fallback: str, llm: LLMConfig) -> tuple[str, ...]:
    return remotes.fallback_notes(world, name, fallback, llm) if fallback else ()


def _keep_fallback(world: World, request: UpRequest, name: str) -> None:
    """Of what is up already, only this changes."""
    wished = _fallback(world, request, name)
    for want in store.wanted(world.home):
        if want.name == name and want.fallback != wished:
            store.want(world.home, replace(want, fallback=wished))


def _attend_early(world: World) -> None:
    with suppress(LauncherError):
        world.attend(world)


def _proof(world: World, endpoint: Endpoint, *, tokens: int = probe.ANSWER_TOKENS) -> Proof:
    """A real answer over the very path that agents take; raises LauncherError, with what keeps the gateway from its port."""
    world.progress.update(f"asking: {probe.QUESTION}")
    deadline = time.monotonic() + _LISTENS
    port = urlsplit(endpoint.base_url).port
    while not (listens := _listens(world, port)) and time.monotonic() < deadline:
        time.sleep(_LOOK / 10)
    if not listens:
        # Whoever else listens there would get the key.
        hint = "stop that program, or move to another port with --port (agents are wired anew)"
        raise LauncherError(store.listening(world.home)[1] or f"the gateway does not listen on port {port}", hint=hint)
    return probe.prove(endpoint, tokens=tokens)


def _listens(world: World, port: int | None) -> bool:
    """Whether a gateway of this home listens there: one that lives, since a killed one cannot take its word back."""
    alive = processes.look(store.listener(world.home), world.home.root) is not None
    return alive and store.listening(world.home) == (port, "")


@contextmanager
def _wished(world: World, want: Wanted, port: int) -> Iterator[None]:
    """Want this at this port; if it comes to nothing, everything is wished as it was before.

    The user sees an `up` that did not happen: then nothing of it may go on.
    """
    before = {each.name: each for each in store.wanted(world.home)}
    ran = {server.name for server in store.seen(world.home) if server.state == "ready" and server.name in before}
    port_before = store.port(world.home)
    try:
        store.keep_port(world.home, port)
        _forget_alias(world, want.name)
        store.want(world.home, want)
        yield
    except BaseException as fault:
        store.unwant(world.home, want.name)
        if want.name in before:
            _want_anew(world, before[want.name])
        if port_before is None:
            store.forget_port(world.home)
        elif port_before != port:
            store.keep_port(world.home, port_before)
        settled(world, {want.ask})
        back = [before[name] for name in sorted(ran) if not _is_ready(world, name)]
        for other in back:
            _want_anew(world, other)
        if back and isinstance(fault, LauncherError):
            raise _brought_back(world, fault, {other.name for other in back}) from None
        raise


def _forget_alias(world: World, name: str) -> None:
    """A name that a swap gave to another model is this one's again."""
    kept = {alias: model for alias, model in store.aliases(world.home).items() if alias != name}
    if kept != store.aliases(world.home):
        store.keep_aliases(world.home, kept)


def _want_anew(world: World, want: Wanted) -> None:
    """A new wish: what ran was ended for another one, and what had been given up gets another chance."""
    store.want(world.home, replace(want, ask=str(uuid.uuid4()), back=None))


def _is_ready(world: World, name: str) -> bool:
    server = store.find(world.home, name)
    return server is not None and server.state == "ready"


def _brought_back(world: World, fault: LauncherError, names: AbstractSet[str]) -> LauncherError:
    """The error that tells what came of what ran before."""
    served = []
    for other in (each for each in store.wanted(world.home) if each.name in names):
        world.progress.say(f"{fault.message}: {other.name} is started again")
        try:
            served.append(follow(world, other).name)
        except LauncherError as again:
            return LauncherError(f"{fault.message}; and {other.name} did not come back: {again.message}", hint=fault.hint)
    return LauncherError(f"{fault.message}; {', '.join(served)} serves again", hint=fault.hint)


def _told(
    world: World,
    request: UpRequest,
    plan: Plan,
    server: Server,
    proof: Proof,
    watch: Stopwatch,
    *,
    replaced: str,
    already: bool,
) -> UpResult:
    """Wire the agents, and say all of it."""
    context = store.window(world.home, server)
    endpoint = Endpoint(server.name, _address(_port(world, request)), keys.ensure(world.home.key), context)
    tools = None if already or not request.proof else _tools(world, endpoint)
    if not already:
        configurations.note(world.home, server.name, _traits(plan, tools))
    watch.phase("wiring")
    proposal = _propose(world, request, plan, endpoint)
    outcome = apply.write(proposal.edits, world.home)
    moved = introducing.again(world, request.known)
    faults = [*proposal.faults, *outcome.faults, *moved.faults]
    llm = _llm(world, plan, endpoint)
    fallback = _fallback(world, request, server.name)
    taken = {edit.target for edit in outcome.edits}
    return UpResult(
        plan=plan,
        endpoint=endpoint,
        proof=proof,
        tools=tools,
        key=world.home.key,
        log=(store.named(world.home, server.name) or server).log,
        edits=(*outcome.edits, *moved.edits),
        skips=proposal.skips,
        faults=tuple(faults),
        offered=introducing.offered(world, request.known, llm),
        starts=tuple(
            target.start_line(_place(world, request), llm) for name, target in request.targets.items() if name in taken
        ),
        seconds=watch.seconds(),
        already=already,
        replaced=replaced,
        notes=server.notes,
        gpu_hint="" if plan.context >= AGENT_CONTEXT else with_a_gpu(world),
        wanted_wiring=bool(request.targets),
        reachable=exposing.reached(world.home),
        fallback=fallback,
        fallback_notes=_fallback_notes(world, server.name, fallback, llm),
        replicas=server.spec.replicas or 1,
    )


def _fate(running: Sequence[Server], asked: ServerSpec, plan: Plan) -> str:
    """What would become of the servers that run."""
    if found := next((server for server in running if serves(server, asked)), None):
        return f"{found.name} runs already: it would be asked, and not started again."
    if any(server.name == plan.profile.name for server in running):
        several = asked.replicas or 1
        how = "its replicas would be replaced one by one" if several > 1 else "it would be stopped and started again"
        return f"{plan.profile.name} runs now: {how}."
    names = ", ".join(dict.fromkeys(server.name for server in running))
    return f"{names} runs now: it would go on if both fit, else make room until it is asked for again." if names else ""


def _as_it_runs(asked: ServerSpec, running: Sequence[Server]) -> ServerSpec:
    """What is asked for, in the words of the server that runs if that is it: a bare `launcher up` means what runs."""
    return next((server.planned for server in running if serves(server, asked)), asked)


def _port(world: World, request: UpRequest) -> int:
    """The one address: chosen once, then kept, since agents know it."""
    port = request.port or store.port(world.home)
    if port is None:
        return _first_port(world)
    if (holder := _stranger(world, port)) and (holder := _stranger(world, port, after=_LOOK)):
        hint = "stop that program, or move to another port with --port (agents are wired anew)"
        raise LauncherError(f"port {port} is in use by {holder}", hint=hint)
    return port


def _stranger(world: World, port: int, *, after: float = 0.0) -> str | None:
    """Who holds the port, if that is not the gateway of this home: it binds a moment before it says so."""
    time.sleep(after)
    holder = ports.holder(port)
    listening, pid = store.listening(world.home)[0], store.listener(world.home)
    return holder if holder and not (listening == port and holder.endswith(f"(pid {pid})")) else None


def _first_port(world: World) -> int:
    port = ports.free(ports.FIRST)
    if port != ports.FIRST:
        holder = ports.holder(ports.FIRST) or "another program"
        world.progress.say(f"port {ports.FIRST} is in use by {holder}: this launcher serves on {port} from now on")
    return port


def _still_good(world: World, asked: ServerSpec, running: Server, expected: Endpoint) -> Proof | None:
    """The proof of the server that runs, if it is what was asked for, is kept alive and answers."""
    alive = running.handle is not None and world.runner.alive(running.handle)
    state, _ = state_now(running, alive=alive)
    if state != "ready" or not serves(running, asked) or store.port(world.home) != urlsplit(expected.base_url).port:
        return None
    wanted = store.wanted(world.home)
    want = next((each for each in wanted if (each.name, each.ask) == (running.name, running.ask)), None)
    # Of several replicas the first that does not serve.
    late = store.started(world.home, want) if want else None
    if late is None or late.state != "ready":
        return None
    world.attend(world)
    world.progress.phase("proof")
    world.progress.update(f"{running.name} is up already; asking it")
    try:
        return _proof(world, replace(expected, context=running.context))
    except LauncherError as fault:
        world.progress.say(f"{running.name} runs but does not answer ({fault.message}): it is started again")
        return None


def _place(world: World, request: UpRequest) -> Place:
    return telling.place(world, config_file=request.config_file, register_only=request.register_only, chosen=request.chosen)


def _llm(world: World, plan: Plan, endpoint: Endpoint) -> LLMConfig:
    known = configurations.traits(world.home, endpoint.model)
    return telling.local(world, endpoint, known or telling.traits(plan.profile, plan.engine))


def _traits(plan: Plan, tools: ToolProof | None) -> Traits:
    """What the profile says of the model, tool calls as they were seen."""
    traits = telling.traits(plan.profile, plan.engine)
    return replace(traits, native_tool_calling=tools.native(planned=traits.native_tool_calling)) if tools else traits


def _tools(world: World, endpoint: Endpoint) -> ToolProof | None:
    """Whether the model calls tools; one that is asked in vain serves all the same, and that is said."""
    world.progress.phase("proof")
    world.progress.update("asking it to call a tool")
    try:
        return probe.tools(endpoint)
    except LauncherError as fault:
        world.progress.say(f"whether {endpoint.model} calls tools is not known: {fault.message}")
        return None


def _propose(world: World, request: UpRequest, plan: Plan, endpoint: Endpoint) -> Proposal:
    return apply.propose(request.targets, _place(world, request), _llm(world, plan, endpoint), world.home)


def _refuse_faults(proposal: Proposal) -> None:
    if proposal.faults:
        first = proposal.faults[0]
        raise LauncherError(first.message, hint=f"{first.hint}; --no-wire serves without touching it".lstrip("; "))


def _address(port: int) -> str:
    return base_url(ports.LOOPBACK, port)
