from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.estimate import Past, estimate
from launcher.phases import COMPILE, GRAPHS, IMPORTS, KV, ORDER, READY, WARMUP, WEIGHTS, Phase
from launcher.starts import Start
from launcher.watch import Watch
from tests.starts_for_tests import SETUP, start

USUAL = {IMPORTS: 20.0, WEIGHTS: 40.0, COMPILE: 30.0, KV: 2.0, GRAPHS: 6.0, WARMUP: 4.0}
ELSEWHERE = replace(SETUP, device="another", version="0.31.0")
OTHER = replace(SETUP, model="other")


def took(times: float = 1.0, *, setup: object = SETUP, ahead: bool = False) -> Start:
    """A start that took so many times as long as usual."""
    seconds = {name: seconds * times for name, seconds in USUAL.items()}
    return replace(start(), setup=setup, seconds=seconds, ahead=ahead)  # type: ignore[arg-type]  # a Setup


def at(name: str, begun: float = 0.0, share: float | None = None, told: float = 0.0, *, ahead: bool = False) -> Watch:
    """A start that is in this phase since then, and whose log told of it last at that moment."""
    return Watch(((IMPORTS, 0.0), (name, begun)), Phase(name, name, share), told or begun, ahead)


@pytest.mark.parametrize(
    ("starts", "watch", "now", "expected"),
    [
        pytest.param([], Watch.begun(0), 0, None, id="nothing is known: nothing is said"),
        pytest.param([start()], Watch.begun(0), 0, None, id="nor by starts that were put on record without their phases"),
        pytest.param([took(setup=OTHER)], Watch.begun(0), 0, None, id="another model says nothing"),
        pytest.param([took()], Watch.begun(0), 0, 102, id="at the beginning all of it is left"),
        pytest.param([took()], Watch.begun(0), 15, 87, id="what has gone by is not"),
        pytest.param([took()], Watch.begun(0), 95, 82, id="a phase that lasts longer leaves those after it"),
        pytest.param([took()], at(WEIGHTS, 5), 5, 82, id="a phase that was shorter does not count any more"),
        pytest.param([took()], at(KV, 50), 51, 11, id="a phase that was left out does not either"),
        pytest.param([took()], at(WARMUP, 90), 91, 3, id="in the last phase"),
        pytest.param([took()], at(WARMUP, 90), 200, 0, id="never less than nothing"),
        pytest.param([took()], at(READY, 100), 100, None, id="nothing is left of what is over"),
        pytest.param([took(9), took(1), took(2), took(3)], Watch.begun(0), 0, 204, id="the middle one of the last three"),
        pytest.param([took(setup=ELSEWHERE)], Watch.begun(0), 0, 102, id="the same model elsewhere is better than nothing"),
        pytest.param([took(), took(5, setup=ELSEWHERE)], Watch.begun(0), 0, 102, id="the same setup alone, where it is known"),
        pytest.param([took(), took(0.5, ahead=True)], Watch.begun(0), 0, 102, id="a start without a spare, by such starts"),
        pytest.param([took(), took(0.5, ahead=True)], Watch.begun(0, ahead=True), 0, 51, id="a start with a spare, by such"),
        pytest.param([took()], Watch.begun(0, ahead=True), 0, 102, id="by the others, where there are none"),
        # 25 % in 20 s: 60 s at this pace, 20 s by the usual 40 s; a quarter of the first and three of the other.
        pytest.param([took()], at(WEIGHTS, 0, 0.25, 20), 20, 0.25 * 60 + 0.75 * 20 + 42, id="weights that are slow"),
        # 50 % in 4 s: 4 s at this pace, 36 s by the usual; 2 s later both are 2 s less.
        pytest.param([took()], at(WEIGHTS, 0, 0.5, 4), 6, 0.5 * 2 + 0.5 * 34 + 42, id="weights that are fast"),
        pytest.param([took()], at(WEIGHTS, 0, 1.0, 90), 90, 42, id="weights that are there"),
        pytest.param([took()], at(WEIGHTS, 0, 0.0, 4), 4, 36 + 42, id="weights of which none is there yet"),
    ],
)
def test_how_long_a_start_goes_on(starts: list[Start], watch: Watch, now: float, expected: float | None) -> None:
    told = estimate(Past(starts, SETUP), watch, now)
    assert told == (None if expected is None else pytest.approx(expected))


def test_without_a_setup_nothing_is_said() -> None:
    assert estimate(Past(), Watch.begun(0), 0) is None


@given(
    seconds=st.dictionaries(st.sampled_from(ORDER[:-1]), st.floats(0, 1e4), min_size=1),
    name=st.sampled_from(ORDER[:-1]),
    share=st.none() | st.floats(0, 1),
    told=st.floats(0, 1e4),
    later=st.floats(0, 1e4),
)
def test_it_is_never_below_zero_and_falls_while_nothing_new_is_told(
    seconds: dict[str, float], name: str, share: float | None, told: float, later: float
) -> None:
    past = Past([replace(start(), seconds=seconds)], SETUP)
    watch = at(name, 0.0, share, told)
    first, second = estimate(past, watch, told), estimate(past, watch, told + later)
    assert first is not None
    assert second is not None
    assert first >= second >= 0
