from pathlib import Path

import pytest

from launcher import environments, lock, stock, store, weights_record
from launcher.checks.home import Kept, State
from launcher.deciding import decide
from launcher.engines import vllm
from launcher.environment import MARKER, Environment, marker
from launcher.home import Home
from launcher.plan import Plan
from launcher.profile_weights import HubWeights
from launcher.release import Release
from launcher.server import ServerSpec
from tests.models_for_tests import tiny_folder
from tests.world import little_world

ENGINES = {"vllm": vllm}
BUILD = environments.build_for(vllm, "cpu", arch="x86_64")


def environment(home: Home, name: str, *, made_from: str | None = "", python: bool = True) -> Path:
    """An environment's folder; `made_from` is the hash of its lock, None for one without a marker."""
    path = home.environments / name
    engine, version, accelerator = name.split("-")
    (path / "bin").mkdir(parents=True)
    if python:
        (path / "bin" / "python").touch()
    if made_from is not None:
        there = Environment(
            name, path, path / "bin" / "python", engine, accelerator, release=Release(version), made_from=made_from
        )
        (path / MARKER).write_text(marker(there))
    return path


def test_the_builds_are_those_that_have_a_lock_here() -> None:
    names = {build.name for build in stock.builds(ENGINES)}
    assert names <= {"vllm-0.32.0-cpu", "vllm-0.32.0-cuda"}
    assert "vllm-0.32.0-cuda" in names  # both processors that the launcher supports have one


NAME = "vllm-0.32.0-cuda"
ENVIRONMENTS: dict[str, tuple[str | None, bool, State]] = {
    "another lock's": ("0123", True, "stale"),
    "never finished": (None, True, "broken"),
    "without its Python": ("0123", False, "broken"),
}


@pytest.mark.parametrize(("made_from", "python", "state"), ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
def test_what_became_of_an_environment(tmp_path: Path, made_from: str | None, state: State, *, python: bool) -> None:
    home = Home(tmp_path)
    environment(home, NAME, made_from=made_from, python=python)
    (home.environments / ".vllm-0.32.0-cuda.x1").mkdir()
    (kept,) = stock.installed(home, ENGINES, None)
    assert (kept.name, kept.state, kept.needed) == (NAME, state, False)


def test_an_environment_that_is_being_made_is_neither_broken_nor_whole(tmp_path: Path) -> None:
    home = Home(tmp_path)
    environment(home, NAME, made_from=None)
    with lock.acquire(home.environments / f"{NAME}.lock", "an installation", waiting=print, timeout=0):
        assert [each.state for each in stock.installed(home, ENGINES, None)] == ["at work"]


def test_one_of_a_version_that_the_launcher_does_not_know_is_whole_with_marker_and_python(tmp_path: Path) -> None:
    home = Home(tmp_path)
    environment(home, "vllm-0.1.0-cuda")
    assert stock.installed(home, ENGINES, None) == (Kept("vllm-0.1.0-cuda", "whole"),)


def plan(tmp_path: Path) -> tuple[Home, Plan]:
    world = little_world(tmp_path)
    outcome = decide(world, ServerSpec(model="tiny"), world.inventory())
    assert isinstance(outcome, Plan)
    return world.home, outcome


def test_what_a_plan_needs_is_told_before_it_is_there(tmp_path: Path) -> None:
    home, needs = plan(tmp_path)
    assert stock.fetched(home, needs) == (Kept("tiny-fp16", "absent", needed=True, size=needs.memory.weights),)
    with lock.acquire(home.weights / "tiny-fp16.lock", "the fetching of weights", waiting=print, timeout=0):
        assert [each.state for each in stock.fetched(home, needs)] == ["at work"]


def test_weights_are_whole_or_broken(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for name in ("whole", "unmarked"):
        tiny_folder(home.weights / name)
    (home.weights / "whole" / MARKER).touch()
    snapshot = tmp_path / "hub" / "main"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    for repo, size in (("org/here", 2), ("org/cut", 3)):
        told = {"folder": str(snapshot), "commit": "c0ffee", "files": {"config.json": {"size": size}}}
        weights_record.write(home, HubWeights(repo), told)
    kept = {each.name: each.state for each in stock.fetched(home, None)}
    assert kept == {"org/here": "whole", "org/cut": "broken", "whole": "whole", "unmarked": "broken"}


def test_damaged_records_are_told_all_at_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert stock.damaged(home) == ()
    store.keep_port(home, 8400)
    for path in (home.state / "seen" / "m.json", home.state / "port.json", home.key, home.wired / "0.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{not\n")
    messages = [message for message, hint in stock.damaged(home) if hint]
    assert len(messages) == 3
    (home.key).write_text("no key\n")
    assert any("holds no key" in message for message, _ in stock.damaged(home))


def test_what_is_private_is_listed_without_links(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.logs.mkdir()
    (home.logs / "m.log").touch()
    (home.logs / "link").symlink_to("m.log")
    assert list(stock.private(home)) == [tmp_path, home.key.parent, home.logs / "m.log"]
