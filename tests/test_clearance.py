from pathlib import Path

import pytest

from launcher.clearance import Footprint, Item, choose, freed
from launcher.errors import LauncherError

A, B = (1, 10), (1, 11)
FREED: dict[str, tuple[tuple[Footprint, ...], int]] = {
    "nothing": ((), 0),
    "files with one name": ((Footprint(100), Footprint(20)), 120),
    "a file that lies elsewhere too stays": ((Footprint(5, {A: (100, 2, 1)}),), 5),
    "a file of which all links lie here goes": ((Footprint(5, {A: (100, 2, 2)}),), 105),
    "a file whose links lie in two folders goes with both": (
        (Footprint(0, {A: (100, 2, 1)}), Footprint(0, {A: (100, 2, 1), B: (7, 3, 1)})),
        100,
    ),
    "of three links two are not enough": ((Footprint(0, {A: (100, 3, 1)}), Footprint(0, {A: (100, 3, 1)})), 0),
}


@pytest.mark.parametrize(("footprints", "expected"), FREED.values(), ids=FREED.keys())
def test_what_comes_free(footprints: tuple[Footprint, ...], expected: int) -> None:
    assert freed(footprints) == expected


def test_a_shared_file_counts_once_in_the_size() -> None:
    assert Footprint(5, {A: (100, 2, 2), B: (7, 3, 1)}).size == 112


OLD = Item("environments", "old", Path("/e/old"), Footprint(10), 0.0)
USED = Item("environments", "used", Path("/e/used"), Footprint(20), 0.0, holder="tiny")
LOG = Item("logs", "tiny.log", Path("/l/tiny.log"), Footprint(1), 0.0)
HUB = Item("weights", "org/model", Path("/hub/m"), Footprint(99), 0.0, inside=False)
ALL = (OLD, USED, LOG, HUB)

CHOICES: dict[str, tuple[str, list[str], tuple[Item, ...]]] = {
    "a kind is all of it that nobody uses": ("environments", [], (OLD,)),
    "all is all of ours that nobody uses": ("all", [], (OLD, LOG)),
    "what lies elsewhere does not go with its kind": ("weights", [], ()),
    "what lies elsewhere goes when it is named": ("weights", ["org/model"], (HUB,)),
    "what is named twice goes once": ("all", ["tiny.log", "tiny.log"], (LOG,)),
}


@pytest.mark.parametrize(("kind", "names", "expected"), CHOICES.values(), ids=CHOICES.keys())
def test_what_is_chosen(kind: str, names: list[str], expected: tuple[Item, ...]) -> None:
    assert choose(ALL, kind, names) == expected  # type: ignore[arg-type]  # a table's column


FAULTS: dict[str, tuple[list[str], str, str]] = {
    "a name that is not there": (["new"], "there is no new among the environments", "old, used"),
    "a name of another kind": (["tiny.log"], "there is no tiny.log among the environments", "old, used"),
    "what a server uses": (["old", "used"], "used is in use by tiny", "launcher down"),
}


@pytest.mark.parametrize(("names", "message", "hint"), FAULTS.values(), ids=FAULTS.keys())
def test_what_cannot_be_chosen(names: list[str], message: str, hint: str) -> None:
    with pytest.raises(LauncherError) as fault:
        choose(ALL, "environments", names)
    assert message in fault.value.message
    assert hint in fault.value.hint
