"""The lines that are added to a file while it is watched."""

from pathlib import Path


class Tail:
    """Gives each line once, when it has its end. A file that begins anew is read from its beginning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> list[str]:
        """The lines since the last call; none where there is no file."""
        try:
            with self._path.open("rb") as file:
                self._offset = min(self._offset, file.seek(0, 2))
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            self._offset = 0
            return []
        whole = text.rfind(b"\n") + 1
        self._offset += whole
        # A progress bar writes over its own line.
        return text[:whole].decode(errors="replace").replace("\r", "\n").splitlines()
