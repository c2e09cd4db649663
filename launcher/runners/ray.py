"""The door to a Ray cluster: what its nodes have, and a process here that stands for a server there.

Ray itself is imported by that process alone (gang.py): a driver dies with its cluster, and takes whoever imported it along.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from launcher import machines
from launcher import processes as machine
from launcher.command import Command
from launcher.errors import LauncherError
from launcher.gpu import Cpu, Inventory, Ram
from launcher.home import Home
from launcher.runners import local
from launcher.runners.base import Handle, Placed, Size

# Isolated (-I): beside it lies a module that is called ray as well.
SCRIPT = Path(__file__).with_name("gang.py")
# How long Ray may look for a place before the server waits for another time, and a cluster for its answer (seconds).
PLACED, ANSWERS = 20.0, 90.0
_POLL = 0.1
# What Ray's names for cards (ray/util/accelerators) leave open, or spell in their own way.
KINDS: Mapping[str, str] = {"A100": "A100-40GB", "A100-40G": "A100-40GB", "A100-80G": "A100-80GB", "H100": "H100-80GB"}


def inventory(address: str, *, nodes: int, env: Mapping[str, str] = os.environ) -> Inventory:
    """What so many nodes of a kind have together; raises LauncherError where the cluster cannot be asked or has too few."""
    words = [str(interpreter(env)), "-I", str(SCRIPT), "look", address]
    try:
        done = subprocess.run(words, env=_variables(env), capture_output=True, text=True, timeout=ANSWERS, check=False)
    except subprocess.TimeoutExpired:
        raise LauncherError(f"the Ray cluster at {address} did not answer in {ANSWERS:.0f} s", hint=_HINT) from None
    if done.returncode:
        last = next(iter(reversed(done.stderr.strip().splitlines())), "it said nothing")
        raise LauncherError(f"the Ray cluster at {address} cannot be asked: {last}", hint=_HINT)
    return of_nodes(json.loads(done.stdout.strip().splitlines()[-1]), nodes=nodes)


_HINT = "`ray status` shows whether it runs; this machine is one of its nodes, or ADDRESS begins with ray://"


def of_nodes(told: Sequence[Mapping[str, Any]], *, nodes: int) -> Inventory:
    """The inventory of so many like nodes: of those with the most GPUs, where there are any; raises LauncherError."""
    kinds: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for node in told:
        if node["cpus"] or node["gpus"]:
            kinds.setdefault((node["gpus"], node["kind"]), []).append(node)
    enough = [kind for kind, there in kinds.items() if len(there) >= nodes]
    if not enough:
        most = max((len(there) for there in kinds.values()), default=0)
        asked = "a node was" if nodes == 1 else f"{nodes} nodes of a kind were"
        message = f"{asked} asked for, and the cluster has {most or 'none'} now"
        raise LauncherError(message, hint="`ray status` lists its nodes; fewer --nodes need fewer")
    best = max(enough, key=lambda kind: (kind[0], len(kinds[kind])))
    there = kinds[best]
    one = _node(there[0]) if best[0] else None
    cpu = Cpu(name="", cores=min(node["cpus"] for node in there), arch=platform.machine())
    ram = Ram(*[min(node["memory"] for node in there)] * 2)
    if one is None:
        return Inventory(gpus=(), cpu=cpu, ram=ram)
    gpus = [replace(gpu, index=number * best[0] + gpu.index) for number in range(nodes) for gpu in one.gpus]
    return replace(one, gpus=tuple(gpus), ram=Ram(ram.total * nodes, ram.available * nodes))


def _node(node: Mapping[str, Any]) -> Inventory:
    """One node's GPUs, as its own launcher tells them; else a machine of that kind, as Ray names it."""
    if node["told"]:
        return machines.from_json(node["told"], source=f"what node {node['address']} tells")
    if not node["kind"]:
        hint = "install the launcher on the nodes, or start Ray there with --resources='{\"accelerator_type:H100\": 1}'"
        raise LauncherError(f"nobody says which GPUs node {node['address']} has", hint=hint)
    named = machines.inventory_on(f"{node['gpus']}x{KINDS.get(node['kind'], node['kind'])}")
    return replace(named, cpu=replace(named.cpu, cores=node["cpus"]), ram=Ram(node["memory"], node["memory"]))


def place(home: Home, size: Size, *, env: Mapping[str, str] = os.environ) -> Placed:
    """Have Ray place a server that is told its orders later; raises LauncherError where it has no room."""
    server_id = str(uuid.uuid4())
    folder = home.clusters / server_id
    folder.mkdir(mode=0o700, parents=True)
    os.mkfifo(folder / "orders", 0o600)
    words = (str(size.nodes), str(size.cpus), str(size.gpus), str(PLACED), str(folder))
    command = Command((str(interpreter(env)), "-I", str(SCRIPT), "run", size.address, *words))
    log = home.logs / "cluster.log"
    handle = local.start(command, log=log, server_id=server_id, environment=folder, inherited=_variables(env))
    deadline = time.monotonic() + PLACED + ANSWERS
    while not (folder / "placed").exists():
        if (folder / "fault").exists():
            fault = json.loads((folder / "fault").read_text())["fault"]
            local.stop(handle, grace=_GRACE)
            shutil.rmtree(folder, ignore_errors=True)
            raise LauncherError(fault, hint="`ray status` shows who holds them; it is tried again")
        if not local.alive(handle) or time.monotonic() > deadline:
            local.stop(handle, grace=_GRACE)
            shutil.rmtree(folder, ignore_errors=True)
            raise LauncherError(f"Ray at {size.address} gave no place", hint=f"its words are in {log}")
        time.sleep(_POLL)
    told = json.loads((folder / "placed").read_text())
    return Placed(handle, folder, tuple(told["hosts"]), tuple(told["ports"]))


_GRACE = 5.0


def give(placed: Placed, commands: Sequence[Command], *, weights: Path, log: Path) -> Handle:
    """Start these, one on each node; what they print goes into `log`. Raises LauncherError if nobody waits any more."""
    # Not the id of the process here: a node may be this machine, and its guard ends what has the rank's.
    ids = [f"{placed.handle.server_id}.{rank}" for rank in range(len(commands))]
    also = {"SPT_NOENV": "1", "LAUNCHER_WEIGHTS": str(weights)}
    told = [{**each.env, **each.secrets, **also, machine.SERVER_ID: own} for each, own in zip(commands, ids, strict=True)]
    ranks = [{"argv": each.argv, "env": env} for each, env in zip(commands, told, strict=True)]
    os.close(local.open_log(log))
    pipe = _pipe(placed)
    if pipe is None:
        local.stop(placed.handle, grace=_GRACE)
        hint = "`ray status` shows whether the cluster runs"
        raise LauncherError("what held its place on the cluster is gone", hint=hint)
    with os.fdopen(pipe, "wb") as orders:
        orders.write(json.dumps({"ranks": ranks, "log": str(log)}).encode() + b"\n")
    return placed.handle


def _pipe(placed: Placed) -> int | None:
    """Its pipe, to write into; None if nobody listens, who may take a moment to."""
    deadline = time.monotonic() + _GRACE
    while local.alive(placed.handle) and time.monotonic() < deadline:
        with suppress(OSError):
            pipe = os.open(placed.folder / "orders", os.O_WRONLY | os.O_NONBLOCK)
            os.set_blocking(pipe, True)
            return pipe
        time.sleep(_POLL)
    return None


def interpreter(env: Mapping[str, str]) -> Path:
    """A Python that has Ray: the cluster's own, beside the `ray` on the PATH; else ours. Raises LauncherError."""
    program = shutil.which("ray", path=env.get("PATH"))
    if program and (python := Path(program).resolve().with_name("python")).exists():
        return python
    if find_spec("ray"):
        return Path(sys.executable)
    hint = "pip install 'ray' of the cluster's version where `launcher` is, or put the cluster's `ray` on the PATH"
    raise LauncherError("a cluster needs Ray, and it is not installed", hint=hint)


def _variables(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "LAUNCHER_"))}
