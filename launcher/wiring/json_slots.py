"""Edits of a JSON file that another program owns: values put at paths, and exactly these taken out again."""

import copy
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from launcher.errors import LauncherError

Slot = tuple[str, ...]
Document = dict[str, Any]

_INDENT = re.compile(r"^[{\[]\r?\n([ \t]+)")
_NOTHING = object()


def read(path: Path, text: str | None) -> Document:
    """The object in a file, empty for no file or an empty one; raises LauncherError for anything else."""
    if text is None or not text.strip():
        return {}
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LauncherError(f"{path} is not valid JSON and was left alone: {error}", hint="mend it, or move it away") from None
    if not isinstance(document, dict):
        raise LauncherError(f"{path} holds no JSON object and was left alone", hint="mend it, or move it away")
    return document


def put(document: Document, values: Mapping[Slot, Any]) -> Document:
    """The document with these values at their places."""
    made = copy.deepcopy(document)
    for slot, value in values.items():
        place = made
        for key in slot[:-1]:
            if not isinstance(place.get(key), dict):
                place[key] = {}
            place = place[key]
        place[slot[-1]] = value
    return made


def write(document: Document, like: str | None) -> str:
    """The text, with the indentation and the last line's end of the text that stood there."""
    indent: str | int | None = 2
    if like and like.strip():
        found = _INDENT.match(like.lstrip())
        indent = found[1] if found else None
    end = "\n" if like is None or like.endswith("\n") else ""
    return json.dumps(document, indent=indent, ensure_ascii=False) + end


def without(
    path: Path,
    now: str | None,
    before: str | None,
    after: str | None,
    slots: Callable[[Document], Iterable[Slot]],
    ours: Callable[[object, object], bool],
) -> str | None:
    """`now` with what stood `before` at each of our slots that still holds what we put there; None if nothing else is in it."""
    if now == after:
        return before
    if now is None or after is None:
        return now
    there, old, mine = read(path, now), read(path, before), read(path, after)
    left = copy.deepcopy(there)
    for slot in slots(mine):
        was, put_there = _at(old, slot), _at(mine, slot)
        if was != put_there and put_there is not _NOTHING and ours(_at(there, slot), put_there):
            _set(left, slot, was, old)
    if left == there:
        return now
    return None if before is None and not left else write(left, now)


def _at(document: Document, slot: Slot) -> Any:
    place: Any = document
    for key in slot:
        if not isinstance(place, dict) or key not in place:
            return _NOTHING
        place = place[key]
    return place


def _set(document: Document, slot: Slot, value: Any, old: Document) -> None:
    """Put a value back, or take the key out, and what we made of the places above it, if nothing else is in them."""
    above = [document]
    for key in slot[:-1]:
        above.append(above[-1][key])
    if value is not _NOTHING:
        above[-1][slot[-1]] = value
        return
    del above[-1][slot[-1]]
    for depth in range(len(slot) - 1, 0, -1):
        was = _at(old, slot[:depth])
        if above[depth] or isinstance(was, dict):
            return
        if was is not _NOTHING:
            above[depth - 1][slot[depth - 1]] = was
            return
        del above[depth - 1][slot[depth - 1]]
