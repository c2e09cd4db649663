"""The unit as systemd reads it: escapes, names, and what is passed on; checked by systemd itself where it is installed."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import unit
from launcher.errors import LauncherError
from launcher.unit import Unit

DEFAULT = Path("/home/ada/.local/share/model-launcher")
PLAIN = Unit(
    name="model-launcher.service",
    root=DEFAULT,
    python=Path("/opt/launcher/bin/python"),
    log=DEFAULT / "logs" / "serve.log",
)


def lines(made: Unit, key: str) -> list[str]:
    return [line.partition("=")[2] for line in unit.text(made).splitlines() if line.partition("=")[0] == key]


@pytest.mark.parametrize(
    ("root", "name"),
    [
        pytest.param(DEFAULT, "model-launcher.service", id="the default home has the plain name"),
        # By coreutils' sha256sum.
        pytest.param(Path("/srv/models"), "model-launcher-10da30ec.service", id="another home is told by its path's SHA-256"),
    ],
)
def test_each_home_has_a_unit_of_its_own(root: Path, name: str) -> None:
    assert unit.name(root, DEFAULT) == name


@pytest.mark.parametrize(
    ("key", "values"),
    [
        pytest.param("ExecStart", ['"/opt/launcher/bin/python" -P -m launcher serve'], id="the very interpreter starts serve"),
        pytest.param("Environment", [f'"LAUNCHER_HOME={DEFAULT}"'], id="it is told of its home, and of nothing else"),
        pytest.param("StandardOutput", [f"append:{DEFAULT}/logs/serve.log"], id="it writes where a background one writes"),
        pytest.param("Restart", ["always"], id="whatever it ended by it is started again"),
        pytest.param("StartLimitIntervalSec", ["0"], id="however often that was"),
        pytest.param("RestartPreventExitStatus", [str(unit.LEFT)], id="but when it was told to leave"),
        pytest.param("SuccessExitStatus", [str(unit.LEFT)], id="which is no failure"),
        pytest.param("KillMode", ["process"], id="engines are not ended with it"),
        pytest.param("OOMPolicy", ["continue"], id="nor it with one of them"),
        pytest.param("WantedBy", ["default.target"], id="it starts with the user's systemd"),
    ],
)
def test_what_the_unit_says(key: str, values: list[str]) -> None:
    assert lines(PLAIN, key) == values


def test_stopping_it_takes_longer_than_servers_may_take_to_end() -> None:
    from launcher.launching import GRACE, MEMORY_BACK, PORT_BACK
    from launcher.lifecycle import Policy

    assert int(*lines(PLAIN, "TimeoutStopSec")) >= GRACE + PORT_BACK + MEMORY_BACK + Policy().patience


@pytest.mark.parametrize(
    ("made", "key", "value"),
    [
        pytest.param(
            replace(PLAIN, root=Path("/srv/my models")), "Environment", '"LAUNCHER_HOME=/srv/my models"', id="spaces in a home"
        ),
        pytest.param(replace(PLAIN, root=Path("/srv/100%")), "Environment", '"LAUNCHER_HOME=/srv/100%%"', id="a specifier"),
        pytest.param(
            replace(PLAIN, root=Path('/srv/a"b\\c')), "Environment", '"LAUNCHER_HOME=/srv/a\\"b\\\\c"', id="quotes, backslashes"
        ),
        # systemd.exec(5), Environment=: "$" has no special meaning there.
        pytest.param(replace(PLAIN, root=Path("/srv/$HOME")), "Environment", '"LAUNCHER_HOME=/srv/$HOME"', id="a dollar"),
        pytest.param(
            replace(PLAIN, python=Path("/opt/my tools/python")),
            "ExecStart",
            '"/opt/my tools/python" -P -m launcher serve',
            id="spaces in the interpreter's path",
        ),
        pytest.param(
            replace(PLAIN, python=Path("/opt/%h/python")),
            "ExecStart",
            '"/opt/%%h/python" -P -m launcher serve',
            id="a specifier in the interpreter's path",
        ),
        pytest.param(
            replace(PLAIN, python=Path("/opt/$X/python")),
            "ExecStart",
            ':"/opt/$X/python" -P -m launcher serve',
            id="a dollar in the interpreter's path",
        ),
        pytest.param(
            replace(PLAIN, log=Path("/srv/my 100%/serve.log")),
            "StandardOutput",
            "append:/srv/my 100%%/serve.log",
            id="a log's path is not quoted",
        ),
    ],
)
def test_paths_are_escaped_by_systemds_rules(made: Unit, key: str, value: str) -> None:
    assert lines(made, key)[0] == value


def test_an_interpreter_that_does_not_find_the_launcher_is_told_where_it_is() -> None:
    made = replace(PLAIN, paths="/src/launcher:/src/more", env={"HF_HOME": "/big/hf"})
    assert lines(made, "Environment")[1:] == ['"PYTHONPATH=/src/launcher:/src/more"', '"HF_HOME=/big/hf"']


@pytest.mark.parametrize(
    ("made", "message"),
    [
        pytest.param(replace(PLAIN, python=Path("/opt/it's/python")), "systemd starts nothing", id="a quoted program"),
        pytest.param(replace(PLAIN, python=Path("/opt/a\\b/python")), "systemd starts nothing", id="a backslash in a program"),
        pytest.param(replace(PLAIN, root=Path("/srv/a\nb")), "no control characters", id="a line's end in a path"),
        pytest.param(replace(PLAIN, log=Path("/srv/a\tb")), "no control characters", id="a tabulator in the log's path"),
        pytest.param(replace(PLAIN, root=Path(os.fsdecode(b"/srv/\xff"))), "only UTF-8", id="a path that is no text"),
    ],
)
def test_what_systemd_cannot_be_told_is_refused(made: Unit, message: str) -> None:
    with pytest.raises(LauncherError, match=message) as caught:
        unit.text(made)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "value", "passed"),
    [
        pytest.param("HF_HOME", "/big/hf", True, id="where models lie"),
        pytest.param("CUDA_VISIBLE_DEVICES", "", True, id="that no GPU may be seen"),
        pytest.param("https_proxy", "http://proxy:3128", True, id="a proxy"),
        pytest.param("NO_PROXY", "localhost", True, id="the same in capitals"),
        pytest.param("REQUESTS_CA_BUNDLE", "/etc/ca.pem", True, id="certificates"),
        pytest.param("UV_INDEX_URL", "https://mirror/simple", True, id="a mirror"),
        pytest.param("XDG_CACHE_HOME", "/big/cache", True, id="where caches lie"),
        pytest.param("HF_TOKEN", "hf_x", False, id="no token"),
        pytest.param("PATH", "/usr/bin", False, id="no path: systemd has its own"),
        pytest.param("DISPLAY", ":0", False, id="nothing of the desktop"),
        pytest.param("HF_HOME", "/a\nb", False, id="nothing that systemd would not take"),
    ],
)
def test_what_serve_goes_by_is_passed_on(name: str, value: str, *, passed: bool) -> None:
    assert unit.passed_on({name: value}) == ({name: value} if passed else {})


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze (package systemd) is not installed here")
@pytest.mark.parametrize("folder", ["plain", "my models", "100%", "$HOME"])
def test_systemd_itself_finds_nothing_wrong_with_it(tmp_path: Path, folder: str) -> None:
    place = tmp_path / folder
    place.mkdir()
    python = place / "python"
    python.symlink_to(sys.executable)
    file = tmp_path / "model-launcher.service"
    file.write_text(unit.text(replace(PLAIN, root=place, python=python, log=place / "serve.log", env={"HF_HOME": 'a"b'})))
    assert verified(file) == ""
    # It does find what is wrong.
    file.write_text(file.read_text().replace("OOMPolicy", "OOMPolice"))
    assert "'OOMPolice'" in verified(file)


def verified(file: Path) -> str:
    """What systemd-analyze finds wrong; it wants a folder for a user's sockets, be it used or not."""
    words = ["systemd-analyze", "verify", "--user", "--man=no", str(file)]
    env = {**os.environ, "XDG_RUNTIME_DIR": str(file.parent)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
