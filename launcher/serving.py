"""One model at the one address: what runs now, what would run, and the change from the one to the other."""

import time
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from launcher import measuring, ports, processes, store
from launcher.deciding import decide, refusal
from launcher.engines.base import Site
from launcher.errors import LauncherError
from launcher.gpu import Inventory
from launcher.launching import Launch, Proven, launch, stop
from launcher.plan import Plan
from launcher.runners import spares
from launcher.server import Server, ServerSpec
from launcher.world import World

# How long the driver may take to give a stopped engine's memory back (seconds), and what is noise in it (bytes).
MEMORY_BACK = 60.0
MEMORY_NOISE = 256 << 20


def running_now(world: World) -> Server | None:
    """The server that has the address now, or whose processes at least are still there."""
    for server in store.seen(world.home):
        if server.handle and world.runner.processes(server.handle):
            return server
    return None


def plan_now(world: World, spec: ServerSpec, running: Server | None) -> Plan:
    """The plan on this machine as it is once the server that runs now has made room."""
    inventory = world.inventory()
    spare = spares.kept(world.home)
    handles = [each.handle for each in (running, spare) if each and each.handle]
    if handles:
        pids = [pid for handle in handles for pid in world.runner.processes(handle)]
        claims = dict.fromkeys(running.gpus, running.claim) if running else {}
        inventory = inventory.without(set(pids), processes.resident(pids), claims)
    outcome = decide(world, spec, inventory)
    if isinstance(outcome, Plan):
        return outcome
    raise refusal(world, spec, inventory, outcome)


def serve(
    world: World, spec: ServerSpec, plan: Plan, *, port: int, key: str, running: Server | None, spare: bool = False
) -> Proven:
    """Prepare everything, make room, start and prove; if that fails, what ran before comes back.

    `spare`: a process with the engine's imports done is kept for the next start, if the host's memory has room for it.
    """
    what = _prepare(world, spec, plan, port=port, key=key)
    proven = _started(world, what, running)
    if spare and world.inventory().ram.available >= spares.SIZE + spares.RESERVE:
        spares.make(world.home, what.command, environment=what.environment)
    return proven


def _started(world: World, what: Launch, running: Server | None) -> Proven:
    if running is None:
        return _launched(world, what)
    spec, plan, key = what.spec, what.plan, what.site.api_key
    reason = "it is started anew" if running.name == spec.model else f"{spec.model} takes its place"
    world.progress.say(f"{running.name} is stopped: {reason}")
    stop(world, running)
    try:
        _wait_for_memory(world, plan)
        return _launched(world, what)
    except LauncherError as fault:
        raise _bring_back(world, running, key, fault) from None


def _launched(world: World, what: Launch) -> Proven:
    """Start and prove, and note what it took; a plan that was bolder than the rules and failed is learnt from too."""
    try:
        proven = launch(replace(what, past=measuring.past(world, what)))
    except LauncherError:
        measuring.unlearn(world, what)
        raise
    measuring.note(world, what, proven)
    return proven


def _prepare(world: World, spec: ServerSpec, plan: Plan, *, port: int, key: str) -> Launch:
    ready = world.prepare(plan, world.progress)
    return Launch(
        spec=spec,
        plan=plan,
        site=Site(python=ready.python, weights=ready.weights, host=ports.LOOPBACK, port=port, api_key=key),
        environment=ready.environment,
        caches=ready.caches,
        version=ready.version,
        engine=world.engines[plan.engine],
        home=world.home,
        runner=world.runner,
        progress=world.progress,
    )


def _bring_back(world: World, old: Server, key: str, fault: LauncherError) -> LauncherError:
    """Serve again what ran before, where it ran, and the error that tells both."""
    port = urlsplit(old.base_url).port or ports.FIRST
    world.progress.say(f"{fault.message}: {old.name} is started again")
    try:
        _launched(world, _prepare(world, old.spec, plan_now(world, old.spec, None), port=port, key=key))
        store.want(world.home, old.spec)
    except LauncherError as again:
        return LauncherError(f"{fault.message}; and {old.name} did not come back: {again.message}", hint=fault.hint)
    return LauncherError(f"{fault.message}; {old.name} serves again", hint=fault.hint)


def _wait_for_memory(world: World, plan: Plan) -> None:
    """Until the GPUs are as free as the plan takes them to be: the driver needs a moment after an engine's end."""
    wanted = {gpu.index: gpu.free - MEMORY_NOISE for gpu in plan.gpus}
    deadline = time.monotonic() + MEMORY_BACK
    while wanted and not _has_room(world.inventory(), wanted):
        if time.monotonic() > deadline:
            raise LauncherError("the GPU's memory did not come back", hint="`launcher gpus` shows who holds it")
        time.sleep(0.5)


def _has_room(inventory: Inventory, wanted: Mapping[int, int]) -> bool:
    return all(gpu.free >= wanted.get(gpu.index, 0) for gpu in inventory.gpus)
