import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from launcher.child import Child, Log, mask
from launcher.uv import failure


def run(code: str, cwd: Path) -> tuple[list[str | None], int]:
    with Child([sys.executable, "-c", code], env=os.environ, cwd=cwd) as child:
        return list(child.lines()), child.wait()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("print('one'); print('two', end='')", ["one", "two"], id="the last line may lack its end"),
        pytest.param("print('10%\\r20%\\r'); print()", ["10%", "20%"], id="a progress bar is many lines"),
        pytest.param("import sys; sys.stderr.write('wrong\\n')", ["wrong"], id="errors are lines too"),
        pytest.param("print('https://me:secret@host/simple')", ["https://****@host/simple"], id="passwords are masked"),
        pytest.param("import sys; sys.stdout.buffer.write(b'\\xff\\n')", ["\ufffd"], id="what is not text"),
    ],
)
def test_lines_come_as_they_are_written(tmp_path: Path, code: str, expected: list[str]) -> None:
    lines, status = run(code, tmp_path)
    assert [line for line in lines if line is not None] == expected
    assert status == 0


def test_silence_is_told_too(tmp_path: Path) -> None:
    lines, _ = run("import time; time.sleep(0.7)", tmp_path)
    assert None in lines


def test_leaving_ends_the_program_and_what_it_started(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with Child([sys.executable, "-c", code], env=os.environ, cwd=tmp_path) as child:
        grandchild = psutil.Process(int(next(line for line in child.lines() if line)))
    assert child.wait() != 0
    deadline = time.monotonic() + 5
    while grandchild.is_running() and grandchild.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE


def test_what_a_program_wrote_is_counted(tmp_path: Path) -> None:
    code = "import time; open('file', 'wb').write(bytes(3_000_000)); print('done', flush=True); time.sleep(60)"
    with Child([sys.executable, "-c", code], env=os.environ, cwd=tmp_path) as child:
        assert next(line for line in child.lines() if line) == "done"
        assert child.written() > 2_999_999


def test_a_log_is_new_and_private(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "a.log"
    for text in ("old", "new"):
        with Log(path) as log:
            log.write(text)
    assert path.read_text() == "new\n"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "see https://me:pa%40ss@host:1/x and ftp://t@h/", "see https://****@host:1/x and ftp://****@h/", id="all of them"
        ),
        pytest.param("https://host/a@b and me@host", "https://host/a@b and me@host", id="what only looks like one stays"),
    ],
)
def test_passwords_in_addresses_are_masked(text: str, expected: str) -> None:
    assert mask(text) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(
            [
                "Using Python",
                "error: Request failed",
                "  cause: Failed to fetch: x",
                "  cause: dns error",
                "  cause: not known",
            ],
            "Request failed: Failed to fetch: x: not known",
            id="the error, its first cause and its deepest",
        ),
        pytest.param(["error: No interpreter found", "", "hint: none"], "No interpreter found", id="no cause"),
        pytest.param(
            ["  \u00d7 No solution found:", "  \u2570\u2500\u25b6 Because a was not found"],
            "No solution found: Because a was not found",
            id="an older uv's tree",
        ),
        pytest.param(["error: a", "  Caused by: b"], "a: b", id="another older one"),
        pytest.param(["warning: x", "killed", ""], "killed", id="no error: the last line"),
        pytest.param([], "uv ended with status -9", id="nothing said"),
    ],
)
def test_uvs_reason_is_one_line(lines: list[str], expected: str) -> None:
    assert failure(lines, -9) == expected
