"""What a packed model's folder holds, as its pack.json says: read strictly, since it came from another machine. Values."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MANIFEST = "pack.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Packed:
    """A model, one variant of it, and a build of the engine that serves it.

    The folder holds `profiles/MODEL.toml`, `weights/` with `files` (the hash of each by its path), `wheels/` and the `lock`.
    `repo`, `revision` and `commit` are the hub's, "" for weights from elsewhere; `path` is where a folder of a user's was.
    """

    launcher: str
    model: str
    variant: str
    engine: str
    engine_version: str
    accelerator: str
    arch: str
    python: str
    lock: str
    files: Mapping[str, str]
    repo: str = ""
    revision: str = ""
    commit: str = ""
    path: str = ""


def text(packed: Packed) -> str:
    """The manifest."""
    return json.dumps({"version": VERSION, **asdict(packed)}, indent=1) + "\n"


def parse(manifest: str) -> Packed:
    """What a manifest says; raises ValueError for one that is none, or leads out of its folder."""
    content = json.loads(manifest)
    if not isinstance(content, dict) or content.pop("version", None) != VERSION:
        message = f"it is not of version {VERSION}"
        raise ValueError(message)
    try:
        packed = Packed(**content)
    except TypeError as error:
        raise ValueError(str(error)) from None
    _check(asdict(packed))
    return packed


def _check(content: Mapping[str, Any]) -> None:
    files = content["files"]
    if not isinstance(files, dict) or not all(isinstance(each, str) for pair in files.items() for each in pair):
        message = "files must name hashes"
        raise ValueError(message)
    for key, value in content.items():
        if key != "files" and not isinstance(value, str):
            message = f"{key} is no text"
            raise ValueError(message)
    for name in (*files, content["model"], content["variant"]):
        if name.startswith("/") or ".." in name.split("/") or not name:
            message = f"{name!r} leads out of the folder"
            raise ValueError(message)
