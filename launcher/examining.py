"""Looks at all that a model's start depends on, at once, and has each thing judged."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from launcher import disk as disks
from launcher import (
    docker,
    environments,
    host,
    nvml,
    ports,
    processes,
    reach,
    stock,
    store,
    surroundings,
    systemd,
    unit,
    weights,
)
from launcher.checks import docker as check_docker
from launcher.checks import graphics, home, network, system
from launcher.checks.docker import DockerSeen
from launcher.checks.graphics import DriverSeen, Needs
from launcher.checks.home import Enabled, Kept, Room, Running, Stray
from launcher.checks.network import PortSeen
from launcher.deciding import decide, refusal
from launcher.errors import LauncherError
from launcher.exposing import foreseen
from launcher.finding import Finding, fails, passes
from launcher.gpu import Health, Inventory
from launcher.plan import Plan
from launcher.profile import CUDA
from launcher.profile_weights import HubWeights, PyPIWeights
from launcher.runners import spares
from launcher.server import Server, ServerSpec, state_now
from launcher.world import World

# A pinned package of which any index has the metadata: it is in each engine's lock.
PROBE = "safetensors"


def examine(world: World) -> tuple[Finding, ...]:
    """All findings, in the order in which things depend on each other; nothing is changed."""
    world.progress.phase("checks")
    world.progress.update("looking at the machine")
    builds = stock.builds(world.engines)
    machine = _Machine.look(world)
    servers, _ = store.look(world.home)
    live = {server.name: world.runner.processes(server.handle) for server in servers if server.handle}
    running = next((server for server in servers if live.get(server.name)), None)
    planned = () if running or machine.inventory is None else _planned(world, machine.inventory)
    plan = next((each for each in planned if isinstance(each, Plan)), None)
    kept, models = stock.installed(world.home, world.engines, plan), stock.fetched(world.home, plan)
    asked = [
        _Asked("model hub", lambda: _hub(world, plan, models)),
        _Asked("package index", lambda: _index(world, builds, plan, kept)),
    ]
    ours = {pid for pids in live.values() for pid in pids}
    found = [
        *_tried("system", lambda: [system.system(surroundings.system(tuple(build.name for build in builds)))]),
        *_tried("NVIDIA driver", lambda: _graphics(machine, builds, world, ours)),
        *_tried("memory", lambda: _memory(machine)),
        *_tried("compiler", lambda: _compilers(world, machine, kept)),
        *(each for each in planned if isinstance(each, Finding)),
        *_tried("disk", lambda: home.disk(_rooms(world, plan, kept, models))),
        *_tried("environment", lambda: home.environments(kept)),
        *_tried("docker", lambda: _docker(world, servers)),
        *_tried("weights", lambda: home.weights(models)),
        *_tried("records", lambda: home.records(stock.damaged(world.home))),
        *_tried("file modes", lambda: [home.modes(surroundings.open_to_others(stock.private(world.home)))]),
        *_tried("server", lambda: home.servers([_running(server, live) for server in servers])),
        *_tried("machine restart", lambda: [home.after_a_restart(_enabled(world))]),
        *_tried("orphans", lambda: _left(world, servers, ours)),
        *_tried("port", lambda: [network.port(_port(world, running))]),
        *_tried("reachable from", lambda: [_reach(world)]),
    ]
    for each in asked:
        world.progress.update(f"waiting for the {each.title}")
        found += each.findings()
    return tuple(found)


class _Asked:
    """A question to somebody outside, asked while the machine itself is looked at."""

    def __init__(self, title: str, ask: Callable[[], Iterable[Finding]]) -> None:
        self.title = title
        self._found: list[Finding] = []
        self._thread = threading.Thread(target=lambda: self._found.extend(_tried(title, ask)), daemon=True)
        self._thread.start()

    def findings(self) -> list[Finding]:
        self._thread.join()
        return self._found


def _tried(title: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of a check; what stood in its way is one too, and does not hide the others."""
    try:
        return list(check())
    except LauncherError as fault:
        return [fails(title, fault.message, fault.hint or "mend that, and run `launcher doctor` again")]
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return [fails(title, f"cannot be looked at: {error.strerror}{where}", "mend the permissions")]


@dataclass(frozen=True, slots=True)
class _Machine:
    """The inventory and the driver's word on it; no inventory where the driver does not work."""

    inventory: Inventory | None
    driver: DriverSeen
    health: dict[int, Health] = field(default_factory=dict)

    @classmethod
    def look(cls, world: World) -> "_Machine":
        visible = world.env.get("CUDA_VISIBLE_DEVICES")
        try:
            inventory = world.inventory()
            hidden = visible is not None and not inventory.gpus
            major, _, minor = inventory.cuda.partition(".")
            cuda = (int(major), int(minor)) if inventory.cuda else None
            seen = DriverSeen(version=inventory.driver, cuda=cuda, hidden=hidden)
            health = nvml.health({gpu.whole for gpu in inventory.gpus}) if inventory.driver else ()
        except LauncherError as fault:
            return cls(None, DriverSeen(fault=(fault.message, fault.hint)))
        return cls(inventory, seen, {each.index: each for each in health})


def _graphics(machine: _Machine, builds: tuple[environments.Build, ...], world: World, ours: set[int]) -> Iterator[Finding]:
    needs = [
        Needs(f"{build.engine} {build.version}", environments.release_of(build).cuda, world.engines[build.engine].COMPUTE)
        for build in builds
        if build.accelerator == CUDA
    ]
    yield graphics.driver(surroundings.driver(machine.driver), needs)
    inventory = machine.inventory
    for gpu in inventory.gpus if inventory else ():
        yield from graphics.gpu(gpu, machine.health.get(gpu.whole), needs, ours)
    yield from system.unsupported(inventory.unsupported if inventory else ())
    if failed := graphics.xids(surroundings.xids()):
        yield failed


def _memory(machine: _Machine) -> Iterator[Finding]:
    ram = machine.inventory.ram if machine.inventory else host.ram()
    yield system.memory(surroundings.memory(ram))
    gpus = len(machine.inventory.gpus) if machine.inventory else 0
    yield system.shared_memory(surroundings.shared_memory(), gpus)


def _compilers(world: World, machine: _Machine, kept: tuple[Kept, ...]) -> tuple[Finding, ...]:
    """Only engines on a GPU compile when they start."""
    if not machine.inventory or not machine.inventory.gpus:
        return ()
    cuda = [each.name for each in kept if each.state == "whole" and each.name.endswith(f"-{CUDA}")]
    pythons = {name: world.home.environments / name / "bin" / "python" for name in cuda}
    return system.compilers(surroundings.compilers(world.env, pythons))


def _planned(world: World, inventory: Inventory) -> tuple[Finding | Plan, ...]:
    """What `launcher up` would do now, as the plan and as a finding."""

    def plan() -> Iterator[Finding]:
        wanted = ServerSpec(model="")
        outcome = decide(world, wanted, inventory)
        if not isinstance(outcome, Plan):
            raise refusal(world, wanted, inventory, outcome)
        made.append(outcome)
        what = f"{outcome.profile.name} ({outcome.variant.name}) on {outcome.devices}"
        yield passes("plan", f"`launcher up` would serve {what} with {outcome.context:,} tokens of context")

    made: list[Plan] = []
    return (*_tried("plan", plan), *made)


def _rooms(world: World, plan: Plan | None, kept: tuple[Kept, ...], models: tuple[Kept, ...]) -> list[Room]:
    """What each disk has and has to take: the home's, and the hub's cache where models go."""
    wants: list[tuple[Path, int, str]] = [(world.home.root, 0, "")]
    wants += [(world.home.root, each.size, each.name) for each in kept if each.needed and each.state != "whole"]
    for each in models:
        if plan and each.needed and each.state in {"absent", "broken"}:
            name = f"{plan.profile.name}-{plan.variant.name}"
            at_hub = isinstance(plan.variant.weights, HubWeights)
            place = weights.folder(world.home, name, plan.variant.weights, world.env) if at_hub else world.home.root
            wants.append((place, each.size, f"the weights of {each.name}"))
    rooms: list[Room] = []
    for path, needs, what in wants:
        same = next((room for room in rooms if disks.same_disk(room.path, path)), None)
        if same is None:
            rooms.append(surroundings.room(path, needs=needs, for_what=what))
        elif needs:
            both = f"{same.for_what} and {what}" if same.for_what else what
            rooms[rooms.index(same)] = replace(same, needs=same.needs + needs, for_what=both)
    return rooms


def _running(server: Server, live: dict[str, tuple[int, ...]]) -> Running:
    state, detail = state_now(server, alive=bool(live.get(server.name)))
    return Running(server.label, state, detail, model=server.name)


def _enabled(world: World) -> Enabled | None:
    file = systemd.place(world.home, world.env, world.user_home)
    if not (text := systemd.written(file)):
        return None
    try:
        now = systemd.look(world.env, file.name)
    except LauncherError as fault:
        return Enabled(file.name, fault=fault.message)
    return Enabled(
        file.name,
        enabled=now.enabled == "enabled",
        active=now.active,
        own=unit.start_line(Path(sys.executable)) in text.splitlines(),
        lingers=systemd.lingers(world.env),
        linger=systemd.LINGER,
    )


def _docker(world: World, servers: tuple[Server, ...]) -> Iterator[Finding]:
    """Asked only where an engine is an image."""
    taken = [each for each in environments.read_all(world.home) if each.image]
    known = {server.handle.server_id for server in servers if server.handle}
    for daemon in sorted({each.daemon for each in taken}):
        seen = docker.look(world.env, daemon=daemon)
        ours = [each for each in taken if each.daemon == daemon]
        there = [(each.name, docker.image(each.image, world.env, daemon=daemon) is not None) for each in ours]
        begun = docker.containers(f"{docker.OF_HOME}={world.home.root}", world.env, daemon=daemon)
        left = [name for name, server in begun if server not in known]
        yield from check_docker.docker(DockerSeen(seen.version, gpus=seen.gpus, images=there, left=left))


def _left(world: World, servers: tuple[Server, ...], ours: set[int]) -> Iterator[Finding]:
    uid = os.geteuid()
    known = {server.handle.server_id for server in servers if server.handle}
    if spare := spares.kept(world.home):
        # It waits to become a server, and is nobody's until then.
        known.add(spare.handle.server_id)
        ours = ours | set(world.runner.processes(spare.handle))
    pids = processes.strays(world.home.environments, world.home.logs, known, uid=uid)
    left = [Stray(pid, processes.name(pid), processes.resident([pid])) for pid in pids if pid not in ours]
    yield home.strays(left)
    if leftovers := home.segments(surroundings.segments(uid=uid, now=time.time())):
        yield leftovers


def _port(world: World, running: Server | None) -> PortSeen:
    kept = store.port(world.home)
    number = kept or ports.FIRST
    try:
        if running:
            return PortSeen(number, kept=kept is not None, server=running.name)
        if ports.is_free(number):
            return PortSeen(number, kept=kept is not None)
        return PortSeen(
            number, kept=kept is not None, holder=ports.holder(number) or "another program", next_free=ports.free(number + 1)
        )
    except LauncherError as fault:
        return PortSeen(number, fault=fault.message)


def _reach(world: World) -> Finding:
    return network.reach(foreseen(store.exposure(world.home)), store.port(world.home) or ports.FIRST)


def _hub(world: World, plan: Plan | None, models: tuple[Kept, ...]) -> Iterator[Finding]:
    missing = any(each.needed and each.state in {"absent", "broken"} for each in models)
    needed = bool(plan) and missing and isinstance(plan.variant.weights if plan else None, HubWeights)
    seen, skew = reach.hub(world.env, needed=needed)
    yield network.hub(seen)
    if told := system.clock(skew):
        yield told


def _index(
    world: World, builds: tuple[environments.Build, ...], plan: Plan | None, kept: tuple[Kept, ...]
) -> Iterator[Finding]:
    pin = next((pin for build in builds if (pin := environments.pin_of(build.lock, PROBE))), PROBE)
    wheel = bool(plan) and isinstance(plan.variant.weights if plan else None, PyPIWeights)
    needed = any(each.needed and each.state != "whole" for each in kept) or wheel
    yield network.index(reach.index(world.env, pin, needed=needed))
