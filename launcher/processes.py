"""The processes of this machine as Linux tells them, and which of them belong to a server.

/proc is read directly: psutil cannot tell sessions from start times without a call for each, and its import alone is felt in
verbs that only read. Times are computed as psutil computes them, so that both give the same number.
"""

import os
import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from launcher.runners.base import Handle

SERVER_ID = "LAUNCHER_SERVER_ID"
# Seconds by which two readings of one start time may differ: the kernel gives the time of boot in whole seconds.
SAME_START = 2.0

# What an interpreter is called that waits for an engine to want it, and one that waited (runners/spare.py).
WAITING, SPAWNED = "waiting", "spawned"

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD, linux/sched.h
_FORKED = 0x00000040  # PF_FORKNOEXEC
_SHARED = Path("/dev/shm")  # noqa: S108 - not for files of ours: to find those of engines
_SHARED_MAP = re.compile(rb"^\S+ \S+ \S+ \S+ (\d+) +/dev/shm/", re.MULTILINE)
# Python's shared memory and semaphores, SGLang's own, NCCL's, CUDA's and PyTorch's (sglang, srt/utils/stale_shm_cleanup.py).
_MADE_BY_ENGINES = re.compile(r"psm_|sem\.mp-|sglang_|sgl_shm_|nccl-|cuda\.shm\.|torch_")
_VARIABLE = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*=")


@dataclass(frozen=True, slots=True)
class Seen:
    """A living process; `started` is in seconds since the epoch.

    `server_id` is its LAUNCHER_SERVER_ID. It is "" where the whole environment can be read and has none, and None where it
    cannot: setproctitle, which engines call in their cores and workers, wipes it.
    """

    pid: int
    ppid: int
    session: int
    started: float
    uid: int
    server_id: str | None
    maps_environment: bool


@dataclass(frozen=True, slots=True)
class Spawned:
    """An interpreter that a program started for itself, by the variables that it was started with."""

    variables: Mapping[str, str]
    children: tuple["Spawned", ...]


def scan(environment: Path, *, uid: int) -> tuple[Seen, ...]:
    """All living processes; whether files beneath `environment` are mapped is asked only where it can decide."""
    booted = _booted()
    pids = (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())
    return tuple(seen for pid in pids if (seen := _look(pid, environment, uid=uid, booted=booted)))


def look(pid: int, environment: Path) -> Seen | None:
    """One living process, None if there is none (a zombie is none)."""
    return _look(pid, environment, uid=os.geteuid(), booted=_booted())


def strays(environments: Path, logs: Path, known: AbstractSet[str], *, uid: int) -> tuple[int, ...]:
    """The pids of this user's processes that are of a server started from this home, and whose id is not one of `known`.

    A home is known by what they have mapped (its environments) or write to (its logs). A process without an id of its own
    (setproctitle) counts where all its ancestors are gone; who has a living parent is that server's, and found with it.
    """
    found = []
    seen = scan(environments, uid=uid)
    for process in seen:
        if process.uid != uid or process.pid == os.getpid() or process.server_id == "" or process.server_id in known:
            continue
        ours = process.maps_environment or _maps(process.pid, environments) or _writes(process.pid, logs)
        if ours and (process.server_id or process.ppid == 1):
            found.append(process.pid)
    return tuple(sorted(found))


def mentions(pid: int, path: Path) -> bool:
    """Whether a process was started with a word that lies beneath this path, or has a file of it mapped."""
    folder = os.fsencode(path)
    words = _read(_PROC / str(pid) / "cmdline").split(b"\0")
    return any(word == folder or word.startswith(folder + b"/") for word in words) or _maps(pid, path)


def spawned(parent: int, interpreter: str) -> tuple[Spawned, ...]:
    """The interpreters that a Python program has started by multiprocessing's method spawn, and what these have started.

    `interpreter` is how the program itself was called.
    """
    pids = (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())
    seen = {pid: stat for pid in pids if (stat := _stat(pid)) and not stat.ended}

    def beneath(pid: int) -> tuple[Spawned, ...]:
        # One that was only forked had no start of its own.
        children = sorted(child for child, stat in seen.items() if stat.ppid == pid and not stat.forked)
        return tuple(Spawned(_environ(each), beneath(each)) for each in children if _is_spawned(each, pid, interpreter))

    return beneath(parent)


def lives(pid: int, started: float) -> bool:
    """Whether the process that started then still lives."""
    stat = _stat(pid)
    return stat is not None and not stat.ended and abs(stat.started(_booted()) - started) <= SAME_START


def start_time(pid: int) -> float | None:
    """When the process started, in seconds since the epoch; a zombie's too, None if there is none."""
    stat = _stat(pid)
    return stat.started(_booted()) if stat else None


def name(pid: int) -> str:
    """The process' short name, "" if it is gone."""
    return _read(_PROC / str(pid) / "comm").decode(errors="replace").strip()


def resident(pids: Iterable[int]) -> int:
    """Bytes of host memory that come free when these processes end, what they share counted once.

    Pages of files do not count: the kernel already reports them as available (smaps_rollup, proc_pid_smaps(5)).
    """
    kinds = (b"Pss_Anon:", b"Pss_Shmem:")
    rows = [row.split() for pid in pids for row in _read(_PROC / str(pid) / "smaps_rollup").splitlines()]
    return sum(int(row[1]) * 1024 for row in rows if row[0] in kinds)


def processor_seconds(pids: Iterable[int]) -> float:
    """The seconds of processor time that these processes have used, those that are gone left out."""
    stats = (_read(_PROC / str(pid) / "stat").rpartition(b")")[2].split() for pid in pids)
    return sum(int(fields[11]) + int(fields[12]) for fields in stats if fields) / os.sysconf("SC_CLK_TCK")


def shared_memory(pids: Iterable[int]) -> frozenset[int]:
    """The inodes of shared memory that these processes have mapped.

    Not the names: sem_open(3) makes a semaphore under another one, which the maps keep.
    """
    return frozenset(int(inode) for pid in pids for inode in _SHARED_MAP.findall(_read(_PROC / str(pid) / "maps")))


def left_behind(inodes: frozenset[int], *, uid: int) -> tuple[Path, ...]:
    """Which of this shared memory has a name still, though no living process has it mapped.

    Only what engines' libraries make, directly in its folder: that is a RAM disk too, and weights may lie there.
    """
    if not inodes:
        return ()
    used = shared_memory(int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())
    named = [entry for entry in _SHARED.iterdir() if _MADE_BY_ENGINES.match(entry.name)]
    found = [(entry, entry.stat()) for entry in named if entry.is_file()]
    return tuple(entry for entry, stat in found if stat.st_ino in inodes - used and stat.st_uid == uid)


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory: in our control group where that is counted, else of all.

    cgroup-v2.rst (memory.events) and the kernel's own counter since it was booted.
    """
    group = _read(_PROC / "self" / "cgroup").decode(errors="replace").partition("::")[2].strip().lstrip("/")
    for counted in (_CGROUPS / group / "memory.events", _PROC / "vmstat"):
        rows = dict(row.split()[:2] for row in _read(counted).splitlines() if row.startswith(b"oom_kill "))
        if rows:
            return int(rows[b"oom_kill"])
    return 0


def leads(seen: Seen, handle: Handle) -> bool:
    """Whether this is the first process of the command that `handle` finds, and not another one that was given its pid.

    A token decides where there is one: when the clock is set, all start times move with it.
    """
    if seen.pid != handle.pid:
        return False
    if seen.server_id:
        return seen.server_id == handle.server_id
    return abs(seen.started - handle.started) <= SAME_START


def belonging(seen: tuple[Seen, ...], handle: Handle, *, uid: int) -> tuple[Seen, ...]:
    """Those of `seen` that belong to the command; `uid` is the user who runs it.

    Sure signs come first (the token, the session), then what hangs on them: children, and orphans of the same environment.
    A process with another server's token never belongs, nor does one older than the command.
    """
    by_pid = {process.pid: process for process in seen}
    first = by_pid.get(handle.pid)
    oldest = (first.started if first and leads(first, handle) else handle.started) - SAME_START
    # init never belongs, whatever a damaged handle says: all processes hang on it.
    possible = [s for s in seen if not s.server_id and s.uid == uid and s.started >= oldest and s.pid > 1]
    ours = {s.pid for s in seen if s.server_id and s.server_id == handle.server_id and s.pid > 1}
    ours |= {s.pid for s in possible if _in_session(s, handle, first)}
    while more := {s.pid for s in possible if s.ppid in ours or _orphan(s, by_pid, ours)} - ours:
        ours |= more
    return tuple(s for s in seen if s.pid in ours)


def _in_session(process: Seen, handle: Handle, first: Seen | None) -> bool:
    """Linux gives a pid away again only when no session has its number: with another holder, the session has ended.

    Without a holder it may have ended too, and the number may be that of a daemon's session, whose leader always leaves. A
    daemon has an environment to read; our own processes without a token have none.
    """
    # 0 is the session of all that was started from outside of a container.
    if process.session != handle.pid or process.session == 0:
        return False
    return leads(first, handle) if first else process.server_id is None


def _orphan(process: Seen, by_pid: dict[int, Seen], ours: set[int]) -> bool:
    """Whether it uses the environment, has nothing to read, and was handed to init or to a subreaper by a parent that died.

    No sign tells a subreaper. But who is neither its session's leader nor in its parent's session did not get this parent by
    birth. An orphan in the session of a living process that is not ours is that one's.
    """
    # 0 is a parent outside of the container (`docker exec`): it has one.
    if process.server_id is not None or not process.maps_environment or process.ppid == 0:
        return False
    leader = by_pid.get(process.session)
    if leader and leader.pid != process.pid and leader.pid not in ours:
        return False
    parent = by_pid.get(process.ppid)
    return parent is None or parent.pid == 1 or process.session not in (process.pid, parent.session)


@dataclass(frozen=True, slots=True)
class _Stat:
    ended: bool
    forked: bool
    ppid: int
    session: int
    ticks: int

    def started(self, booted: float) -> float:
        return self.ticks / os.sysconf("SC_CLK_TCK") + booted


def _stat(pid: int) -> _Stat | None:
    """What /proc/PID/stat says (proc_pid_stat(5)); None for kernel threads too."""
    # The name stands in parentheses and may itself hold spaces and parentheses.
    fields = _read(_PROC / str(pid) / "stat").rpartition(b")")[2].split()
    if not fields or int(fields[6]) & _KERNEL_THREAD:
        return None
    return _Stat(
        ended=fields[0] in (b"Z", b"X"),
        forked=bool(int(fields[6]) & _FORKED),
        ppid=int(fields[1]),
        session=int(fields[3]),
        ticks=int(fields[19]),
    )


def _look(pid: int, environment: Path, *, uid: int, booted: float) -> Seen | None:
    stat = _stat(pid)
    owner = _owner(pid)
    if stat is None or stat.ended or owner is None:
        return None
    token = _token(pid)
    return Seen(
        pid=pid,
        ppid=stat.ppid,
        session=stat.session,
        started=stat.started(booted),
        uid=owner,
        server_id=token,
        maps_environment=token is None and owner == uid and _maps(pid, environment),
    )


def _is_spawned(pid: int, parent: int, interpreter: str) -> bool:
    """Whether multiprocessing started it: it says so, its name does (runners/spare.py), or it has other words by now."""
    try:
        if (_PROC / str(pid) / "exe").readlink() != (_PROC / str(parent) / "exe").readlink():
            return False
    except OSError:
        return False
    words = _read(_PROC / str(pid) / "cmdline").split(b"\0")
    return words[0] != os.fsencode(interpreter) or b"--multiprocessing-fork" in words or name(pid) == SPAWNED


def _environ(pid: int) -> dict[str, str]:
    entries = [os.fsdecode(entry) for entry in _read(_PROC / str(pid) / "environ").split(b"\0")]
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def _token(pid: int) -> str | None:
    environ = _read(_PROC / str(pid) / "environ")
    for entry in environ.split(b"\0"):
        if entry.startswith(SERVER_ID.encode() + b"="):
            return entry.partition(b"=")[2].decode(errors="replace")
    # setproctitle wipes from the start on, and may leave the last variables.
    return "" if _VARIABLE.match(environ) else None


def _maps(pid: int, environment: Path) -> bool:
    """Whether its program or a mapped file lies beneath the folder; the kernel names files without symbolic links."""
    folder = environment.resolve()
    try:
        if (_PROC / str(pid) / "exe").readlink().is_relative_to(folder):
            return True
    except OSError:
        return False
    return os.fsencode(f" {folder}/") in _read(_PROC / str(pid) / "maps")


def _writes(pid: int, folder: Path) -> bool:
    """Whether its output goes into a file beneath the folder."""
    try:
        return (_PROC / str(pid) / "fd" / "1").readlink().is_relative_to(folder.resolve())
    except OSError:
        return False


def _owner(pid: int) -> int | None:
    try:
        return (_PROC / str(pid)).stat().st_uid
    except OSError:
        return None


def _read(path: Path) -> bytes:
    """A file of /proc, empty where the process is gone or is nobody's business: both are everyday there."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _booted() -> float:
    return float(_read(_PROC / "stat").partition(b"\nbtime ")[2].split(maxsplit=1)[0])
