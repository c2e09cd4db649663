"""The door to uv: what it runs with, what it said when it failed."""

import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from launcher import pip_settings
from launcher.child import Child, Log
from launcher.errors import LauncherError

# Where the user's shell stands must not leak into an engine's environment, and hashes are never waived.
_DROPPED = frozenset(
    {
        *("PYTHONHOME", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "CONDA_PREFIX"),
        *("UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_BREAK_SYSTEM_PACKAGES", "UV_PROJECT", "UV_WORKING_DIR"),
        *("UV_NO_VERIFY_HASHES", "UV_NO_BINARY", "UV_EXCLUDE_NEWER", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_TORCH_BACKEND"),
        *("FORCE_COLOR", "CLICOLOR_FORCE"),
    }
)
Watch = Callable[[Child, str | None], None]


# Finding it reads sysconfig, whose first reading two threads must not make at once (CPython 3.11: one of them gets None).
_FINDING = threading.Lock()


class Uv:
    """uv with a user's settings, those for pip included. `env` is the user's environment."""

    def __init__(self, env: Mapping[str, str], *, cpu_build: bool) -> None:
        import uv

        home = Path(env.get("HOME", "~")).expanduser()
        config = pip_settings.read_pip_config(env, home, Path(sys.prefix))
        kept = {name: value for name, value in env.items() if name not in _DROPPED}
        kept["PATH"] = interpreters_path(env.get("PATH", os.defpath), Path(env.get("PYENV_ROOT", home / ".pyenv")))
        self.env = {**kept, **pip_settings.uv_environment(env, config, cpu_build=cpu_build), "NO_COLOR": "1"}
        self.index_options = pip_settings.uv_options(env, config)
        with _FINDING:
            self._program = uv.find_uv_bin()

    def run(
        self,
        words: Sequence[str | Path],
        *,
        cwd: Path,
        log: Log,
        add: Mapping[str, str] | None = None,
        watch: Watch = lambda _child, _line: None,
    ) -> str | None:
        """Run uv, its output into `log`; the reason why it failed, or None. `watch` sees each line, and None twice a second."""
        lines: list[str] = []
        log.write(f"$ uv {shlex.join(map(str, words))}")
        with Child([self._program, *words], env={**self.env, **(add or {})}, cwd=cwd) as child:
            for line in child.lines():
                if line is not None:
                    lines.append(line)
                    log.write(line)
                watch(child, line)
            status = child.wait()
        return None if status == 0 else failure(lines, status)

    def resolves(self, requirement: str, *, cwd: Path, seconds: float) -> str | None:
        """Ask the index for one pinned package, past uv's cache; the reason why that failed, or None."""
        words = ["pip", "install", "--dry-run", "--target", str(cwd), "--python", sys.executable]
        words += ["--no-deps", "--no-build", "--no-cache", *self.index_options, requirement]
        lines: list[str] = []
        deadline = time.monotonic() + seconds
        env = {**self.env, "UV_HTTP_TIMEOUT": "2", "UV_HTTP_RETRIES": "0"}
        with Child([self._program, *words], env=env, cwd=cwd) as child:
            for line in child.lines():
                if time.monotonic() > deadline:
                    return f"no answer within {seconds:.0f} seconds"
                lines += [line] if line else []
            status = child.wait()
        return None if status == 0 else failure(lines, status)

    def clean_cache(self, *, cwd: Path) -> str | None:
        """Remove all that uv keeps, for every program of this user; the reason why that failed, or None."""
        with Child([self._program, "cache", "clean"], env=self.env, cwd=cwd) as child:
            lines = [line for line in child.lines() if line]
            status = child.wait()
        return None if status == 0 else failure(lines, status)

    def cache(self, *, cwd: Path) -> Path:
        """The folder that uv keeps packages in."""
        with Child([self._program, "cache", "dir"], env=self.env, cwd=cwd) as child:
            lines = [line for line in child.lines() if line]
            status = child.wait()
        if status or not lines:
            raise LauncherError(f"uv does not run: {failure(lines, status)}", hint="look at the UV_* variables that are set")
        return Path(lines[-1])


def offline(env: Mapping[str, str]) -> bool:
    """Whether uv may not use the network."""
    return env.get("UV_OFFLINE", "").lower() in {"1", "true", "yes", "on", "y", "t"}


def interpreters_path(path: str, pyenv: Path) -> str:
    """PATH for finding a Python: pyenv's shims give way to the interpreters behind them.

    A shim for a version that is installed but not chosen exists and fails, and uv stops at the first that fails; so it does at
    interpreters that are too old for it.
    """
    versions = sorted(map(str, (pyenv / "versions").glob("3.1[1-9]*/bin")))
    return os.pathsep.join([*(each for each in path.split(os.pathsep) if Path(each) != pyenv / "shims"), *versions])


_ERROR = re.compile(r"^(?:error:|\s*\u00d7)\s*(.+)")
# uv 0.13 writes "  cause: ", older ones "  Caused by: " or a tree ("  ╰─▶ ").
_CAUSE = re.compile(r"^\s+(?:cause:|Caused by:|[├╰]─▶)\s*(.+)")


def failure(lines: Sequence[str], status: int) -> str:
    """What uv said last that is wrong, in one line: the error, its first cause and its deepest one."""
    start = max((number for number, line in enumerate(lines) if _ERROR.match(line)), default=None)
    if start is None:
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return said or f"uv ended with status {status}"
    error = [match[1] for match in [_ERROR.match(lines[start])] if match]
    causes = [match[1] for line in lines[start:] if (match := _CAUSE.match(line))]
    return ": ".join(dict.fromkeys(part.rstrip(":") for part in [*error, *causes[:1], *causes[-1:]]))
