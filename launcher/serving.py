"""What runs now, and what a wish would be served as once the rest has made room."""

from launcher import processes, store
from launcher.deciding import decide, refusal
from launcher.plan import Plan
from launcher.runners import spares
from launcher.server import Server, ServerSpec
from launcher.world import World


def running_now(world: World) -> Server | None:
    """The server that has the address now, or whose processes at least are still there."""
    for server in store.seen(world.home):
        if server.handle and world.runner.processes(server.handle):
            return server
    return None


def plan_now(world: World, spec: ServerSpec, running: Server | None) -> Plan:
    """The plan on this machine as it is once the server that runs now has made room; raises LauncherError if there is none."""
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
