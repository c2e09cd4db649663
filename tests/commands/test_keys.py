import json
import stat
from pathlib import Path

import pytest

from launcher import keys as key_files
from launcher.commands import keys, keys_add, keys_remove
from launcher.errors import LauncherError
from launcher.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").make()


def test_the_agents_key_is_the_default_one_and_others_stand_beside_it(home: Home) -> None:
    assert keys.run(home).json() == []
    agents = key_files.ensure(home.key)
    for name in ("ci", "a-friend.2"):
        assert keys_add.run(home, name, show=False).key.text.startswith("sk-local-")
    found = keys.run(home)
    assert [key.name for key in found.keys] == ["default", "a-friend.2", "ci"]
    assert found.keys[0].text == agents
    assert len({key.text for key in found.keys}) == 3
    assert {stat.S_IMODE(key.path.stat().st_mode) for key in found.keys} == {0o600}
    assert not any(key.text in json.dumps(found.json()) + repr(found) for key in found.keys)


@pytest.mark.parametrize("show", [True, False], ids=["asked for", "not asked for"])
def test_a_new_key_is_shown_where_it_was_asked_for(home: Home, show: bool) -> None:  # noqa: FBT001 - a column of the table
    result = keys_add.run(home, "ci", show=show)
    told = result.json()
    assert isinstance(told, dict)
    assert told.get("key") == (result.key.text if show else None)
    assert result.key.text == result.key.path.read_text().strip()


def test_a_key_that_is_taken_away_is_gone(home: Home) -> None:
    keys_add.run(home, "ci", show=False)
    assert keys_remove.run(home, "ci").json() == {"removed": "ci"}
    assert keys.run(home).keys == ()


@pytest.mark.parametrize("name", ["", "Ci", "a b", "../agent", "-x", ".x", "x" * 33, "ä"])
def test_what_is_no_name(home: Home, name: str) -> None:
    with pytest.raises(LauncherError, match="is no name for a key"):
        key_files.add(home, name)


def test_faults_that_a_person_can_make(home: Home) -> None:
    key_files.add(home, "ci")
    with pytest.raises(LauncherError, match="there is a key ci already"):
        key_files.add(home, "ci")
    with pytest.raises(LauncherError, match="there is a key default already"):
        key_files.add(home, "default")
    with pytest.raises(LauncherError, match="there is no key 'none'"):
        key_files.remove(home, "none")
    with pytest.raises(LauncherError, match="the one that agents were given"):
        key_files.remove(home, "default")
    (home.named_keys / "ci.key").write_text("two words")
    with pytest.raises(LauncherError, match=r"ci\.key holds no key"):
        keys.run(home)
