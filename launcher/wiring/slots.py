"""Entries of ours in a text that others own: put at their places, and exactly these taken out again.

Every edit is one of spans, so that all else stays byte for byte; and every edit is tried: it counts only if the new text reads
as the old one with exactly the change that was meant.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from launcher.errors import LauncherError
from launcher.wiring.base import Files
from launcher.wiring.spans import Node, Part, Scalar, Source


@dataclass(frozen=True, slots=True)
class Item:
    """The item of a list that has these values in these fields, `a.b` is b in a; under the field "" the item is the value."""

    fields: tuple[tuple[str, str], ...]

    def is_it(self, tree: object) -> bool:
        return all(at(tree, tuple(name.split(".")) if name else ()) == value for name, value in self.fields)


Step = str | Item
Slot = tuple[Step, ...]
"""A place in a text: the keys, and the items of lists, on the way to it."""


class Language(Protocol):
    """How a kind of text is read and edited; candidates for an edit come best first, and need not be right."""

    def read(self, text: str) -> Node:
        """The whole text, an empty one as an empty object; raises ValueError, or RecursionError, for what is none."""

    def says(self, value: object) -> Any:
        """A value of ours, as `read` would find it in a text."""

    def added(self, text: str, node: Node, key: str | None, value: object) -> Iterator[str]:
        """The text with another pair, or item, in a node."""

    def replaced(self, text: str, node: Node, value: object, *, at: int) -> Iterator[str]:
        """The text with another value for a node; its key, or its dash, is at `at`."""

    def dropped(self, text: str, node: Node, number: int) -> Iterator[str]:
        """The text without one part of a node."""


class _Nothing:
    """What is not there."""

    def __repr__(self) -> str:
        return "NOTHING"


NOTHING = _Nothing()
_ADDRESS = re.compile(r"https?://")
_COMMA_AT_END = re.compile(r",\s*[}\]]")


def put(language: Language, path: Path, text: str | None, values: Mapping[Slot, object]) -> str:
    """The text with these values at their places; raises LauncherError for what cannot be read, or cannot be edited so."""
    new = text or ""
    for slot, value in values.items():
        tree = read(language, path, new).value
        wanted = _with(tree, slot, language.says(value))
        if wanted is NOTHING:
            raise _not_editable(path, slot)
        if wanted != tree:
            new = _tried(language, path, _put(language, new, slot, value), wanted, slot)
    if new and not new.endswith("\n") and (not text or not text.strip()):
        new += "\n"
    return new


def without(
    language: Language,
    path: Path,
    now: str | None,
    before: str | None,
    after: str | None,
    slots: Callable[[Any, Any], Iterable[Slot]],
    ours: Callable[[Any, Any], bool] | None = None,
    *,
    scaffold: Collection[str] = (),
) -> str | None:
    """`now` with what stood `before` at each of our slots that is still `ours`; None if nothing is in a file that we made.

    `slots` are those of the trees before and after us. Without `ours`, an entry is while it has our addresses.
    `scaffold` are keys that a file of this kind begins with: alone they do not keep one that we made.
    """
    if now == after:
        return before
    if now is None or after is None:
        return now
    there, old, mine = (read(language, path, text or "") for text in (now, before, after))
    still = ours or same_address
    left, steps = there.value, []
    for slot in slots(old.value, mine.value):
        was, put_there, current = at(old.value, slot), at(mine.value, slot), at(left, slot)
        if put_there is NOTHING or current is NOTHING or was == put_there or not still(current, put_there):
            continue
        step = _way_back(left, old, slot, before or "")
        steps.append(step)
        left = step.done(left)
    if left == there.value:
        return now
    if before is None and (not left or (isinstance(left, dict) and set(left) <= set(scaffold))):
        return None
    reversed_ = _reversed(now, before or "", after)
    if reversed_ is not None and _reads_as(language, reversed_, left):
        return reversed_
    new = now
    for step in steps:
        tree = step.done(read(language, path, new).value)
        new = _tried(language, path, _take(language, new, step), tree, step.slot)
    return new


def all_without(
    language: Language,
    now: Files,
    before: Files,
    after: Files,
    slots: Callable[[Any, Any], Iterable[Slot]],
    *,
    scaffold: Collection[str] = (),
) -> Files:
    """`without` for each of these files."""
    return {
        path: without(language, path, text, before[path], after[path], slots, scaffold=scaffold) for path, text in now.items()
    }


def new_items(old: object, mine: object, slot: Slot, fields: Iterable[str]) -> Iterator[Slot]:
    """The slots of the items that only the second tree has in a list, each known by these fields."""
    there = at(old, slot)
    for item in at(mine, slot) if isinstance(at(mine, slot), list) else ():
        if not isinstance(there, list) or item not in there:
            yield (*slot, Item(tuple((name, at(item, tuple(name.split(".")) if name else ())) for name in fields)))


def read(language: Language, path: Path, text: str) -> Node:
    """The text as a tree; raises LauncherError where it is none."""
    try:
        return language.read(text)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split()) or "it is nested too deeply"
        hint = "mend it, or move it away"
        raise LauncherError(f"{path} cannot be understood and was left alone: {reason}", hint=hint) from None


def at(tree: object, slot: Slot) -> Any:
    """The value at a slot, or NOTHING."""
    for step in slot:
        if isinstance(step, Item):
            tree = next((each for each in tree if step.is_it(each)), NOTHING) if isinstance(tree, list) else NOTHING
        else:
            tree = _got(tree, step)
    return tree


def same_address(there: object, mine: object) -> bool:
    """Whether an entry still points where we had it point: an edited one is ours, one that was redirected is not."""
    addresses = list(_addresses(mine, ()))
    if not addresses:
        return there == mine
    return all(at(there, slot) == address for slot, address in addresses)


def _addresses(tree: object, slot: Slot) -> Iterator[tuple[Slot, str]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _addresses(value, (*slot, key))
    elif isinstance(tree, str) and _ADDRESS.match(tree):
        yield slot, tree


def _got(tree: object, key: str) -> Any:
    return tree[key] if isinstance(tree, dict) and key in tree else NOTHING


def _is_empty(tree: object) -> bool:
    """Whether a place is there for us to fill: nothing, an empty one, or one that says null."""
    return tree is NOTHING or tree in ({}, []) or (isinstance(tree, Scalar) and tree.text in {"null", "~", ""})


# -- putting in --


def _with(tree: Any, slot: Slot, value: object) -> Any:
    """The tree with a value at a slot; NOTHING where something else stands in the way."""
    if not slot:
        return value
    step, rest = slot[0], slot[1:]
    if isinstance(step, Item):
        if _is_empty(tree):
            tree = []
        if not isinstance(tree, list):
            return NOTHING
        number = next((number for number, each in enumerate(tree) if step.is_it(each)), len(tree))
        inner = _with(tree[number] if number < len(tree) else NOTHING, rest, value)
        return NOTHING if inner is NOTHING else [*tree[:number], inner, *tree[number + 1 :]]
    if _is_empty(tree):
        tree = {}
    if not isinstance(tree, dict):
        return NOTHING
    inner = _with(_got(tree, step), rest, value)
    return NOTHING if inner is NOTHING else {**tree, step: inner}


def _put(language: Language, text: str, slot: Slot, value: object) -> Iterator[str]:
    """Candidates: the value itself replaced, or what is not there yet added to the innermost place that is."""
    node, start = language.read(text), 0
    for depth, step in enumerate(slot):
        found = _part_of(node, step)
        if found is None:
            inner = _nested(slot[depth + 1 :], value)
            if _is_empty(node.value) and depth:
                whole = [inner] if isinstance(step, Item) else {step: inner}
                yield from language.replaced(text, node, whole, at=start)
            yield from language.added(text, node, None if isinstance(step, Item) else step, inner)
            return
        node, start = node.parts[found].node, node.parts[found].start
    yield from language.replaced(text, node, value, at=start)


def _part_of(node: Node, step: Step) -> int | None:
    numbers = range(len(node.parts) - 1, -1, -1)
    if isinstance(step, Item):
        return next(
            (n for n in range(len(node.parts)) if node.parts[n].key is None and step.is_it(node.parts[n].node.value)), None
        )
    return next((number for number in numbers if node.parts[number].key == step), None)


def _nested(slot: Slot, value: object) -> object:
    for step in reversed(slot):
        value = [value] if isinstance(step, Item) else {step: value}
    return value


# -- taking out --


@dataclass(frozen=True, slots=True)
class _Back:
    """One step back: this slot gets its old value, or goes."""

    slot: Slot
    value: Source | None

    def done(self, tree: Any) -> Any:
        if self.value is not None:
            return _with(tree, self.slot, self.value.value)
        return _dropped(tree, self.slot) or {}


def _way_back(there: object, old: Node, slot: Slot, before: str) -> _Back:
    """The old value comes back; else the slot goes, with each place above it that was made for it alone."""
    was = _part_at(old, slot)
    while was is None and len(slot) > 1 and len(at(there, slot[:-1])) == 1:
        slot = slot[:-1]
        was = _part_at(old, slot)
        if was is not None and not _is_empty(was.node.value):
            return _Back(slot, _EMPTY_LIST if isinstance(was.node.value, list) else _EMPTY)
    return _Back(slot, None if was is None else Source(before[was.start : was.node.end], was.node.value))


_EMPTY, _EMPTY_LIST = Source("", {}), Source("", [])


def _part_at(node: Node, slot: Slot) -> Part | None:
    part = None
    for step in slot:
        number = _part_of(node, step)
        if number is None:
            return None
        part = node.parts[number]
        node = part.node
    return part


def _dropped(tree: Any, slot: Slot) -> Any:
    step, rest = slot[0], slot[1:]
    if isinstance(step, Item):
        number = next(number for number, each in enumerate(tree) if step.is_it(each))
        inner = [_dropped(tree[number], rest)] if rest else []
        return [*tree[:number], *inner, *tree[number + 1 :]]
    if rest:
        return {**tree, step: _dropped(tree[step], rest)}
    return {key: value for key, value in tree.items() if key != step}


def _take(language: Language, text: str, step: _Back) -> Iterator[str]:
    above = _part_at(language.read(text), step.slot[:-1])
    node = above.node if above else language.read(text)
    number = _part_of(node, step.slot[-1])
    if number is None:
        return
    if step.value is None:
        yield from language.dropped(text, node, number)
        return
    part, was = node.parts[number], step.value
    whole = text[: part.start] + was.text + text[part.node.end :]
    if was.text and ("\n" in was.text or part.node.flow):
        yield whole
    yield from language.replaced(text, part.node, was.value, at=part.start)
    yield whole


def _reversed(now: str, before: str, after: str) -> str | None:
    """`now` with our change turned back where it still stands word for word, and once."""
    same = next((n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after)))
    most = min(len(before), len(after)) - same
    behind = next((n for n in range(most) if before[-1 - n] != after[-1 - n]), most)
    ours, was = after[same : len(after) - behind], before[same : len(before) - behind]
    if not ours or now.count(ours) != 1:
        return None
    turned = now.replace(ours, was)
    return turned if len(_COMMA_AT_END.findall(turned)) <= len(_COMMA_AT_END.findall(now)) else None


# -- trying --


def _tried(language: Language, path: Path, candidates: Iterable[str], wanted: object, slot: Slot) -> str:
    for text in candidates:
        if _reads_as(language, text, wanted):
            return text
    raise _not_editable(path, slot)


def _reads_as(language: Language, text: str, wanted: object) -> bool:
    try:
        return bool(language.read(text).value == wanted)
    except (ValueError, RecursionError):
        return False


def _not_editable(path: Path, slot: Slot) -> LauncherError:
    name = ".".join(step if isinstance(step, str) else "-".join(value for _, value in step.fields) for step in slot)
    return LauncherError(
        f"{path} holds {name} in a form that cannot be edited alone; it was left as it is",
        hint="write what is above it in the plain form that the agent's documentation shows",
    )
