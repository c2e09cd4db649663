import pytest

from launcher.pace import Seen, left, rate, recent


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param([], 0.0, id="nothing seen yet"),
        pytest.param([(0.0, 0)], 0.0, id="one look"),
        pytest.param([(0.0, 0), (2.0, 300)], 150.0, id="two looks"),
        pytest.param(
            [(n * 1.0, n * 10 if n < 20 else 200) for n in range(31)], 0.0, id="what was seen long ago does not count"
        ),
        pytest.param([(0.0, 900), (1.0, 100), (2.0, 200)], 100.0, id="a counter that fell begins anew"),
    ],
)
def test_the_rate_is_that_of_the_last_seconds(seen: list[Seen], expected: float) -> None:
    window: tuple[Seen, ...] = ()
    for each in seen:
        window = recent(window, each)
    assert rate(window) == expected


@pytest.mark.parametrize(
    ("missing", "rate", "expected"),
    [
        pytest.param(10, 0.0, "", id="nobody knows, where nothing moves"),
        pytest.param(590, 10.0, "59 s left", id="seconds"),
        pytest.param(1_200, 10.0, "2 min left", id="minutes"),
        pytest.param(54_000, 10.0, "1.5 h left", id="hours"),
    ],
)
def test_the_rest_takes(missing: int, rate: float, expected: str) -> None:
    assert left(missing, rate) == expected
