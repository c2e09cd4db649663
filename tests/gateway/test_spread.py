"""Which engine of several a request goes to, as tables."""

from collections import Counter

import pytest

from launcher.gateway import body
from launcher.gateway.spread import BOUND, choose
from launcher.gateway.table import Backend

THREE = tuple(Backend(f"10.0.0.{number}", 12_000) for number in (1, 2, 3))
HOME = choose(THREE, [0, 0, 0], prefix=b"session")
assert HOME is not None


def loads(own: int | None, others: int | None) -> list[int | None]:
    """Three engines: what the session's own has to do, and each of the others."""
    return [own if number == HOME else others for number in range(3)]


@pytest.mark.parametrize(
    ("seen", "stays"),
    [
        pytest.param(loads(0, 0), True, id="when nobody has anything to do"),
        pytest.param(loads(1, 0), True, id="when its engine answers another turn"),
        pytest.param(loads(2, 2), True, id="when all have as much to do"),
        pytest.param(loads(0, 9), True, id="when its engine has the least to do"),
        pytest.param(loads(2, 0), False, id="not when its engine has more than its share"),
        pytest.param(loads(9, 3), False, id="not when its engine is swamped"),
        pytest.param(loads(None, 3), False, id="not when its engine does not answer"),
    ],
)
def test_a_session_stays_where_its_cache_is(seen: list[int | None], *, stays: bool) -> None:
    chosen = choose(THREE, seen, prefix=b"session")
    assert chosen is not None
    assert (chosen == HOME) is stays
    if not stays:
        there = [load for load in seen if load is not None]
        assert seen[chosen] == min(there)


@pytest.mark.parametrize(
    ("seen", "slots", "expected"),
    [
        pytest.param([2, 1, 3], 0, 1, id="the one with the least to do"),
        pytest.param([2, 2, 2], 0, 0, id="the first of equals"),
        pytest.param([None, 5, None], 0, 1, id="the only one that answers"),
        pytest.param([2, 2, 1], 2, 2, id="the one with a slot free"),
        pytest.param([2, 2, 2], 2, None, id="none while all slots are taken"),
        pytest.param([None, None, None], 0, None, id="none while none answers"),
        pytest.param([], 0, None, id="none where there is none"),
    ],
)
@pytest.mark.parametrize("prefix", [b"", b"session"], ids=["without a session", "of a session"])
def test_who_has_the_least_to_do(seen: list[int | None], slots: int, expected: int | None, prefix: bytes) -> None:
    backends = THREE[: len(seen)]
    chosen = choose(backends, seen, slots=slots, prefix=prefix)
    if prefix and expected is not None:
        assert chosen is not None
        assert seen[chosen] is not None
    else:
        assert chosen == expected


def test_sessions_are_shared_out_and_only_those_of_an_engine_that_went_move() -> None:
    sessions = [str(number).encode() for number in range(3000)]
    before = {each: choose(THREE, [0, 0, 0], prefix=each) for each in sessions}
    assert all(800 < count < 1200 for count in Counter(before.values()).values())
    after = {each: choose(THREE[:2], [0, 0], prefix=each) for each in sessions}
    assert all(after[each] == chosen for each, chosen in before.items() if chosen != 2)


def test_no_engine_has_more_than_the_bound_of_a_crowd_from_one_session() -> None:
    crowd: list[int | None] = [0, 0, 0]
    for _ in range(300):
        chosen = choose(THREE, crowd, prefix=b"session")
        assert chosen is not None
        crowd[chosen] = (crowd[chosen] or 0) + 1
    assert max(load for load in crowd if load is not None) <= BOUND * 300 / 3 + 1


FIRST = b'{"model":"m","messages":[{"role":"system","content":"S"},{"role":"user","content":"Q"}]}'


@pytest.mark.parametrize(
    ("other", "same"),
    [
        pytest.param(
            b'{"stream":true,"messages":[{"role":"system","content":"S"},{"role":"user","content":"Q"},{"role":"assistant"}]}',
            True,
            id="the next turn",
        ),
        pytest.param(
            b'{"messages":[{"role":"system","content":"S"},{"role":"user","content":"R"}]}', False, id="another question"
        ),
        pytest.param(
            b'{"system":"T","messages":[{"role":"system","content":"S"},{"role":"user","content":"Q"}]}',
            False,
            id="another system prompt, as Anthropic's API has it",
        ),
    ],
)
def test_what_belongs_together(other: bytes, *, same: bool) -> None:
    assert (body.prefix(FIRST) == body.prefix(other)) is same


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(b'{"prompt":"once upon a time"}', True, id="a completion's prompt"),
        pytest.param(b'{"input":[{"role":"user","content":"Q"}]}', True, id="the Responses API's input"),
        pytest.param(b'{"model":"m"}', False, id="nothing to go by"),
        pytest.param(b'{"messages":3}', False, id="no messages: the engine will refuse it"),
    ],
)
def test_what_a_body_tells(content: bytes, *, told: bool) -> None:
    assert bool(body.prefix(content)) is told
