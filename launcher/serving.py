"""What runs now, and what a wish would be served as once the rest has made room."""

from collections.abc import Sequence
from dataclasses import replace

from launcher import processes, store
from launcher.deciding import decide, refusal
from launcher.errors import LauncherError
from launcher.plan import Plan
from launcher.runners import spares
from launcher.server import Server, ServerSpec
from launcher.world import World


def running_now(world: World) -> tuple[Server, ...]:
    """The servers whose processes are there, the newest first."""
    there = [server for server in store.seen(world.home) if server.handle and world.runner.processes(server.handle)]
    return tuple(sorted(there, key=lambda server: -server.since))


def plan_now(world: World, spec: ServerSpec, without: Sequence[Server] = ()) -> Plan:
    """The plan on this machine once the servers `without` have made room; raises LauncherError if there is none."""
    inventory = world.inventory()
    spare = spares.kept(world.home)
    handles = [each.handle for each in without if each.handle] + ([spare.handle] if spare else [])
    if handles:
        pids = [pid for handle in handles for pid in world.runner.processes(handle)]
        claims: dict[int, int] = {}
        for server in without:
            claims |= {index: claims.get(index, 0) + server.claim for index in server.gpus if not server.slept}
        inventory = inventory.without(set(pids), processes.resident(pids), claims)
    outcome = decide(world, spec, inventory)
    if isinstance(outcome, Plan):
        return outcome
    raise refusal(world, spec, inventory, outcome)


def as_planned(spec: ServerSpec, plan: Plan) -> ServerSpec:
    """The wish in the words of its plan, so that a restart on another day is no other one."""
    return replace(
        spec,
        engine=plan.engine,
        variant=plan.variant.name,
        context=plan.context,
        gpus=tuple(gpu.index for gpu in plan.gpus),
        tensor=plan.tensor,
        pipeline=plan.pipeline,
    )


def plan_again(world: World, planned: ServerSpec, without: Sequence[Server] = ()) -> Plan:
    """The plan that was made before, now: on the same devices, never on the CPU in their place; raises LauncherError."""
    plan = plan_now(world, planned, without)
    if (found := tuple(gpu.index for gpu in plan.gpus)) != planned.gpus:
        wanted = f"GPU {', '.join(map(str, planned.gpus))}" if planned.gpus else "the CPU"
        there = f"GPU {', '.join(map(str, found))}" if found else "the CPU"
        message = f"{planned.model} has no room on {wanted} now, and was not planned for {there}"
        raise LauncherError(message, hint="`launcher gpus` shows who holds memory; `launcher up` plans it anew")
    return plan
