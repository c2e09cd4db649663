"""Plays systemctl and loginctl: notes what it is asked, starts and ends a unit's program, and refuses what it is told to.

    FAKE_SYSTEMD=FOLDER fake_systemd.py systemctl|loginctl WORD...

In the folder: `asked` has one call a line; `manager` is how the user's manager is; `refuse/VERB` has the words by which that
verb fails. A unit is started once: nothing here restarts it.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

STATE = Path(os.environ.get("FAKE_SYSTEMD", "/nonexistent"))


def install(state: Path, *programs: str) -> Path:
    """Make the programs in a folder for the PATH, and the state that they go by."""
    (state / "refuse").mkdir(parents=True)
    (state / "bin").mkdir()
    for program in programs:
        file = state / "bin" / program
        file.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" {program} "$@"\n')
        file.chmod(0o755)
    return state / "bin"


def main(program: str, *words: str) -> int:
    with (STATE / "asked").open("a") as file:
        file.write(f"{program} {' '.join(words)}\n")
    verb, *rest = [word for word in words if not word.startswith("--")]
    refusal = STATE / "refuse" / verb
    if refusal.exists():
        sys.stderr.write(refusal.read_text())
        return 1
    return _ACTS[verb](*rest) or 0


def _is_system_running() -> int:
    manager = STATE / "manager"
    state = manager.read_text() if manager.exists() else "running"
    if state == "after lingering":
        state = "running" if (STATE / "linger").exists() else "offline"
    print(state)  # noqa: T201 - what systemctl does
    return state != "running"


def _show(name: str) -> None:
    pid = _pid(name)
    enabled = "enabled" if (STATE / f"{name}.enabled").exists() else "disabled" if _file(name).exists() else ""
    print(f"MainPID={pid}\nActiveState={'active' if pid else 'inactive'}\nUnitFileState={enabled}")  # noqa: T201


def _enable(name: str) -> int:
    if not _file(name).exists():
        sys.stderr.write(f"Failed to enable unit: Unit file {name} does not exist.\n")
        return 1
    (STATE / f"{name}.enabled").touch()
    return 0


def _disable(name: str) -> None:
    (STATE / f"{name}.enabled").unlink(missing_ok=True)


def _restart(name: str) -> None:
    _stop(name)
    text = _file(name).read_text()
    variables = dict(shlex.split(line)[0].split("=", 1) for line in re.findall(r"^Environment=(.*)$", text, re.MULTILINE))
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    (log,) = re.findall(r"^StandardOutput=append:(.*)$", text, re.MULTILINE)
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **variables}
    with Path(log).open("ab") as output:
        child = subprocess.Popen(shlex.split(line), cwd="/", env=env, stdout=output, stderr=output, start_new_session=True)
    (STATE / f"{name}.pid").write_text(str(child.pid))


def _stop(name: str) -> None:
    if pid := _pid(name):
        os.kill(pid, signal.SIGTERM)


def _daemon_reload() -> None:
    pass


def _show_user(_: str) -> None:
    print(f"Linger={'yes' if (STATE / 'linger').exists() else 'no'}")  # noqa: T201


def _enable_linger(_: str) -> None:
    (STATE / "linger").touch()


def _pid(name: str) -> int:
    kept = STATE / f"{name}.pid"
    return int(kept.read_text()) if kept.exists() and is_alive(int(kept.read_text())) else 0


def is_alive(pid: int) -> bool:
    """A zombie is not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def _file(name: str) -> Path:
    return Path(os.environ["HOME"]) / ".config" / "systemd" / "user" / name


_ACTS: dict[str, Callable[..., int | None]] = {
    "is-system-running": _is_system_running,
    "show": _show,
    "enable": _enable,
    "disable": _disable,
    "restart": _restart,
    "stop": _stop,
    "daemon-reload": _daemon_reload,
    "show-user": _show_user,
    "enable-linger": _enable_linger,
}

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
