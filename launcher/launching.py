"""The steps between a plan at a site and a proven server: each is one act, so that whoever is killed between two can go on."""

import os
import time
import uuid
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from launcher import disk, ports, probe, processes
from launcher.command import Command
from launcher.diagnosis import Circumstances, Diagnosis, diagnose
from launcher.endpoint import Endpoint, base_url
from launcher.engines.base import Engine, Site
from launcher.errors import LauncherError
from launcher.gpu import GIB, Inventory, holders, named
from launcher.home import Home
from launcher.plan import Plan
from launcher.probe import Proof
from launcher.runners import docker, ray, spares
from launcher.runners.base import Clusters, Handle, Placed, Runner
from launcher.server import Server, Wanted
from launcher.world import World

GRACE = 15.0
# For what is left of an engine that failed: it has nothing to finish, and requests wait for the next one.
GRACE_OF_REMAINS = 2.0
PORT_BACK = 5.0
# How long the driver may take to give a stopped engine's memory back (seconds), and what is noise in it (bytes).
MEMORY_BACK = 60.0
MEMORY_NOISE = 256 << 20
# Below these the host's memory (a share of it) and its disk (bytes) are said to run out: an engine's log and its compiled
# kernels take tens of megabytes, and the kernel kills for memory when about nothing is left.
LITTLE_MEMORY = 0.03
LITTLE_DISK = 200 * disk.MB
_LOOK = 0.1


@dataclass(frozen=True, slots=True)
class Launch:
    """What is to be started, and with what."""

    want: Wanted
    plan: Plan
    site: Site
    environment: Path
    caches: Path
    version: str
    engine: Engine
    home: Home
    runner: Runner
    seat: str = ""
    clusters: Clusters = ray
    placed: Placed | None = None
    image: str = ""
    daemon: str = ""

    @property
    def commands(self) -> tuple[Command, ...]:
        """What runs on each node of a cluster. Which GPUs it gets there, Ray says."""
        hosts, port = (self.placed.hosts, self.placed.ports[1]) if self.placed else ((), 0)
        made = self.engine.ranks(self.plan, self.site, hosts, port) if len(hosts) > 1 else (self.command,)
        kept = [each.keeping(self.engine.CACHES, self.caches) for each in made]
        env = [{name: value for name, value in each.env.items() if name != "CUDA_VISIBLE_DEVICES"} for each in kept]
        return tuple(replace(each, env=variables) for each, variables in zip(kept, env, strict=True))

    @property
    def command(self) -> Command:
        return self.command_of("")

    def command_of(self, server_id: str) -> Command:
        """What runs on this machine; a container is told apart from others by its server."""
        if self.image:
            reads = docker.read_by(self.site.weights)
            return docker.command(self.engine, self.plan, self.site, self.box(server_id), reads=reads)
        return self.engine.command(self.plan, self.site).keeping(self.engine.CACHES, self.caches)

    def box(self, server_id: str) -> docker.Box:
        return docker.Box(self.image, self.daemon, self.home, self.environment.name, server_id)

    @property
    def log(self) -> Path:
        return self.home.logs / f"{self.want.name}{self.seat}.log"


def announced(what: Launch) -> tuple[Server, spares.Spare | None]:
    """The record of a server that does not run yet, and the spare that it will be if there is one.

    Recorded before it runs: whatever happens from then on, the server's id finds its processes.
    """
    spare = None if what.placed else spares.find(what.home, what.command, inherited=what.want.env)
    waiting = what.placed or spare
    server_id = waiting.handle.server_id if waiting else str(uuid.uuid4())
    plan = what.plan
    here = () if what.placed else plan.gpus
    server = Server(
        spec=what.want.spec,
        engine=plan.engine,
        variant=plan.variant.name,
        state="starting",
        context=plan.context,
        base_url=base_url(what.site.host, what.site.port),
        log=what.log,
        since=time.time(),
        gpus=tuple(gpu.index for gpu in here),
        tensor=plan.tensor,
        pipeline=plan.pipeline,
        kv_dtype=plan.kv_dtype,
        speculative=plan.manner.speculative is not None,
        claim=plan.memory.claim if here else 0,
        handle=Handle(
            pid=0,
            started=0.0,
            server_id=server_id,
            environment=what.environment,
            container=what.box(server_id).name if what.image else "",
            daemon=what.daemon,
        ),
        ask=what.want.ask,
        seat=what.seat,
    )
    return server, spare


def begin(what: Launch, server: Server, spare: spares.Spare | None) -> Server:
    """Start the engine of an announced server; raises LauncherError if it cannot be executed."""
    _rotate(what.log)
    if what.placed:
        placed = what.clusters.give(what.placed, what.commands, weights=what.site.weights, log=what.log)
        return replace(server, handle=placed)
    server_id, env = server.handle.server_id if server.handle else "", what.want.env
    command = what.command_of(server_id)
    handle = spares.give(what.home, spare, command, log=what.log, inherited=env) if spare else None
    if handle is None:
        handle = what.runner.start(command, log=what.log, server_id=server_id, environment=what.environment, inherited=env)
    if server.handle:
        handle = replace(handle, container=server.handle.container, daemon=server.handle.daemon)
    return replace(server, handle=handle)


def proof(server: Server, api_key: str, *, timeout: float = probe.PATIENCE) -> Proof:
    """Ask the server a question, the first; raises LauncherError where it does not answer or serves another context.

    The context that the engine itself reports must be the one that was planned.
    """
    context = probe.context(server.base_url, api_key, server.name)
    if context != server.context:
        raise LauncherError(f"the engine serves {context:,} tokens of context instead of the planned {server.context:,}")
    return probe.prove(endpoint(server, api_key), timeout=timeout)


def endpoint(server: Server, api_key: str) -> Endpoint:
    """Where the server itself answers."""
    return Endpoint(model=server.name, base_url=server.base_url, api_key=api_key, context=server.context)


def members(runner: Runner, handle: Handle) -> tuple[tuple[int, float], ...]:
    """All processes of the server that it cannot be without, by pid and start time."""
    pids = (pid for pid in runner.processes(handle) if processes.name(pid) != processes.WAITING)
    found = ((pid, processes.start_time(pid)) for pid in pids)
    return tuple((pid, started) for pid, started in found if started)


def end(world: World, server: Server, *, grace: float = GRACE) -> str:
    """End all processes of a server, and wait until its port and its GPUs' memory are free again.

    Returns what stays taken, "" if nothing does; raises LauncherError if a process survives.
    """
    if server.handle is None:
        return ""
    pids = world.runner.processes(server.handle)
    # One that sleeps has given it back before.
    expected = _free_without(world, server, pids) if pids and server.gpus and not server.slept else {}
    world.runner.stop(server.handle, grace=grace)
    # The runner takes down what its processes had mapped when it came; of one that was dead by then, only the record tells.
    for path in processes.left_behind(frozenset(server.shared), uid=os.geteuid()):
        path.unlink(missing_ok=True)
    port = urlsplit(server.base_url).port
    deadline = time.monotonic() + PORT_BACK
    while port and not ports.is_free(port) and time.monotonic() < deadline:
        time.sleep(_LOOK)
    return _memory_not_back(world, expected)


def _free_without(world: World, server: Server, pids: tuple[int, ...]) -> dict[int, int]:
    """Bytes that are free on each of its GPUs once it is gone, as far as can be told while it runs.

    Where the driver does not tell what it holds, half of what it may hold must come back: the rest is not sure to be held.
    """
    now = world.inventory()
    told = any(process.pid in pids for gpu in now.gpus for process in gpu.processes if process.used)
    freed = now.without(set(pids), claims={} if told else dict.fromkeys(server.gpus, server.claim // 2))
    return {gpu.index: gpu.free for gpu in freed.gpus if gpu.index in server.gpus}


def _memory_not_back(world: World, expected: dict[int, int]) -> str:
    deadline = time.monotonic() + MEMORY_BACK
    while expected:
        inventory = world.inventory()
        short = _short(inventory, expected)
        if not short:
            return ""
        if time.monotonic() > deadline:
            who = named(holders(inventory.only(set(short)).gpus)) or "a process that the driver does not name"
            return f"the memory of GPU {', '.join(map(str, short))} did not come back within {MEMORY_BACK:.0f} s: {who}"
        time.sleep(5 * _LOOK)
    return ""


def _short(inventory: Inventory, expected: dict[int, int]) -> list[int]:
    return [gpu.index for gpu in inventory.gpus if gpu.free < expected.get(gpu.index, 0) - MEMORY_NOISE]


def why_it_died(server: Server, engine: Engine, beside: Circumstances | None = None) -> tuple[str, str, Diagnosis]:
    """The cause in one line, what to do, and both as a value; from the log of a server that ended by itself or was given up."""
    text = server.log.read_text(errors="replace") if server.log.exists() else ""
    found = diagnose(text.splitlines(), engine.FAULTS, beside)
    evidence = f" ({found.evidence})" if found.evidence else ""
    remedy = f"{found.remedy}; the whole log: {server.log}" if found.remedy else f"the whole log: {server.log}"
    what = "ended" if server.answer else "did not start"
    return f"{engine.NAME} {what}: {found.cause}{evidence}", remedy, found


def host_warning(world: World) -> str:
    """What of the host runs out, "" if nothing does."""
    ram, free = world.inventory().ram, disk.free_bytes(world.home.root)
    if ram.available < ram.total * LITTLE_MEMORY:
        return f"only {ram.available / GIB:.1f} of {ram.total / GIB:.1f} GiB of the host's memory can be had"
    if free < LITTLE_DISK:
        return f"only {disk.gigabytes(free)} of disk are free in {world.home.root}"
    return ""


def refuse_full_disk(home: Home) -> None:
    """Raise LauncherError where not even a log would fit: an engine would die of it, and tell of something else."""
    if (free := disk.free_bytes(home.root)) < LITTLE_DISK:
        message = f"only {disk.gigabytes(free)} of disk are free in {home.root}: nothing is started"
        raise LauncherError(message, hint="`launcher clean` shows what can be freed")


def _rotate(log: Path) -> None:
    """Keep the logs of the two starts before this one."""
    kept = (log, log.with_name(f"{log.name}.1"), log.with_name(f"{log.name}.2"))
    for newer, older in reversed([*pairwise(kept)]):
        if newer.exists():
            newer.replace(older)
