"""The background process of a home: whether one is at work, starting one, and ending one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from launcher import __version__, lock
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.lock import Holder

# What it does when it is told to make room for another one: the engines go on.
HAND_OVER = signal.SIGUSR1
STAYING = f"launcher serve {__version__}"
COMMAND = f"{STAYING} --background"
_PATIENCE = 20.0
_LOOK = 0.02


def at_work(home: Home) -> Holder | None:
    """The background process of this home, None if there is none."""
    return lock.holder(home.serving)


def attend(home: Home, env: Mapping[str, str]) -> None:
    """See to it that one of this launcher's version is at work; one of another version hands its engines over.

    Raises LauncherError with its last words if it does not come up.
    """
    holder = at_work(home)
    if holder and _is_of_this_version(holder):
        return
    if holder:
        hand_over(home, holder)
    child = _spawn(home, env)
    deadline = time.monotonic() + _PATIENCE
    hint = f"its log: {home.serve_log}"
    while not (holder := at_work(home)) or holder.pid == 0:
        if child.poll() and not at_work(home):
            raise LauncherError(f"the background process ended at once: {_last_words(home)}", hint=hint)
        if time.monotonic() > deadline:
            raise LauncherError(f"the background process did not come up in {_PATIENCE:.0f} s", hint=hint)
        if child.returncode == 0:
            # It saw nothing to do.
            return
        time.sleep(_LOOK)


def hand_over(home: Home, holder: Holder) -> None:
    """Let it go while its engines run on, for the next one to find; raises LauncherError if it does not."""
    with suppress(ProcessLookupError):
        os.kill(holder.pid, HAND_OVER)
    deadline = time.monotonic() + _PATIENCE
    while (now := at_work(home)) and now.pid == holder.pid:
        if time.monotonic() > deadline:
            hint = f"end it with `kill {holder.pid}`; the engines are found again"
            raise LauncherError(f"{holder.command} (pid {holder.pid}) does not hand over", hint=hint)
        time.sleep(_LOOK)


def wait_for_the_end(home: Home) -> None:
    """Until the one that was started to keep something alive has seen that nothing is wanted; one that stays is left alone."""
    deadline = time.monotonic() + _PATIENCE
    while (now := at_work(home)) and now.command == COMMAND and time.monotonic() < deadline:
        time.sleep(_LOOK)


def _is_of_this_version(holder: Holder) -> bool:
    return holder.pid == 0 or holder.command in {COMMAND, STAYING}


def _spawn(home: Home, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """In a session and a folder of its own, so that it outlives the terminal and the folder that it was started from."""
    home.make()
    home.logs.mkdir(mode=0o700, exist_ok=True)
    output = os.open(home.serve_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    # Not `-m` from its folder alone: this very launcher, wherever it was imported from.
    package = str(Path(__file__).resolve().parents[1])
    paths = [package, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    variables = {**env, "LAUNCHER_HOME": str(home.root), "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
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


def _last_words(home: Home) -> str:
    lines = [line for line in home.serve_log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
