"""Reads every file of fetched weights again and compares its hash with the one that the hub gave."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from launcher import transfer
from launcher.disk import gigabytes
from launcher.progress import Progress
from launcher.weight_files import File
from launcher.weights_record import Recorded

# Hashing lets other threads go on; more of them than this only make a disk seek.
_AT_ONCE = 4
_TURN = 0.2


def damaged(found: Recorded, progress: Progress) -> tuple[str, ...]:
    """The files that are missing or not what they were; those without a hash (taken unasked from a cache) by size alone."""
    done: dict[str, int] = {}
    missing = set(found.faulty())
    checked = [File(name, found.files[name], blob) for name, blob in found.blobs.items() if name not in missing]
    total = sum(file.size for file in checked)

    def differs(file: File) -> bool:
        def report(count: int) -> None:
            done[file.path] = count

        try:
            with (found.folder / file.path).open("rb", buffering=0) as stream:
                return bool(transfer.digest_of(stream, file, report).hexdigest() != file.blob)
        except OSError:
            return True  # a disk that cannot be read

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        outcomes = [(file, pool.submit(differs, file)) for file in checked]
        for _, outcome in outcomes:
            while not outcome.done():
                count = sum(dict(done).values())
                progress.update(f"checking {found.repo}: {gigabytes(count)} of {gigabytes(total)}", count, total)
                with suppress(TimeoutError):
                    outcome.exception(timeout=_TURN)
    wrong = {file.path for file, outcome in outcomes if outcome.result()}
    return tuple(sorted(missing | wrong))


def drop(found: Recorded, names: tuple[str, ...]) -> None:
    """Take these out of the hub's cache, so that they are fetched again: the name in the snapshot, and the content."""
    for name in names:
        path = found.folder / name
        content = path.resolve() if path.is_symlink() else path
        for each in {path, content, *_shared(path)}:
            each.unlink(missing_ok=True)


def _shared(path: Path) -> set[Path]:
    """What lies between the name and the content: a repository's own name for a content that the cache shares."""
    return {path.parent / path.readlink()} if path.is_symlink() else set()
