"""What runs now, and what a wish would be served as once the rest has made room."""

from collections.abc import Sequence
from dataclasses import replace

from launcher import processes, store
from launcher.deciding import decide, refusal
from launcher.errors import LauncherError
from launcher.fitting import loaded_as
from launcher.gpu import Inventory
from launcher.plan import DoesNotFit, Plan
from launcher.runners import spares
from launcher.runners.base import Size
from launcher.server import Server, ServerSpec
from launcher.world import World


def running_now(world: World) -> tuple[Server, ...]:
    """The servers whose processes are there, the newest first."""
    there = [server for server in store.seen(world.home) if server.handle and world.runner.processes(server.handle)]
    return tuple(sorted(there, key=lambda server: -server.since))


def plan_now(world: World, spec: ServerSpec, without: Sequence[Server] = ()) -> Plan:
    """The plan on this machine once the servers `without` have made room; raises LauncherError if there is none."""
    if spec.cluster:
        return _on_cluster(world, spec)
    inventory = _left(world, without)
    outcome = decide(world, spec, inventory)
    if isinstance(outcome, Plan):
        return outcome
    raise refusal(world, spec, inventory, outcome)


def refuse_replicas(world: World, spec: ServerSpec, plan: Plan, without: Sequence[Server] = ()) -> None:
    """Raise LauncherError where this machine has no room for as many replicas, each as `plan` has the first.

    On a cluster that is Ray's to say, and what has no room there waits.
    """
    wanted, there = spec.replicas or 1, 0
    if spec.cluster:
        return
    each, inventory = replace(as_planned(spec, plan), gpus=spec.gpus), _left(world, without)
    found: Plan | DoesNotFit = plan
    while isinstance(found, Plan) and bool(found.gpus) == bool(plan.gpus):
        there += 1
        if there == wanted:
            return
        claims = dict.fromkeys((gpu.index for gpu in found.gpus), found.memory.claim)
        inventory = inventory.less(claims, ram=0 if found.gpus else found.memory.claim)
        found = decide(world, each, inventory)
    room = f"there is room for {there}" if there > 1 else "there is room for one alone"
    hint = f"--replicas {there}, or less for each: `launcher plan {spec.model}` shows what one takes"
    raise LauncherError(f"{wanted} replicas of {spec.model} do not fit on this machine: {room}", hint=hint)


def _left(world: World, without: Sequence[Server]) -> Inventory:
    """What this machine has once these servers have made room."""
    inventory = world.inventory()
    spare = spares.kept(world.home)
    handles = [each.handle for each in without if each.handle] + ([spare.handle] if spare else [])
    if handles:
        pids = [pid for handle in handles for pid in world.runner.processes(handle)]
        claims: dict[int, int] = {}
        for server in without:
            claims |= {index: claims.get(index, 0) + server.claim for index in server.gpus if not server.slept}
        inventory = inventory.without(set(pids), processes.resident(pids), claims)
    return inventory


def _on_cluster(world: World, spec: ServerSpec) -> Plan:
    """The plan for so many nodes of a cluster: each holds a stage of a pipeline, or on CPUs a part of each layer."""
    nodes = spec.nodes or 1
    inventory = world.clusters.inventory(spec.cluster, nodes=nodes)
    each = len(inventory.gpus) // nodes
    if nodes == 1:
        wish = spec
    elif inventory.gpus:
        wish = replace(spec, tensor=spec.tensor or each, pipeline=spec.pipeline or nodes)
    else:
        wish = replace(spec, tensor=None)
    outcome = decide(world, wish, inventory)
    if not isinstance(outcome, Plan):
        raise refusal(world, wish, inventory, outcome)
    if (there := world.expect(outcome)).image:
        hint = f"`launcher engines install {outcome.engine}`, then `launcher engines use` it: a cluster's nodes see its folder"
        raise LauncherError(f"{there.environment.name} is an image, which docker runs on this machine alone", hint=hint)
    if nodes == 1 or inventory.gpus:
        return outcome
    architecture, engine = outcome.profile.architecture, world.engines[outcome.engine]
    if fault := engine.layout_fault(architecture, loaded_as(architecture, outcome.variant), tensor=nodes, pipeline=1):
        raise LauncherError(f"{outcome.profile.name} cannot run on {nodes} nodes: {fault}", hint="another number of --nodes")
    return replace(outcome, tensor=nodes)


def size(world: World, plan: Plan, spec: ServerSpec) -> Size:
    """What a server takes of each node: its GPUs and a core for the engine's own work; without any, the whole node."""
    nodes = spec.nodes or 1
    gpus = len(plan.gpus) // nodes
    cpus = 1 if gpus else world.clusters.inventory(spec.cluster, nodes=nodes).cpu.cores
    return Size(spec.cluster, nodes, cpus=cpus, gpus=gpus)


def as_planned(spec: ServerSpec, plan: Plan) -> ServerSpec:
    """The wish in the words of its plan, so that a restart on another day is no other one."""
    return replace(
        spec,
        engine=plan.engine,
        variant=plan.variant.name,
        context=plan.context,
        # On a cluster each start is given others.
        gpus=() if spec.cluster else tuple(gpu.index for gpu in plan.gpus),
        tensor=plan.tensor,
        pipeline=plan.pipeline,
    )


def plan_again(world: World, planned: ServerSpec, without: Sequence[Server] = ()) -> Plan:
    """The plan that was made before, now: on the same devices, never on the CPU in their place; raises LauncherError."""
    plan = plan_now(world, planned, without)
    if planned.cluster:
        return plan
    if (found := tuple(gpu.index for gpu in plan.gpus)) != planned.gpus:
        wanted = f"GPU {', '.join(map(str, planned.gpus))}" if planned.gpus else "the CPU"
        there = f"GPU {', '.join(map(str, found))}" if found else "the CPU"
        message = f"{planned.model} has no room on {wanted} now, and was not planned for {there}"
        raise LauncherError(message, hint="`launcher gpus` shows who holds memory; `launcher up` plans it anew")
    return plan


def plan_beside(world: World, spec: ServerSpec, without: Sequence[Server] = (), *, gpus: bool) -> Plan:
    """The plan of one of several replicas: on any of the GPUs that it may have, never on the CPU in their place.

    Raises LauncherError where they have no room.
    """
    plan = plan_now(world, spec, without)
    if bool(plan.gpus) != gpus:
        message = f"no more GPUs of this machine have room for another replica of {spec.model}"
        raise LauncherError(message, hint="`launcher gpus` shows who holds memory; fewer --replicas fit")
    return plan
