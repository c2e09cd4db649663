import pytest

from launcher.retrying import Again, Break, after

MOVED = Break("it broke", moved=True, xet=False)
IDLE = Break("it broke", moved=False, xet=False)
STALL = Break("no byte came", moved=True, xet=True, stalled=True)
XET = Break("it broke", moved=True, xet=True)


@pytest.mark.parametrize(
    ("breaks", "expected"),
    [
        pytest.param([MOVED], Again(1, xet=False), id="soon, where bytes came"),
        pytest.param([IDLE], Again(1, xet=False), id="soon, at the first time"),
        pytest.param([IDLE] * 3, Again(4, xet=False), id="later each time that brings nothing"),
        pytest.param([IDLE] * 3 + [MOVED], Again(1, xet=False), id="soon again, once something came"),
        pytest.param([IDLE] * 6, Again(32, xet=False), id="half a minute later at the last time"),
        pytest.param([IDLE] * 7, None, id="not after seven times that brought nothing"),
        pytest.param([MOVED] * 40, Again(1, xet=False), id="however often, as long as bytes come"),
        pytest.param([STALL], Again(1, xet=True), id="by Xet, after it stalled once"),
        pytest.param([STALL, STALL], Again(1, xet=False, turned=True), id="by plain HTTP, after Xet stalled twice"),
        pytest.param([STALL, XET, STALL], Again(1, xet=False, turned=True), id="the same, with another fault between"),
        pytest.param([STALL, STALL, MOVED], Again(1, xet=False), id="still by plain HTTP, later"),
        pytest.param([XET] * 5, Again(1, xet=True), id="by Xet, where it breaks but does not stall"),
    ],
)
def test_it_is_tried_again(breaks: list[Break], expected: Again | None) -> None:
    assert after(breaks) == expected
