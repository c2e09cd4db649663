import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import catalogue
from launcher.commands import plan
from launcher.commands.plan import PlanResult
from launcher.engines.registry import ENGINES
from launcher.gpu import GIB, GpuProcess, Inventory
from launcher.machines import inventory_on
from launcher.server import ServerSpec
from launcher.world import World
from tests.machines_for_tests import machine
from tests.world import little_world

TRAINING = GpuProcess(77, "python", 70 * GIB)
DESKTOP = GpuProcess(5, "Xorg", GIB)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The shipped profiles and the real engines."""
    return replace(little_world(tmp_path), profiles=(catalogue.shipped(),), engines=ENGINES)


def held(inventory: Inventory, process: GpuProcess) -> Inventory:
    gpus = (replace(gpu, free=gpu.free - process.used, processes=(process,)) for gpu in inventory.gpus)
    return replace(inventory, gpus=tuple(gpus))


def drawn(result: PlanResult) -> list[str]:
    from rich.console import Console

    console = Console(width=80, highlight=False)
    with console.capture() as captured:
        console.print(result.text())
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize(
    ("model", "machine"),
    [
        pytest.param("openhands-lm-32b", "2xRTX-4090", id="two GPUs"),
        pytest.param("deepseek-v3-0324", "8xH200", id="eight large ones"),
        pytest.param("qwen3-4b", "GB10", id="unified memory"),
    ],
)
def test_each_bar_tells_its_parts_apart_and_is_as_long_as_the_others(world: World, model: str, machine: str) -> None:
    result = plan.run(world, ServerSpec(model=model), inventory_on(machine))
    lines = drawn(result)
    bars = [line.split()[2] for line in lines if line.startswith("GPU ")]
    assert {len(bar) for bar in bars} == {40}
    # weights, engine, KV cache, others, free: in this order
    order = "█▓▒▚·"
    assert all(sorted(bar, key=order.index) == list(bar) for bar in bars)
    assert all({"█", "▒", "·"} <= set(bar) for bar in bars)
    legend = next(line for line in lines if line.startswith("in GiB"))
    assert all(
        f"{glyph} {what} " in legend for glyph, what in zip(order, ("weights", "engine", "KV cache", "others"), strict=False)
    )


def test_who_else_holds_memory_is_named_beside_the_bars(world: World) -> None:
    result = plan.run(world, ServerSpec(model="qwen3-4b"), held(machine(1, 79.18), DESKTOP))
    assert "others: Xorg (pid 5, 1.0 GiB)" in drawn(result)


@pytest.mark.parametrize(
    ("spec", "inventory", "hint"),
    [
        pytest.param(
            ServerSpec(model="qwen3-4b", context=48 * 1024),
            inventory_on("RTX-4090"),
            "without these options it would be bf16 on NVIDIA GeForce RTX 4090 with 40,960 tokens of context",
            id="a context beyond the model's: what there is without asking",
        ),
        pytest.param(
            ServerSpec(model="qwen3-4b", tensor=3),
            inventory_on("3xRTX-4090"),
            "without these options it would be bf16 on NVIDIA GeForce RTX 4090 with 40,960 tokens of context",
            id="a layout that does not divide: the same",
        ),
        pytest.param(
            ServerSpec(model="openhands-lm-32b"),
            held(machine(1, 79.18), TRAINING),
            "it would run once python (pid 77, 70.0 GiB) let go of memory",
            id="a GPU that others fill: who",
        ),
        pytest.param(
            ServerSpec(model="openhands-lm-32b"),
            inventory_on("RTX-3060"),
            "it fits on RTX-5090: `launcher plan openhands-lm-32b --on RTX-5090`; `launcher models` lists what runs here",
            id="a GPU that is too small: the smallest that is not",
        ),
    ],
)
def test_what_does_not_fit_says_what_would_do(world: World, spec: ServerSpec, inventory: Inventory, hint: str) -> None:
    result = plan.run(world, spec, inventory)
    assert result.exit_code == 1
    assert json.loads(json.dumps(result.json()))["hint"] == hint


def test_what_no_variant_can_be_is_said_once(world: World) -> None:
    result = plan.run(world, ServerSpec(model="qwen3-4b", context=48 * 1024), inventory_on("RTX-4090"))
    assert drawn(result)[0] == "qwen3-4b does not fit: the model's context ends at 40,960 tokens"


def test_variants_that_lost_for_the_same_reason_share_a_line(world: World) -> None:
    result = plan.run(world, ServerSpec(model="qwen3-4b"), inventory_on("RTX-5090"))
    assert [line for line in drawn(result) if "less precise" in line] == [
        "note     fp8, mxfp4, awq on vllm and sglang: less precise than bf16, which does"
    ]


def test_a_plan_over_machines_shows_one_bar_for_each_and_no_command(world: World) -> None:
    result = plan.run(world, ServerSpec(model="kimi-k2.6"), inventory_on("4x(8xH100-80GB)"))
    lines = drawn(result)
    assert [line.split()[:2] for line in lines if line.startswith(("node ", "GPU "))] == [["node", "0"], ["node", "1"]]
    assert result.command is None
    assert any("launcher export kubernetes kimi-k2.6" in line for line in lines)
    told = json.loads(json.dumps(result.json()))
    assert (told["nodes"], [gpu["node"] for gpu in told["gpus"]]) == (2, [0] * 8 + [1] * 8)
