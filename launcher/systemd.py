"""The user's systemd: the files of its units, and what it does with them. All of it goes through systemctl and loginctl."""

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher import atomic, surroundings, unit
from launcher.errors import LauncherError
from launcher.home import Home

# systemctl waits for a job; none of ours takes as long as the end of all servers does (unit.py, TimeoutStopSec).
_PATIENCE = 150.0
# A manager that lingering has just begun is up in well under that.
_AWAKE = 5.0
_LOOK = 0.1
# What a person may type where we are refused.
LINGER = f"sudo loginctl enable-linger {os.geteuid()}"


@dataclass(frozen=True, slots=True)
class Standing:
    """What systemd makes of a unit: `active` and `enabled` in its own words, `pid` of the main process (0: none)."""

    active: str
    enabled: str
    pid: int


def place(home: Home, env: Mapping[str, str], user_home: Path) -> Path:
    """Where the unit of this home belongs, be it there or not."""
    # One that is not absolute does not count (https://specifications.freedesktop.org/basedir-spec/latest/).
    named = Path(env.get("XDG_CONFIG_HOME", ""))
    config = named if named.is_absolute() else user_home / ".config"
    default = Home.find({name: value for name, value in env.items() if name != "LAUNCHER_HOME"})
    return config / "systemd" / "user" / unit.name(home.root.resolve(), default.root.resolve())


def written(path: Path) -> str:
    """The text of a unit's file, "" if there is none; raises LauncherError if it is not to be read."""
    if path.is_symlink():
        # `systemctl mask` makes it a link to /dev/null, which must not be replaced.
        hint = f"`systemctl --user unmask {path.name}`, or remove that link"
        raise LauncherError(f"{path} is a link to {path.readlink()}: the unit is masked, or somebody else's", hint=hint)
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise LauncherError(f"cannot read {path}: {error.strerror}", hint="mend its permissions") from None


def write(path: Path, text: str) -> None:
    """Write a unit's file, for this user's eyes alone: proxies' addresses may hold a password."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, text)
    except OSError as error:
        hint = "make that folder yours to write, or name another one with XDG_CONFIG_HOME, as systemd must know it too"
        raise LauncherError(f"cannot write {path}: {error.strerror}", hint=hint) from None


def remove(path: Path) -> None:
    """Take a unit's file away, if it is there."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise LauncherError(f"cannot remove {path}: {error.strerror}", hint="make that folder yours to write") from None


def order(env: Mapping[str, str], *words: str) -> str:
    """Have this user's systemd do something; what it prints. Raises LauncherError with its words if it does not."""
    done = _run(env, "systemctl", "--user", *words)
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"it ended with {done.returncode}"
        hint = (
            f"`journalctl --user -u {words[-1]}` may tell more" if len(words) > 1 else "`systemctl --user status` may tell more"
        )
        raise LauncherError(f"`systemctl --user {' '.join(words)}` failed: {said}", hint=hint)
    return done.stdout


def look(env: Mapping[str, str], name: str) -> Standing:
    """How a unit is; one that systemd does not know is inactive."""
    told = order(env, "show", "--property=ActiveState,UnitFileState,MainPID", name)
    facts = dict(line.partition("=")[::2] for line in told.splitlines())
    pid = facts.get("MainPID", "0")
    return Standing(
        active=facts.get("ActiveState", ""),
        enabled=facts.get("UnitFileState", ""),
        pid=int(pid) if pid.isdecimal() else 0,
    )


def awaken(env: Mapping[str, str], *, root: Path = surroundings.ROOT) -> None:
    """See to it that this user's systemd listens; raises LauncherError with the reason why there is none.

    Who did not log in (su, cron) has none yet: lingering begins it.
    """
    if _listens(env):
        return
    if fault := _absence(env, root):
        raise fault
    why = linger(env)
    deadline = time.monotonic() + _AWAKE
    while not _listens(env):
        if why or time.monotonic() > deadline:
            hint = f"log in as this user itself (not by su or sudo), or `{LINGER}` first"
            raise LauncherError(f"systemd runs nothing for this user (uid {os.geteuid()}) now{why and f': {why}'}", hint=hint)
        time.sleep(_LOOK)


def lingers(env: Mapping[str, str]) -> bool:
    """Whether this user's units run without a login, from the machine's start on."""
    if not shutil.which("loginctl", path=env.get("PATH")):
        return False
    done = _run(env, "loginctl", "show-user", "--property=Linger", str(os.geteuid()))
    return done.returncode == 0 and done.stdout.strip() == "Linger=yes"


def linger(env: Mapping[str, str]) -> str:
    """Have this user's units run without a login; why it is refused, "" if it is not. Nobody is asked for a password."""
    if lingers(env):
        return ""
    if not shutil.which("loginctl", path=env.get("PATH")):
        return "there is no loginctl on the PATH"
    done = _run(env, "loginctl", "--no-ask-password", "enable-linger", str(os.geteuid()))
    return " ".join(done.stderr.split()) or "loginctl did not say why" if done.returncode else ""


def _listens(env: Mapping[str, str]) -> bool:
    """Anything but `offline` and `unknown` is a manager at work, `degraded` too (systemctl(1), is-system-running)."""
    if not shutil.which("systemctl", path=env.get("PATH")):
        return False
    return _run(env, "systemctl", "--user", "is-system-running").stdout.strip() not in {"", "offline", "unknown"}


def _absence(env: Mapping[str, str], root: Path) -> LauncherError | None:
    """Why there cannot be any systemd for a user here."""
    foreground = "`launcher serve` keeps the models alive in the foreground, for whatever starts programs here"
    if kind := surroundings.container(root=root):
        hint = f"make `launcher serve` what the container runs, with a restart policy; or enable it outside ({foreground})"
        return LauncherError(f"this is a container ({kind}), and systemd does not run in it", hint=hint)
    # What sd_booted(3) asks.
    if (root / "run/systemd/system").is_dir() and shutil.which("systemctl", path=env.get("PATH")):
        return None
    if "microsoft" in platform.release().lower():
        hint = "put `systemd=true` under [boot] into /etc/wsl.conf, run `wsl --shutdown` in Windows, and come back"
        return LauncherError("systemd does not run in this WSL", hint=hint)
    return LauncherError("systemd does not run on this machine", hint=foreground)


def _run(env: Mapping[str, str], program: str, *words: str) -> subprocess.CompletedProcess[str]:
    path = shutil.which(program, path=env.get("PATH"))
    if path is None:
        raise LauncherError(f"there is no {program} on the PATH", hint=f"add the folder of systemd's {program} to PATH")
    variables = {**env, "LC_ALL": "C", "SYSTEMD_COLORS": "0"}
    ours = Path(f"/run/user/{os.geteuid()}")
    if not env.get("XDG_RUNTIME_DIR") and ours.is_dir():
        # su and cron do not tell where the user's systemd listens.
        variables["XDG_RUNTIME_DIR"] = str(ours)
    try:
        return subprocess.run(
            [path, *words],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        hint = "`systemctl --user list-jobs` shows what it waits for"
        raise LauncherError(f"`{program} {' '.join(words)}` did not end in {_PATIENCE:.0f} s", hint=hint) from None
