"""The door to systemd: where units lie, what is asked, and what a person is told where there is none."""

import os
import re
from pathlib import Path

import pytest

from launcher import systemd
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.systemd import Standing
from tests import fake_systemd

NAME = "model-launcher.service"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "systemd"


@pytest.fixture
def env(tmp_path: Path, state: Path) -> dict[str, str]:
    fakes = fake_systemd.install(state, "systemctl", "loginctl")
    return {"PATH": f"{fakes}:{os.environ['PATH']}", "HOME": str(tmp_path), "FAKE_SYSTEMD": str(state)}


def asked(state: Path) -> list[str]:
    return (state / "asked").read_text().splitlines()


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        pytest.param({}, "/home/ada/.config", id="in the home by default"),
        pytest.param({"XDG_CONFIG_HOME": "/cfg"}, "/cfg", id="where XDG_CONFIG_HOME says"),
        pytest.param({"XDG_CONFIG_HOME": "cfg"}, "/home/ada/.config", id="but for one that depends on where one stands"),
        pytest.param({"XDG_CONFIG_HOME": ""}, "/home/ada/.config", id="or for an empty one"),
    ],
)
def test_a_unit_lies_where_systemd_looks_for_it(env: dict[str, str], folder: str) -> None:
    place = systemd.place(Home.find({}), env, Path("/home/ada"))
    assert place == Path(folder) / "systemd" / "user" / NAME


def test_a_home_has_one_unit_whatever_leads_to_it(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to("home")
    env = {"LAUNCHER_HOME": str(tmp_path / "link")}
    names = {systemd.place(Home(tmp_path / name), env, Path("/home/ada")).name for name in ("home", "link")}
    assert len(names) == 1
    assert re.fullmatch(r"model-launcher-[0-9a-f]{8}\.service", names.pop())


def test_a_unit_is_written_for_its_user_alone_and_taken_away(tmp_path: Path) -> None:
    file = tmp_path / "systemd" / "user" / NAME
    assert systemd.written(file) == ""
    for text in ("[Unit]\n", "[Unit]\nDescription=x\n"):
        systemd.write(file, text)
        assert (systemd.written(file), file.stat().st_mode & 0o777) == (text, 0o600)
    for _ in range(2):
        systemd.remove(file)
        assert not file.exists()


def test_a_masked_unit_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / NAME
    file.symlink_to("/dev/null")
    with pytest.raises(LauncherError, match="is a link to /dev/null") as caught:
        systemd.written(file)
    assert f"systemctl --user unmask {NAME}" in caught.value.hint


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file where a folder should be")
    with pytest.raises(LauncherError, match=r"cannot write .*model-launcher\.service: Not a directory") as caught:
        systemd.write(tmp_path / "config" / "systemd" / "user" / NAME, "[Unit]\n")
    assert "XDG_CONFIG_HOME" in caught.value.hint


def test_what_systemd_refuses_is_told_in_its_words(env: dict[str, str], state: Path) -> None:
    (state / "refuse" / "restart").write_text("Job for x failed.\nSee journalctl.\n")
    with pytest.raises(LauncherError) as caught:
        systemd.order(env, "restart", NAME)
    assert caught.value.message == f"`systemctl --user restart {NAME}` failed: Job for x failed. See journalctl."
    assert caught.value.hint == f"`journalctl --user -u {NAME}` may tell more"
    assert asked(state) == [f"systemctl --user restart {NAME}"]


def test_a_unit_that_is_not_there_does_nothing(env: dict[str, str]) -> None:
    assert systemd.look(env, NAME) == Standing(active="inactive", enabled="", pid=0)


@pytest.mark.parametrize("manager", ["running", "degraded", "starting", "maintenance"])
def test_a_systemd_that_listens_is_not_bothered(env: dict[str, str], state: Path, manager: str) -> None:
    (state / "manager").write_text(manager)
    systemd.awaken(env)
    assert asked(state) == ["systemctl --user is-system-running"]


def booted(root: Path) -> Path:
    """A machine that systemd runs on, by sd_booted(3)."""
    (root / "run" / "systemd" / "system").mkdir(parents=True)
    return root


def test_who_did_not_log_in_gets_a_systemd_by_lingering(env: dict[str, str], state: Path, tmp_path: Path) -> None:
    (state / "manager").write_text("after lingering")
    systemd.awaken(env, root=booted(tmp_path / "root"))
    assert f"loginctl --no-ask-password enable-linger {os.geteuid()}" in asked(state)


def test_who_may_not_linger_is_told_how_to_come_by_a_systemd(env: dict[str, str], state: Path, tmp_path: Path) -> None:
    (state / "manager").write_text("offline")
    (state / "refuse" / "enable-linger").write_text("Could not enable linger: Access denied\n")
    expected = rf"systemd runs nothing for this user \(uid {os.geteuid()}\) now: Could not enable linger: Access denied"
    with pytest.raises(LauncherError, match=expected) as caught:
        systemd.awaken(env, root=booted(tmp_path / "root"))
    assert f"sudo loginctl enable-linger {os.geteuid()}" in caught.value.hint


@pytest.mark.parametrize(
    ("file", "message", "hint"),
    [
        pytest.param(".dockerenv", r"this is a container \(docker\)", "restart policy", id="in a container"),
        pytest.param("run/.containerenv", r"this is a container \(podman\)", "restart policy", id="in another container"),
        pytest.param("etc/hostname", "systemd does not run on this machine", "launcher serve", id="on a machine without it"),
    ],
)
@pytest.mark.parametrize("programs", [(), ("systemctl", "loginctl")], ids=["not installed", "installed and not at work"])
def test_where_there_is_no_systemd_another_way_is_told(
    tmp_path: Path, file: str, message: str, hint: str, programs: tuple[str, ...]
) -> None:
    root, state = tmp_path / "root", tmp_path / "systemd"
    (root / file).parent.mkdir(parents=True)
    (root / file).touch()
    env = {"PATH": str(fake_systemd.install(state, *programs)), "HOME": str(tmp_path), "FAKE_SYSTEMD": str(state)}
    (state / "manager").write_text("offline")
    with pytest.raises(LauncherError, match=message) as caught:
        systemd.awaken(env, root=root)
    assert hint in caught.value.hint


def test_a_machine_with_systemd_whose_programs_are_not_on_the_path(tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match="there is no systemctl on the PATH"):
        systemd.order({"PATH": str(tmp_path)}, "daemon-reload")


def test_lingering_is_asked_for_once(env: dict[str, str], state: Path) -> None:
    assert not systemd.lingers(env)
    assert [systemd.linger(env), systemd.linger(env)] == ["", ""]
    assert systemd.lingers(env)
    assert sum("enable-linger" in line for line in asked(state)) == 1


@pytest.mark.parametrize(
    ("programs", "said", "why"),
    [
        pytest.param(("loginctl",), "Access denied\n", "Access denied", id="refused"),
        pytest.param(("loginctl",), "", "loginctl did not say why", id="refused without a word"),
        pytest.param((), "", "there is no loginctl on the PATH", id="nobody to ask"),
    ],
)
def test_why_there_is_no_lingering_is_a_value(tmp_path: Path, programs: tuple[str, ...], said: str, why: str) -> None:
    state = tmp_path / "systemd"
    env = {"PATH": str(fake_systemd.install(state, *programs)), "HOME": str(tmp_path), "FAKE_SYSTEMD": str(state)}
    (state / "refuse" / "enable-linger").write_text(said)
    assert (systemd.linger(env), systemd.lingers(env)) == (why, False)
