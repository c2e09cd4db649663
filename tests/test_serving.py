"""A wish on a cluster, planned on what its nodes have; the cluster is a value."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from launcher import serving
from launcher.command import Command
from launcher.engines.registry import ENGINES
from launcher.errors import LauncherError
from launcher.gpu import Inventory
from launcher.home import Home
from launcher.runners.base import Handle, Placed, Size
from launcher.server import ServerSpec
from launcher.world import World
from tests.machines_for_tests import machine
from tests.world import little_world

ADDRESS = "10.0.0.1:6379"


@dataclass
class Nodes:
    """Clusters whose nodes are all like this one; nothing runs there."""

    node: Inventory
    asked: list[tuple[str, int]] = field(default_factory=list)

    def inventory(self, address: str, *, nodes: int) -> Inventory:
        self.asked.append((address, nodes))
        every = [replace(gpu, index=index) for index, gpu in enumerate(self.node.gpus * nodes)]
        return replace(self.node, gpus=tuple(every))

    def place(self, home: Home, size: Size) -> Placed:
        raise LauncherError(f"{home.root} wants {size}")

    def give(self, placed: Placed, commands: Sequence[Command], *, weights: Path, log: Path) -> Handle:
        raise LauncherError(f"{placed} was told {commands} ({weights}, {log})")


def world_of(root: Path, node: Inventory) -> World:
    return replace(little_world(root), engines=ENGINES, clusters=Nodes(node), profiles=(Path("profiles").absolute(),))


CPUS = machine(ram=16)
H100S = machine(8, 79.25)


@pytest.mark.parametrize(
    ("node", "spec", "layout", "size"),
    [
        pytest.param(CPUS, ServerSpec("smollm2-135m"), (1, 1), (1, CPUS.cpu.cores, 0), id="on CPUs it takes a whole node"),
        pytest.param(
            CPUS,
            ServerSpec("smollm2-135m", nodes=3),
            (3, 1),
            (3, CPUS.cpu.cores, 0),
            id="over three nodes each has a third of each layer: nine heads, three of the KV cache",
        ),
        pytest.param(
            CPUS,
            ServerSpec("smollm2-135m", nodes=3, tensor=3),
            (3, 1),
            (3, CPUS.cpu.cores, 0),
            id="a start on another day finds the same",
        ),
        pytest.param(
            H100S, ServerSpec("openhands-lm-32b", tensor=2), (2, 1), (1, 1, 2), id="within a node as many GPUs as are asked for"
        ),
        pytest.param(
            H100S, ServerSpec("openhands-lm-32b", nodes=2), (8, 2), (2, 1, 8), id="over two nodes two stages, each of one node"
        ),
    ],
)
def test_a_plan_on_a_cluster(
    tmp_path: Path, node: Inventory, spec: ServerSpec, layout: tuple[int, int], size: tuple[int, int, int]
) -> None:
    world = world_of(tmp_path, node)
    wish = replace(spec, cluster=ADDRESS)
    plan = serving.plan_now(world, wish)
    assert (plan.tensor, plan.pipeline) == layout
    taken = serving.size(world, plan, wish)
    assert (taken.address, taken.nodes, taken.cpus, taken.gpus) == (ADDRESS, *size)
    again = serving.as_planned(wish, plan)
    assert again.gpus == ()
    assert (serving.plan_again(world, again).tensor, serving.plan_again(world, again).context) == (plan.tensor, plan.context)


def test_a_layer_that_cannot_be_shared_out_is_said(tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match="smollm2-135m cannot run on 2 nodes: "):
        serving.plan_now(world_of(tmp_path, CPUS), ServerSpec("smollm2-135m", cluster=ADDRESS, nodes=2))
