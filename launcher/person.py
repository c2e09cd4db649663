"""The person at the terminal: questions with completion, a key that is not shown, an editor; or nobody."""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import LauncherError

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Person:
    """Whoever sits at the terminal, if `there`."""

    there: bool

    def say(self, question: str, choices: Sequence[str] = ()) -> str | None:
        """What is typed after a question; Tab completes to one of the choices. None if nobody answers."""
        if not self.there:
            return None
        if choices:
            _complete(choices)
            some = ", ".join(choices[:_SHOWN])
            question += f" ({some}{', ...' if len(choices) > _SHOWN else ''})"
        try:
            return input(f"{question}: ").strip() or None
        except EOFError:
            return None
        finally:
            _complete(())

    def secret(self, question: str) -> str | None:
        """What is typed without being shown; None if nobody answers."""
        if not self.there:
            return None
        import getpass

        try:
            return getpass.getpass(f"{question}: ").strip() or None
        except EOFError:
            return None

    def editor(self, env: Mapping[str, str]) -> Callable[[str], str] | None:
        """Lets the person edit a text in their own editor; None if nobody is there."""
        words = shlex.split(env.get("VISUAL") or env.get("EDITOR") or "vi")
        return (lambda text: _edited(words, text)) if self.there else None


def somebody(as_json: bool) -> Person:  # noqa: FBT001 - whether a program reads what we print
    """The person at this terminal: nobody where a program talks to us."""
    return Person(there=not as_json and sys.stdin.isatty() and sys.stderr.isatty())


def _complete(choices: Sequence[str]) -> None:
    with suppress(ImportError):
        import readline

        readline.set_completer(lambda text, number: _nth([each for each in choices if each.startswith(text)], number))
        readline.set_completer_delims(" ")
        readline.parse_and_bind("tab: complete")


def _nth(found: Sequence[str], number: int) -> str | None:
    return found[number] if number < len(found) else None


def _edited(words: Sequence[str], text: str) -> str:
    fd, name = tempfile.mkstemp(suffix=".toml")  # 0600 by definition
    path = Path(name)
    try:
        with os.fdopen(fd, "w") as file:
            file.write(text)
        if subprocess.run([*words, name], check=False).returncode:
            raise LauncherError("the editor ended with a fault; nothing was changed", hint="set VISUAL or EDITOR")
        return path.read_text()
    except FileNotFoundError:
        raise LauncherError(f"there is no editor {words[0]!r}", hint="set VISUAL or EDITOR, or use --set FIELD=VALUE") from None
    finally:
        path.unlink(missing_ok=True)
