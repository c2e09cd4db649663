"""What takes room is found and freed, in a world with a real server, real locks and real hard links."""

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import lock, weights_record
from launcher.clearance import Item
from launcher.command import Command
from launcher.commands import clean, down, up
from launcher.commands.up import UpRequest
from launcher.errors import LauncherError
from launcher.profile_weights import HubWeights
from launcher.runners import spares
from launcher.server import ServerSpec
from launcher.world import World
from tests.ports_for_tests import own_port
from tests.test_cli import launcher
from tests.test_sizes import filled
from tests.test_weights import ROOT
from tests.world import little_world

OLD = time.time() - 3600


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    env = {
        **{name: os.environ[name] for name in ("PATH", "HOME")},
        "UV_CACHE_DIR": str(tmp_path / "uv"),
        "HF_HOME": str(tmp_path / "hf"),
        "PIP_CONFIG_FILE": os.devnull,
    }
    made = replace(little_world(tmp_path), env=env)
    made.home.make()
    yield made
    down.run(made, None)


def environment(world: World, name: str) -> Path:
    """One that shares its package with uv's cache."""
    path = world.home.environments / name
    package = filled(Path(world.env["UV_CACHE_DIR"]) / name, 200_000)
    filled(path / "own", 50_000)
    (path / "shared").hardlink_to(package)
    return path


def left(path: Path) -> Path:
    path.mkdir(parents=True)
    filled(path / "half", 10_000)
    os.utime(path, (OLD, OLD))
    return path


def hub_model(world: World, repo: str) -> Path:
    """A repository in the hub's cache that was fetched for us."""
    path = Path(world.env["HF_HOME"]) / "hub" / f"models--{repo.replace('/', '--')}"
    filled(path / "snapshots" / "main" / "config.json", 10)
    world.home.weights.mkdir(exist_ok=True)
    told = {"folder": str(path / "snapshots" / "main"), "commit": "main", "files": {"config.json": {"size": 10}}}
    weights_record.write(world.home, HubWeights(repo), told)
    return path


def names(items: tuple[Item, ...]) -> list[str]:
    return [item.name for item in items]


def freeing(world: World, kind: str, *named: str) -> clean.FreeResult:
    found = clean.run(world)
    return clean.free(world, clean.chosen(found, kind, named))  # type: ignore[arg-type]  # what words let through


def test_a_home_that_is_not_there_takes_nothing(tmp_path: Path) -> None:
    done = launcher(tmp_path, "clean", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"items": [], "size": 0})
    assert launcher(tmp_path, "clean", "all", "--yes").stdout == "There was nothing to free.\n"
    assert list(tmp_path.iterdir()) == []


def test_all_kinds_are_found(world: World) -> None:
    environment(world, "vllm-0.1.0-cpu")
    filled(world.home.caches / "vllm-0.1.0-cpu" / "kernel")
    filled(world.home.logs / "tiny.log.1")
    filled(world.home.weights / "tiny-fp16" / "model.safetensors")
    left(world.home.environments / ".vllm-0.1.0-cpu.abc")
    hub_model(world, "org/model")
    found = clean.run(world)
    assert [(item.kind, item.name, item.inside) for item in found.items] == [
        ("environments", "vllm-0.1.0-cpu", True),
        ("caches", "vllm-0.1.0-cpu", True),
        ("caches", "uv-cache", False),
        ("logs", "tiny.log.1", True),
        ("weights", "tiny-fp16", True),
        ("weights", "org/model", False),
        ("staging", ".vllm-0.1.0-cpu.abc", True),
    ]
    assert not any(item.holder for item in found.items)
    (row,) = (row for row in json.loads(json.dumps(found.json()))["items"] if row["kind"] == "environments")
    assert row["size"] >= 250_000
    assert 50_000 <= row["frees"] < 200_000


def test_what_is_freed_is_what_has_no_link_elsewhere(world: World) -> None:
    path = environment(world, "vllm-0.1.0-cpu")
    result = freeing(world, "environments")
    assert names(result.cleared.gone) == ["vllm-0.1.0-cpu"]
    assert 50_000 <= result.cleared.freed < 200_000
    assert not path.exists()
    assert [entry.name for entry in world.home.environments.iterdir()] == ["vllm-0.1.0-cpu.lock"]


def test_all_leaves_what_others_use_too(world: World) -> None:
    environment(world, "vllm-0.1.0-cpu")
    model = hub_model(world, "org/model")
    left(world.home.weights / ".tiny-fp16.abc")
    assert freeing(world, "all").exit_code == 0
    assert names(clean.run(world).items) == ["uv-cache", "org/model"]
    assert (model / "snapshots").exists()


def test_what_lies_elsewhere_goes_when_it_is_named(world: World) -> None:
    environment(world, "vllm-0.1.0-cpu")
    model, other = hub_model(world, "org/model"), hub_model(world, "org/other")
    assert names(freeing(world, "weights", "org/model").cleared.gone) == ["org/model"]
    assert (model.exists(), other.exists()) == (False, True)
    assert [path.name for path in world.home.weights.iterdir()] == ["org--other@default.json"]
    assert names(freeing(world, "caches", "uv-cache").cleared.gone) == ["uv-cache"]
    assert not (Path(world.env["UV_CACHE_DIR"]) / "vllm-0.1.0-cpu").exists()


@pytest.mark.parametrize(
    ("make", "kind", "holds"),
    [
        pytest.param(
            lambda w: environment(w, "a"), "environments", lambda w: w.home.environments / "a.lock", id="an environment"
        ),
        pytest.param(
            lambda w: filled(w.home.weights / "m" / "x").parent, "weights", lambda w: w.home.weights / "m.lock", id="weights"
        ),
        pytest.param(
            lambda w: left(w.home.environments / ".a.123"),
            "staging",
            lambda w: w.home.environments / "a.lock",
            id="what is half done",
        ),
        pytest.param(
            lambda w: filled(w.home.logs / "environment-a.log"),
            "logs",
            lambda w: w.home.environments / "a.lock",
            id="the log of it",
        ),
    ],
)
def test_what_an_installation_holds_stays(
    world: World, make: Callable[[World], Path], kind: str, holds: Callable[[World], Path]
) -> None:
    path = make(world)
    with lock.acquire(holds(world), "the installation of an engine", waiting=print, timeout=0):
        result = freeing(world, kind)
        assert path.exists()
        assert f"{path.name} stays: in use by the installation of an engine (pid {os.getpid()})" in result.text()
        with pytest.raises(LauncherError, match="is in use by the installation"):
            freeing(world, kind, path.name)
    assert names(freeing(world, kind, path.name).cleared.gone) == [path.name]
    assert not path.exists()


def test_what_is_taken_into_use_after_it_was_chosen_stays(world: World) -> None:
    path = environment(world, "a")
    chosen = clean.chosen(clean.run(world), "environments", ())
    with lock.acquire(world.home.environments / "a.lock", "the installation of an engine", waiting=print, timeout=0):
        result = clean.free(world, chosen)
    assert (result.exit_code, path.exists()) == (1, True)
    assert result.cleared.stayed[0][0] == "a"
    assert clean.free(world, chosen).exit_code == 0
    assert clean.free(world, chosen).text() == "There was nothing to free."


def test_nothing_goes_while_another_verb_is_at_work(world: World) -> None:
    path = environment(world, "a")
    with (
        lock.acquire(world.home.lock, "launcher up tiny", waiting=print, timeout=0),
        pytest.raises(LauncherError, match=r"launcher up tiny \(pid \d+\) is still at work"),
    ):
        freeing(world, "all")
    assert path.exists()


def test_what_a_server_uses_stays(world: World) -> None:
    port = own_port()
    filled(world.home.logs / "tiny.log")
    up.run(world, UpRequest(spec=ServerSpec(model="tiny"), targets={}, port=port))
    found = clean.run(world)
    logs = {item.name: item.holder for item in found.items if item.kind == "logs" and item.name.startswith("tiny")}
    assert logs == {"tiny.log": "tiny", "tiny.log.1": ""}
    gone = names(freeing(world, "all").cleared.gone)
    assert ("tiny.log.1" in gone, "tiny.log" in gone) == (True, False)
    down.run(world, None)
    assert "tiny.log" in names(freeing(world, "logs").cleared.gone)


def test_an_environment_that_a_process_of_a_server_has_mapped_stays(world: World) -> None:
    path = environment(world, "a")
    hold = "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=1); print(flush=True); input()"
    words = [sys.executable, "-I", "-S", "-c", hold, str(path / "own")]
    env = {"LAUNCHER_SERVER_ID": "of a record that is lost"}
    with subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as orphan:
        assert orphan.stdout
        orphan.stdout.readline()
        assert f"a stays: in use by an orphan (pid {orphan.pid})" in freeing(world, "environments").text()
        orphan.communicate(b"\n")
    assert names(freeing(world, "environments").cleared.gone) == ["a"]


def test_the_environment_of_a_warm_spare_stays(world: World) -> None:
    path = environment(world, "a")
    command = Command((sys.executable, "-I", "-c", ""), imports=("colorsys",))
    spares.make(world.home, command, environment=path, room=spares.SIZE + spares.RESERVE)
    assert "a stays: in use by the warm spare" in freeing(world, "environments").text()
    spares.end(world.home)
    assert names(freeing(world, "environments").cleared.gone) == ["a"]


def test_a_record_that_cannot_be_read_may_be_a_server(world: World) -> None:
    path = environment(world, "a")
    record = filled(world.home.state / "seen" / "tiny.json", 3)
    record.write_text("{not")
    with pytest.raises(LauncherError, match="is damaged"):
        freeing(world, "environments")
    assert path.exists()
    record.unlink()


def test_what_is_just_being_written_is_no_leftover(world: World) -> None:
    world.home.state.mkdir()
    (world.home.state / ".port.json.abc").touch()
    assert clean.run(world).items == ()
    os.utime(world.home.state / ".port.json.abc", (OLD, OLD))
    assert names(clean.run(world).items) == [".port.json.abc"]


def cache_in(tmp_path: Path) -> Path:
    return filled(tmp_path / "home" / "caches" / "old" / "kernel", 3_000_000).parent


def test_without_a_terminal_it_wants_to_be_told(tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    done = launcher(tmp_path, "clean", "caches")
    assert (done.returncode, done.stdout, cache.exists()) == (1, "", True)
    assert "error: Free 3 MB? Nobody can be asked here" in done.stderr
    assert "hint:  --yes" in done.stderr
    done = launcher(tmp_path, "clean", "caches", "old", "--yes", "--json")
    assert (done.returncode, cache.exists()) == (0, False)
    told = json.loads(done.stdout)
    assert ([each["name"] for each in told["removed"]], told["stayed"]) == (["old"], [])
    assert told["freed"] >= 3_000_000


@pytest.mark.parametrize(
    ("answer", "stays"),
    [pytest.param("y", False, id="yes"), pytest.param("", True, id="no answer"), pytest.param("nein", True, id="another word")],
)
def test_at_a_terminal_it_asks(tmp_path: Path, answer: str, *, stays: bool) -> None:
    cache = cache_in(tmp_path)
    ours, theirs = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LAUNCHER_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)}
    words = [sys.executable, "-m", "launcher", "clean", "caches"]
    with subprocess.Popen(words, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, text=True) as run:
        assert run.stdout
        os.write(ours, b"y\n")  # typed before it was asked: no answer
        said = ""
        while not said.endswith("[y/N] "):
            said += run.stdout.read(1) or pytest.fail(f"it did not ask: {said}")
        os.write(ours, f"{answer}\n".encode())
        run.communicate(timeout=60)
    for end in (ours, theirs):
        os.close(end)
    assert said.endswith("Free 3 MB? [y/N] ")
    assert (run.returncode, cache.exists()) == (0, stays)


def test_a_kind_that_does_not_exist_is_wrong_usage(tmp_path: Path) -> None:
    done = launcher(tmp_path, "clean", "everything")
    assert (done.returncode, "invalid choice: 'everything'" in done.stderr) == (2, True)


def test_a_narrow_terminal_breaks_no_name_and_no_size(world: World) -> None:
    from rich.console import Console

    environment(world, "vllm-0.1.0-cpu")
    filled(world.home.logs / "environment-vllm-0.1.0-cpu.log", 2_000_000)
    console = Console(width=80)
    with console.capture() as captured:
        console.print(clean.run(world).text())
    lines = captured.get().splitlines()
    assert any("environment-vllm-0.1.0-cpu.log" in line and "2 MB" in line for line in lines), lines
    assert all(len(line) <= 80 for line in lines)
    assert any("hard links" in line for line in lines)
