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
        pytest.param(10, 0.0, None, id="nobody knows how long, where nothing moves"),
        pytest.param(600, 10.0, 60.0, id="a minute"),
    ],
)
def test_the_rest_takes(missing: int, rate: float, expected: float | None) -> None:
    assert left(missing, rate) == expected
