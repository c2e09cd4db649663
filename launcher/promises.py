"""What downloads that run still need of the disk, so that two of them do not count on the same room. Sizes are bytes."""

import json
from collections.abc import Iterator
from pathlib import Path

from launcher import atomic, disk, fetch_plan, lock
from launcher.errors import LauncherError
from launcher.fetch_plan import FetchPlan, Part
from launcher.hub_cache import Cache

_SUFFIX = ".fetching.json"
_ROOM = "make room, or set HF_HOME to a directory on a larger disk"


def make(folder: Path, name: str, plan: FetchPlan, cache: Cache) -> None:
    """Note that `name`, whose lock is held, needs what the plan says; raises LauncherError where there is no room for it."""
    with lock.acquire(folder / ".promises.lock", "a look at the disk", waiting=lambda _: None, timeout=None):
        promised_to_others = promised(folder, name, cache.folder)
        free = disk.free_bytes(cache.folder)
        if plan.missing > free - promised_to_others:
            needed = disk.gigabytes(promised_to_others)
            others = f", of which other downloads still need {needed}" if promised_to_others else ""
            room = f"{disk.gigabytes(free)} are free in {cache.folder.parent}{others}"
            message = f"fetching {plan.repo} needs {disk.gigabytes(plan.missing)} of disk, and {room}"
            raise LauncherError(message, hint=_ROOM)
        atomic.write(folder / f"{name}{_SUFFIX}", json.dumps({"cache": str(cache.folder), "plan": plan.json()}) + "\n")


def promised(folder: Path, name: str, place: Path) -> int:
    """What other downloads than `name` still need of the disk that `place` is on."""
    return sum(_left(path) for path in _others(folder, name) if _same_disk(path, place))


def keep(folder: Path, name: str) -> None:
    """It is over: nothing is needed any more."""
    (folder / f"{name}{_SUFFIX}").unlink(missing_ok=True)


def _others(folder: Path, name: str) -> Iterator[Path]:
    """The notes of downloads that run: who was killed holds no lock any more."""
    for path in folder.glob(f"[!.]*{_SUFFIX}"):
        other = path.name.removesuffix(_SUFFIX)
        if other != name and lock.holder(folder / f"{other}.lock"):
            yield path


def _read(path: Path) -> tuple[FetchPlan, Cache] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return fetch_plan.read(content["plan"]), Cache(Path(content["cache"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # it ended just now


def _left(path: Path) -> int:
    if (found := _read(path)) is None:
        return 0
    plan, cache = found
    return sum(Part(part.file, cache.there(part.file, plan.commit)).missing for part in plan.parts)


def _same_disk(path: Path, folder: Path) -> bool:
    found = _read(path)
    return found is not None and disk.same_disk(found[1].folder, folder)
