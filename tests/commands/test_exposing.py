"""`launcher up` lets others near: what it keeps, tells, and takes back."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from launcher import exposing, keys, store
from launcher.commands import down, ps, up
from launcher.commands.up import UpRequest
from launcher.errors import LauncherError
from launcher.exposure import Change, Exposure, Interfaces, Opening
from launcher.prepared import Prepared
from launcher.server import ServerSpec
from launcher.world import World
from tests.homestead import awaited
from tests.ports_for_tests import own_port
from tests.world import little_world

# Loopback has more addresses than the one that is always served, and whoever runs tests has no other for sure.
OTHER = "127.0.0.2"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = little_world(tmp_path)
    yield made
    down.run(made, None)


def status(world: World, address: str, port: int) -> int:
    authorization = {"Authorization": f"Bearer {keys.read(world.home.key)}"}
    return httpx.get(f"http://{address}:{port}/v1/models", headers=authorization).status_code


def test_up_opens_what_it_is_told_to_keeps_it_and_takes_it_back(world: World) -> None:
    port = own_port()
    request = UpRequest(ServerSpec("tiny"), port=port, exposure=Change(hosts=(OTHER,)))
    opened = up.run(world, request)
    assert opened.reachable == (Opening(OTHER, "here"),)
    assert json.loads(json.dumps(opened.json()))["reachable"] == [
        {"url": f"http://{OTHER}:{port}/v1", "from": "here", "tls": False, "fault": ""}
    ]
    assert (status(world, OTHER, port), status(world, "127.0.0.1", port)) == (200, 200)
    assert f'"reachable": ["http://{OTHER}:{port}/v1"]' in json.dumps(ps.run(world).json())
    again = up.run(world, UpRequest(ServerSpec("tiny")))
    assert (again.already, again.reachable) == (True, opened.reachable)
    shut = up.run(world, UpRequest(ServerSpec("tiny"), exposure=Change(hosts=())))
    assert (shut.already, shut.reachable) == (True, ())
    with pytest.raises(httpx.ConnectError):
        status(world, OTHER, port)
    assert status(world, "127.0.0.1", port) == 200


def test_an_up_that_comes_to_nothing_opens_nothing(world: World) -> None:
    port = own_port()
    store.expose(world.home, Exposure(names=("box.example",)))

    def prepare(*_: object) -> Prepared:
        raise LauncherError("there is no room on the disk")

    broken = replace(world, prepare=prepare)
    with pytest.raises(LauncherError, match="no room"):
        up.run(broken, UpRequest(ServerSpec("tiny"), port=port, exposure=Change(hosts=(OTHER,))))
    assert store.exposure(world.home) == Exposure(names=("box.example",))
    awaited(lambda: store.openings(world.home) == ())


def test_a_dry_run_tells_what_would_be_reachable_and_keeps_nothing(world: World) -> None:
    request = UpRequest(ServerSpec("tiny"), port=own_port(), exposure=Change(hosts=(OTHER,)))
    told = up.dry_run(world, request)
    assert told.reachable == (Opening(OTHER, "here").text(request.port or 0),)
    assert not world.home.exposure.exists()


@pytest.mark.parametrize(
    ("bridge", "opened", "words"),
    [
        pytest.param("172.17.0.1", True, "http://172.17.0.1:8400/v1 is reachable with a key", id="a bridge"),
        pytest.param("", False, "there is no bridge of Docker's on this machine", id="none, as with Docker Desktop"),
    ],
)
def test_who_tells_an_agent_in_a_container_opens_the_way_and_says_how_to_start_it(
    world: World, bridge: str, words: str, *, opened: bool
) -> None:
    world.home.make()
    found = Interfaces({"docker0": (bridge,)} if bridge else {}, bridge)
    store.expose(world.home, Exposure(names=("box.example",)))
    foreseen = exposing.for_containers(world.home, found, dry=True)
    assert not store.exposure(world.home).docker
    line, told = exposing.for_containers(world.home, found)
    assert line == foreseen[0] == "Start the container with --add-host host.docker.internal:host-gateway"
    assert words in told
    assert store.exposure(world.home) == Exposure(names=("box.example",), docker=opened)
    assert exposing.for_containers(world.home, found) == (line, told)
