"""What the adapter says to vLLM, said to the real one: a stretched window, and a start that must fail."""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import catalogue, host, preparing
from launcher.commands import down, ps, up
from launcher.commands.up import UpRequest
from launcher.engines.registry import ENGINES
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.server import ServerSpec
from launcher.world import World
from tests.ports_for_tests import own_port
from tests.real.conftest import Machine
from tests.world import little_world

pytestmark = pytest.mark.real

PROFILE = (catalogue.shipped() / "smollm2-135m.toml").read_text()


@pytest.fixture
def world(tmp_path: Path, machine: Machine) -> Iterator[World]:
    """The real engine in the home of all real tests, with profiles of our own."""
    home, env = Home(machine.home), machine.env
    made = replace(
        little_world(tmp_path),
        home=home,
        env=env,
        engines=ENGINES,
        inventory=lambda: host.inventory(os.environ),
        expect=lambda plan: preparing.expect(home, env, ENGINES, plan),
        prepare=lambda plan, progress: preparing.prepare(home, env, ENGINES, plan, progress),
    )
    yield made
    down.run(made, None)


def request(name: str) -> UpRequest:
    return UpRequest(spec=ServerSpec(model=name), port=own_port())


def test_a_window_stretched_by_yarn_is_the_one_that_vllm_serves(world: World) -> None:
    (world.profiles[0] / "stretched.toml").write_text("yarn_factor = 2.0\n" + PROFILE)
    result = up.run(world, request("stretched"))
    assert result.endpoint.context == 16_384


def test_a_start_that_fails_is_explained_by_the_line_far_above_the_last(world: World) -> None:
    wrong = re.sub(r"args = .*", 'args = { vllm = ["--tool-call-parser", "nope", "--enable-auto-tool-choice"] }', PROFILE)
    (world.profiles[0] / "wrong.toml").write_text(wrong)
    with pytest.raises(LauncherError, match="the engine knows no tool parser nope") as caught:
        up.run(world, request("wrong"))
    assert "the whole log" in caught.value.hint
    assert ps.run(world).rows[-1].state == "failed"
