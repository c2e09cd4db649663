"""`launcher enable` and `disable`, typed; systemd is played, the processes that it starts are real."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launcher import background
from tests import fake_systemd
from tests.homestead import MODEL, Homestead, awaited, homestead, lives
from tests.ports_for_tests import own_port


@dataclass
class Enabling:
    """A home, and a systemd that is played."""

    place: Homestead
    state: Path
    units: Path

    def told(self, *words: str) -> Any:
        done = self.place.launcher(*words, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def refused(self, *words: str) -> tuple[str, str]:
        done = self.place.launcher(*words, "--json")
        assert done.returncode == 1, done.stdout + done.stderr
        error = json.loads(done.stdout)["error"]
        return error["message"], error["hint"]

    def asked(self) -> list[str]:
        """What systemd was told to do since the last time, questions left out."""
        file = self.state / "asked"
        calls = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        file.write_text("")
        verbs = [next(word for word in call[1:] if not word.startswith("--")) for call in calls]
        return [verb for verb in verbs if verb not in {"is-system-running", "show", "show-user"}]

    def finding(self) -> tuple[str, str, str]:
        done = self.place.launcher("doctor", "--json")
        (found,) = [each for each in json.loads(done.stdout)["findings"] if each["title"] == "machine restart"]
        return found["level"], found["detail"], found["remedy"]

    def holder(self) -> tuple[int, str]:
        holder = self.place.holder()
        assert holder
        return holder.pid, holder.command


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Enabling]:
    with homestead(tmp_path) as place:
        state = tmp_path / "systemd"
        fakes = fake_systemd.install(state, "systemctl", "loginctl")
        place.env |= {"PATH": f"{fakes}:{place.env['PATH']}", "FAKE_SYSTEMD": str(state)}
        yield Enabling(place, state, tmp_path / ".config" / "systemd" / "user")


@pytest.fixture
def port() -> int:
    return own_port()


def test_what_is_enabled_is_written_started_and_lingers(here: Enabling) -> None:
    told = here.told("enable")
    assert here.asked() == ["daemon-reload", "enable", "restart", "enable-linger"]
    file = here.units / told["unit"]
    assert (told["file"], told["already"], told["lingering"]) == (str(file), False, True)
    assert here.holder() == (told["pid"], background.STAYING)
    assert f'Environment="LAUNCHER_HOME={here.place.home.root}"' in file.read_text()
    assert here.place.home.serve_log.stat().st_mode & 0o777 == 0o600
    level, detail, remedy = here.finding()
    assert (level, detail.startswith(f"{told['unit']} keeps alive"), remedy) == ("pass", True, "")
    # Again: nothing is done, and nothing is said to be.
    again = here.told("enable")
    assert (again["already"], again["pid"], here.asked()) == (True, told["pid"], [])


def test_enable_and_disable_restart_no_model(here: Enabling, port: int) -> None:
    place = here.place
    place.want(port)
    place.attend()
    server = place.ready()
    told = here.told("enable")
    assert here.holder() == (told["pid"], background.STAYING)
    assert place.ready().handle == server.handle
    gone = here.told("disable")
    assert gone == {"unit": told["unit"], "was_there": True, "models": [MODEL], "lingering": True}
    assert not list(here.units.iterdir())
    assert here.holder()[1] == background.COMMAND
    assert (place.ready().handle, place.ready().restarts, lives(server)) == (server.handle, 0, True)
    assert here.told("disable") == {"unit": told["unit"], "was_there": False, "models": [], "lingering": False}


def test_a_unit_that_is_written_anew_is_taken_over_too(here: Enabling, port: int) -> None:
    place = here.place
    place.want(port)
    first = here.told("enable")
    server = place.ready()
    place.env["HF_HOME"] = "/big/hf"
    second = here.told("enable")
    assert (second["already"], second["pid"] != first["pid"]) == (False, True)
    assert 'Environment="HF_HOME=/big/hf"' in Path(second["file"]).read_text()
    assert (place.ready().handle, lives(server)) == (server.handle, True)


def test_nothing_to_keep_alive_is_no_reason_to_stay_after_disable(here: Enabling) -> None:
    here.told("enable")
    assert here.told("disable")["models"] == []
    awaited(lambda: here.place.holder() is None)


def test_disabling_what_was_never_enabled_asks_nobody(here: Enabling) -> None:
    assert here.told("disable")["was_there"] is False
    assert here.asked() == []
    assert here.finding() == ("pass", "nothing comes back by itself: `launcher enable` changes that", "")


def test_the_dry_run_shows_the_unit_and_touches_nothing(here: Enabling) -> None:
    here.place.env["https_proxy"] = "http://ada:secret@proxy:3128"
    told = here.told("enable", "--dry-run")
    shown = here.place.launcher("enable", "--dry-run").stdout
    assert told["text"].strip() in shown
    assert 'Environment="https_proxy=http://****@proxy:3128"' in shown.splitlines()
    assert (here.asked(), here.units.exists(), here.place.holder()) == ([], False, None)
    here.told("enable")
    assert "ada:secret@" in Path(told["file"]).read_text()
    assert Path(told["file"]).stat().st_mode & 0o777 == 0o600


def test_without_lingering_it_works_from_login_to_logout_and_says_so(here: Enabling) -> None:
    (here.state / "refuse" / "enable-linger").write_text("Could not enable linger: Access denied\n")
    told = here.told("enable")
    assert (told["lingering"], told["lingering_refused"]) == (False, "Could not enable linger: Access denied")
    shown = here.place.launcher("enable").stdout
    assert shown.splitlines()[-1] == f"For that: sudo loginctl enable-linger {os.geteuid()}"
    level, _, remedy = here.finding()
    assert (level, remedy) == ("warn", f"`sudo loginctl enable-linger {os.geteuid()}`")


def test_one_in_a_terminal_is_left_to_its_person(here: Enabling) -> None:
    process = here.place.staying()
    message, hint = here.refused("enable")
    assert message == f"`launcher serve` (pid {process.pid}) is at work already, and systemd did not start it"
    assert f"kill -USR1 {process.pid}" in hint
    assert (here.asked(), here.units.exists(), process.poll()) == ([], False, None)
    process.send_signal(signal.SIGUSR1)
    process.wait(30)
    here.told("enable")


@pytest.mark.parametrize("verb", ["daemon-reload", "enable", "restart"])
def test_what_systemd_does_not_start_leaves_no_unit(here: Enabling, port: int, verb: str) -> None:
    place = here.place
    place.want(port)
    place.attend()
    server = place.ready()
    (here.state / "refuse" / verb).write_text("no\n")
    message, _ = here.refused("enable")
    assert message.startswith(f"`systemctl --user {verb}")
    assert message.endswith(" failed: no")
    assert not list(here.units.iterdir())
    assert (here.holder()[1], place.ready().handle) == (background.COMMAND, server.handle)


@pytest.mark.parametrize("verb", ["enable", "disable"])
def test_a_masked_unit_is_nothing_of_ours(here: Enabling, verb: str) -> None:
    here.units.mkdir(parents=True)
    name = here.told("enable", "--dry-run")["unit"]
    (here.units / name).symlink_to("/dev/null")
    message, hint = here.refused(verb)
    assert ("is a link to /dev/null" in message, f"unmask {name}" in hint) == (True, True)
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("harm", "detail", "remedy"),
    [
        pytest.param("stopped", "is inactive", "`launcher enable` writes", id="it is not at work"),
        pytest.param("disabled", "is not enabled", "`launcher enable` writes", id="it does not start with the machine"),
        pytest.param("moved", "starts another launcher", "`launcher enable` writes", id="it starts another launcher"),
        pytest.param("gone", "systemd is not", "`launcher serve`", id="systemd does not answer"),
    ],
)
def test_the_doctor_tells_what_is_wrong_with_it(here: Enabling, harm: str, detail: str, remedy: str) -> None:
    told = here.told("enable")
    file = Path(told["file"])
    if harm == "stopped":
        os.kill(told["pid"], signal.SIGTERM)
        awaited(lambda: here.place.holder() is None)
        awaited(lambda: not fake_systemd.is_alive(told["pid"]))
    elif harm == "disabled":
        (here.state / f"{told['unit']}.enabled").unlink()
    elif harm == "moved":
        file.write_text(file.read_text().replace("ExecStart=", "ExecStart=/old"))
    else:
        (here.state / "refuse" / "show").write_text("Failed to connect to bus\n")
    found = here.finding()
    assert found[0] == "warn"
    assert f"{told['unit']} {'is there, but ' if harm == 'gone' else ''}{detail}" in found[1]
    assert found[2].startswith(remedy)
