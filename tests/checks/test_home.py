from dataclasses import replace
from pathlib import Path

import pytest

from launcher.checks.home import (
    Kept,
    Room,
    Running,
    Segment,
    Stray,
    disk,
    environments,
    modes,
    records,
    segments,
    servers,
    strays,
    weights,
)
from launcher.finding import Finding
from tests.checks.test_graphics import is_told

GB, MB = 10**9, 10**6
HOME = Path("/home/me/launcher")
ROOM = Room(HOME, 50 * GB, needs=9 * GB, for_what="vllm-0.32.0-cuda", files=10**7)
ROOMS: dict[str, tuple[Room, str, str, str]] = {
    "enough": (ROOM, "pass", "50.0 GB free in /home/me/launcher; vllm-0.32.0-cuda takes 9.0 GB", ""),
    "two things take their room together": (replace(ROOM, for_what="a and b"), "pass", "a and b take 9.0 GB", ""),
    "nothing is to be written": (Room(HOME, 50 * GB), "pass", "50.0 GB free in /home/me/launcher", ""),
    "a full disk": (replace(ROOM, free=3 * GB), "fail", "3.0 GB free", "`launcher clean`"),
    "a disk that will be nearly full": (replace(ROOM, free=10 * GB), "warn", "10.0 GB free", "`launcher clean`"),
    "a nearly full disk, and nothing to write": (Room(HOME, 300 * MB), "warn", "300 MB free", "`launcher clean`"),
    "no room for so many files": (replace(ROOM, files=900), "fail", "only 900 more files", "remove many small files"),
    "a file system that does not count files": (replace(ROOM, files=None), "pass", "50.0 GB", ""),
    "a read-only disk": (replace(ROOM, read_only=True), "fail", "read-only", "LAUNCHER_HOME"),
    "a disk from which nothing may run": (replace(ROOM, no_exec=True), "fail", "noexec", "LAUNCHER_HOME"),
}


@pytest.mark.parametrize(("room", "level", "detail", "remedy"), ROOMS.values(), ids=ROOMS.keys())
def test_the_disk(room: Room, level: str, detail: str, remedy: str) -> None:
    (found,) = disk([room])
    assert is_told(found, level, detail, remedy), found


MODES: dict[str, tuple[tuple[tuple[Path, int], ...], str, str, str]] = {
    "for this user alone": (((HOME, 0o700), (HOME / "keys/agent.key", 0o600)), "pass", "this user alone", ""),
    "a key open to others": (
        ((HOME, 0o700), (HOME / "k", 0o644)),
        "warn",
        "read /home/me/launcher/k",
        f"chmod go= {HOME}/k",
    ),
    "all of it": (((HOME / "k", 0o644), (HOME, 0o755)), "warn", f"{HOME} and 1 more", f"chmod go= {HOME}"),
    "nothing there yet": ((), "pass", "this user alone", ""),
}


@pytest.mark.parametrize(("paths", "level", "detail", "remedy"), MODES.values(), ids=MODES.keys())
def test_the_modes(paths: tuple[tuple[Path, int], ...], level: str, detail: str, remedy: str) -> None:
    assert is_told(modes(paths), level, detail, remedy), modes(paths)


def test_each_record_that_cannot_be_read_is_told() -> None:
    found = records([("a.json is damaged", "remove it"), ("b.json is damaged", "remove it")])
    assert [each.level for each in found] == ["fail", "fail"]
    assert [each.level for each in records([])] == ["pass"]


KEPT: dict[str, tuple[tuple[Finding, ...], tuple[tuple[str, str, str], ...]]] = {
    "a whole environment": (environments([Kept("a", "whole")]), (("pass", "a is whole", ""),)),
    "one that is to be installed": (
        environments([Kept("a", "absent", needed=True, size=9_100 * MB)]),
        (("pass", "`launcher up` fetches 9.1 GB", ""),),
    ),
    "one that nobody needs": (environments([Kept("a", "absent")]), ()),
    "one that is being made": (environments([Kept("a", "at work")]), (("pass", "right now", ""),)),
    "one of an older launcher": (environments([Kept("a", "stale")]), (("warn", "another version", "clean environments a"),)),
    "one of an older launcher, which is needed": (
        environments([Kept("a", "stale", needed=True)]),
        (("warn", "another version", "launcher up"),),
    ),
    "a broken one": (environments([Kept("a", "broken")]), (("warn", "a is broken", "clean environments a"),)),
    "a broken one, which is needed": (environments([Kept("a", "broken", needed=True)]), (("warn", "broken", "launcher up"),)),
    "weights that are whole": (weights([Kept("m", "whole")]), (("pass", "m is whole", ""),)),
    "weights that lack files": (
        weights([Kept("m", "broken")]),
        (("warn", "files of m are missing", "launcher up"),),
    ),
    "weights that are to be fetched": (
        weights([Kept("m", "absent", needed=True, size=20 * GB)]),
        (("pass", "fetches 20.0 GB", ""),),
    ),
    "weights that are on their way": (weights([Kept("m", "at work", needed=True)]), (("pass", "right now", ""),)),
    "no server": (servers([]), (("pass", "none runs", ""),)),
    "a server that was stopped": (servers([Running("m", "stopped")]), (("pass", "none runs", ""),)),
    "a replica that failed": (
        servers([Running("m~2", "failed", "its end", model="m")]),
        (("warn", "m~2: its end", "`launcher logs m~2` tells why; `launcher up m` starts it again"),),
    ),
    "a server that runs": (servers([Running("m", "ready")]), (("pass", "m is ready", ""),)),
    "a server that died": (servers([Running("m", "failed", "it ended")]), (("warn", "m: it ended", "launcher logs m"),)),
}


@pytest.mark.parametrize(("found", "expected"), KEPT.values(), ids=KEPT.keys())
def test_what_is_kept(found: tuple[Finding, ...], expected: tuple[tuple[str, str, str], ...]) -> None:
    assert len(found) == len(expected), found
    assert all(is_told(each, *one) for each, one in zip(found, expected, strict=True)), found


def test_orphans_are_named_with_what_ends_them() -> None:
    assert strays([]).level == "pass"
    found = strays([Stray(7, "VLLM::EngineCor", 2 * GB), Stray(8, "python", GB)])
    assert is_told(found, "warn", "VLLM::EngineCor (pid 7) and 1 more, with 3.0 GB of memory", "kill 7 8")


def test_leftovers_are_told_once_they_take_room() -> None:
    shm = Path("/dev/shm")  # noqa: S108  # a name, nothing is written there
    many = [Segment(shm / f"psm_{number}", 30 * MB) for number in range(5)]
    assert segments([]) is None
    assert segments([Segment(shm / "psm_0", 4096)]) is None
    found = segments(many)
    assert found is not None
    assert is_told(found, "warn", "5 segments", "rm /dev/shm/psm_0 /dev/shm/psm_1 /dev/shm/psm_2 (and 2 more like them)")
    assert "150 MB" in found.detail
