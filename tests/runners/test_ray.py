"""What a Ray cluster's own words mean: its nodes as the inventory that is planned on, and where a Python with Ray is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from launcher import machines
from launcher.errors import LauncherError
from launcher.runners import ray
from tests.machines_for_tests import machine

GIB = 1 << 30


def node(number: int, *, cpus: int = 8, gpus: int = 0, memory: int = 64, kind: str = "", told: object = None) -> dict[str, Any]:
    address = f"10.0.0.{number}"
    counted = {"cpus": cpus, "gpus": gpus, "memory": memory * GIB, "kind": kind, "told": told}
    return {"id": str(number), "address": address, **counted}


HEAD = node(1, cpus=0)
TWO_CPUS = [node(2), node(3, cpus=4, memory=32)]
# Ray's names for cards: ray/util/accelerators/accelerators.py.
H100 = [node(number, cpus=96, gpus=8, memory=1024, kind="H100") for number in (4, 5)]
A100 = node(6, cpus=96, gpus=4, memory=512, kind="A100")


@pytest.mark.parametrize(
    ("nodes", "told", "expected"),
    [
        pytest.param(1, [HEAD, *TWO_CPUS], ((), 4, 32), id="nodes without GPUs, of which the smallest decides"),
        pytest.param(2, [HEAD, *TWO_CPUS], ((), 4, 32), id="each of several nodes has as much as the smallest"),
        pytest.param(1, [*TWO_CPUS, *H100], (tuple(range(8)), 96, 1024), id="the GPUs of one node"),
        pytest.param(2, [*TWO_CPUS, A100, *H100], (tuple(range(16)), 96, 2048), id="the GPUs of two like nodes, numbered on"),
        pytest.param(1, [A100], (tuple(range(4)), 96, 512), id="a card that Ray names for short is the smaller one"),
    ],
)
def test_what_nodes_have_together(
    nodes: int, told: list[Mapping[str, Any]], expected: tuple[tuple[int, ...], int, int]
) -> None:
    found = ray.of_nodes(told, nodes=nodes)
    assert (tuple(gpu.index for gpu in found.gpus), found.cpu.cores, found.ram.available // GIB) == expected


def test_a_node_that_has_the_launcher_tells_of_its_gpus_itself() -> None:
    own = machines.to_json(machine(2, 24.0))
    found = ray.of_nodes([node(1, gpus=2, kind="A100", told=own)], nodes=1)
    assert found.gpus == machine(2, 24.0).gpus


@pytest.mark.parametrize(
    ("nodes", "told", "message"),
    [
        pytest.param(3, TWO_CPUS, "3 nodes of a kind were asked for, and the cluster has 2 now", id="too few nodes"),
        pytest.param(1, [HEAD], "a node was asked for, and the cluster has none now", id="a head that computes nothing"),
        pytest.param(3, [A100, *H100], "3 nodes of a kind were asked for, and the cluster has 2 now", id="of two kinds"),
        pytest.param(1, [node(1, gpus=1)], "nobody says which GPUs node 10.0.0.1 has", id="GPUs without a name"),
    ],
)
def test_what_cannot_be_planned_on(nodes: int, told: list[Mapping[str, Any]], message: str) -> None:
    with pytest.raises(LauncherError, match=message):
        ray.of_nodes(told, nodes=nodes)


def test_the_clusters_own_python_is_the_one_beside_its_ray(tmp_path: Path) -> None:
    for name in ("ray", "python"):
        (tmp_path / name).touch(mode=0o755)
    assert ray.interpreter({"PATH": str(tmp_path)}) == tmp_path / "python"


def test_without_ray_it_is_said_where_it_belongs(tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match="a cluster needs Ray"):
        ray.interpreter({"PATH": str(tmp_path)})
