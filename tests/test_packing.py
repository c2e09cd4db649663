"""Packs: what is taken in is whole and suits this launcher, and its wheels are the lock's."""

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher import catalogue, environments, packed, packing, weights
from launcher.engines import vllm
from launcher.environments import Build
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.packed import MANIFEST, Packed
from launcher.profile_weights import HubWeights, LocalWeights
from launcher.progress import Silent
from launcher.world import World
from tests.models_for_tests import tiny_folder
from tests.test_weights import hub_env
from tests.wheels import make_wheel
from tests.world import little_world

PROFILE = (catalogue.shipped() / "openhands-lm-7b.toml").read_text()
LOCK = environments.build_for(vllm, "cpu").lock


@pytest.fixture
def world(tmp_path: Path) -> World:
    plain = little_world(tmp_path)
    return replace(plain, engines={"vllm": vllm}, profiles=(*plain.profiles, plain.home.profiles))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pack of a model from the hub, that the world has no profile of."""
    path = tmp_path / "disk" / "pack"
    tiny_folder(path / "weights")
    (path / "profiles").mkdir()
    (path / "profiles" / "openhands-lm-7b.toml").write_text(PROFILE)
    files = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in (path / "weights").iterdir()}
    holds = Packed(
        launcher="0.1.0",
        model="openhands-lm-7b",
        variant="bf16",
        engine="vllm",
        engine_version=vllm.VERSION,
        accelerator="cpu",
        arch=platform.machine(),
        python="3.11",
        lock=environments.digest(LOCK),
        files=files,
        repo="all-hands/openhands-lm-7b-v0.1",
        commit="c0ffee",
    )
    (path / MANIFEST).write_text(packed.text(holds))
    return path


def variant_weights(world: World, name: str = "openhands-lm-7b") -> HubWeights | LocalWeights:
    found = catalogue.load(world.profiles, name).variants[0].weights
    assert isinstance(found, HubWeights | LocalWeights)
    return found


def test_weights_of_the_hub_are_served_where_the_pack_lies(world: World, folder: Path) -> None:
    holds = packing.take_in(world, folder)
    found = variant_weights(world)
    assert weights.locate(world.home, "openhands-lm-7b-bf16", found) == folder / "weights"
    assert weights.pin(world.home, found, folder / "weights") == f"{holds.repo}@c0ffee"
    assert packing.take_in(world, folder) == holds, "a second time changes nothing"
    (folder / "weights" / "config.json").unlink()
    assert weights.locate(world.home, "openhands-lm-7b-bf16", found) is None


def changed(**more: Any) -> Callable[[Path], None]:
    """The pack with other words in its manifest."""

    def change(folder: Path) -> None:
        content = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps({**content, **more}))

    return change


def written(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


def removed(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(removed(MANIFEST), "is no whole pack: pack.json: No such file", id="one that was never finished"),
        pytest.param(written(MANIFEST, b'{"version": 1, "mod'), "pack.json is damaged", id="half a manifest"),
        pytest.param(changed(version=2), "it is not of version 1", id="a later launcher's"),
        pytest.param(changed(surprise=1), "unexpected keyword argument 'surprise'", id="a word that nobody knows"),
        pytest.param(changed(files={"../../x": "0"}), "'../../x' leads out of the folder", id="a way out of the folder"),
        pytest.param(changed(files={"x": 1}), "files must name hashes", id="a hash that is none"),
        pytest.param(changed(model="/etc/x"), "'/etc/x' leads out of the folder", id="a name that is a path"),
        pytest.param(changed(python=3), "python is no text", id="a number"),
        pytest.param(removed("weights/model.safetensors"), "lacks model.safetensors", id="weights that are missing"),
        pytest.param(written("weights/config.json", b"{}"), "has damaged config.json", id="weights that are damaged"),
        pytest.param(changed(arch="riscv64"), "is for riscv64, and this machine is", id="another processor's"),
        pytest.param(changed(lock="0" * 64), "whose vllm is made of other packages", id="another lock's"),
        pytest.param(changed(engine="other"), "the engine other, which this launcher does not know", id="another engine's"),
        pytest.param(changed(variant="nvfp4"), "has no variant nvfp4", id="a variant that the profile does not have"),
    ],
)
def test_what_is_not_whole_or_not_for_here_is_told(
    world: World, folder: Path, change: Callable[[Path], None], message: str
) -> None:
    change(folder)
    with pytest.raises(LauncherError) as fault:
        packing.take_in(world, folder)
    assert message in fault.value.message
    assert fault.value.hint
    assert not list(world.home.weights.glob("*.json"))
    assert not list(world.home.profiles.glob("*"))


def test_a_users_own_profile_is_not_written_over(world: World, folder: Path) -> None:
    world.home.make().profiles.mkdir()
    own = world.home.profiles / "openhands-lm-7b.toml"
    own.write_text(PROFILE.replace("title = ", "# mine\ntitle = "))
    with pytest.raises(LauncherError, match="is another profile of openhands-lm-7b than the pack's"):
        packing.take_in(world, folder)
    assert "# mine" in own.read_text()


def test_a_folder_of_a_users_is_served_from_the_pack(world: World, folder: Path) -> None:
    text = PROFILE.replace('repo = "all-hands/openhands-lm-7b-v0.1"', 'path = "/home/ada/model"')
    (folder / "profiles" / "openhands-lm-7b.toml").write_text(text)
    changed(repo="", commit="", path="/home/ada/model")(folder)
    packing.take_in(world, folder)
    assert variant_weights(world) == LocalWeights(folder / "weights")


@pytest.mark.parametrize(
    ("env", "gone", "kept"),
    [
        pytest.param({"UV_INDEX": "https://x"}, {"UV_INDEX"}, {}, id="an index that the user told uv"),
        pytest.param({"PIP_INDEX_URL": "https://x"}, {"PIP_INDEX_URL"}, {}, id="an index that the user told pip"),
        pytest.param({"HTTPS_PROXY": "http://p"}, set(), {"HTTPS_PROXY": "http://p"}, id="all else is left alone"),
    ],
)
def test_packages_come_from_the_pack_alone(env: dict[str, str], gone: set[str], kept: dict[str, str]) -> None:
    made = packing.environment(env, Path("/disk"))
    assert not gone & made.keys()
    assert made.items() >= kept.items()
    assert (made["UV_FIND_LINKS"], made["PIP_NO_INDEX"], made["UV_OFFLINE"], made["HF_HUB_OFFLINE"]) == (
        "/disk/wheels",
        "1",
        "1",
        "1",
    )


@pytest.mark.parametrize(
    ("right", "message"),
    [(True, ""), (False, "cannot fetch the packages of tiny-1-cpu: THESE PACKAGES DO NOT MATCH THE HASHES")],
)
def test_wheels_are_fetched_by_the_locks_hashes(tmp_path: Path, *, right: bool, message: str) -> None:
    wheels, place = tmp_path / "wheels", tmp_path / "pack"
    wheels.mkdir()
    place.mkdir()
    wheel = make_wheel(wheels, {"tiny/__init__.py": b""})
    lock = tmp_path / "tiny.txt"
    lock.write_text((wheel if right else replace(wheel, sha256="0" * 64)).locked)
    build = Build("tiny", "1", "cpu", platform.machine(), "3.11", lock)
    env = hub_env(tmp_path, "", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels), PIP_CONFIG_FILE="/dev/null")

    def fetch() -> None:
        packing.fetch_wheels(Home(tmp_path / "home"), build, place, progress=Silent(), env=env)

    if right:
        fetch()
        assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in place.iterdir()] == [wheel.sha256]
    else:
        with pytest.raises(LauncherError, match=message):
            fetch()
        assert not list(place.iterdir())
