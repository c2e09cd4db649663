"""The background process of a home: whether one is at work, starting one, and ending one."""

import os
import signal
import site
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from launcher import __version__, lock, unit
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.lock import Holder

# What it does when it is told to make room for another one: the engines go on. Told to leave, it is also not started again
# by systemd.
HAND_OVER, LEAVE = signal.SIGUSR1, signal.SIGUSR2
STAYING = f"launcher serve {__version__}"
COMMAND = f"{STAYING} --background"
_PATIENCE = 20.0
# Until systemd has started another one, and that one is at work.
_COMES_BACK = unit.RESTART + 10.0
_LOOK = 0.02

# Those that this process started, so that one that has ended does not stay a zombie.
_STARTED: "list[subprocess.Popen[bytes]]" = []


def at_work(home: Home) -> Holder | None:
    """The background process of this home, None if there is none."""
    return lock.holder(home.serving)


def attend(home: Home, env: Mapping[str, str], *, unit_file: Callable[[], Path]) -> None:
    """See to it that one of this launcher's version is at work; one of another version hands its engines over.

    `unit_file` is where the file lies that systemd starts one by, if there is one. Raises LauncherError with its last words
    if it does not come up.
    """
    holder = at_work(home)
    if holder and _is_of_this_version(holder):
        return
    if holder:
        hand_over(home, holder)
        if stays(holder) and unit_file().exists() and _came_back(home, unit_file().name):
            return
    _STARTED[:] = [each for each in _STARTED if each.poll() is None]
    child = _spawn(home, env)
    _STARTED.append(child)
    deadline = time.monotonic() + _PATIENCE
    hint = f"its log: {home.serve_log}"
    while not (holder := at_work(home)) or holder.pid == 0:
        if child.poll() and not at_work(home):
            raise LauncherError(f"the background process ended at once: {last_words(home)}", hint=hint)
        if time.monotonic() > deadline:
            raise LauncherError(f"the background process did not come up in {_PATIENCE:.0f} s", hint=hint)
        if child.returncode == 0:
            # It saw nothing to do.
            return
        time.sleep(_LOOK)


def stays(holder: Holder) -> bool:
    """Whether it stays when nothing is wanted any more: somebody else than `up` started it."""
    return holder.command.startswith("launcher serve ") and not holder.command.endswith(" --background")


def hand_over(home: Home, holder: Holder, *, by: signal.Signals = HAND_OVER, patience: float = _PATIENCE) -> None:
    """Let it go while its engines run on, for the next one to find; raises LauncherError if it does not."""
    if holder.pid:  # 0 is one that has not signed yet, and for the kernel all of our own group
        with suppress(ProcessLookupError):
            os.kill(holder.pid, by)
    deadline = time.monotonic() + patience
    while (now := at_work(home)) and now.pid == holder.pid:
        if time.monotonic() > deadline:
            hint = f"end it with `kill -KILL {holder.pid}`; the engines are found again"
            raise LauncherError(f"{holder.command} (pid {holder.pid}) does not hand over", hint=hint)
        time.sleep(_LOOK)


def await_staying(home: Home, *, patience: float = _PATIENCE) -> Holder | None:
    """The one that systemd was told to start, as soon as it is at work; None if it does not come up."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if (holder := at_work(home)) and stays(holder):
            return holder
        time.sleep(_LOOK)
    return None


def wait_for_the_end(home: Home) -> None:
    """Until the one that was started to keep something alive has seen that nothing is wanted; one that stays is left alone."""
    deadline = time.monotonic() + _PATIENCE
    while (now := at_work(home)) and now.command == COMMAND and time.monotonic() < deadline:
        time.sleep(_LOOK)


def import_path(env: Mapping[str, str]) -> str:
    """The PYTHONPATH with which an interpreter finds this very launcher, wherever it was imported from."""
    paths = [str(_PACKAGE), *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    return os.pathsep.join(dict.fromkeys(paths))


def is_installed() -> bool:
    """Whether the interpreter finds this launcher by itself."""
    return str(_PACKAGE) in {*site.getsitepackages(), site.getusersitepackages() if site.ENABLE_USER_SITE else ""}


def last_words(home: Home) -> str:
    """The last that a background process said, but for hints."""
    text = home.serve_log.read_text(errors="replace") if home.serve_log.exists() else ""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("hint:")]
    return lines[-1][:300] if lines else "it said nothing"


def make_log(home: Home) -> int:
    """Its log, made for this user alone and open for more."""
    home.make()
    home.logs.mkdir(mode=0o700, exist_ok=True)
    return os.open(home.serve_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


_PACKAGE = Path(__file__).resolve().parents[1]


def _came_back(home: Home, name: str) -> bool:
    """Whether systemd has started it again; raises LauncherError if that is another launcher once more."""
    holder = await_staying(home, patience=_COMES_BACK)
    if holder and not _is_of_this_version(holder):
        hint = "`launcher enable` makes systemd start this one, and no model is restarted"
        raise LauncherError(f"{name} starts {holder.command}, and this is {__version__}", hint=hint)
    return holder is not None


def _is_of_this_version(holder: Holder) -> bool:
    return holder.pid == 0 or holder.command in {COMMAND, STAYING}


def _spawn(home: Home, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """In a session and a folder of its own, so that it outlives the terminal and the folder that it was started from."""
    output = make_log(home)
    # Not `-m` from its folder alone: this very launcher.
    variables = {**env, "LAUNCHER_HOME": str(home.root), "PYTHONPATH": import_path(env)}
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "launcher", "serve", "--background"],
            cwd=home.root,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    finally:
        os.close(output)
