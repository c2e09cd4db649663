"""Interpreters that are asked what they have: this one with modules made by hand, and programs that are none."""

import os
import sys
import time
from pathlib import Path

import pytest

from launcher.errors import LauncherError
from launcher.inspecting import Found, inspect
from launcher.progress import Silent
from launcher.release import Release
from tests.wheels import made_up_torch
from tests.world import StubEngine


def interpreter(tmp_path: Path, modules: dict[str, str]) -> Path:
    """This Python, with a folder of modules (and of packages' metadata) on its path."""
    site = tmp_path / "site"
    site.mkdir()
    for name, text in modules.items():
        path = site / (name if "/" in name else f"{name}.py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


def ask(python: Path, *modules: str, limit: float = 20.0, engines: tuple[StubEngine, ...] = ()) -> Found:
    return inspect(python, modules, engines=engines, env=os.environ, progress=Silent(), limit=limit)


@pytest.mark.parametrize(
    ("cuda", "expected"),
    [
        pytest.param("13.0", Release("1.5", "2.13.0", (13, 0), ("sm_75", "sm_80")), id="a CUDA build, without a GPU"),
        pytest.param(None, Release("1.5", "2.13.0"), id="a CPU build"),
    ],
)
def test_an_interpreter_tells_what_it_has(tmp_path: Path, cuda: str | None, expected: Release) -> None:
    modules = {
        "torch": made_up_torch(cuda),
        "tiny": "print('a line of its own')",
        "tiny-1.5.dist-info/METADATA": "Name: tiny\nVersion: 1.5\n",
    }
    engine = StubEngine(REQUIREMENTS={"cpu": ("tiny", "gguf"), "cuda": ("huge",)})
    found = ask(interpreter(tmp_path, modules), "torch", "tiny", engines=(engine,))
    assert (found.fault, found.release(engine)) == ("", expected)
    assert ask(Path(sys.executable), engines=(engine,)).release(engine).version == ""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("import nothing_of_that_name", "import engine: ModuleNotFoundError: No module named", id="a gap"),
        pytest.param(
            "raise ImportError('libcuda.so.1:\\ncannot open')", "ImportError: libcuda.so.1: cannot open", id="a library"
        ),
        pytest.param("import sys; sys.exit(3)", "import engine: SystemExit: 3", id="a module that leaves"),
    ],
)
def test_what_cannot_be_imported_is_one_line(tmp_path: Path, text: str, fault: str) -> None:
    found = ask(interpreter(tmp_path, {"engine": text}), "engine", "json")
    assert fault in found.fault
    assert "\n" not in found.fault


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param("#!/bin/sh\necho 'no such library' >&2; exit 127\n", "no such library", id="one that says why it fails"),
        pytest.param("#!/bin/sh\nkill -SEGV $$\n", "status -11", id="one that crashes"),
        pytest.param("#!/bin/sh\necho '{\"packages\": 1'\n", "packages", id="one that is no Python"),
    ],
)
def test_what_is_no_interpreter_is_told(tmp_path: Path, script: str, reason: str) -> None:
    python = tmp_path / "python"
    python.write_text(script)
    python.chmod(0o755)
    with pytest.raises(LauncherError, match=f"{python} does not work: .*{reason}"):
        ask(python)


def test_an_import_that_never_ends_is_ended(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(LauncherError, match="did not import slow in 1 s"):
        ask(interpreter(tmp_path, {"slow": "import time; time.sleep(60)"}), "slow", limit=1.0)
    assert time.monotonic() - began < 10


def test_a_module_where_the_user_stands_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "engine.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path / "here")
    assert ask(interpreter(tmp_path, {"engine": ""}), "engine").fault == ""
