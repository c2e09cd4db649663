"""A model hub on loopback: repositories in memory, the protocol of huggingface_hub's client, and what goes wrong."""

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self

from tests.on_loopback import on_loopback

ANY = r"[^/]+/[^/]+"
_PIECE = 1 << 16


@dataclass
class Repository:
    """Files by their paths. `gated` wants a token for files, `private` for everything; `older` are other commits of it."""

    files: Mapping[str, bytes]
    gated: bool = False
    private: bool = False
    branch: str = "main"
    older: "tuple[Repository, ...]" = ()

    @cached_property
    def commit(self) -> str:
        names = repr(sorted((path, self.hashes[path]) for path in self.files))
        return hashlib.sha1(names.encode(), usedforsecurity=False).hexdigest()

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        """What each file's content is called: large ones are in LFS."""
        return {path: _sha256(content) if _is_large(content) else _blob(content) for path, content in self.files.items()}

    def at(self, revision: str | None) -> "Repository | None":
        if revision in {None, self.branch, self.commit}:
            return self
        return next((each for each in self.older if each.commit == revision), None)


@dataclass
class Faults:
    """What goes wrong with the contents of large files, each so many times.

    `cut`: the answer ends after so many bytes. `hang`: no byte comes after so many, while the line stays open. `wrong`: a byte
    is another one. `busy`: the answer is this status. `plain`: ranges are not known.
    """

    cut: list[int] = field(default_factory=list)
    hang: list[int] = field(default_factory=list)
    wrong: int = 0
    busy: list[int] = field(default_factory=list)
    plain: bool = False


@dataclass
class Hub:
    """Serves while it is entered. `down`: 503 to everything. `rate`: bytes a second of each large file, None for no limit.

    `asked` are the requests, `sent` the bytes of each large file that went out; `claimed` are sizes that the hub tells instead.
    """

    repositories: dict[str, Repository]
    token: str = "hf_test"  # noqa: S105  # no secret: it opens only this
    down: bool = False
    pause: float = 0.0
    rate: float | None = None
    faults: Faults = field(default_factory=Faults)
    asked: list[str] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    claimed: dict[str, int] = field(default_factory=dict)
    on_bytes: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        hub = self
        self._over = threading.Event()
        self._lock = threading.Lock()

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._open = on_loopback(Handler)
        self._port = self._open.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._open.__exit__(kind, error, trace)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def elsewhere(self) -> str:
        """Another host for the client: the real hub keeps large files on one."""
        return f"http://localhost:{self._port}"

    def wait(self, seconds: float) -> None:
        """Do nothing for so long, or until the hub ends."""
        self._over.wait(seconds)

    def next_fault(self, faults: list[int]) -> int | None:
        """The next of a list, once."""
        with self._lock:
            return faults.pop(0) if faults else None

    def count(self, path: str, size: int) -> None:
        with self._lock:
            self.sent[path] += size


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    # An answer goes out in one piece: in two, the second would wait for the client's acknowledgement.
    wbufsize = 1 << 16

    def do_GET(self) -> None:
        self._serve(body=True)

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class calls it so
        """Keep the tests' output clean."""

    def _serve(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append(f"{self.command} {path}")
        self._body = body
        if self.hub.down:
            return self._answer(503, b"")
        for pattern, method in (
            (r"/api/whoami-v2", self._whoami),
            (rf"/api/models/({ANY})(?:/revision/(.+))?", self._info),
            (rf"/api/models/({ANY})/tree/([^/]+)", self._tree),
            (rf"/({ANY})/resolve/([^/]+)/(.+)", self._resolve),
            (rf"/cdn/({ANY})/([^/]+)/(.+)", self._cdn),
        ):
            if match := re.fullmatch(pattern, path):
                return method(*match.groups())
        return self._answer(404, b"")

    def _repository(self, name: str, revision: str | None) -> Repository | None:
        """The repository at that revision, unless the answer is no: then that was given."""
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self._known()):
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            return None
        if (found := repository.at(revision)) is None:
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        return found

    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def _whoami(self) -> None:
        if self._known():
            self._json({"type": "user", "name": "ada"})
        else:
            self._answer(401, b'{"error":"Invalid username or password."}', {"Content-Type": "application/json"})

    def _info(self, name: str, revision: str | None) -> None:
        if repository := self._repository(name, revision):
            siblings = [{"rfilename": path, **_metadata(repository, path, "blobId")} for path in repository.files]
            for each in siblings:
                each["size"] = self.hub.claimed.get(each["rfilename"], each["size"])
            self._json({"id": name, "sha": repository.commit, "private": False, "tags": [], "siblings": siblings})

    def _tree(self, name: str, revision: str) -> None:
        if repository := self._repository(name, revision):
            self._json([{"type": "file", "path": path, **_metadata(repository, path, "oid")} for path in repository.files])

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return None
        if repository.gated and not self._known():
            return self._answer(403, b"", {"X-Error-Code": "GatedRepo"})
        if path not in repository.files:
            return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        content, name_of_it = repository.files[path], repository.hashes[path]
        head = {"X-Repo-Commit": repository.commit}
        if not _is_large(content):
            return self._answer(200, content, {**head, "ETag": f'"{name_of_it}"'})
        linked = {"X-Linked-Etag": f'"{name_of_it}"', "X-Linked-Size": str(len(content))}
        where = f"{self.hub.elsewhere}/cdn/{name}/{repository.commit}/{path}"
        return self._answer(302, b"", {**head, **linked, "Location": where})

    def _cdn(self, name: str, commit: str, path: str) -> None:
        repository = self.hub.repositories[name].at(commit)
        content = repository.files[path] if repository else b""
        faults = self.hub.faults
        if status := self.hub.next_fault(faults.busy):
            return self._answer(status, b"")
        asked = None if faults.plain else re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        if asked and start >= len(content):
            return self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        self.hub.wait(self.hub.pause)
        if faults.wrong:
            faults.wrong -= 1
            content = bytes([content[0] ^ 1]) + content[1:]
        ranges = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if asked else {}
        self._begin(206 if asked else 200, {**ranges, "Content-Length": str(len(content) - start)})
        return self._pour(path, memoryview(content)[start:]) if self._body else None

    def _pour(self, path: str, content: memoryview) -> None:
        """A large file's content, as fast as it may go, and as far."""
        cut, hang = self.hub.next_fault(self.hub.faults.cut), self.hub.next_fault(self.hub.faults.hang)
        ends = [each for each in (cut, hang) if each is not None]
        for begin in range(0, min([len(content), *ends]), _PIECE):
            piece = content[begin : min([begin + _PIECE, len(content), *ends])]
            self.wfile.write(piece)
            self.hub.count(path, len(piece))
            self.hub.on_bytes()
            if self.hub.rate:
                self.hub.wait(len(piece) / self.hub.rate)
        self.wfile.flush()
        if hang is not None:
            self.hub.wait(60)
        self.close_connection = bool(ends)

    def _json(self, content: object) -> None:
        self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self._begin(status, {**(headers or {}), "Content-Length": str(len(content))})
        if self._body:
            self.wfile.write(content)

    def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _metadata(repository: Repository, path: str, blob: str) -> dict[str, Any]:
    content, name = repository.files[path], repository.hashes[path]
    if not _is_large(content):
        return {"size": len(content), blob: name}
    # The listing calls it oid, the repository's description sha256. Git's own hash is that of the pointer.
    lfs = {"oid": name, "sha256": name, "size": len(content), "pointerSize": 134}
    return {"size": len(content), blob: _blob(name.encode()), "lfs": lfs}


def _is_large(content: bytes) -> bool:
    return len(content) > 1000


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
