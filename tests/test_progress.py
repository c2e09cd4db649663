import pytest

from launcher.progress import figures


@pytest.mark.parametrize(
    ("done", "total", "left", "expected"),
    [
        pytest.param(0, 0, None, "", id="nothing is known"),
        pytest.param(45, 100, None, " 45%", id="a share"),
        pytest.param(0, 100, None, " 0%", id="none of it yet"),
        pytest.param(45, 100, 21.4, " 45% · about 20 s left", id="a share and an estimate"),
        pytest.param(0, 0, 3.4, " · about 3 s left", id="few seconds, as they are"),
        pytest.param(0, 0, 57.0, " · about 55 s left", id="to five seconds"),
        pytest.param(0, 0, 114.0, " · about 110 s left", id="to ten seconds"),
        pytest.param(0, 0, 400.0, " · about 7 min left", id="to minutes"),
        pytest.param(0, 0, 0.4, "", id="what is all but over is not told"),
    ],
)
def test_how_far_work_is_stands_behind_its_words(done: int, total: int, left: float | None, expected: str) -> None:
    assert figures(done, total, left) == expected
