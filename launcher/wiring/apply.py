"""The only writer of agents' files: shows what it would change, changes it, and takes it back."""

import os
import stat
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from launcher import atomic
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.llm import LLMConfig
from launcher.wiring import records
from launcher.wiring.base import Edit, Manner, Place, Target
from launcher.wiring.records import Record


class Put(Protocol):
    """How a text becomes a file: `atomic.write`."""

    def __call__(self, path: Path, text: str, *, mode: int = 0o600) -> None: ...


@dataclass(frozen=True, slots=True)
class Skip:
    """A target that would not load such a model, and why."""

    target: str
    agent: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A target whose file could not be read, understood or written; the other targets are not touched by it."""

    target: str
    agent: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """What `write` would do: nothing is written yet."""

    edits: tuple[Edit, ...]
    skips: tuple[Skip, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The edits that are in place now, those that changed nothing included, and those that failed."""

    edits: tuple[Edit, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Wired:
    """A file that was wired, and its text then; `present` tells whether entries of ours are still in it."""

    target: str
    agent: str
    path: Path
    name: str
    base_url: str
    present: bool
    manner: Manner = Manner()  # noqa: RUF009 - it is frozen
    after: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Undone:
    """A file that was unwired, and how; `reason` says why a file was `left` as it is, or what `failed`."""

    target: str
    agent: str
    path: Path
    how: Literal["removed", "restored", "edited", "left", "failed"]
    reason: str = ""


def propose(targets: Mapping[str, Target], place: Place, llm: LLMConfig, home: Home) -> Proposal:
    """What each target's files would become; writes nothing."""
    edits: list[Edit] = []
    skips: list[Skip] = []
    faults: list[Fault] = []
    for target in targets.values():
        refused = target.refuses(llm)
        try:
            found = _found(target, targets, place, llm, home)
            left = target.leaves({path: each.before for path, each in found.items()}, _remembered(place, target, found))
            if left is None and not refused:
                edits += _edits(target, place, llm, found)
        except LauncherError as error:
            faults.append(Fault(target.NAME, target.AGENT, error.message, error.hint))
            continue
        if left != "" and (reason := refused or left):
            skips.append(Skip(target.NAME, target.AGENT, reason))
    return Proposal(tuple(edits), tuple(skips), tuple(faults))


def write(edits: Iterable[Edit], home: Home, *, put: Put = atomic.write) -> Outcome:
    """Make these edits, each with a record that can undo it, written first: a kill at any moment leaves nothing for ever."""
    done: list[Edit] = []
    faults: list[Fault] = []
    for edit in edits:
        try:
            _wire(edit, home, put)
            done.append(edit)
        except LauncherError as error:
            faults.append(Fault(edit.target, edit.agent, error.message, error.hint))
    return Outcome(tuple(done), tuple(faults))


def wired(targets: Mapping[str, Target], home: Home) -> tuple[Wired, ...]:
    """All files that were wired and not unwired; raises LauncherError for a damaged record."""
    found = [records.load(path) for path in records.paths(home)]
    return tuple(
        Wired(
            target=each.target,
            agent=each.agent,
            path=Path(each.path),
            name=each.name,
            base_url=each.base_url,
            present=_still_there(targets, each),
            manner=each.manner,
            after=each.after,
        )
        for each in found
    )


def unwire(
    targets: Mapping[str, Target],
    home: Home,
    *,
    names: AbstractSet[str] | None = None,
    agents: AbstractSet[str] | None = None,
    put: Put = atomic.write,
) -> tuple[Undone, ...]:
    """Take our entries out of every file, or only those of these served names, or of these agents or targets."""
    undone: list[Undone] = []
    for path in records.paths(home):
        try:
            record = records.load(path)
        except LauncherError as error:
            undone.append(Undone("", "", path, "failed", error.message))
            continue
        asked = agents is None or record.agent in agents or record.target in agents
        if asked and (names is None or record.name in names):
            undone.append(_unwire(targets, record, path, put))
    return tuple(undone)


# -- proposing --


@dataclass(frozen=True, slots=True)
class _Found:
    """What is in a file now, what was the user's own in it, and our record of it if it was wired before."""

    before: str | None
    now: str | None
    earlier: Record | None


def _found(target: Target, targets: Mapping[str, Target], place: Place, llm: LLMConfig, home: Home) -> Mapping[Path, _Found]:
    """What we wrote earlier is taken out first, so that `before` is the user's own text for ever."""
    found = {}
    for path in target.paths(place, llm):
        earlier, now = records.earlier(home, path), text_of(path)
        found[path] = _Found(_own(targets, earlier, now) if earlier else now, now, earlier)
    return found


def _remembered(place: Place, target: Target, found: Mapping[Path, _Found]) -> Place:
    """A file that was made once is made again: where it is wired, it was chosen."""
    wired_before = any(each.earlier for each in found.values())
    return replace(place, chosen=place.chosen | {target.NAME}) if wired_before else place


def _edits(target: Target, place: Place, llm: LLMConfig, found: Mapping[Path, _Found]) -> list[Edit]:
    after = target.connect({path: each.before for path, each in found.items()}, place, llm)
    return [
        Edit(
            target=target.NAME,
            agent=target.AGENT,
            path=path,
            name=llm.name,
            base_url=llm.base_url,
            mode=None if each.before is None else _own_mode(path, each.earlier),
            before=each.before,
            now=each.now,
            after=after[path],
            manner=place.manner,
        )
        for path, each in found.items()
        if each.earlier or not each.before == each.now == after[path]
    ]


def text_of(path: Path) -> str | None:
    """A file's text with its line ends as they are, None for no file; raises LauncherError if we could not replace it."""
    try:
        if not path.exists():
            _refuse_unwritable(_nearest(path))
            return None
        if not path.is_file():
            raise LauncherError(f"{path} is not a file", hint="name a config file")
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise LauncherError(f"{path} is not UTF-8 text (byte {error.start}) and was left alone", hint="mend it") from None
    except OSError as error:
        raise LauncherError(f"cannot read {path}: {error.strerror}", hint="mend its permissions, or move it away") from None
    if not os.access(path, os.W_OK):
        raise LauncherError(f"cannot write to {path}: it is read-only", hint=f"chmod u+w {path}")
    _refuse_unwritable(records.real_path(path).parent)
    return text


def _refuse_unwritable(directory: Path) -> None:
    """A file is replaced by a new one beside it: that takes a directory that may be written."""
    if not os.access(directory, os.W_OK | os.X_OK):
        raise LauncherError(f"cannot write in {directory}", hint="mend its permissions, or name another --config-file")


def _nearest(path: Path) -> Path:
    """The first directory above a file to be that exists."""
    return next(directory for directory in records.real_path(path).parents if directory.exists())


def _own_mode(path: Path, record: Record | None) -> int:
    if record and record.mode is not None:
        return record.mode
    return stat.S_IMODE(path.stat().st_mode)


# -- writing --


def _wire(edit: Edit, home: Home, put: Put) -> None:
    if edit.before == edit.after and not edit.changes:
        return
    if text_of(edit.path) != edit.now:
        raise LauncherError(f"{edit.path} was changed by another program just now", hint="run the same command again")
    home.make()
    real = records.real_path(edit.path)
    earlier = records.earlier(home, edit.path)
    missing = [directory for directory in reversed(real.parents) if not directory.exists()]
    record = records.record_of(edit, real, made=(*records.made_above(home, real), *map(str, missing)))
    try:
        home.wired.mkdir(mode=0o700, exist_ok=True)
        put(records.path_of(home, real), record.text())
        if edit.changes:
            for directory in missing:
                directory.mkdir(mode=0o700, exist_ok=True)
            _place(real, edit.after, _private(edit.mode), put)
    except OSError as error:
        _forget(home, real, earlier, missing, put)
        hint = "mend its permissions or make room on the disk; it was left as it is"
        raise LauncherError(f"cannot write {edit.path}: {error.strerror}", hint=hint) from None


def _private(mode: int | None) -> int:
    """The file's own mode if nobody else can read it; a file that gains a key is this user's alone."""
    return 0o600 if mode is None or mode & 0o077 else mode


def _place(path: Path, text: str | None, mode: int, put: Put) -> None:
    if text is None:
        path.unlink(missing_ok=True)
    else:
        put(path, text, mode=mode)


def _forget(home: Home, real: Path, earlier: Record | None, missing: Iterable[Path], put: Put) -> None:
    """After a failed write: the record says again what is true, and the directories made for it go."""
    with suppress(OSError):
        _place(records.path_of(home, real), earlier.text() if earlier else None, 0o600, put)
    _remove_empty(missing)


def _remove_empty(directories: Iterable[Path]) -> None:
    for directory in reversed(list(directories)):
        with suppress(OSError):
            directory.rmdir()


# -- taking back --


def _unwire(targets: Mapping[str, Target], record: Record, record_path: Path, put: Put) -> Undone:
    path = Path(record.path)
    try:
        now = text_of(path)
        own = _own(targets, record, now)
        if own != now:
            _place(path, own, _mode_back(path, record), put)
        reason = _finish(record, record_path, now) if own == now else ""
        record_path.unlink(missing_ok=True)
    except LauncherError as error:
        return Undone(record.target, record.agent, path, "failed", error.message)
    except OSError as error:
        return Undone(record.target, record.agent, path, "failed", f"cannot write {path}: {error.strerror}")
    _remove_empty(map(Path, record.made))
    return Undone(record.target, record.agent, path, _how(record, now, own), reason)


def _mode_back(path: Path, record: Record) -> int:
    """The mode from before we came, unless somebody set another one since."""
    current = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    return record.mode if record.mode is not None and current == _private(record.mode) else current


def _finish(record: Record, record_path: Path, now: str | None) -> str:
    """Why there was nothing to take out; what stood there before us is kept where it would be lost with the record."""
    if now == record.before:
        return "it is as it was before"
    reason = "it is gone" if now is None else "none of our entries is in it any more"
    if record.before is None:
        return reason
    kept = record_path.with_suffix(".left")
    record_path.replace(kept)
    return f"{reason}; its old text is kept in {kept}"


def _how(record: Record, now: str | None, own: str | None) -> Literal["removed", "restored", "edited", "left"]:
    if own == now:
        return "left"
    if own is None:
        return "removed"
    return "restored" if own == record.before else "edited"


def _still_there(targets: Mapping[str, Target], record: Record) -> bool:
    try:
        now = text_of(Path(record.path))
        return _own(targets, record, now) != now
    except LauncherError:
        return False


def _own(targets: Mapping[str, Target], record: Record, now: str | None) -> str | None:
    """The user's own text: `now` without our entries. `found` is what a kill before the file's own write leaves in it."""
    if now in (record.found, record.after):
        return record.before
    if record.target not in targets:
        hint = f"restore the file by hand: its old text is under `before` in the records of {record.target}"
        raise LauncherError(f"{record.path} was wired by an unknown target, {record.target}", hint=hint)
    path = Path(record.path)
    return targets[record.target].disconnect({path: now}, {path: record.before}, {path: record.after})[path]
