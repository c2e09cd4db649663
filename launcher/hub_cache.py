"""Where a repository's files lie in the cache of the hub's client, which other programs use too ."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from launcher.weight_files import File


@dataclass(frozen=True, slots=True)
class Cache:
    """A repository's folder in the client's cache."""

    folder: Path

    def blob(self, file: File) -> Path:
        """Where the content lies once it is whole."""
        return self.folder / "blobs" / file.blob

    def part(self, file: File) -> Path:
        """Where it grows: the name that the client itself gave it while it still resumed downloads (huggingface_hub 0.x)."""
        return self.folder / "blobs" / f"{file.blob}.incomplete"

    def pointer(self, file: File, commit: str) -> Path:
        """Its name in the snapshot of a commit."""
        return self.folder / "snapshots" / commit / file.path

    def found(self, file: File, commit: str) -> Path | None:
        """The whole file, wherever it lies; None where it does not, or is of another size."""
        for path in (self.pointer(file, commit), self.blob(file)):
            with suppress(OSError):
                if path.stat().st_size == file.size:
                    return path
        return None

    def there(self, file: File, commit: str) -> int:
        """How much of it is there."""
        if self.found(file, commit):
            return file.size
        try:
            return min(self.part(file).stat().st_size, file.size)
        except OSError:
            return 0
