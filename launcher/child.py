"""A program that we wait for: its lines as they come, and its end together with us."""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

# Once a second something must move on the screen.
TICK = 0.5
GRACE = 5.0

# Asks the kernel (prctl, PR_SET_PDEATHSIG = 1) to kill it when we die, however we do, and becomes the program. Popen's
# preexec_fn could do so too, but is not safe once there are threads, and a screen has one.
_TIED_TO_US = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")
_LINE_END = re.compile(rb"[\r\n]+")


class Child:
    """A running program in a session of its own, so that ^C reaches it only through us; leaving the `with` ends all of it.

    It dies with the thread that started it. The first of `argv` is a path.
    Its errors go where its output goes, or into `errors`.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        cwd: Path,
        errors: IO[bytes] | None = None,
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _TIED_TO_US, str(os.getpid()), *map(str, argv)],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors or subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._end()
        finally:
            if self._process.stdout:
                self._process.stdout.close()

    def lines(self) -> Iterator[str | None]:
        """Each line without passwords in addresses, as it comes; None whenever half a second went by without one."""
        pipe = self._process.stdout
        if pipe is None:
            return
        rest = b""
        while True:
            if not select.select([pipe], [], [], TICK)[0]:
                yield None
                continue
            chunk = os.read(pipe.fileno(), 1 << 16)
            *whole, rest = _LINE_END.split(rest + chunk)
            yield from (mask(line.decode(errors="replace")) for line in whole if line)
            if not chunk:
                break
        if rest:
            yield mask(rest.decode(errors="replace"))

    def wait(self) -> int:
        """The exit status; negative for a signal."""
        return self._process.wait()

    def written(self) -> int:
        """Bytes that the program itself has written so far; 0 where the system does not say."""
        try:
            text = Path(f"/proc/{self._process.pid}/io").read_text(encoding="ascii")
        except OSError:
            return 0
        return int(next((line.split()[1] for line in text.splitlines() if line.startswith("wchar:")), "0"))

    def _end(self) -> None:
        if self._process.poll() is not None:
            return
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        # Whatever it started is in its session's group, and may outlive it.
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def mask(text: str) -> str:
    """The text without the user names and passwords that stand in addresses."""
    return _PASSWORD.sub("****@", text)


class Log:
    """A new log that only this user may read, written at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self.path = path
        self.file: IO[bytes] = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.file.close()

    def write(self, line: str) -> None:
        self.file.write(line.encode() + b"\n")
