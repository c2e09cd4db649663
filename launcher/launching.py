"""From a plan at a site to a proven server: start it, watch its log, ask it, and take everything back if it fails."""

import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from launcher import ports, probe, store
from launcher.command import Command
from launcher.diagnosis import diagnose
from launcher.endpoint import Endpoint, base_url
from launcher.engines.base import Engine, Site
from launcher.errors import LauncherError
from launcher.estimate import Past, estimate
from launcher.home import Home
from launcher.plan import Plan
from launcher.probe import Proof
from launcher.progress import Progress
from launcher.runners import spares
from launcher.runners.base import Handle, Runner
from launcher.server import Server, ServerSpec, State
from launcher.tail import Tail
from launcher.watch import Watch
from launcher.world import World

# Large models are read from disk for many minutes; an engine that says nothing at all for so long is stuck.
SILENCE = 900.0
GRACE = 15.0
PORT_BACK = 5.0
_LOOK = 0.1


@dataclass(frozen=True, slots=True)
class Proven:
    """A server that answered; `watch` tells the phases of its start, where it was started now."""

    server: Server
    endpoint: Endpoint
    proof: Proof
    watch: Watch | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """What is to be started, and with what; `past` tells how long that usually takes."""

    spec: ServerSpec
    plan: Plan
    site: Site
    environment: Path
    caches: Path
    version: str
    engine: Engine
    home: Home
    runner: Runner
    progress: Progress
    past: Past = field(default_factory=Past)

    @property
    def command(self) -> Command:
        return self.engine.command(self.plan, self.site).keeping(self.engine.CACHES, self.caches)

    @property
    def base_url(self) -> str:
        return base_url(self.site.host, self.site.port)

    @property
    def log(self) -> Path:
        return self.home.logs / f"{self.spec.model}.log"


def launch(what: Launch) -> Proven:
    """Start the engine and return when it is proven.

    Raises LauncherError with the cause from its log if it dies, hangs or does not answer; whatever the reason for leaving, an
    interrupt included, nothing of a server that is not proven is left running.
    """
    if holder := ports.holder(what.site.port):
        # A minute may have gone by since it was chosen, and whoever listens there would be asked for our proof.
        hint = "stop that program, or move to another port with --port (agents are wired anew)"
        raise LauncherError(f"port {what.site.port} was taken by {holder} while everything was prepared", hint=hint)
    _rotate(what.log)
    command = what.command
    what.progress.phase("engine")
    spare = spares.find(what.home, command)
    # Recorded before it runs: whatever happens from here on, the server's id finds its processes.
    server_id = spare.handle.server_id if spare else str(uuid.uuid4())
    handle = Handle(pid=0, started=0.0, server_id=server_id, environment=what.environment)
    server = _announced(what, handle)
    try:
        given = spares.give(what.home, spare, command, log=what.log) if spare else None
        handle = given or what.runner.start(command, log=what.log, server_id=server_id, environment=what.environment)
        server = replace(server, handle=handle)
        store.see(what.home, server)
        watch = _wait_until_ready(what, handle, Watch.begun(time.monotonic(), ahead=given is not None))
        what.progress.phase("proof")
        endpoint = _endpoint(what)
        what.progress.update(f"asking: {probe.QUESTION}")
        proof = _proof(what, handle, endpoint)
        proven = replace(server, state="ready", since=time.time())
        store.see(what.home, proven)
    except BaseException as fault:
        what.runner.stop(handle, grace=GRACE)
        _wait_for_port(what.site.port)
        detail = fault.message if isinstance(fault, LauncherError) else "the start was interrupted"
        state: State = "failed" if isinstance(fault, LauncherError) else "stopped"
        with suppress(LauncherError):
            store.see(what.home, replace(server, state=state, handle=None, detail=detail))
        raise
    return Proven(server=proven, endpoint=endpoint, proof=proof, watch=watch)


def stop(world: World, server: Server) -> bool:
    """End a server and all its processes; whether there was anything to end."""
    store.unwant(world.home, server.name)
    if server.handle is None:
        return False
    running = bool(world.runner.processes(server.handle))
    if running:
        world.progress.phase("stop")
        world.progress.update(f"stopping {server.name}")
        world.runner.stop(server.handle, grace=GRACE)
        _wait_for_port(urlsplit(server.base_url).port)
    store.see(world.home, replace(server, state="stopped", handle=None, detail="", since=time.time()))
    return running


def _wait_for_port(port: int | None) -> None:
    """The kernel closes an engine's sockets a moment after its end (seen with SGLang, which ends by a kill)."""
    deadline = time.monotonic() + PORT_BACK
    while port and not ports.is_free(port) and time.monotonic() < deadline:
        time.sleep(_LOOK)


def _rotate(log: Path) -> None:
    """Keep the logs of the two starts before this one."""
    kept = (log, log.with_name(f"{log.name}.1"), log.with_name(f"{log.name}.2"))
    for newer, older in reversed([*pairwise(kept)]):
        if newer.exists():
            newer.replace(older)


def _announced(what: Launch, handle: Handle) -> Server:
    server = Server(
        spec=what.spec,
        engine=what.plan.engine,
        variant=what.plan.variant.name,
        state="starting",
        context=what.plan.context,
        base_url=what.base_url,
        log=what.log,
        since=time.time(),
        gpus=tuple(gpu.index for gpu in what.plan.gpus),
        tensor=what.plan.tensor,
        pipeline=what.plan.pipeline,
        kv_dtype=what.plan.kv_dtype,
        speculative=what.plan.manner.speculative is not None,
        claim=what.plan.memory.claim if what.plan.gpus else 0,
        handle=handle,
    )
    store.see(what.home, server)
    return server


def _wait_until_ready(what: Launch, handle: Handle, watch: Watch) -> Watch:
    lines = Tail(what.log)
    last_word = time.monotonic()
    while not probe.healthy(what.base_url, what.engine.READY_PATH):
        if not what.runner.alive(handle):
            raise _died(what)
        for line in lines.new():
            last_word = time.monotonic()
            watch = watch.fed(what.engine.phase(line), last_word)
        what.progress.update(watch.now.words, *watch.done, left=estimate(what.past, watch, time.monotonic()))
        if time.monotonic() - last_word > SILENCE:
            raise LauncherError(f"the engine said nothing for {SILENCE / 60:.0f} minutes", hint=f"its log: {what.log}")
        time.sleep(_LOOK)
    return watch.ended(time.monotonic())


def _endpoint(what: Launch) -> Endpoint:
    """Where the model answers, with the context that the engine itself reports: it must be the one that was planned."""
    context = probe.context(what.base_url, what.site.api_key, what.spec.model)
    if context != what.plan.context:
        raise LauncherError(
            f"the engine serves {context:,} tokens of context instead of the planned {what.plan.context:,}",
            hint=f"its log: {what.log}",
        )
    return Endpoint(model=what.spec.model, base_url=what.base_url, api_key=what.site.api_key, context=context)


def _proof(what: Launch, handle: Handle, endpoint: Endpoint) -> Proof:
    try:
        return probe.prove(endpoint)
    except LauncherError as fault:
        if not what.runner.alive(handle):
            raise _died(what) from None
        raise LauncherError(f"the engine runs but does not work: {fault.message}", hint=f"its log: {what.log}") from None


def _died(what: Launch) -> LauncherError:
    found = diagnose(what.log.read_text(errors="replace").splitlines(), what.engine.FAULTS)
    evidence = f" ({found.evidence})" if found.evidence else ""
    remedy = f"{found.remedy}; the whole log: {what.log}" if found.remedy else f"the whole log: {what.log}"
    return LauncherError(f"{what.engine.NAME} did not start: {found.cause}{evidence}", hint=remedy)
