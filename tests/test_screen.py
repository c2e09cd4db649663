"""What a person at a terminal gets: results on stdout whole, whatever is drawn on stderr."""

import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from launcher.screen import Lines, open_screen

ROOT = Path(__file__).parent.parent


def in_a_terminal(folder: Path, *words: str) -> tuple[str, str]:
    """What the launcher writes to stdout, a pipe, and to stderr, a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    home = {"LAUNCHER_HOME": str(folder / "home"), "HOME": str(folder), "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "80"}
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", **home}
    command = [sys.executable, "-m", "launcher", *words]
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        assert process.stdout is not None
        out = process.stdout.read()
    drawn = b""
    try:
        while piece := os.read(ours, 65536):
            drawn += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    return out, drawn.decode()


@pytest.mark.parametrize(
    "words", ["ps", "plan", "plan openhands-lm-32b --on 2xA100-80GB", "models", "gpus", "wires", "unwire", "down"]
)
def test_the_result_reaches_stdout_whole_and_nothing_is_drawn(tmp_path: Path, words: str) -> None:
    out, drawn = in_a_terminal(tmp_path, *words.split(), "--json")
    assert json.loads(out) is not None
    assert drawn == ""


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        pytest.param(["plan"], ["smollm2-135m  SmolLM2 135M Instruct", "runs on  CPU"], id="plan"),
        pytest.param(["models"], ["0.1 B    8,192  fp16 on CPU"], id="models"),
        pytest.param(["ps"], ["Nothing was started yet: `launcher up` starts the model that suits this machine."], id="ps"),
        pytest.param(["wires"], ["Not wired: openhands-profile, openhands-toml"], id="wires"),
        pytest.param(["gpus"], ["This machine has no NVIDIA GPU: models run on the CPU."], id="gpus"),
    ],
)
def test_people_read_it_in_80_columns(tmp_path: Path, words: list[str], lines: list[str]) -> None:
    out, _ = in_a_terminal(tmp_path, *words)
    shown = [line.rstrip() for line in out.splitlines()]
    for line in lines:
        assert any(line in each for each in shown), out


@pytest.mark.parametrize(
    "ending", [pytest.param(signal.SIGINT, id="interrupted"), pytest.param(signal.SIGTERM, id="terminated")]
)
def test_watching_json_is_a_value_a_line_until_it_ends(tmp_path: Path, ending: signal.Signals) -> None:
    with watching(tmp_path, "--json", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        values = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(ending)
        assert process.wait(timeout=10) == 0
    assert [value["gpus"] for value in values] == [[], [], []]


def test_watching_into_a_pipe_is_one_picture_after_another_and_ends_with_its_reader(tmp_path: Path) -> None:
    with watching(tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().decode().rstrip() for _ in range(6)]
        process.stdout.close()
        assert process.wait(timeout=10) == 0
    assert lines[0] == lines[4] == "This machine has no NVIDIA GPU: models run on the CPU."
    assert lines[3] == ""


def test_watching_in_a_terminal_draws_in_place_and_leaves_the_last_picture(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    drawn = b""
    with watching(tmp_path, stdout=theirs) as process:
        os.close(theirs)
        while drawn.count(b"This machine has no") < 3:
            drawn += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        with suppress(OSError):  # the other end is closed
            while piece := os.read(ours, 65536):
                drawn += piece
        assert process.wait(timeout=10) == 0
    os.close(ours)
    up, hidden, back = b"\x1b[1A", b"\x1b[?25l", b"\x1b[?25h"
    assert drawn.startswith(hidden)
    assert drawn.count(up) >= 2 * 2  # three lines, drawn again at least twice
    assert drawn.rstrip().endswith(back)


def watching(folder: Path, *words: str, stdout: int) -> "subprocess.Popen[bytes]":
    """`launcher gpus --watch` on a machine without GPUs, ten times a second."""
    home = {"LAUNCHER_HOME": str(folder / "home"), "HOME": str(folder), "CUDA_VISIBLE_DEVICES": "", "TERM": "xterm"}
    command = [sys.executable, "-m", "launcher", "gpus", "--watch", "0.1", *words]
    return subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **home}, stdout=stdout)


def test_a_command_can_be_copied_whatever_the_width(tmp_path: Path) -> None:
    out, _ = in_a_terminal(tmp_path, "plan", "openhands-lm-32b", "--on", "2xA100-80GB")
    command = out[out.index("command\n") + len("command\n") :].replace(" \\\n", "")
    assert command.count("\n") == 1
    assert "--hf-overrides '{" in command


class Broken:
    """A stderr that nobody reads any more."""

    def write(self, _: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError

    def isatty(self) -> bool:
        return False


def test_a_reader_who_leaves_does_not_end_the_work() -> None:
    with Lines(Broken()) as lines:  # type: ignore[arg-type]  # all of a TextIO that Lines uses
        lines.phase("engine")
        lines.update("loading", 1, 2)
        lines.say("hello")


def test_a_closed_stderr_shows_nothing() -> None:
    with open_screen(None) as progress:
        progress.phase("engine")
        progress.update("loading")
