"""The doctor in a little world, and for real on this machine."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import lock, ports, store
from launcher.command import Command
from launcher.commands import doctor, down, up
from launcher.commands.doctor import DoctorResult
from launcher.commands.up import UpRequest
from launcher.errors import LauncherError
from launcher.finding import Finding, fails, passes, warns
from launcher.gpu import Inventory
from launcher.runners import spares
from launcher.server import ServerSpec
from launcher.world import World
from tests.ports_for_tests import own_port
from tests.test_cli import launcher
from tests.test_weights import ROOT
from tests.world import StubEngine, little_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Without a network: what cannot be reached is refused at once."""
    env = {
        **{name: os.environ[name] for name in ("PATH", "HOME")},
        "PYTHONPATH": str(ROOT),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "CUDA_VISIBLE_DEVICES": "",
    }
    made = replace(little_world(tmp_path, engine=StubEngine(VERSION="0.32.0")), env=env)
    yield made
    down.run(made, None)


def told(world: World, title: str) -> list[Finding]:
    return [each for each in doctor.run(world).findings if each.title == title]


def test_a_new_machine_is_looked_at_and_nothing_is_written(world: World) -> None:
    result = doctor.run(world)
    titles = [each.title for each in result.findings]
    assert titles[:2] == ["system", "NVIDIA driver"]
    assert {"memory", "shared memory", "plan", "disk", "records", "file modes", "server", "orphans", "port"} <= set(titles)
    assert titles[-2:] == ["model hub", "package index"]
    assert not world.home.root.exists()


def test_what_up_would_do_and_fetch_is_told(world: World) -> None:
    (plan,) = told(world, "plan")
    assert plan.detail.startswith("`launcher up` would serve tiny (fp16) on CPU")
    (index,) = told(world, "package index")
    assert (index.level, "Connection refused" in index.detail) == ("fail", True)


def test_a_server_that_runs_is_well_and_its_port_is_ours(world: World) -> None:
    port = own_port()
    up.run(world, UpRequest(spec=ServerSpec(model="tiny"), targets={}, port=port))
    assert [each.detail for each in told(world, "server")] == ["tiny is ready"]
    assert [each.detail for each in told(world, "port")] == [f"127.0.0.1:{port} is tiny's, which runs here"]
    assert [each.level for each in told(world, "orphans")] == ["pass"]
    assert told(world, "plan") == []


def test_a_server_whose_record_is_lost_is_an_orphan(world: World) -> None:
    port = own_port()
    up.run(world, UpRequest(spec=ServerSpec(model="tiny"), targets={}, port=port))
    record = world.home.state / "seen" / "tiny.json"
    handle = store.seen(world.home)[0].handle
    assert handle
    kept = record.read_text()
    record.unlink()
    (orphans,) = told(world, "orphans")
    assert (orphans.level, f"(pid {handle.pid})" in orphans.detail) == ("warn", True)
    assert orphans.remedy == f"kill {handle.pid}"
    record.write_text(kept)


def test_a_warm_spare_is_no_orphan(world: World) -> None:
    command = Command((sys.executable, "-I", "-c", ""), imports=("colorsys",))
    spares.make(world.home.make(), command, environment=Path(sys.prefix), room=spares.SIZE + spares.RESERVE)
    assert spares.kept(world.home)
    assert [each.level for each in told(world, "orphans")] == ["pass"]
    spares.end(world.home)


def test_a_port_that_agents_know_and_another_program_took(world: World) -> None:
    with socket.create_server((ports.LOOPBACK, 0)) as other:
        number = other.getsockname()[1]
        world.home.make()
        store.keep_port(world.home, number)
        (port,) = told(world, "port")
    assert (port.level, f"127.0.0.1:{number}, which agents know, is taken by " in port.detail) == ("fail", True)


def test_a_key_that_others_may_read(world: World) -> None:
    world.home.make()
    world.home.key.parent.mkdir(mode=0o700)
    world.home.key.write_text("sk-local-x\n")
    world.home.key.chmod(0o644)
    (modes,) = told(world, "file modes")
    assert (modes.level, modes.remedy) == ("warn", f"chmod go= {world.home.key}")


def test_a_driver_that_does_not_work_hides_nothing_else(world: World) -> None:
    def broken() -> Inventory:
        raise LauncherError("the NVIDIA driver does not work: mismatch", hint="reboot")

    findings = doctor.run(replace(world, inventory=broken)).findings
    assert fails("NVIDIA driver", "the NVIDIA driver does not work: mismatch", "reboot") in findings
    assert {"memory", "port", "package index"} <= {each.title for each in findings}


def test_pips_settings_that_cannot_be_read_are_a_finding(world: World, tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("not a configuration\n")
    (index,) = told(replace(world, env={**world.env, "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}), "package index")
    assert (index.level, "cannot be read" in index.detail) == ("fail", True)


def test_it_looks_on_while_a_model_is_being_started(world: World) -> None:
    world.home.make()
    with lock.acquire(world.home.lock, "launcher up", waiting=print, timeout=0):
        assert told(world, "server")


RESULTS = {
    "all well": ((passes("a", "fine"),), 0, "All is well"),
    "something to look at": ((passes("a", "fine"), warns("b", "so so", "mend it")), 0, "1 to look at; 1 are well."),
    "something to mend": (
        (fails("b", "broken", "mend it"), warns("c", "so so", "x")),
        1,
        "1 to mend, 1 to look at; 0 are well.",
    ),
}


@pytest.mark.parametrize(("findings", "code", "summary"), RESULTS.values(), ids=RESULTS.keys())
def test_the_exit_code_and_the_summary(findings: tuple[Finding, ...], code: int, summary: str) -> None:
    result = DoctorResult(findings)
    assert result.exit_code == code
    assert result.json() == {
        "ok": code == 0,
        "findings": [
            {"level": each.level, "title": each.title, "detail": each.detail, "remedy": each.remedy} for each in findings
        ],
    }
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as captured:
        console.print(result.text())
    lines = captured.get().splitlines()
    assert summary in lines[-1]
    assert [line.split()[0] for line in lines[:-2] if not line.startswith(" ")] == [each.level for each in findings]
    assert sum("-> " in line for line in lines) == sum(bool(each.remedy) for each in findings)


def test_the_real_program_on_this_machine(tmp_path: Path) -> None:
    done = launcher(tmp_path, "doctor", "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == (0 if answer["ok"] else 1)
    levels = {each["title"]: each["level"] for each in answer["findings"]}
    assert (levels["system"], levels["NVIDIA driver"], levels["model hub"]) == ("pass", "pass", "pass")
    assert not (tmp_path / "home").exists()
    assert all(each["remedy"] for each in answer["findings"] if each["level"] != "pass")


def test_without_a_terminal_it_says_what_it_waits_for(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "launcher", "doctor"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LAUNCHER_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "checks: looking at the machine" in done.stderr
    assert done.stdout.startswith("pass  system")
