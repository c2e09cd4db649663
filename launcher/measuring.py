"""What a proven start took, put on record beside what it was planned to take; later plans go by it."""

import time
from collections.abc import Collection
from dataclasses import replace

from launcher import history, processes
from launcher.errors import LauncherError
from launcher.estimate import Past
from launcher.fitting import Layout, setup_of
from launcher.gpu import Inventory
from launcher.launching import Launch
from launcher.plan import Plan
from launcher.server import Server
from launcher.starts import Setup, Start, device_of
from launcher.watch import Watch
from launcher.world import World


def past(world: World, what: Launch) -> Past:
    """How long earlier starts took, as this one is to be compared with them."""
    return Past(history.read(world.home), _setup(what, world.inventory()))


def note(world: World, what: Launch, server: Server, watch: Watch) -> tuple[str, ...]:
    """Put a start on record. That the server works does not hang on it: what goes wrong is told, and that is all."""
    try:
        history.add(world.home, _start(world, what, server, watch))
    except LauncherError as fault:
        return (f"what this start took is not on record: {fault.message}",)
    except OSError as error:
        return (f"what this start took is not on record: {error.strerror} ({world.home.starts})",)
    return ()


def unlearn(world: World, what: Launch) -> tuple[str, ...]:
    """Take off the record what a failed start went by, if that promised more room than the rules do; what is to be told of it.

    Else a driver that takes more since its update would let every plan fail alike.
    """
    planned = what.plan.memory
    if planned.weights + planned.overhead >= planned.modelled.weights + planned.modelled.overhead:
        return ()
    try:
        ground = _setup(what, world.inventory()).ground
        history.drop(world.home, lambda start: start.setup.ground == ground)
    except (LauncherError, OSError) as error:
        return (f"cannot forget what earlier starts here took ({error}): remove {world.home.starts}",)
    return ("the plan went by earlier starts here: they are forgotten, and the next one goes by the rules alone",)


def _start(world: World, what: Launch, server: Server, watch: Watch) -> Start:
    now = world.inventory()
    told = what.engine.measured(what.log.read_text(errors="replace").splitlines())
    pids = world.runner.processes(server.handle) if server.handle else ()
    peaks = (told.peak, _held(now, what.plan, pids))
    return Start(
        setup=_setup(what, now),
        on=time.strftime("%Y-%m-%d"),
        context=what.plan.context,
        planned=what.plan.memory,
        measured=replace(told, peak=max((peak for peak in peaks if peak), default=None)),
        seconds=watch.seconds(),
        ahead=watch.ahead,
    )


def _setup(what: Launch, now: Inventory) -> Setup:
    plan = what.plan
    return setup_of(
        plan.profile,
        plan.variant,
        what.engine,
        Layout(plan.gpus, plan.tensor, plan.pipeline),
        device=device_of(plan.gpus[0]) if plan.gpus else now.cpu.name,
        kv_dtype=plan.kv_dtype,
        version=what.version,
        manner=plan.manner,
    )


def _held(now: Inventory, plan: Plan, pids: Collection[int]) -> int:
    """Bytes that these processes hold of the host's memory, or of the GPU of which they hold most.

    0 where the driver does not tell (WSL, MIG) or tells pids from outside of our container.
    """
    if not plan.gpus:
        return processes.resident(pids)
    ours = {gpu.uuid for gpu in plan.gpus}
    return max(
        (sum(each.used for each in gpu.processes if each.pid in pids) for gpu in now.gpus if gpu.uuid in ours), default=0
    )
