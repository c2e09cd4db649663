import stat
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import history, starts
from launcher.home import Home
from launcher.starts import Start
from tests.starts_for_tests import SETUP, start


def of(model: str, *, peak: float = 1.0) -> Start:
    return start(replace(SETUP, model=model), peak=peak)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "launcher")


def test_before_the_first_start_there_is_none_and_no_file(home: Home) -> None:
    assert history.read(home) == ()
    assert not home.starts.exists()


def test_starts_come_back_in_their_order_from_a_file_for_this_user_alone(home: Home) -> None:
    for model in ("a", "b", "a"):
        history.add(home, of(model))
    assert history.read(home) == (of("a"), of("b"), of("a"))
    assert stat.S_IMODE(home.starts.stat().st_mode) == 0o600


def test_of_one_setup_the_newest_are_kept(home: Home) -> None:
    for number in range(1, 7):
        history.add(home, of("a", peak=number))
        history.add(home, of("b"))
    peaks = [each.measured.peak for each in history.read(home) if each.setup.model == "a"]
    assert peaks == [of("a", peak=number).measured.peak for number in (4, 5, 6)]


def test_the_file_does_not_grow_without_end(home: Home) -> None:
    home.starts.parent.mkdir(parents=True)
    home.starts.write_text("".join(f"{starts.line(of(f'm{number}'))}\n" for number in range(history.KEPT + 20)))
    history.add(home, of("last"))
    kept = history.read(home)
    assert len(kept) == history.KEPT
    assert (kept[0].setup.model, kept[-1].setup.model) == ("m21", "last")


def test_a_damaged_line_costs_that_line_alone(home: Home) -> None:
    history.add(home, of("a"))
    with home.starts.open("ab") as file:
        file.write(b'{"version": 1, "setup"\n\xff\xfe\n')
    history.add(home, of("b"))
    assert history.read(home) == (of("a"), of("b"))
    assert len(home.starts.read_text().splitlines()) == 2


def test_a_file_that_cannot_be_read_is_no_history(home: Home) -> None:
    home.starts.mkdir(parents=True)
    assert history.read(home) == ()


def test_starts_are_taken_off_the_record(home: Home) -> None:
    history.drop(home, lambda _: True)
    assert not home.starts.exists()
    for model in ("a", "b"):
        history.add(home, of(model))
    history.drop(home, lambda each: each.setup.model == "a")
    assert history.read(home) == (of("b"),)
