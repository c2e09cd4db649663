"""How much work planning is, counted in function calls: no clock, so that a busy machine tells the same."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher import architecture, catalogue, memory, planner
from launcher.engines.registry import ENGINES
from launcher.plan import Wish
from tests.machines_for_tests import machine

CONFIGS = json.loads((Path(__file__).parent / "measurements" / "configs.json").read_text())
OPENHANDS = catalogue.load_all([catalogue.shipped()])["openhands-lm-32b"]
EIGHT = machine(8, 178.35, compute=(10, 0))


def calls(work: Callable[[], object]) -> int:
    """How many functions of ours were called."""
    seen = 0

    def count(frame: Any, event: str, _: object) -> None:
        nonlocal seen
        seen += event == "call" and "launcher" in frame.f_code.co_filename

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return seen


def facts(name: str, periods: int) -> dict[str, Any]:
    """A model with so many times the layers after which its kinds repeat."""
    config: dict[str, Any] = CONFIGS[name]["config"]
    told = {key: value for key, value in config.items() if key not in {"layer_types_count", "hybrid_override_pattern"}}
    return {**told, "num_hidden_layers": 6 * periods, **({"compress_ratios": [4, 128] * 3 * periods} if "V4" in name else {})}


def plans(name: str, periods: int) -> Callable[[], object]:
    model = architecture.read(facts(name, periods), where=name)
    profile = replace(OPENHANDS, architecture=model, yarn_factor=1.0)
    return lambda: planner.plan(profile, EIGHT, ENGINES, Wish(tensor=8, pipeline=1, variant="mxfp4"))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("meta-llama/Llama-3.1-8B-Instruct", id="plain attention"),
        pytest.param("Qwen/Qwen3-235B-A22B-FP8", id="experts"),
        pytest.param("google/gemma-4-31B-it", id="windows"),
        pytest.param("Qwen/Qwen3.5-27B", id="states"),
        pytest.param("lukealonso/GLM-5.1-NVFP4-MTP", id="sparse latents"),
    ],
)
def test_eight_times_the_layers_are_not_twice_the_work(name: str) -> None:
    plans(name, 2)()  # what is remembered between plans is remembered by now
    few, many = (calls(plans(name, periods)) for periods in (2, 16))
    assert many < 2 * few


def test_a_plan_that_is_made_again_asks_for_its_groups_once() -> None:
    # As deep as no model is: what the shipped one's plans leave in the cache must not be found here.
    plan = plans("google/gemma-4-31B-it", 11)
    assert calls(plan) > calls(plan)


def test_a_long_list_of_what_is_not_quantised_is_read_once() -> None:
    ignored = [f"model.layers.{layer}.self_attn.{name}_proj" for layer in range(60) for name in "qkvo"]
    told = {"quant_method": "fp8", "modules_to_not_convert": ignored}
    model = architecture.read({**facts("Qwen/Qwen3-235B-A22B-FP8", 10), "quantization_config": told}, where="a long list")
    assert model.quantisation
    own, bare = model.quantisation, replace(model.quantisation, ignored=())
    assert memory.weights(model, own, 8) > memory.weights(model, bare, 8)
    assert calls(lambda: memory.weights(model, own, 8)) == calls(lambda: memory.weights(model, bare, 8))
