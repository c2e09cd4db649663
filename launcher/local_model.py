"""A model's folder on this machine: whether it is whole, and how large its weights are."""

import json
from pathlib import Path

from launcher.weight_files import shards

INDEX = "model.safetensors.index.json"
# A safetensors file begins with the length of its header, in eight bytes (format.md of safetensors).
_LENGTH = 8


def sizes(folder: Path) -> dict[str, int]:
    """The bytes of each file with weights that an engine would load from the folder."""
    found = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    return {name: found[name] for name in sorted(shards(found))}


def fault(folder: Path) -> str | None:
    """What an engine would miss in the folder; None if it is whole."""
    try:
        if not (folder / "config.json").is_file():
            return "there is no config.json"
        present = sizes(folder)
        if missing := sorted(_named(folder) - present.keys()):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            return f"{missing[0]}{more} of its index is missing"
        if not present:
            return "there are no weights (.safetensors)"
        cut = [name for name in present if name.endswith(".safetensors") and not _is_complete(folder / name)]
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except ValueError as error:
        return f"{INDEX} cannot be read: {error}"
    return f"{cut[0]} is cut off" if cut else None


def _named(folder: Path) -> set[str]:
    """The shards that the index names; raises ValueError for an index that is none."""
    if not (folder / INDEX).is_file():
        return set()
    content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict) or not all(isinstance(shard, str) for shard in named.values()):
        raise ValueError("it names no files")  # what is wrong is a value of the file's
    return set(named.values())


def _is_complete(path: Path) -> bool:
    """Whether the file is as long as its own header says."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        rest = path.stat().st_size - _LENGTH - length
        if rest < 0:
            return False
        try:
            tensors = json.loads(file.read(length))
            ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return False
    return rest == max(ends, default=0)
