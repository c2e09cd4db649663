"""Keys in real files: made once, by whoever comes first, and closed to others."""

import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import keys
from launcher.errors import LauncherError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "agent.key"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_is_made_once_and_for_this_user_alone(path: Path) -> None:
    assert keys.read(path) is None
    key = keys.ensure(path)
    assert re.fullmatch(r"sk-local-[\w-]{43}", key)
    assert (keys.ensure(path), keys.read(path)) == (key, key)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert [file.name for file in path.parent.iterdir()] == ["agent.key"]


def test_two_keys_are_two(path: Path) -> None:
    assert keys.ensure(path) != keys.ensure(path.with_name("engine.key"))


def test_a_key_of_the_users_own_is_kept(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("my-own-key\n")
    assert keys.ensure(path) == "my-own-key"


def test_what_others_could_read_is_closed_to_them_and_stays_the_key(path: Path) -> None:
    key = keys.ensure(path)
    path.parent.chmod(0o755)
    path.chmod(0o644)
    assert keys.ensure(path) == key
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


@pytest.mark.parametrize(
    "text", ["", "two words", "two\nlines", "umlaut-\u00e4"], ids=["nothing", "words", "lines", "not ASCII"]
)
def test_a_file_without_a_key_is_a_known_fault_that_does_not_show_it(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(LauncherError, match=r"agent\.key holds no key") as caught:
        keys.ensure(path)
    assert not text or text not in caught.value.message + caught.value.hint


def test_a_directory_in_the_way_is_a_known_fault(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(LauncherError, match="cannot read the key"):
        keys.ensure(path)


def test_a_place_that_cannot_be_written_is_a_known_fault(path: Path) -> None:
    path.parent.write_text("in the way")
    with pytest.raises(LauncherError, match="cannot keep a key in"):
        keys.ensure(path)


RACE = """
import sys
from pathlib import Path
from launcher import keys
print("ready", flush=True)
sys.stdin.readline()
for number in range(100):
    print(keys.ensure(Path(sys.argv[1]) / str(number)))
"""


def test_processes_that_race_end_with_the_same_keys(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", RACE, str(tmp_path / "keys")]
    racers = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for racer in racers:
        assert racer.stdout
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("\n")
        racer.stdin.flush()
    answers = [racer.communicate()[0].split() for racer in racers]
    assert len(set(answers[0])) == 100
    assert answers[1:] == answers[:1] * 2
