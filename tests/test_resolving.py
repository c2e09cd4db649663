"""Locks for versions that none is shipped for: a made-up engine in a folder of wheels, and the real resolver."""

from pathlib import Path

import pytest

from launcher import environments, installing, resolving
from launcher.environments import Build
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.progress import Silent
from tests.wheels import PYTHON, make_wheel, user_env
from tests.world import StubEngine

ENGINE = StubEngine(
    VERSION="2.0",
    PYTHON={"cpu": PYTHON, "cuda": PYTHON},
    REQUIREMENTS={"cpu": ("tiny", "beside"), "cuda": ("tiny",)},
    OVERRIDES={"cpu": ("unwanted ; sys_platform == 'never'",)},
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home, and an index of an engine that needs two packages, one of which it must not have."""
    for version in ("1.0", "1.1", "3.0"):
        make_wheel(tmp_path / "wheels", {"tiny.py": version.encode()}, version=version, needs=("used", "unwanted"))
    for name in ("used", "beside"):
        make_wheel(tmp_path / "wheels", {f"{name}.py": b""}, name=name)
    return Home(tmp_path / "home")


def resolve(home: Home, version: str, env: dict[str, str]) -> Build:
    build = environments.build_of(home, ENGINE, "cpu", version)
    resolving.ensure(home, ENGINE, build, progress=Silent(), env=env)
    return build


def test_a_lock_pins_all_that_is_needed_by_hash_and_names_no_address(tmp_path: Path, home: Home) -> None:
    build = resolve(home, "1.1", user_env(tmp_path))
    text = build.lock.read_text()
    assert [line.split(" ")[0] for line in text.splitlines() if line[0] not in " #"] == [
        "beside==1.0",
        "tiny==1.1",
        "used==1.0",
    ]
    assert text.count("--hash=sha256:") == 3
    assert str(tmp_path) not in text
    assert build.lock.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in home.locks.iterdir()] == [build.lock.name]


def test_what_is_resolved_is_installed_like_what_ships(tmp_path: Path, home: Home) -> None:
    env = user_env(tmp_path)
    build = resolve(home, "1.0", env)
    there = installing.ensure(home, build, progress=Silent(), env=env)
    assert {path.stem for path in there.path.glob("lib/python*/site-packages/*.py")} == {"tiny", "used", "beside"}


def test_a_lock_that_is_there_is_kept(tmp_path: Path, home: Home) -> None:
    build = resolve(home, "1.0", user_env(tmp_path))
    before = build.lock.read_text()
    make_wheel(tmp_path / "wheels", {"used.py": b"new"}, name="used", version="1.1")
    resolve(home, "1.0", user_env(tmp_path))
    assert build.lock.read_text() == before


@pytest.mark.parametrize(
    ("version", "message", "hint"),
    [
        pytest.param("1.2", "there is no tiny 1.2 in wheels", "the nearest: 1.1 and 3.0; ", id="between two"),
        pytest.param("9.0", "there is no tiny 9.0 in wheels", "the nearest: 3.0; ", id="newer than all"),
        pytest.param("0.5", "there is no tiny 0.5 in wheels", "the nearest: 1.0; ", id="older than all"),
        pytest.param("1.0.0", "tiny 1.0.0 is called 1.0", "--version 1.0", id="by another name"),
    ],
)
def test_a_version_that_does_not_exist_is_answered_with_the_nearest(
    tmp_path: Path, home: Home, version: str, message: str, hint: str
) -> None:
    with pytest.raises(LauncherError) as fault:
        resolve(home, version, user_env(tmp_path))
    assert message in fault.value.message
    assert hint in fault.value.hint
    assert list(home.locks.iterdir()) == []


@pytest.mark.parametrize(
    ("gone", "more", "message"),
    [
        pytest.param("used-*", {}, "cannot choose the packages of vllm-1.1-cpu: .*used", id="one that it needs is missing"),
        pytest.param("tiny-*", {}, "cannot look for tiny 1.1: .*tiny", id="there is no such engine at all"),
        pytest.param(
            "tiny-*",
            {"UV_OFFLINE": "1", "PIP_NO_INDEX": "", "PIP_FIND_LINKS": ""},
            "cannot look for tiny 1.1 with what is here: ",
            id="offline, with nothing here",
        ),
    ],
)
def test_what_cannot_be_resolved_is_one_line(tmp_path: Path, home: Home, gone: str, more: dict[str, str], message: str) -> None:
    for wheel in (tmp_path / "wheels").glob(gone):
        wheel.unlink()
    with pytest.raises(LauncherError, match=message) as fault:
        resolve(home, "1.1", user_env(tmp_path, **more))
    assert "\n" not in fault.value.message + fault.value.hint
    assert list(home.locks.iterdir()) == []
