"""A model is packed on one machine and served on another, which has no network at all but its own loopback."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import ROOT, Machine

pytestmark = pytest.mark.real

# A new network namespace has a loopback interface that is down (network_namespaces(7)).
LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
with socket.socket() as it:
    flags = struct.pack("16sh", b"lo", 0x1 | 0x40)  # IFF_UP, IFF_RUNNING
    fcntl.ioctl(it, 0x8914, flags + bytes(22))  # SIOCSIFFLAGS
os.execv(sys.argv[1], sys.argv[1:])
"""
UNSHARE = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
PYTHON = [*UNSHARE, sys.executable, "-c", LOOPBACK_UP, sys.executable]


def alone(machine: Machine, *words: str, code: int = 0) -> str:
    """The launcher on the other machine: nothing of the first one's but the pack, and no network."""
    env = {
        **machine.env,
        "UV_CACHE_DIR": str(machine.user_home / "uv"),
        "PIP_CONFIG_FILE": "/dev/null",
        "PYTHONPATH": str(ROOT),
    }
    env = {
        name: value for name, value in env.items() if not name.startswith(("PIP_FIND", "PIP_EXTRA", "PIP_INDEX", "UV_INDEX"))
    }
    argv = [*PYTHON, "-m", "launcher", *words]
    done = subprocess.run(argv, env=env, cwd=machine.here, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def packed(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("disk") / "pack"
    told: dict[str, Any] = machine.json("pack", "smollm2-135m", str(folder))
    return told, folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    if subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no network namespace may be made here")
    root = tmp_path_factory.mktemp("other")
    made = Machine(home=root / "launcher", user_home=root / "home", here=root / "here")
    made.user_home.mkdir()
    made.here.mkdir()
    return made


def test_a_pack_holds_what_serving_takes(packed: tuple[dict[str, Any], Path]) -> None:
    told, folder = packed
    assert (told["model"], told["engine"]) == ("smollm2-135m", "vllm-0.32.0-cpu")
    assert {path.name for path in folder.iterdir()} == {"locks", "pack.json", "profiles", "weights", "wheels"}
    assert told["wheels"] == sum(path.stat().st_size for path in (folder / "wheels").glob("*.whl"))
    assert told["weights"] > 250_000_000


@pytest.mark.usefixtures("other")
def test_the_other_machine_has_no_network() -> None:
    code = "import socket; socket.create_connection(('1.1.1.1', 443), 3)"
    done = subprocess.run([*PYTHON, "-c", code], capture_output=True, text=True, check=False)
    assert "Network is unreachable" in done.stderr


def test_it_is_served_without_any_network(packed: tuple[dict[str, Any], Path], other: Machine) -> None:
    _, folder = packed
    out = alone(other, "up", "--offline", "--from", str(folder), "--no-wire", "--no-spare", "--yes", "--json")
    try:
        assert "Paris" in out
        assert '"model": "smollm2-135m"' in out
    finally:
        alone(other, "down")


def test_what_a_pack_lacks_is_named(packed: tuple[dict[str, Any], Path], other: Machine) -> None:
    _, folder = packed
    hidden = folder / "weights" / "tokenizer.json"
    kept = hidden.with_name("kept")
    shutil.move(hidden, kept)
    try:
        told = alone(other, "up", "--offline", "--from", str(folder), "--no-wire", "--json", code=1)
    finally:
        shutil.move(kept, hidden)
    assert "lacks tokenizer.json" in told
