"""What a person is told who waits for the end of what runs."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import following, store
from launcher.errors import LauncherError
from launcher.server import Server
from tests.test_lifecycle import NOW, was
from tests.world import little_world

ENDING = replace(was("ending", runs=True), detail="the engine was killed")


@pytest.mark.parametrize(
    ("server", "told"),
    [
        pytest.param(ENDING, "", id="one that died is waited for: its end is what was asked for"),
        pytest.param(replace(ENDING, again=NOW), "the engine was killed", id="one that does not end is told"),
    ],
)
def test_an_end_is_waited_for(tmp_path: Path, server: Server, told: str) -> None:
    world = replace(little_world(tmp_path), attend=lambda _: None)
    store.see(world.home, server)
    over = threading.Timer(0.3, store.see, (world.home, replace(server, state="stopped", handle=None)))
    over.start()
    seen = ""
    try:
        following.settled(world, {server.ask})
    except LauncherError as fault:
        seen = fault.message
    over.join()
    assert seen == told
