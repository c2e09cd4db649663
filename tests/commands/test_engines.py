"""`launcher engines` and its verbs, over a made-up engine that is really resolved, installed, imported and removed."""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher import environments, preparing, store
from launcher.commands import (
    down,
    engines,
    engines_add,
    engines_check,
    engines_install,
    engines_remove,
    engines_use,
    up,
)
from launcher.commands.up import UpRequest
from launcher.deciding import command_of
from launcher.environment import Environment
from launcher.errors import LauncherError
from launcher.gpu import Inventory
from launcher.plan import Plan
from launcher.prepared import Prepared
from launcher.progress import Progress
from launcher.release import Release
from launcher.server import ServerSpec
from launcher.serving import plan_now
from launcher.world import World
from tests.machines_for_tests import machine
from tests.ports_for_tests import own_port
from tests.wheels import PYTHON, made_up_torch, make_wheel, user_env
from tests.world import StubEngine, little_world

NAME = "vllm-1.0-cpu"
ENGINE = StubEngine(
    PYTHON={"cpu": PYTHON, "cuda": PYTHON},
    REQUIREMENTS={"cpu": ("tiny",), "cuda": ("huge",)},
    LAST_FOR_CUDA={12: "0.1"},
    IMPORTS={"cpu": ("torch", "tiny"), "cuda": ("torch", "huge")},
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A user whose index holds two versions of the engine."""
    for version in ("1.0", "1.1"):
        files = {"tiny.py": b"ANSWER = 42\n", "torch.py": made_up_torch(None).encode()}
        make_wheel(tmp_path / "wheels", files, version=version)
    cuda = ("torch==2.13.0", "nvidia-cuda-runtime==13.0.96")
    make_wheel(tmp_path / "wheels", {"huge.py": b""}, name="huge", needs=cuda)
    make_wheel(tmp_path / "wheels", {"torch.py": made_up_torch("13.0").encode()}, name="torch", version="2.13.0")
    make_wheel(tmp_path / "wheels", {"x.py": b""}, name="nvidia_cuda_runtime", version="13.0.96")
    made = replace(little_world(tmp_path, engine=ENGINE), env=user_env(tmp_path))
    yield made
    down.run(made, None)


def rows(world: World) -> dict[str, dict[str, Any]]:
    told = json.loads(json.dumps(engines.run(world).json()))
    return {row["name"]: row for row in told}


def install(world: World, version: str = "1.0", accelerator: str | None = "cpu") -> engines_install.InstallResult:
    return engines_install.run(world, "vllm", version=version, accelerator=accelerator)


def served_from(world: World, name: str) -> World:
    """The world in which the stub engine serves from that environment, as far as records go."""
    prepared = Prepared(
        environment=world.home.environments / name,
        python=Path(sys.executable),
        weights=world.home.weights,
        caches=world.home.caches / name,
        version="1.0",
    )

    def prepare(_: Plan, progress: Progress) -> Prepared:
        progress.phase("environment")
        return prepared

    return replace(world, prepare=prepare)


def test_an_engine_is_installed_listed_chosen_checked_and_removed(world: World) -> None:
    installed = install(world)
    assert (installed.there.name, installed.already, installed.taken) == (NAME, False, False)
    assert install(world).already
    row = rows(world)[NAME]
    assert {"engine": "vllm", "version": "1.0", "build": "cpu", "installed": True, "taken": False}.items() <= row.items()
    assert row["size"] == installed.there.size > 100_000
    assert engines_use.run(world, NAME).version == "1.0"
    assert (rows(world)[NAME]["taken"], rows(world)[NAME]["chosen"]) == (True, True)
    assert (world.home.state / "engines.json").stat().st_mode & 0o777 == 0o600
    assert engines_check.run(world, NAME).exit_code == 0
    removed = engines_remove.run(world, NAME)
    assert (removed.back_to, removed.usage.freed > 0) == ("vllm-0-cpu", True)
    assert rows(world) == {}
    assert store.chosen(world.home) == {}


def test_several_versions_live_beside_each_other(world: World) -> None:
    for version in ("1.0", "1.1"):
        install(world, version)
    engines_use.run(world, NAME)
    assert {name: row["taken"] for name, row in rows(world).items()} == {NAME: True, "vllm-1.1-cpu": False}
    # The launcher's own name gives the choice back, installed or not.
    assert engines_use.run(world, "vllm-0-cpu").own
    assert not any(row["taken"] for row in rows(world).values())


def test_up_and_plan_take_the_chosen_one(world: World, tmp_path: Path) -> None:
    install(world)
    engines_use.run(world, NAME)
    engine = {"vllm": ENGINE}
    chosen = replace(world, expect=lambda plan: preparing.expect(world.home, world.env, engine, plan))
    shell = command_of(chosen, plan_now(chosen, ServerSpec("tiny"))).shell()
    assert str(world.home.environments / NAME / "bin" / "python") in shell
    assert not (tmp_path / "launcher" / "caches").exists()


def test_a_server_keeps_what_it_compiles_in_its_environments_caches(world: World) -> None:
    serving = served_from(world, NAME)
    up.run(serving, UpRequest(spec=ServerSpec("tiny"), port=own_port()))
    (server,) = store.seen(world.home)
    assert server.handle is not None
    environ = Path(f"/proc/{server.handle.pid}/environ").read_bytes().split(b"\0")
    assert f"STUB_CACHE={world.home.caches / NAME / 'stub'}".encode() in environ


def test_what_serves_is_neither_removed_nor_replaced_until_it_is_down(world: World) -> None:
    install(world)
    serving = served_from(world, NAME)
    up.run(serving, UpRequest(spec=ServerSpec("tiny"), port=own_port()))
    assert rows(world)[NAME]["serves"] == ["tiny"]
    with pytest.raises(LauncherError, match=f"{NAME} serves tiny") as fault:
        engines_remove.run(world, NAME)
    assert fault.value.hint == "`launcher down tiny` first"
    environments.build_of(world.home, ENGINE, "cpu", "1.0").lock.write_text("tiny==1.0\n")
    assert rows(world)[NAME]["stale"]
    with pytest.raises(LauncherError, match=f"{NAME} serves tiny"):
        install(world)
    down.run(world, None)
    assert rows(world)[NAME]["serves"] == []
    engines_remove.run(world, NAME)
    assert rows(world) == {}


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Somebody's own environment with the engine in it."""
    site = tmp_path / "theirs" / "lib"
    (site / "tiny-1.3.dist-info").mkdir(parents=True)
    (site / "tiny-1.3.dist-info" / "METADATA").write_text("Name: tiny\nVersion: 1.3\n")
    (site / "tiny.py").write_text("")
    (site / "torch.py").write_text(made_up_torch(None))
    python = tmp_path / "theirs" / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nPYTHONPATH={site} PYTHONDONTWRITEBYTECODE=1 exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return tmp_path / "theirs"


def test_somebodys_environment_is_taken_in_and_never_changed(world: World, theirs: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in theirs.rglob("*")}
    there = engines_add.run(world, "mine", theirs).there
    assert (there.python, there.release, there.accelerator) == (theirs / "bin" / "python", Release("1.3", "2.13.0"), "cpu")
    assert engines_use.run(world, "mine").version == "1.3"
    assert rows(world)["mine"]["adopted"]
    assert engines_check.run(world, "mine").exit_code == 0
    removed = engines_remove.run(world, "mine")
    assert (removed.there.adopted, removed.back_to) == (True, "vllm-0-cpu")
    assert {path: path.stat().st_mtime_ns for path in theirs.rglob("*")} == before


def test_what_an_adopted_one_has_become_is_noted_when_it_is_checked(world: World, theirs: Path) -> None:
    engines_add.run(world, "mine", theirs / "bin" / "python")
    site = theirs / "lib"
    (site / "tiny-1.3.dist-info" / "METADATA").write_text("Name: tiny\nVersion: 1.4\n")
    assert engines_check.run(world, "mine").notes == ("it was 1.3 when it was noted",)
    assert rows(world)["mine"]["version"] == "1.4"
    (site / "tiny.py").write_text("import gone")
    checked = engines_check.run(world, "mine")
    assert (checked.exit_code, rows(world)["mine"]["version"]) == (1, "1.4")
    assert "No module named 'gone'" in checked.faults[0].reason


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        pytest.param("mine", "lib/tiny-1.3.dist-info/METADATA", "has none of vllm", id="without an engine"),
        pytest.param("mine", "lib/tiny.py", "does not work: import tiny: ModuleNotFoundError", id="with half an engine"),
        pytest.param("mine", "bin/python", "there is no .*/bin/python", id="without an interpreter"),
        pytest.param("vllm-2-cpu", None, "is a name for what the launcher makes", id="under a name of the launcher's"),
    ],
)
def test_what_cannot_serve_is_not_taken_in(world: World, theirs: Path, name: str, spoil: str | None, message: str) -> None:
    if spoil:
        (theirs / spoil).unlink()
    with pytest.raises(LauncherError, match=message):
        engines_add.run(world, name, theirs)
    assert rows(world) == {}


OLD = replace(machine(1, 24), driver="550.54.15")
VOLTA = replace(machine(1, 16, compute=(7, 0)), driver="580.65.06")


@pytest.mark.parametrize(
    ("inventory", "message", "hint"),
    [
        pytest.param(OLD, "vllm-1.0-cuda does not run here: needs NVIDIA driver 580", "--version 0.1", id="an old driver"),
        pytest.param(VOLTA, "PyTorch 2.13.0 has no code for GPU", "--version 0.1", id="an old GPU"),
    ],
)
def test_what_this_machine_cannot_run_is_refused_before_it_is_fetched(
    world: World, inventory: Inventory, message: str, hint: str
) -> None:
    there = replace(world, inventory=lambda: inventory)
    with pytest.raises(LauncherError, match=message) as fault:
        install(there, accelerator=None)
    assert hint in fault.value.hint
    assert not world.home.environments.exists()


def test_one_gpu_that_can_is_enough(world: World) -> None:
    mixed = replace(VOLTA, gpus=(*VOLTA.gpus, replace(machine(1, 24).gpus[0], index=1)))
    installed = install(replace(world, inventory=lambda: mixed), accelerator=None)
    # What PyTorch itself said, once it was imported, and not what the table had for it.
    assert installed.there.release == Release("1.0", "2.13.0", (13, 0), ("sm_75", "sm_80"))
    assert [note for note in installed.notes if "7.0" in note] == [
        "PyTorch 2.13.0 has no code for GPU, of compute capability 7.0"
    ]


CUDA13 = Release("1.0", "2.13.0", (13, 0), ("sm_75", "sm_80", "sm_90"))


@pytest.mark.parametrize(
    ("inventory", "reasons"),
    [
        pytest.param(replace(machine(1, 24), driver="580.65.06"), [], id="it works"),
        pytest.param(machine(), ["there is none here"], id="no GPU"),
        pytest.param(OLD, ["needs NVIDIA driver 580 or newer for CUDA 13.0"], id="an old driver"),
        pytest.param(VOLTA, ["no code for GPU, of compute capability 7.0"], id="a GPU without code"),
        pytest.param(
            replace(VOLTA, gpus=(*VOLTA.gpus, *machine(1, 24, compute=(12, 0)).gpus)),
            ["of compute capability 7.0", "of compute capability 12.0"],
            id="each GPU is told",
        ),
    ],
)
def test_a_cuda_environment_is_held_against_driver_and_gpus(inventory: Inventory, reasons: list[str]) -> None:
    there = Environment("x", Path("/x"), Path("/x/bin/python"), "vllm", "cuda", CUDA13, "7f", time.time())
    found = list(engines_check.faults(ENGINE, there, inventory))
    assert len(found) == len(reasons)
    assert all(reason in fault.reason and fault.remedy for reason, fault in zip(reasons, found, strict=True))


def test_a_broken_one_is_listed_and_checked_with_its_reason(world: World) -> None:
    install(world)
    (world.home.environments / NAME / "bin" / "python").unlink()
    assert "is gone" in rows(world)[NAME]["broken"]
    checked = engines_check.run(world, NAME)
    assert (checked.exit_code, "is gone" in checked.faults[0].reason) == (1, True)
    with pytest.raises(LauncherError, match="cannot be used"):
        engines_use.run(world, NAME)
    # Installing it again is all it takes.
    assert not install(world).already
    assert rows(world)[NAME]["broken"] == ""


def test_what_people_read_names_each_state(world: World, theirs: Path) -> None:
    from rich.console import Console

    install(world)
    engines_add.run(world, "mine", theirs)
    engines_use.run(world, "mine")
    console = Console(width=120, color_system=None)
    with console.capture() as captured:
        console.print(engines.run(world).text())
    lines = captured.get().splitlines()
    assert lines[0].split() == ["NAME", "ENGINE", "VERSION", "BUILD", "SIZE", "STATE"]
    assert lines[1].split() == ["mine", "vllm", "1.3", "cpu", "-", "chosen,", "adopted"]
    assert lines[2].split()[-2:] == ["not", "used"]


def test_listing_imports_and_runs_nothing(world: World) -> None:
    """A wish of a hundred environments: only their markers are read."""
    for number in range(100):
        path = world.home.environments / f"e{number}"
        path.mkdir(parents=True)
        environments.record(Environment(path.name, path, Path("/bin/sh"), "vllm", "cpu", Release("1"), made=1.0, adopted=True))
    began = time.process_time()
    assert len(rows(world)) == 100
    assert time.process_time() - began < 0.15
    assert [path.name for path in world.home.root.iterdir()] == ["environments"]
