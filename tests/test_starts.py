import json
from dataclasses import replace
from typing import Any

import pytest

from launcher import starts
from launcher.plan import Manner
from launcher.profile import Generation, Speculative
from launcher.starts import Start, device_of, served_of
from tests.machines_for_tests import machine
from tests.starts_for_tests import start
from tests.test_planner import OPENHANDS, SMOLLM

FULL = start(weights=14.99, overhead=1.7, kv=50, peak=71.7)
TIMED = replace(FULL, seconds={"imports": 32.0, "weights": 1.5}, ahead=True)


@pytest.mark.parametrize(
    "kept",
    [pytest.param(FULL, id="all measured"), pytest.param(start(), id="nothing measured"), pytest.param(TIMED, id="its phases")],
)
def test_a_start_comes_back_from_its_line_as_it_was(kept: Start) -> None:
    text = starts.line(kept)
    assert "\n" not in text
    assert starts.read(text) == kept


def changed(path: str, value: Any) -> str:
    plain: Any = json.loads(starts.line(FULL))
    part = plain
    *above, last = path.split(".")
    for key in above:
        part = part[key]
    part[last] = value
    return json.dumps(plain)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("[]", id="no object"),
        pytest.param("7", id="a number"),
        pytest.param(starts.line(FULL)[:-40], id="cut off by a full disk"),
        pytest.param(changed("version", starts.VERSION + 1), id="of a later version"),
        pytest.param(changed("more", 1), id="an unknown field"),
        pytest.param(changed("setup", None), id="no setup"),
        pytest.param(changed("setup.device", 7), id="a device that is no name"),
        pytest.param(changed("setup.gpu", "x"), id="an unknown field of the setup"),
        pytest.param(changed("context", "8192"), id="a context in quotes"),
        pytest.param(changed("measured.weights", 0), id="no weights at all"),
        pytest.param(changed("measured.overhead", -1), id="less than nothing"),
        pytest.param(changed("measured.peak", json.loads("true")), id="a truth for a size"),
        pytest.param(changed("measured.kv", 0.5), id="half a byte"),
        pytest.param(changed("planned.modelled", [1, 2]), id="a list for sizes"),
        pytest.param(changed("planned.claim", float("nan")), id="not a number"),
        pytest.param(changed("seconds", [1, 2]), id="a list for seconds"),
        pytest.param(changed("seconds", {"imports": -1}), id="a phase of less than nothing"),
        pytest.param(changed("seconds", {"imports": float("inf")}), id="a phase without an end"),
        pytest.param(changed("seconds", {"imports": "1"}), id="seconds in quotes"),
        pytest.param(changed("ahead", 1), id="a number for a truth"),
    ],
)
def test_a_line_that_is_no_start_of_today_is_none(text: str) -> None:
    assert starts.read(text) is None


def test_a_start_that_was_put_on_record_without_its_phases_is_still_read() -> None:
    plain: Any = json.loads(starts.line(FULL))
    del plain["seconds"], plain["ahead"]
    assert starts.read(json.dumps(plain)) == FULL


def test_cards_of_one_name_are_told_apart_by_their_memory() -> None:
    small, large = machine(1, 7.6, name="RTX 4060 Ti").gpus[0], machine(1, 15.57, name="RTX 4060 Ti").gpus[0]
    assert (device_of(small), device_of(large)) == ("RTX 4060 Ti, 8 GiB", "RTX 4060 Ti, 16 GiB")


def test_what_is_served_changes_with_all_that_changes_its_memory() -> None:
    variant = replace(SMOLLM.variants[0], args={"vllm": ("--dtype", "float16")})
    plain = Manner(sequences=8)
    served = [
        served_of(SMOLLM, variant, "vllm", plain),
        served_of(SMOLLM, variant, "sglang", plain),
        served_of(SMOLLM, replace(variant, size=1), "vllm", plain),
        served_of(SMOLLM, replace(variant, precision="fp8"), "vllm", plain),
        served_of(SMOLLM, replace(variant, weights=OPENHANDS.variants[0].weights), "vllm", plain),
        served_of(replace(SMOLLM, args={"vllm": ("--max-num-seqs", "4")}), variant, "vllm", plain),
        served_of(replace(SMOLLM, gpu_args=((Generation((9, 0)), {"vllm": ("--enforce-eager",)}),)), variant, "vllm", plain),
        served_of(SMOLLM, variant, "vllm", Manner(Speculative("mtp", 2), sequences=8)),
        served_of(SMOLLM, variant, "vllm", Manner(sequences=64)),
        served_of(SMOLLM, variant, "vllm", Manner(sequences=8, can_sleep=True)),
        served_of(SMOLLM, variant, "vllm", Manner(sequences=8, extra=("--enforce-eager",))),
    ]
    assert len({*served}) == len(served)
