"""What was fetched from the hub and found whole: a record for each repository and revision, in LAUNCHER_HOME/weights.

A record is written after every file was checked and flushed: what has none is not taken for whole.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import atomic
from launcher.home import Home
from launcher.profile_weights import HubWeights, ModelScopeWeights


@dataclass(frozen=True, slots=True)
class Recorded:
    """A snapshot in a hub's cache. `files` are bytes by names, `blobs` hashes; `vouched` as in hub_fetch.Request."""

    path: Path
    repo: str
    revision: str
    commit: str
    folder: Path
    files: Mapping[str, int]
    blobs: Mapping[str, str]
    vouched: Mapping[str, tuple[int, int]]

    @property
    def size(self) -> int:
        return sum(self.files.values())

    def faulty(self) -> tuple[str, ...]:
        """The files that are not there as they were, by their sizes: the cache is others' too, and may have been cleaned."""
        return tuple(name for name, size in self.files.items() if _size(self.folder / name) != size)


def write(home: Home, weights: HubWeights | ModelScopeWeights, told: Mapping[str, Any]) -> None:
    """Record what the hub's process told of a repository that is whole now."""
    content = {
        "repo": weights.repo,
        "revision": (weights.revision or "") if isinstance(weights, HubWeights) else "",
        "commit": told["commit"],
        "folder": told["folder"],
        "files": told["files"],
    }
    atomic.write(_path(home, weights), json.dumps(content, indent=1) + "\n")


def find(home: Home, weights: HubWeights | ModelScopeWeights) -> Recorded | None:
    """The record of exactly this revision or, for a commit, of any revision that is that commit."""
    exact = _read(_path(home, weights))
    if isinstance(weights, ModelScopeWeights):
        return exact
    others = read_all(home) if weights.revision else ()
    same = (each for each in others if (each.repo, each.commit) == (weights.repo, weights.revision))
    candidates = (each for each in (exact, *same) if each)
    return next((each for each in candidates if not weights.code or any(name.endswith(".py") for name in each.files)), None)


def read_all(home: Home) -> tuple[Recorded, ...]:
    """Every record that can be read."""
    return tuple(found for path in sorted(home.weights.glob("*@*.json")) if (found := _read(path)))


def _path(home: Home, weights: HubWeights | ModelScopeWeights) -> Path:
    revision = ((isinstance(weights, HubWeights) and weights.revision) or "default").replace("/", "--")
    return home.weights / f"{weights.repo.replace('/', '--')}@{revision}.json"


def _read(path: Path) -> Recorded | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        files = content["files"]
        return Recorded(
            path=path,
            repo=content["repo"],
            revision=content["revision"],
            commit=content["commit"],
            folder=Path(content["folder"]),
            files={name: file["size"] for name, file in files.items()},
            blobs={name: file["blob"] for name, file in files.items() if "blob" in file},
            vouched={file["blob"]: (file["size"], file["changed"]) for file in files.values() if "blob" in file},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # nothing depends on it: what it told is checked again


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
