from pathlib import Path

import pytest

from launcher.tail import Tail

# As tqdm writes them: each state over the one before, without an end.
BARS = [f"\rLoading shards: {done / 4:4.0%} Completed | {done}/4 [00:0{done}<00:0{4 - done},  1.01s/it]" for done in range(5)]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param(["one\ntwo\n"], [["one", "two"]], id="lines"),
        pytest.param(["on", "e\ntwo"], [[], ["one"]], id="a line is given when it has its end"),
        pytest.param([f"a\n{BARS[0]}"], [["a", "", BARS[0][1:]]], id="a bar's state is a line"),
        pytest.param([BARS[1], BARS[2]], [["", BARS[1][1:]], ["", BARS[2][1:]]], id="each state is given at once"),
        pytest.param([BARS[4], "\nb\n"], [["", BARS[4][1:]], ["b"]], id="the end of a bar is no empty line"),
        pytest.param([BARS[4], "", "\nb\n"], [["", BARS[4][1:]], [], ["b"]], id="nor is it later"),
        pytest.param([BARS[1][:30], BARS[1][30:]], [[], ["", BARS[1][1:]]], id="half a state is not given"),
        pytest.param(["\n\nb\n"], [["", "", "b"]], id="empty lines are lines"),
        pytest.param(["[2026-11-23 03:51:23]", " a\n"], [[], ["[2026-11-23 03:51:23] a"]], id="a prefix is no bar"),
    ],
)
def test_what_is_added_is_given_once(tmp_path: Path, written: list[str], expected: list[list[str]]) -> None:
    log = tmp_path / "log"
    tail = Tail(log)
    assert tail.new() == []
    given = []
    for text in written:
        with log.open("a", newline="") as file:
            file.write(text)
        given.append(tail.new())
    assert given == expected


def test_a_file_that_begins_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\ntwo\n")
    tail = Tail(log)
    tail.new()
    log.write_text("three\n")
    assert tail.new() == ["three"]
