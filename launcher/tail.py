"""The lines that are added to a file while it is watched."""

import re
from pathlib import Path

# tqdm writes a whole state at once: over the one before, and its end is the pace, in brackets.
_STATE = re.compile(rb"\r[^\n]*\d\D*/\w+\] *\Z")


class Tail:
    """Gives each line once, when it has its end. A file that begins anew is read from its beginning.

    Of a progress bar each state is a line: it writes over itself, and has its end only when all is done.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._bar = False

    def new(self) -> list[str]:
        """The lines since the last call; none where there is no file."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._offset:
                    self._offset = 0
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            self._offset = 0
            return []
        end = text.rfind(b"\n") + 1
        state = _STATE.search(text, end)
        whole = state.end() if state else end
        self._offset += whole
        # The end of a line that was given as a bar's state is no empty line.
        given = text[:whole].removeprefix(b"\n") if self._bar else text[:whole]
        self._bar = bool(state) or (self._bar and not whole)
        return given.decode(errors="replace").replace("\r", "\n").splitlines()
