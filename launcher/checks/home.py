"""Whether what lies on the disk is well: room, modes, records, environments, weights; and what dead servers left behind."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launcher.finding import Finding, fails, passes, warns

GB, MB = 10**9, 10**6
# Files of an environment: 56,000 in the CPU build of vLLM 0.32, more in those for CUDA.
FILES = 100_000
# Room for state, logs and caches beside what is fetched.
SPARE = 2 * GB
OTHERS_MAY = 0o077


@dataclass(frozen=True, slots=True)
class Room:
    """A folder's disk, in bytes.

    `needs` is what is still to be written there, `for_what` in words; so many `files` may still be made, None where the file
    system does not count them.
    """

    path: Path
    free: int
    needs: int = 0
    for_what: str = ""
    files: int | None = None
    read_only: bool = False
    no_exec: bool = False


State = Literal["whole", "absent", "stale", "broken", "at work"]


@dataclass(frozen=True, slots=True)
class Kept:
    """An environment or a model's weights, as found; `size` bytes are to be fetched where it is absent."""

    name: str
    state: State
    needed: bool = False
    size: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that was started here, in the words of `launcher ps`."""

    name: str
    state: str
    detail: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Enabled:
    """The unit that was written for this home, and what systemd makes of it; `active` in its own words.

    `fault` is what kept us from asking. `own`: it starts this very launcher. `lingers`: without a login too. `linger` is the
    command for that.
    """

    name: str
    fault: str = ""
    enabled: bool = True
    active: str = "active"
    own: bool = True
    lingers: bool = True
    linger: str = ""


@dataclass(frozen=True, slots=True)
class Stray:
    """A process of a server that no record tells of; `memory` bytes come free when it ends."""

    pid: int
    name: str
    memory: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of shared memory that no living process has open."""

    path: Path
    size: int


def disk(rooms: Sequence[Room]) -> tuple[Finding, ...]:
    """Whether what is to be fetched and written finds its room; one line for each disk."""
    return tuple(_disk(room) for room in rooms)


def modes(open_paths: Sequence[tuple[Path, int]]) -> Finding:
    """Whether keys, logs and records are this user's alone: (path, mode) of those that others may read or write."""
    bad = [path for path, mode in open_paths if mode & OTHERS_MAY]
    if not bad:
        return passes("file modes", "keys, records and logs are for this user alone")
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    outermost = min(bad, key=lambda path: len(path.parts))
    # A folder that is closed closes all that lies in it.
    inside = [path for path in bad if outermost not in path.parents]
    return warns("file modes", f"others can read {outermost}{more}", f"chmod go= {' '.join(map(str, inside))}")


def records(faults: Sequence[tuple[str, str]]) -> tuple[Finding, ...]:
    """Records that cannot be read: (what is wrong, what to do) each."""
    return tuple(fails("records", message, hint) for message, hint in faults) or (passes("records", "all can be read"),)


def environments(seen: Sequence[Kept]) -> tuple[Finding, ...]:
    """Whether each environment is whole and of today; those that only would be installed are told where one is needed."""
    found = []
    for each in seen:
        if each.state == "whole":
            found.append(passes("environment", f"{each.name} is whole"))
        elif each.state == "at work":
            found.append(passes("environment", f"{each.name} is being installed right now"))
        elif each.state == "stale":
            detail = f"{each.name} was made for another version of the launcher"
            mend = "`launcher up` makes it anew" if each.needed else f"`launcher clean environments {each.name}` frees its room"
            found.append(warns("environment", detail, mend))
        elif each.state == "broken":
            mend = "`launcher up` makes it anew" if each.needed else f"`launcher clean environments {each.name}` removes it"
            found.append(warns("environment", f"{each.name} is broken: its Python is gone, or it was never finished", mend))
        elif each.needed:
            found.append(passes("environment", f"{each.name} is not installed yet: `launcher up` fetches {_size(each.size)}"))
    return tuple(found)


def weights(seen: Sequence[Kept]) -> tuple[Finding, ...]:
    """Whether the weights that were fetched are still whole, and what is still to be fetched."""
    found = []
    for each in seen:
        if each.state == "whole":
            found.append(passes("weights", f"{each.name} is whole"))
        elif each.state == "at work":
            found.append(passes("weights", f"{each.name} is being fetched right now"))
        elif each.state != "absent":
            detail = f"files of {each.name} are missing, or not as long as they were"
            found.append(warns("weights", detail, "`launcher up` fetches what is missing"))
        elif each.needed:
            found.append(passes("weights", f"{each.name} is not here yet: `launcher up` fetches {_size(each.size)}"))
    return tuple(found)


def servers(seen: Sequence[Running]) -> tuple[Finding, ...]:
    """Whether what was started here still runs."""
    found = []
    for each in seen:
        if each.state == "failed":
            remedy = f"`launcher logs {each.name}` tells why; `launcher up {each.model or each.name}` starts it again"
            found.append(warns("server", f"{each.name}: {each.detail}", remedy))
        elif each.state in {"ready", "starting", "waiting"}:
            found.append(passes("server", f"{each.name} is {each.state}"))
    return tuple(found) or (passes("server", "none runs"),)


def after_a_restart(seen: Enabled | None) -> Finding:
    """Whether what is wanted comes back with the machine; that it does not is nobody's fault until it was asked for."""
    title, again = "machine restart", "`launcher enable` writes and starts it anew; no model is restarted"
    if seen is None:
        return passes(title, "nothing comes back by itself: `launcher enable` changes that")
    if seen.fault:
        return warns(title, f"{seen.name} is there, but systemd is not: {seen.fault}", "`launcher serve` in the foreground")
    if not seen.enabled or seen.active not in {"active", "activating", "reloading"}:
        state = seen.active if seen.enabled else "not enabled"
        return warns(title, f"{seen.name} is {state}; `journalctl --user -u {seen.name}` may tell why", again)
    if not seen.own:
        return warns(title, f"{seen.name} starts another launcher than this one", again)
    if not seen.lingers:
        return warns(title, f"{seen.name} is at work only while you are logged in", f"`{seen.linger}`")
    return passes(title, f"{seen.name} keeps alive what is wanted, and starts it with the machine")


def strays(seen: Sequence[Stray]) -> Finding:
    """Processes of engines started here that no server has any more: `launcher down` does not know them."""
    if not seen:
        return passes("orphans", "no process is left of a server that ended")
    first = f"{seen[0].name} (pid {seen[0].pid})"
    who = f"{first} and {len(seen) - 1} more" if len(seen) > 1 else first
    memory = sum(each.memory for each in seen)
    size = f", with {_size(memory)} of memory" if memory >= MB else ""
    pids = " ".join(str(each.pid) for each in seen)
    return warns("orphans", f"left of a server that ended: {who}{size}", f"kill {pids}")


def segments(seen: Sequence[Segment]) -> Finding | None:
    """Shared memory with the names that engines use and without any process; None where it is too little to mend."""
    total = sum(each.size for each in seen)
    if total < MB:
        return None
    size = _size(total)
    count = f"{len(seen)} {'segments' if len(seen) > 1 else 'segment'}"
    files = " ".join(str(each.path) for each in seen[:_FILES_NAMED])
    rest = f" (and {len(seen) - _FILES_NAMED} more like them)" if len(seen) > _FILES_NAMED else ""
    return warns("leftovers", f"{count} of shared memory that no process has open: {size}", f"rm {files}{rest}")


_FILES_NAMED = 3


def _disk(room: Room) -> Finding:
    title, where = "disk", str(room.path)
    elsewhere = "set LAUNCHER_HOME (for models HF_HOME) to a folder on another disk"
    if room.read_only:
        return fails(title, f"{where} is mounted read-only", f"mount it writable, or {elsewhere}")
    if room.no_exec:
        return fails(title, f"{where} is mounted noexec: no engine can run from there", elsewhere)
    free = f"{_size(room.free)} free in {where}"
    if room.free < room.needs:
        detail = f"{free}; {room.for_what} {_take(room)}"
        return fails(title, detail, f"`launcher clean` shows what can be freed; or {elsewhere}")
    if room.files is not None and room.files < FILES and room.needs:
        detail = f"only {room.files:,} more files can be made in {where}; an environment has about {FILES:,}"
        return fails(title, detail, f"remove many small files, or {elsewhere}")
    if room.free < room.needs + SPARE:
        detail = f"{free}; {room.for_what} {_take(room)}" if room.needs else free
        return warns(title, detail, "`launcher clean` shows what can be freed")
    return passes(title, f"{free}; {room.for_what} {_take(room)}" if room.needs else free)


def _take(room: Room) -> str:
    return f"{'take' if ' and ' in room.for_what else 'takes'} {_size(room.needs)}"


def _size(size: int) -> str:
    return f"{size / GB:.1f} GB" if size >= GB else f"{size / MB:.0f} MB"
