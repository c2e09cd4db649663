"""What undoes wiring: for each file of an agent a 0600 record with the user's own text."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from launcher.errors import LauncherError
from launcher.home import Home
from launcher.wiring.base import Edit, Manner


@dataclass(frozen=True, slots=True)
class Record:
    """How to undo one file: `before` is the user's own text, `found` what we replaced, `made` the directories we made."""

    target: str
    agent: str
    path: str
    name: str
    base_url: str
    before: str | None = field(repr=False)
    found: str | None = field(repr=False)
    after: str | None = field(repr=False)
    mode: int | None
    made: tuple[str, ...]
    manner: Manner = Manner()  # noqa: RUF009 - it is frozen

    def text(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


def record_of(edit: Edit, real: Path, *, made: tuple[str, ...]) -> Record:
    """What undoes an edit of the file `real`, once the directories `made` for it are there."""
    return Record(
        target=edit.target,
        agent=edit.agent,
        path=str(real),
        name=edit.name,
        base_url=edit.base_url,
        before=edit.before,
        found=edit.now,
        after=edit.after,
        mode=edit.mode,
        made=made,
        manner=edit.manner,
    )


def made_above(home: Home, real: Path) -> list[str]:
    """The directories above a file that we made for any file: the last one that goes takes them along."""
    made = [directory for path in paths(home) for directory in load(path).made if Path(directory) in real.parents]
    return sorted(set(made), key=len)


def real_path(path: Path) -> Path:
    """The file itself, where a path leads over symbolic links."""
    return Path(os.path.realpath(path))


def path_of(home: Home, real: Path) -> Path:
    """Where the record of a file lies."""
    return home.wired / f"{hashlib.sha256(os.fsencode(real)).hexdigest()[:16]}.json"


def paths(home: Home) -> list[Path]:
    """All records."""
    return sorted(home.wired.glob("*.json"))


def earlier(home: Home, path: Path) -> Record | None:
    """The record of a file that was wired before."""
    record_path = path_of(home, real_path(path))
    return load(record_path) if record_path.exists() else None


def load(path: Path) -> Record:
    """A record; raises LauncherError if it cannot be read."""
    try:
        content = json.loads(path.read_bytes())
        manner = Manner(**content.get("manner", {}))
        return Record(**{**content, "made": tuple(content["made"]), "manner": manner})
    except OSError as error:
        raise LauncherError(f"cannot read {path}: {error.strerror}", hint="mend its permissions") from None
    except (ValueError, TypeError, KeyError):
        raise LauncherError(f"{path} is damaged", hint="what it says about an agent's file must be undone by hand") from None
