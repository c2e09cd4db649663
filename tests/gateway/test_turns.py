from dataclasses import dataclass

import pytest

from launcher.gateway.turns import Turns


@dataclass
class Who:
    key: str
    number: int


def order(*who: tuple[str, int]) -> list[int]:
    turns: Turns[Who] = Turns()
    for key, number in who:
        turns.add(Who(key, number))
    assert len(turns) == len(who) == len(list(turns))
    return [turns.take().number for _ in range(len(turns))]


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        pytest.param([("a", 1), ("a", 2), ("a", 3)], [1, 2, 3], id="one key: in order"),
        pytest.param([("a", 1), ("a", 2), ("a", 3), ("b", 4)], [1, 4, 2, 3], id="a crowd keeps another waiting for one turn"),
        pytest.param([("a", 1), ("b", 2), ("a", 3), ("b", 4), ("c", 5)], [1, 2, 5, 3, 4], id="keys in turn"),
        pytest.param([("a", 2), ("a", 3), ("a", 1)], [1, 2, 3], id="one that lost its turn comes first again"),
        pytest.param([("a", 1), ("a", 4), ("a", 3), ("a", 2)], [1, 2, 3, 4], id="several that lost theirs keep their order"),
    ],
)
def test_who_is_next(came: list[tuple[str, int]], expected: list[int]) -> None:
    assert order(*came) == expected


def test_whoever_leaves_is_not_waited_for() -> None:
    turns: Turns[Who] = Turns()
    first, second = Who("a", 1), Who("b", 2)
    turns.add(first)
    turns.add(second)
    turns.leave(first)
    turns.leave(first)
    assert (len(turns), turns.take(), len(turns)) == (1, second, 0)
