"""Servers on a cluster, whose place is held by a process here: real processes of the stub engine, and no Ray."""

import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from launcher import ports, probe, store
from launcher.command import Command
from launcher.commands import down, sleep, up
from launcher.commands.up import UpRequest
from launcher.errors import LauncherError
from launcher.gpu import Inventory
from launcher.home import Home
from launcher.runners import local, ray
from launcher.runners.base import Handle, Placed, Size
from launcher.server import ServerSpec
from launcher.world import World
from tests.machines_for_tests import machine
from tests.ports_for_tests import own_port
from tests.stub_engine import ANSWER
from tests.world import attend, little_world, running

# As gang.py does it where Ray is: wait for the orders, print into the log, and become what the first rank is.
HOLDER = """
import json, os, sys
with open(sys.argv[1]) as pipe:
    orders = json.loads(pipe.readline())
log = os.open(orders["log"], os.O_WRONLY | os.O_APPEND)
os.dup2(log, 1)
os.dup2(log, 2)
(rank,) = orders["ranks"]
os.execve(rank["argv"][0], rank["argv"], {**os.environ, **rank["env"], "LAUNCHER_SERVER_ID": os.environ["LAUNCHER_SERVER_ID"]})
"""


@dataclass
class Cluster:
    """A cluster with room for so many servers of one node; `sizes` are those that were placed."""

    room: int = 8
    gone: bool = False
    sizes: list[Size] = field(default_factory=list)

    def inventory(self, address: str, *, nodes: int) -> Inventory:
        if self.gone:
            raise LauncherError(f"the Ray cluster at {address} cannot be asked")
        assert nodes == 1
        return machine(ram=16)

    def place(self, home: Home, size: Size) -> Placed:
        if len(self.sizes) >= self.room:
            raise LauncherError(f"no node of the cluster has {size.cpus} CPUs free now")
        server_id = str(uuid.uuid4())
        folder = home.clusters / server_id
        folder.mkdir(mode=0o700, parents=True)
        os.mkfifo(folder / "orders", 0o600)
        command = Command((sys.executable, "-c", HOLDER, str(folder / "orders")))
        log = home.logs / "cluster.log"
        handle = local.start(command, log=log, server_id=server_id, environment=folder, inherited=os.environ)
        self.sizes.append(size)
        return Placed(handle, folder, (ports.LOOPBACK,), (own_port(), 0))

    def give(self, placed: Placed, commands: Sequence[Command], *, weights: Path, log: Path) -> Handle:
        return ray.give(placed, commands, weights=weights, log=log)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def world(tmp_path: Path, cluster: Cluster) -> Iterator[World]:
    made = replace(little_world(tmp_path), clusters=cluster)
    yield made
    down.run(made, None)


SPEC = ServerSpec("tiny", cluster="10.0.0.1:6379")


def request(port: int, spec: ServerSpec = SPEC) -> UpRequest:
    return UpRequest(spec=spec, port=port, proof=False)


def test_a_server_on_a_cluster_is_proven_and_told_of_as_any_other(world: World, cluster: Cluster) -> None:
    told = up.run(world, request(own_port()))
    assert probe.prove(told.endpoint).text == ANSWER
    (server,) = running(world)
    assert (server.state, server.gpus, server.claim) == ("ready", (), 0)
    assert cluster.sizes == [Size("10.0.0.1:6379", nodes=1, cpus=machine(ram=16).cpu.cores, gpus=0)]
    assert "tiny" in server.log.read_text()
    down.run(world, None)
    assert running(world) == []


def test_what_sleeps_gives_its_place_on_the_cluster_back_and_wakes_in_another(world: World, cluster: Cluster) -> None:
    up.run(world, request(own_port()))
    slept = sleep.sleep(world, None)
    assert (slept.state, slept.reason) == ("idle", "what it holds of the cluster goes back to Ray")
    assert running(world) == []
    assert sleep.wake(world, None).state == "ready"
    assert len(cluster.sizes) == 2


def test_the_orders_are_on_no_disk_and_the_key_in_no_record(world: World) -> None:
    up.run(world, request(own_port()))
    key = world.home.engine_key("tiny").read_text().strip()
    for path in (*world.home.clusters.rglob("*"), *world.home.state.rglob("*.json"), *world.home.logs.rglob("*")):
        assert path.is_fifo() or path.is_dir() or key not in path.read_text(), path


def test_what_the_cluster_has_no_room_for_waits_and_counts_as_no_failure(world: World, cluster: Cluster) -> None:
    cluster.room = 1
    with pytest.raises(LauncherError, match="no node of the cluster has"):
        up.run(world, request(own_port(), replace(SPEC, replicas=2)))
    assert running(world) == []


def test_one_whose_cluster_went_away_is_asked_for_until_it_is_back(world: World, cluster: Cluster) -> None:
    told = up.run(world, request(own_port()))
    (before,) = running(world)
    assert before.handle
    cluster.gone = True
    os.kill(before.handle.pid, signal.SIGKILL)
    turn = threading.Event()
    while (now := store.find(world.home, "tiny")) is None or now.detail != "the Ray cluster at 10.0.0.1:6379 cannot be asked":
        turn.wait(0.02)
    assert (now.state, now.restarts) == ("waiting", 1)
    cluster.gone = False
    attend(world)
    up.run(world, request(store.port(world.home) or 0))
    assert probe.prove(told.endpoint).text == ANSWER


def test_orders_for_a_place_that_is_gone_are_refused(tmp_path: Path) -> None:
    # The pid of nobody.
    placed = Placed(Handle(1 << 22, 0.0, "id", tmp_path), tmp_path, ("10.0.0.1",), (1, 2))
    with pytest.raises(LauncherError, match="what held its place on the cluster is gone"):
        ray.give(placed, [Command(("true",))], weights=tmp_path, log=tmp_path / "log")
