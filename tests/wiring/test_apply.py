import json
import os
import stat
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from launcher import atomic
from launcher.home import Home
from launcher.llm import LLMConfig
from launcher.wiring.apply import Outcome, Proposal, Undone, propose, unwire, wired, write
from launcher.wiring.base import Place
from launcher.wiring.diff import diff
from launcher.wiring.registry import TARGETS
from tests.wiring.values import KEY, LARGE, OTHER, SMALL, place

OLD = '# mine\n[llm]\nmodel = "claude"  # best\napi_key = "sk-theirs-1234"\n\n[core]\nx = 1\n'


class Killed(BaseException):
    """The process ends here: nothing catches it."""


@dataclass
class KilledAtWrite:
    """Writes like `atomic.write`, until a kill just before or just after one of its writes."""

    number: int
    after: bool

    def __call__(self, path: Path, text: str, *, mode: int = 0o600) -> None:
        self.number -= 1
        if self.number == 0 and not self.after:
            raise Killed
        atomic.write(path, text, mode=mode)
        if self.number == 0:
            raise Killed


@dataclass(frozen=True)
class FullDisk:
    """Writes records, but no agent's file."""

    home: Home

    def __call__(self, path: Path, text: str, *, mode: int = 0o600) -> None:
        if not path.is_relative_to(self.home.root):
            raise OSError(28, "No space left on device")
        atomic.write(path, text, mode=mode)


@dataclass(frozen=True)
class World:
    """A user's home directory, a config.toml and a LAUNCHER_HOME."""

    root: Path

    @property
    def home(self) -> Home:
        return Home(self.root / "launcher")

    @property
    def place(self) -> Place:
        return place(self.root)

    @property
    def config(self) -> Path:
        return self.place.config_file

    @property
    def profile(self) -> Path:
        return self.root / "user" / ".openhands" / "profiles" / "qwen2.5-coder.json"

    def propose(self, llm: LLMConfig = LARGE, *, register_only: bool = False) -> Proposal:
        return propose(TARGETS, replace(self.place, register_only=register_only), llm, self.home)

    def wire(self, llm: LLMConfig = LARGE, *, register_only: bool = False) -> Outcome:
        return write(self.propose(llm, register_only=register_only).edits, self.home)

    def unwire(self, names: set[str] | None = None) -> Mapping[Path, Undone]:
        return {undone.path: undone for undone in unwire(TARGETS, self.home, names=names)}

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Everything outside of LAUNCHER_HOME: the mode and content of files, the mode of directories."""
        found = sorted(path for path in self.root.rglob("*") if not path.is_relative_to(self.home.root))
        return {str(path.relative_to(self.root)): (mode(path), b"" if path.is_dir() else path.read_bytes()) for path in found}


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "user").mkdir()
    return World(tmp_path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def model_in(path: Path) -> object:
    return tomllib.loads(path.read_text())["llm"]["model"]


# -- proposing --


def test_a_proposal_names_each_file_and_writes_nothing(world: World) -> None:
    world.config.write_text(OLD)
    was = world.files()
    proposal = world.propose()
    assert [(edit.target, edit.agent, edit.path) for edit in proposal.edits] == [
        ("openhands-profile", "openhands", world.profile),
        ("openhands-toml", "openhands", world.config),
    ]
    assert [(edit.before is None, edit.changes) for edit in proposal.edits] == [(True, True), (False, True)]
    assert (proposal.skips, proposal.faults) == ((), ())
    assert world.files() == was
    assert not world.home.root.exists()


def test_a_target_that_would_not_load_the_model_is_skipped_with_its_reason(world: World) -> None:
    proposal = world.propose(SMALL)
    assert [edit.target for edit in proposal.edits] == ["openhands-toml"]
    assert [skip.target for skip in proposal.skips] == ["openhands-profile"]
    assert "16,384" in proposal.skips[0].reason
    assert "5,529" in proposal.skips[0].reason


def test_a_device_or_a_pipe_is_never_replaced(world: World) -> None:
    world.config.unlink(missing_ok=True)
    os.mkfifo(world.config)
    assert "is not a file" in world.propose().faults[0].message
    assert stat.S_ISFIFO(world.config.stat().st_mode)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"[llm\n", "is not valid TOML and was left alone", id="it is no TOML"),
        pytest.param(b"# \xff\n", "is not UTF-8 text (byte 2)", id="it is not UTF-8"),
        pytest.param(None, "is not a file", id="it is a directory"),
    ],
)
def test_a_file_that_cannot_be_edited_is_a_fault_of_its_target_alone(world: World, content: bytes | None, message: str) -> None:
    if content is None:
        world.config.mkdir()
    else:
        world.config.write_bytes(content)
    proposal = world.propose()
    assert [edit.target for edit in proposal.edits] == ["openhands-profile"]
    (fault,) = proposal.faults
    assert fault.target == "openhands-toml"
    assert message in fault.message
    assert fault.hint
    was = world.files()
    write(proposal.edits, world.home)
    assert {name: world.files()[name] for name in was} == {**was, "user": world.files()["user"]}


def test_the_texts_of_edits_are_not_shown_by_accident(world: World) -> None:
    world.config.write_text(OLD)
    assert KEY not in repr(world.propose())
    assert "sk-theirs" not in repr(world.propose())


# -- showing --

SECRETS = """\
[llm]
model = "openai/x"
api_key = "sk-hidden-1"
aws_secret_access_key = 'hidden-2'
# api_key = hidden-3
"API-KEY" = "hidden-4" # was hidden-5
github_token = "hidden-6"
inline = [{ password = "hidden-7" }]
base_url = "http://me:hidden-8@host/v1"
tokens = [
  "hidden-9",
]
secret = '''
hidden-10
'''
max_output_tokens = 100
custom_tokenizer = "kept"
"""


def test_a_diff_shows_what_changes_with_every_secret_masked(world: World) -> None:
    world.config.write_text(SECRETS)
    shown = diff(edit for edit in world.propose().edits if edit.path == world.config)
    assert shown.startswith(f"--- {world.config}\n+++ {world.config}\n@@ ")
    assert "hidden" not in shown
    assert KEY not in shown
    for line in ('-model = "openai/x"', '+api_key = "****"', "-max_output_tokens = 100", '-custom_tokenizer = "kept"'):
        assert line in shown.splitlines()
    assert f"+max_input_tokens = {LARGE.max_input_tokens}" in shown.splitlines()
    assert '-base_url = "http://me:****@host/v1"' in shown.splitlines()


def test_a_diff_shows_a_new_file_whole_and_masks_json_too(world: World) -> None:
    shown = diff(edit for edit in world.propose().edits if edit.path == world.profile)
    assert shown.startswith(f"--- /dev/null\n+++ {world.profile}\n")
    assert '+  "api_key": "****",' in shown.splitlines()
    assert KEY not in shown


def test_a_new_key_shows_as_a_change_although_both_are_masked(world: World) -> None:
    world.wire()
    shown = diff(world.propose(replace(LARGE, api_key="another-key-987")).edits)
    assert '-api_key = "****"\n+api_key = "****"\n' in shown
    assert "another" not in shown


def test_a_file_that_stays_as_it_is_is_not_in_the_diff(world: World) -> None:
    world.wire()
    assert diff(world.propose().edits) == ""


# -- writing --


def test_wiring_makes_private_files_and_private_directories(world: World) -> None:
    outcome = world.wire()
    assert outcome.faults == ()
    assert [edit.path for edit in outcome.edits] == [world.profile, world.config]
    assert json.loads(world.profile.read_text())["api_key"] == KEY
    assert model_in(world.config) == "openai/qwen2.5-coder"
    assert (mode(world.profile), mode(world.config)) == (0o600, 0o600)
    assert (mode(world.profile.parent), mode(world.profile.parent.parent)) == (0o700, 0o700)
    records = list(world.home.wired.iterdir())
    assert [mode(path) for path in records] == [0o600, 0o600]
    assert mode(world.home.wired) == 0o700


@pytest.mark.parametrize("content", [None, "", OLD, OLD.replace("\n", "\r\n"), "x = 1"], ids=repr)
@pytest.mark.parametrize("register_only", [False, True], ids=["replacing [llm]", "registering only"])
def test_unwiring_gives_everything_back(world: World, content: str | None, register_only: bool) -> None:  # noqa: FBT001 - a table
    if content is not None:
        world.config.write_bytes(content.encode())
        world.config.chmod(0o644)
    was = world.files()
    world.wire(register_only=register_only)
    assert world.files() != was
    undone = world.unwire()
    assert world.files() == was
    assert undone[world.profile].how == "removed"
    assert undone[world.config].how == ("removed" if content is None else "restored")
    assert wired(TARGETS, world.home) == ()
    assert list(world.home.wired.iterdir()) == []


@pytest.mark.parametrize(
    ("own", "while_wired", "narrows"),
    [
        pytest.param(0o644, 0o600, True, id="a file that others could read is private while it holds a key"),
        pytest.param(0o660, 0o600, True, id="a file that a group could write, too"),
        pytest.param(0o600, 0o600, False, id="a private file stays as it is"),
        pytest.param(0o700, 0o700, False, id="a private file with an odd mode stays as it is"),
    ],
)
def test_the_mode_protects_the_key_and_comes_back(world: World, own: int, while_wired: int, narrows: bool) -> None:  # noqa: FBT001 - a table
    world.config.write_text(OLD)
    world.config.chmod(own)
    world.wire()
    assert mode(world.config) == while_wired
    edit = world.wire(OTHER).edits[1]
    assert (edit.path, edit.narrows, edit.mode) == (world.config, narrows, own)
    world.unwire()
    assert mode(world.config) == own


def test_a_mode_that_somebody_set_meanwhile_stays(world: World) -> None:
    world.config.write_text(OLD)
    world.config.chmod(0o644)
    world.wire()
    world.config.chmod(0o640)
    world.unwire()
    assert mode(world.config) == 0o640


def test_a_link_stays_a_link_and_the_file_behind_it_is_edited_and_restored(world: World) -> None:
    real = world.root / "dotfiles.toml"
    real.write_text(OLD)
    world.config.symlink_to(real)
    world.wire()
    assert world.config.is_symlink()
    assert model_in(real) == "openai/qwen2.5-coder"
    assert [mode(path) for path in (real, world.config)] == [0o600, 0o600]
    world.unwire()
    assert world.config.is_symlink()
    assert real.read_text() == OLD


def test_a_file_changed_between_proposal_and_write_is_left_alone(world: World) -> None:
    proposal = world.propose()
    world.config.write_text("[llm]\nmodel = 'new'\n")
    outcome = write(proposal.edits, world.home)
    assert [edit.path for edit in outcome.edits] == [world.profile]
    assert "was changed by another program" in outcome.faults[0].message
    assert model_in(world.config) == "new"


def test_a_failed_write_leaves_no_directory_and_no_record(world: World) -> None:
    world.config.write_text(OLD)
    was = world.files()
    outcome = write(world.propose().edits, world.home, put=FullDisk(world.home))
    assert outcome.edits == ()
    assert [fault.target for fault in outcome.faults] == ["openhands-profile", "openhands-toml"]
    assert outcome.faults[1].message == f"cannot write {world.config}: No space left on device"
    assert world.files() == was
    assert wired(TARGETS, world.home) == ()


def test_a_failed_rewiring_keeps_the_record_of_what_is_in_the_file(world: World) -> None:
    world.config.write_text(OLD)
    world.wire()
    write(world.propose(OTHER).edits, world.home, put=FullDisk(world.home))
    assert {entry.name for entry in wired(TARGETS, world.home)} == {"qwen2.5-coder"}
    world.unwire()
    assert world.config.read_text() == OLD


def test_wiring_again_writes_no_agents_file(world: World) -> None:
    world.wire()
    was = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in (world.config, world.profile)]
    outcome = world.wire()
    assert [edit.changes for edit in outcome.edits] == [False, False]
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in (world.config, world.profile)] == was


def test_a_file_that_already_said_so_is_not_ours(world: World) -> None:
    world.wire()
    for record in world.home.wired.iterdir():
        record.unlink()
    was = world.files()
    world.wire()
    assert wired(TARGETS, world.home) == ()
    assert world.files() == was


AGAIN = {
    "another model": (OTHER, False),
    "another port": (replace(LARGE, base_url="http://127.0.0.1:8401/v1"), False),
    "another way of registering": (LARGE, True),
}


@pytest.mark.parametrize(("llm", "register_only"), AGAIN.values(), ids=AGAIN)
def test_after_wiring_again_the_users_own_text_comes_back(world: World, llm: LLMConfig, register_only: bool) -> None:  # noqa: FBT001 - a table
    world.config.write_text(OLD)
    world.config.chmod(0o644)
    was = world.files()
    world.wire()
    world.wire(llm, register_only=register_only)
    world.wire()
    world.wire(llm, register_only=register_only)
    written = tomllib.loads(world.config.read_text())["llm"]
    assert (written[llm.name] if register_only else written)["base_url"] == llm.base_url
    assert {entry.name for entry in wired(TARGETS, world.home) if entry.path == world.config} == {llm.name}
    world.unwire()
    assert world.files() == was


def test_an_edit_made_before_wiring_again_survives_both(world: World) -> None:
    world.config.write_text(OLD)
    world.wire()
    world.config.write_text(world.config.read_text() + "[added]\ny = 2\n")
    world.wire(OTHER)
    assert tomllib.loads(world.config.read_text())["added"] == {"y": 2}
    assert world.unwire()[world.config].how == "restored"
    assert world.config.read_text() == OLD + "[added]\ny = 2\n"


# -- taking back --


def test_only_one_models_files_can_be_taken_back(world: World) -> None:
    world.wire()
    world.wire(OTHER)
    assert set(world.unwire({"qwen2.5-coder"})) == {world.profile}
    assert not world.profile.exists()
    assert world.profile.with_name("devstral.json").exists()
    assert model_in(world.config) == "openai/devstral"


@pytest.mark.parametrize("first", ["qwen2.5-coder", "devstral"])
def test_the_last_file_takes_the_directories_that_we_made_along(world: World, first: str) -> None:
    was = world.files()
    world.wire()
    world.wire(OTHER)
    world.unwire({first})
    world.unwire()
    assert world.files() == was


def test_a_directory_that_somebody_uses_stays(world: World) -> None:
    world.wire()
    (world.profile.parent / ".profiles.lock").touch()
    world.unwire()
    assert [path.name for path in world.profile.parent.iterdir()] == [".profiles.lock"]


def test_a_file_of_ours_in_our_own_home_is_made_and_taken_back(world: World) -> None:
    chosen = replace(world.place, config_file=world.home.openhands_config)
    write(propose(TARGETS, chosen, SMALL, world.home).edits, world.home)
    assert model_in(world.home.openhands_config) == "openai/smollm2-135m"
    assert world.unwire()[world.home.openhands_config].how == "removed"
    assert not world.home.openhands_config.parent.exists()


# What somebody did to the wired config.toml (None: removed it), how it is unwired, and what is in it then.
MEANWHILE = {
    "an edit elsewhere stays": (OLD.replace("x = 1", "x = 2"), "[llm]", "edited", OLD.replace("x = 1", "x = 2")),
    "a file restored by hand is left": (OLD, "", "left", OLD),
    "a removed section is left so": ("[core]\nx = 1\n", "", "left", "[core]\nx = 1\n"),
    "a removed file stays removed": (None, "", "left", None),
}


@pytest.mark.parametrize(("text", "ours", "how", "left"), MEANWHILE.values(), ids=MEANWHILE)
def test_edits_of_others_survive(world: World, text: str | None, ours: str, how: str, left: str | None) -> None:
    world.config.write_text(OLD)
    world.wire()
    if ours and text:
        text = world.config.read_text().replace("x = 1", "x = 2")
    world.config.unlink() if text is None else world.config.write_text(text)
    undone = world.unwire()[world.config]
    assert undone.how == how
    assert (world.config.read_text() if world.config.exists() else None) == left
    assert wired(TARGETS, world.home) == ()
    lost = how == "left" and left != OLD
    assert (undone.reason.endswith(".left")) is lost
    assert [path.suffix for path in world.home.wired.iterdir()] == ([".left"] if lost else [])


def test_a_file_that_cannot_be_understood_now_is_left_and_can_be_unwired_later(world: World) -> None:
    world.config.write_text(OLD)
    world.wire()
    good = world.config.read_text()
    world.config.write_text(good + "oops\n")
    undone = world.unwire()[world.config]
    assert undone.how == "failed"
    assert "not valid TOML" in undone.reason
    assert world.config.read_text() == good + "oops\n"
    world.config.write_text(good)
    assert world.unwire()[world.config].how == "restored"


def test_a_damaged_record_stops_no_other(world: World) -> None:
    world.wire()
    damaged = world.home.wired / "0000000000000000.json"
    damaged.write_text("{")
    undone = world.unwire()
    assert undone[damaged].how == "failed"
    assert undone[world.profile].how == undone[world.config].how == "removed"


def test_a_record_of_an_unknown_target_keeps_its_file(world: World) -> None:
    world.config.write_text(OLD)
    world.wire()
    world.config.write_text(world.config.read_text() + "# edited\n")
    undone = {entry.path: entry for entry in unwire({}, world.home)}
    assert undone[world.config].how == "failed"
    assert "unknown target" in undone[world.config].reason
    assert len(list(world.home.wired.iterdir())) == 1


def test_unwiring_what_was_never_wired_does_nothing(world: World) -> None:
    assert world.unwire() == {}
    assert not world.home.root.exists()


# -- listing --


def test_the_list_tells_whose_entries_are_still_there(world: World) -> None:
    world.wire()
    world.config.write_text("")
    assert {(e.target, e.agent, e.path, e.name, e.base_url, e.present) for e in wired(TARGETS, world.home)} == {
        ("openhands-profile", "openhands", world.profile, "qwen2.5-coder", LARGE.base_url, True),
        ("openhands-toml", "openhands", world.config, "qwen2.5-coder", LARGE.base_url, False),
    }


# -- killed --

MOMENTS = [KilledAtWrite(number, after) for number in (1, 2, 3, 4) for after in (False, True)]


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
@pytest.mark.parametrize("wired_before", [False, True], ids=["wiring", "wiring again"])
def test_a_kill_while_wiring_can_be_undone(world: World, moment: KilledAtWrite, wired_before: bool) -> None:  # noqa: FBT001 - a table
    world.config.write_text(OLD)
    world.config.chmod(0o644)
    if wired_before:
        world.wire()
        world.config.write_text(world.config.read_text() + "[added]\n")
    with pytest.raises(Killed):
        write(world.propose(OTHER).edits, world.home, put=replace(moment))
    world.unwire()
    own = OLD + "[added]\n" if wired_before else OLD
    assert world.files() == {"user": world.files()["user"], "config.toml": (0o644, own.encode())}


@pytest.mark.parametrize("moment", MOMENTS[:2], ids=str)
def test_a_kill_while_unwiring_can_be_finished(world: World, moment: KilledAtWrite) -> None:
    world.config.write_text(OLD)
    was = world.files()
    world.wire()
    with pytest.raises(Killed):
        unwire(TARGETS, world.home, put=replace(moment))
    world.unwire()
    assert world.files() == was
    assert wired(TARGETS, world.home) == ()


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_after_a_kill_the_same_command_finishes_the_work(world: World, moment: KilledAtWrite) -> None:
    world.config.write_text(OLD)
    was = world.files()
    with pytest.raises(Killed):
        write(world.propose().edits, world.home, put=replace(moment))
    world.wire()
    assert [entry.present for entry in wired(TARGETS, world.home)] == [True, True]
    world.unwire()
    assert world.files() == was


def test_reading_the_list_imports_no_toml_editor() -> None:
    code = "import sys, launcher.wiring.apply, launcher.wiring.registry; print('tomlkit' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n"
