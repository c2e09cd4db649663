"""Engines as images: installed, added, listed, chosen, checked and removed, over a docker that stands in for the real one."""

import json
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from launcher import environments, keys, preparing, store
from launcher.clearing import survey
from launcher.command import Command
from launcher.commands import engines, engines_add, engines_check, engines_install, engines_remove, engines_use
from launcher.deciding import command_of
from launcher.engines import vllm
from launcher.errors import LauncherError
from launcher.gpu import Inventory
from launcher.home import Home
from launcher.prepared import Prepared
from launcher.release import Release
from launcher.runners.base import Handle, Placed, Size
from launcher.runners.docker import volume
from launcher.server import ServerSpec
from launcher.serving import plan_now
from launcher.world import World
from tests.docker_for_tests import IMAGE, INFO, REFERENCE, SIZE, TAG, OwnDocker
from tests.fake_nvml import RTX_4090, Scenario, fake_driver
from tests.homestead import awaited, homestead
from tests.machines_for_tests import machine
from tests.models_for_tests import tiny_folder
from tests.world import StubEngine, Told, little_world

NAME = f"vllm-{vllm.VERSION}-image"
GPU = replace(machine(1, 24, ram=16), driver="580.65.06")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnDocker]:
    made = OwnDocker.make(tmp_path / "docker", has=False)
    yield made
    made.clear()


@pytest.fixture
def world(tmp_path: Path, own: OwnDocker) -> World:
    made = little_world(tmp_path, engine=StubEngine(VERSION=vllm.VERSION))
    return replace(made, env=own.env, inventory=lambda: GPU)


def install(world: World, version: str | None = None, accelerator: str | None = None) -> engines_install.InstallResult:
    return engines_install.run_image(world, "vllm", version=version, accelerator=accelerator)


def rows(world: World) -> dict[str, dict[str, Any]]:
    told = json.loads(json.dumps(engines.run(world).json()))
    return {row["name"]: row for row in told if row["installed"]}


def test_an_image_is_installed_listed_chosen_planned_checked_and_removed(world: World, own: OwnDocker) -> None:
    installed = install(world)
    assert (installed.there.name, installed.already, installed.taken) == (NAME, False, False)
    assert isinstance(world.progress, Told)
    assert (f"docker fetches {TAG}: 2 of 2 layers", 2, None) in world.progress.updates
    assert install(world).already
    assert own.said("pull") == [["--host", own.daemon, "pull", TAG]]
    row = rows(world)[NAME]
    assert {
        "engine": "vllm",
        "version": vllm.VERSION,
        "build": "cuda",
        "image": REFERENCE,
        "python": None,
    }.items() <= row.items()
    assert (row["size"], row["adopted"], row["stale"], row["broken"]) == (SIZE, False, False, "")
    assert engines_use.run(world, NAME).note == ""
    assert store.chosen(world.home) == {"vllm-cuda": NAME}
    assert rows(world)[NAME]["taken"]
    assert engines_check.run(world, NAME).exit_code == 0
    # It takes its room in docker, where `clean` frees nothing.
    assert [item for item in survey(world) if item.kind == "environments"] == []
    (own.folder / "volumes").mkdir()
    (own.folder / "volumes" / volume(world.home, NAME)).touch()
    removed = engines_remove.run(world, NAME)
    assert (removed.back_to, own.images(), own.volumes()) == (f"vllm-{vllm.VERSION}-cuda", set(), set())
    assert rows(world) == {}


def test_what_up_would_start_is_that_very_image(world: World) -> None:
    install(world)
    engines_use.run(world, NAME)
    engine = {"vllm": world.engines["vllm"]}
    chosen = replace(world, expect=lambda plan: preparing.expect(world.home, world.env, engine, plan))
    plan = plan_now(chosen, ServerSpec("tiny"))
    words = command_of(chosen, plan).argv
    assert words[0] == "docker"
    assert REFERENCE in words
    # What the driver must be for is what the image says of itself.
    assert environments.releases(world.home, engine)["vllm", "cuda"] == Release(vllm.VERSION, cuda=(13, 0))


def test_an_image_has_no_python_to_convert_weights_with(world: World) -> None:
    there = install(world).there
    with pytest.raises(LauncherError, match="is an image, and these weights are converted") as fault:
        preparing.interpreter(there)
    assert "`launcher engines install vllm`" in fault.value.hint


def test_a_wish_for_an_image_that_was_removed_is_prepared_anew(world: World) -> None:
    there = install(world).there
    weights = world.home.root / "weights"
    weights.mkdir()
    prepared = Prepared(there.path, there.python, weights, world.home.caches, vllm.VERSION, image=there.image)
    assert prepared.whole
    engines_remove.run(world, NAME)
    assert not prepared.whole


def test_another_version_is_its_makers_tag(world: World, own: OwnDocker) -> None:
    older = "vllm/vllm-openai:v0.31.0"
    own.keep("registry", {older: {**IMAGE, "RepoDigests": ["vllm/vllm-openai@sha256:02"]}})
    installed = install(world, "0.31.0")
    assert (installed.there.name, installed.there.release.version) == ("vllm-0.31.0-image", "0.31.0")
    assert any("other versions may not take" in note for note in installed.notes)


def test_what_was_in_docker_before_stays_there(world: World, own: OwnDocker) -> None:
    own.keep("images", {TAG: IMAGE})
    assert install(world).there.adopted
    engines_remove.run(world, NAME)
    assert own.images() == {TAG}
    assert own.said("pull") == []


def test_a_tag_that_means_another_image_by_now_is_left_alone(world: World, own: OwnDocker) -> None:
    install(world)
    # As `docker pull` of a tag that was moved leaves it.
    own.keep("images", {TAG: {**IMAGE, "RepoDigests": ["vllm/vllm-openai@sha256:02"]}, REFERENCE: IMAGE})
    engines_remove.run(world, NAME)
    assert own.images() == {TAG}


def test_an_image_of_ones_own_is_taken_in(world: World, own: OwnDocker) -> None:
    mine = {**IMAGE, "Id": "sha256:0f", "RepoDigests": []}
    own.keep("images", {"registry.local/serving:0.32.0-patched": mine})
    there = engines_add.run_image(world, "mine", "registry.local/serving:0.32.0-patched", "vllm").there
    assert (there.image, there.release.version, there.adopted) == ("sha256:0f", "0.32.0", True)
    # Before anything is pulled for it.
    with pytest.raises(LauncherError, match="there is an environment mine already"):
        engines_add.run_image(world, "mine", TAG, "vllm")
    assert own.said("pull") == []


def test_one_that_docker_lost_is_told_and_pulled_again(world: World, own: OwnDocker) -> None:
    install(world)
    own.keep("images", {})
    checked = engines_check.run(world, NAME)
    assert (checked.exit_code, checked.faults[0].reason) == (1, f"docker does not have {TAG} any more")
    assert f"docker pull {TAG}" in checked.faults[0].remedy
    assert not install(world).already
    assert engines_check.run(world, NAME).exit_code == 0


def test_one_whose_docker_is_gone_can_be_forgotten(world: World) -> None:
    install(world)
    engines_remove.run(replace(world, env={"PATH": "/nonexistent"}), NAME)
    assert rows(world) == {}


@dataclass
class Cluster:
    """Two machines like ours."""

    def inventory(self, address: str, *, nodes: int) -> Inventory:
        assert (address, nodes) == ("ray://head", 1)
        return GPU

    def place(self, home: Home, size: Size) -> Placed:
        raise NotImplementedError(f"nothing is placed in {home}: {size}")

    def give(self, placed: Placed, commands: Sequence[Command], *, weights: Path, log: Path) -> Handle:
        raise NotImplementedError(f"nothing is started: {placed}, {commands}, {weights}, {log}")


def test_an_image_is_not_run_on_a_cluster(world: World) -> None:
    install(world)
    engines_use.run(world, NAME)
    engine = {"vllm": world.engines["vllm"]}
    chosen = replace(world, clusters=Cluster(), expect=lambda plan: preparing.expect(world.home, world.env, engine, plan))
    with pytest.raises(LauncherError, match=f"{NAME} is an image, which docker runs on this machine alone"):
        plan_now(chosen, ServerSpec("tiny", cluster="ray://head"))


OLD = replace(GPU, driver="550.54.15")


@pytest.mark.parametrize(
    ("inventory", "reason"),
    [
        pytest.param(OLD, "needs NVIDIA driver 580 or newer for CUDA 13.0", id="an old driver"),
        pytest.param(machine(), "there is none here", id="no GPU"),
    ],
)
def test_an_image_is_held_against_the_machine(world: World, inventory: Inventory, reason: str) -> None:
    install(world)
    (fault,) = engines_check.run(replace(world, inventory=lambda: inventory), NAME).faults
    assert reason in fault.reason


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        pytest.param("runtime", "docker knows no NVIDIA runtime", id="no runtime for GPUs"),
        pytest.param("tag", "the registry has no such image", id="no such tag"),
        pytest.param("daemon", "docker's daemon does not run", id="no daemon"),
        pytest.param("docker", "there is no `docker` on the PATH", id="no docker"),
        pytest.param("cpu", "the image of vllm is built for NVIDIA GPUs", id="for the CPU"),
        pytest.param("offline", f"docker does not have {TAG}", id="offline"),
    ],
)
def test_what_stands_in_the_way_is_told_and_nothing_is_noted(world: World, own: OwnDocker, wrong: str, message: str) -> None:
    if wrong == "runtime":
        own.keep("info", {**INFO, "Runtimes": {"runc": {}}})
    elif wrong == "tag":
        own.keep("registry", {})
    elif wrong == "daemon":
        own.fails("info", "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?")
    env = {"docker": {"PATH": "/nonexistent"}, "offline": {**world.env, "UV_OFFLINE": "1"}}.get(wrong, dict(world.env))
    with pytest.raises(LauncherError, match=message):
        install(replace(world, env=env), accelerator="cpu" if wrong == "cpu" else None)
    assert rows(world) == {}
    assert own.images() == set()


def test_by_the_launchers_own_words_an_image_is_served_adopted_put_to_sleep_and_left(tmp_path: Path, own: OwnDocker) -> None:
    with homestead(tmp_path) as made:
        made.env |= {**own.env, **fake_driver(tmp_path / "driver", Scenario(RTX_4090))}
        del made.env["CUDA_VISIBLE_DEVICES"]

        def launcher(*words: str) -> str:
            done = made.launcher(*words)
            assert done.returncode == 0, done.stderr
            return done.stdout

        launcher("engines", "install", "vllm", "--image")
        launcher("engines", "use", NAME)
        up = ("up", str(tiny_folder(tmp_path / "tiny")), "--engine", "vllm", "--can-sleep", "--no-wire", "--yes")
        launcher(*up)
        server = store.find(made.home, "tiny")
        assert server
        assert server.handle
        assert own.containers() == {server.handle.container}
        key = keys.read(made.home.engine_key("tiny")) or ""
        assert key
        assert not [words for words in own.said("run") if key in "".join(words)]
        # Whoever looks after it is killed, and the next one finds it.
        holder = made.holder()
        assert holder
        os.kill(holder.pid, signal.SIGKILL)
        awaited(lambda: made.holder() is None)
        launcher(*up)
        assert (found := store.find(made.home, "tiny")) is not None
        assert found.handle == server.handle
        launcher("sleep", "tiny")
        assert (found := store.find(made.home, "tiny")) is not None
        assert (found.state, found.handle) == ("asleep", server.handle)
        launcher("wake", "tiny")
        assert made.launcher("engines", "remove", NAME).returncode == 1
        launcher("down")
        assert own.containers() == set()
        launcher("engines", "remove", NAME)
        assert own.images() == set()
