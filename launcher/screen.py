"""Shows long work on stderr: a live line in a terminal, plain lines elsewhere. stdout stays free for the result."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from launcher.progress import Progress, Silent, figures

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

# Without a terminal, a phase that goes on says so this often (seconds): a log or a CI page is read afterwards.
_REMINDER = 10.0
# Figures that run on are told this often.
_STEP = 2.0
_FIGURES = str.maketrans("", "", "0123456789.")


class Lines:
    """Progress as plain lines, for pipes and logs."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._phase = ""
        self._text = self._what = ""
        self._begun = self._told = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def phase(self, name: str) -> None:
        self._phase, self._text, self._what = name, "", ""
        self._begun = self._told = time.monotonic()

    def say(self, text: str) -> None:
        self._print(text)

    def update(self, text: str, done: int = 0, total: int = 0, *, left: float | None = None) -> None:
        now = time.monotonic()
        # A text in which only figures have changed is the same text.
        what = text.translate(_FIGURES)
        if now - self._told < (_REMINDER if text == self._text else _STEP if what == self._what else 0.0):
            return
        self._text, self._what, self._told = text, what, now
        self._print(f"{self._phase}: {text}{figures(done, total, left)} ({now - self._begun:.0f} s)")

    @contextmanager
    def beside(self, name: str) -> Iterator[Progress]:
        other = Lines(self._out)
        other.phase(name)
        yield other

    @contextmanager
    def part(self, name: str) -> Iterator[Progress]:
        piece = _Piece()
        begun = time.monotonic()
        yield piece
        if piece.is_whole:
            self._print(f"{self._phase}: {name} is there ({time.monotonic() - begun:.0f} s)")

    def _print(self, line: str) -> None:
        # Nobody reads it any more: that is no reason to stop serving.
        with suppress(OSError, ValueError):
            print(line, file=self._out, flush=True)


class _Piece(Silent):
    """Remembers whether a piece of work was told to be whole."""

    is_whole = False

    def update(self, text: str, done: int = 0, total: int = 0, *, left: float | None = None) -> None:  # noqa: ARG002 - the protocol's
        self.is_whole = bool(total) and done == total


class Live:
    """Progress in a terminal: one line that moves, and a line that stays for each phase that is over.

    Nothing is drawn before the first phase: verbs that only read neither wait for it nor touch the terminal.
    """

    def __init__(self, err: TextIO) -> None:
        self._err = err
        self._bars: Bars | None = None
        self._task: TaskID
        self._phase = ""
        self._begun = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._close()
        if self._bars:
            self._bars.stop()

    def phase(self, name: str) -> None:
        self._close()
        self._phase, self._begun = name, time.monotonic()
        self._open().reset(self._task, total=None, description="", phase=name, visible=True)

    def say(self, text: str) -> None:
        self._open().console.print(f"[yellow]•[/] {_escaped(text)}", highlight=False)

    def update(self, text: str, done: int = 0, total: int = 0, *, left: float | None = None) -> None:
        description = _escaped(text) + figures(done, total, left)
        self._open().update(self._task, description=description, completed=done, total=total or None)

    @contextmanager
    def beside(self, name: str) -> Iterator[Progress]:
        bars = self._open()
        task = bars.add_task("", phase=name, total=None)
        begun = time.monotonic()
        yield _Row(bars, task, self.say)
        bars.remove_task(task)
        if time.monotonic() - begun >= 1:
            _leave(bars, name, time.monotonic() - begun)

    @contextmanager
    def part(self, name: str) -> Iterator[Progress]:
        bars = self._open()
        task = bars.add_task("", phase="", total=None)
        row = _Row(bars, task, self.say)
        row.update(name)
        try:
            yield row
        finally:
            bars.remove_task(task)

    def _open(self) -> "Bars":
        if self._bars is None:
            from rich.console import Console
            from rich.progress import Progress as Bars
            from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

            self._bars = Bars(
                SpinnerColumn(),
                TextColumn("[bold]{task.fields[phase]:<11}[/] {task.description}"),
                TimeElapsedColumn(),
                console=Console(file=self._err),
                transient=True,
                # stdout is the result's: it must reach whatever it was sent to, unwrapped.
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._task = self._bars.add_task("", phase="", visible=False)
            self._bars.start()
        return self._bars

    def _close(self) -> None:
        """Leave a line for a phase that took long enough to be noticed."""
        seconds = time.monotonic() - self._begun
        if self._phase and seconds >= 1 and self._bars:
            _leave(self._bars, self._phase, seconds)
        self._phase = ""


class _Row(Silent):
    """One line of a live display."""

    def __init__(self, bars: "Bars", task: "TaskID", say: Callable[[str], None]) -> None:
        self._bars, self._task = bars, task
        self._say = say

    def say(self, text: str) -> None:
        self._say(text)

    @contextmanager
    def part(self, name: str) -> Iterator[Progress]:
        task = self._bars.add_task(_escaped(name), phase="", total=None)
        try:
            yield _Row(self._bars, task, self._say)
        finally:
            self._bars.remove_task(task)

    def update(self, text: str, done: int = 0, total: int = 0, *, left: float | None = None) -> None:
        description = _escaped(text) + figures(done, total, left)
        self._bars.update(self._task, description=description, completed=done, total=total or None)


def _leave(bars: "Bars", phase: str, seconds: float) -> None:
    """A line that stays for work that is over."""
    bars.console.print(f"[green]✓[/] {phase:<11} [dim]{seconds:.0f} s[/]", highlight=False)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


class Events(Silent):
    """Progress as lines of JSON, for programs: an object a line, with what happened as its `event`."""

    def __init__(self, out: TextIO, *, under: Mapping[str, str] | None = None) -> None:
        self._out = out
        self._under = dict(under or {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def phase(self, name: str) -> None:
        self._under["phase"] = name
        self._tell("phase")

    def say(self, text: str) -> None:
        self._tell("said", text=text)

    def update(self, text: str, done: int = 0, total: int = 0, *, left: float | None = None) -> None:
        known = {"done": done, "total": total} if total else {}
        self._tell("progress", text=text, **known, **({} if left is None else {"left": round(left, 1)}))

    @contextmanager
    def beside(self, name: str) -> Iterator[Progress]:
        yield Events(self._out, under={"phase": name})

    @contextmanager
    def part(self, name: str) -> Iterator[Progress]:
        yield Events(self._out, under={**self._under, "file": name})

    def _tell(self, event: str, **more: object) -> None:
        with suppress(OSError, ValueError):
            print(json.dumps({"event": event, **self._under, **more}, ensure_ascii=False), file=self._out, flush=True)


class Nothing(Silent):
    """For a process whose stderr is closed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def open_screen(err: TextIO | None) -> Lines | Live | Nothing:
    """The display that suits where stderr goes."""
    if err is None:
        return Nothing()
    if not err.isatty():
        return Lines(err)
    return Live(err)
