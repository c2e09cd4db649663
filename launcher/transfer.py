"""One file by plain HTTP, begun where an earlier try ended: what is there is hashed again, then the rest is asked for."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from launcher.weight_files import File

Report = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Watch:
    """Whom a transfer tells: `report` how many bytes are there, `received` how many came just now."""

    report: Report
    received: Report


# Tries in a row that bring no byte, and the waits before each but the first (seconds): beyond these the whole process is tried
# again, with waits that grow.
_WAITS = (1.0, 2.0)
_READ = 1 << 20


def fill(url: str, part: Path, file: File, *, headers: Mapping[str, str], watch: Watch) -> bool:
    """Complete `part`, and flush it to the disk; whether its content is what the hub says.

    Raises what the hub's client raises where no byte comes any more.
    """
    with part.open("a+b", buffering=0) as out:
        _cut(out, file.size)
        digest = digest_of(out, file, watch.report)
        idle = 0
        while (start := out.tell()) < file.size:
            try:
                if _append(url, out, file, digest, headers=headers, watch=watch):
                    digest = digest_of(out, file, watch.report)
            except Exception as error:
                idle = 0 if out.tell() > start else idle + 1
                if not _passes(error) or idle > len(_WAITS):
                    raise
                time.sleep(_WAITS[max(0, idle - 1)])
        os.fsync(out.fileno())
    return bool(digest.hexdigest() == file.blob)


def digest_of(stream: Any, file: File, report: Report) -> Any:
    """The digest of a stream's content, read from its beginning."""
    stream.seek(0)
    digest, done = file.digest(), 0
    while chunk := stream.read(_READ):
        digest.update(chunk)
        done += len(chunk)
        report(done)
    return digest


def _append(url: str, out: Any, file: File, digest: Any, *, headers: Mapping[str, str], watch: Watch) -> bool:
    """Write what the answer brings; True where the file had to be begun anew, and the digest with it.

    Never more than the file's size, so that a wrong answer does not fill the disk.
    """
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # public, not in __all__

    done: int = out.tell()
    asked = {**headers, "Accept-Encoding": "identity", **({"Range": f"bytes={done}-"} if done else {})}
    # The address at the hub, not the one that it points to: that one is signed, and good for a while only.
    with get_session().stream("GET", url, headers=asked, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as answer:
        if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _cut(out, 0)
        hf_raise_for_status(answer)
        if done and not _continues(answer, done):
            return _cut(out, 0)
        for chunk in answer.iter_raw():
            piece = chunk[: file.size - done]
            out.write(piece)
            digest.update(piece)
            done += len(piece)
            watch.received(len(piece))
            watch.report(done)
            if done == file.size:
                break
    return False


def _continues(answer: Any, done: int) -> bool:
    """Whether the answer begins where the part ends; a mirror may not know ranges."""
    said = str(answer.headers.get("Content-Range", ""))
    return bool(answer.status_code == HTTPStatus.PARTIAL_CONTENT) and said.startswith(f"bytes {done}-")


def _cut(out: Any, size: int) -> bool:
    """No longer than this; True."""
    if out.seek(0, os.SEEK_END) > size or not size:
        out.truncate(0)
        out.seek(0)
    return True


def _passes(error: Exception) -> bool:
    """Whether it may be well in a moment: the network's, or the hub's own."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return transient(error.response.status_code)
    return isinstance(error, httpx.TransportError)


def transient(status: int) -> bool:
    """Whether a status of HTTP may be another one in a moment."""
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
