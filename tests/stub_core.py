"""An engine core or a worker of tests/stub_engine.py: lives, answers its parent, ends as it is told to.

Run as `python -I -S tests/stub_core.py TELL [flags]`: it starts in a moment and looks at no variable. Once it is as it will be
it writes a byte to the file descriptor TELL, and its pids on that line.
"""

import mmap
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ASK, ANSWER = b"?", b"!"


class Core:
    """A child that was started: its pid, the pids of its own workers, and the line on which it is asked whether it lives."""

    def __init__(self, flags: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        told, tell = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(tell), f"line={theirs.fileno()}", *flags],
            start_new_session="detach" in flags,
            pass_fds=(tell, theirs.fileno()),
        )
        os.close(tell)
        theirs.close()
        with open(told, encoding="ascii") as pids:  # noqa: PTH123 - a file descriptor
            self.pid, *self.workers = (int(pid) for pid in pids.readline().removeprefix(".").split())
        self.line = ours

    def ask(self) -> bool:
        """Wait until it and its workers have answered; False if it is dead, and no answer at all if it is stopped."""
        try:
            self.line.send(ASK)
            return self.line.recv(1) == ANSWER
        except OSError:
            return False


def main(tell: int, flags: Sequence[str]) -> None:
    """Be a core until a signal, or the death of the parent where a flag says so."""
    values = dict(flag.partition("=")[::2] for flag in flags)
    if "stubborn" in flags:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if name := values.get("name"):
        # What setproctitle shows; the kernel keeps 15 letters of it.
        Path("/proc/self/comm").write_text(name[:15])
    if "blank" in flags:
        wipe_environment()
    _mapped = map_file(Path(values["environment"])) if "environment" in values else None
    kept = [flag for flag in flags if flag.partition("=")[0] not in {"line", "name", "workers", "detach"}]
    # vLLM's worker sees the end of its executor by a pipe (v1/executor/multiproc_executor.py) and goes with it.
    workers = [Core([*kept, "mortal", "name=VLLM::Worker"]) for _ in range(int(values.get("workers", 0)))]
    if workers:
        # An executor that loses a worker shuts down, and its core with it (v1/executor/multiproc_executor.py).
        signal.signal(signal.SIGCHLD, lambda *_: any(worker.process.poll() is not None for worker in workers) and os._exit(1))
    os.write(tell, f".{' '.join(str(pid) for pid in (os.getpid(), *(worker.pid for worker in workers)))}\n".encode())
    os.close(tell)
    if "line" in values:
        answer(socket.socket(fileno=int(values["line"])), workers)
    while "mortal" not in flags:
        signal.pause()


def answer(line: socket.socket, workers: Sequence[Core]) -> None:
    """Answer the parent for as long as there is one, after all workers did."""
    while line.recv(1):
        for worker in workers:
            worker.ask()
        line.send(ANSWER)


def wipe_environment() -> None:
    """Do to /proc/PID/environ what setproctitle does: overwrite the first variables, leave some of the last."""
    start = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[47])  # env_start, proc_pid_stat(5)
    environ = Path("/proc/self/environ").read_bytes()
    wiped = environ.find(b"\0", environ.find(b"LAUNCHER_SERVER_ID="))
    with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        memory.write(bytes(wiped))


def map_file(folder: Path) -> mmap.mmap:
    """Map a library of the environment, as importing it would do."""
    library = folder / "libstub.so"
    if not library.exists():
        library.write_bytes(bytes(mmap.PAGESIZE))
    with library.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
