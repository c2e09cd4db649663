"""A model hub on loopback: repositories in memory, the protocol that huggingface_hub's client speaks."""

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

ANY = r"[^/]+/[^/]+"


@dataclass
class Repository:
    """Files by their paths. `gated` wants a token for files, `private` for everything."""

    files: Mapping[str, bytes]
    gated: bool = False
    private: bool = False
    branch: str = "main"

    @cached_property
    def commit(self) -> str:
        names = repr(sorted((path, _blob(content)) for path, content in self.files.items()))
        return hashlib.sha1(names.encode(), usedforsecurity=False).hexdigest()


@dataclass
class Hub:
    """Serves while it is entered. `cut`: a large file's answer ends after so many bytes, once. `down`: 503 to everything."""

    repositories: dict[str, Repository]
    token: str = "hf_test"  # noqa: S105  # no secret: it opens only this
    cut: int | None = None
    down: bool = False
    pause: float = 0.0
    asked: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def elsewhere(self) -> str:
        """Another host for the client: the real hub keeps large files on one."""
        return f"http://localhost:{self._server.server_address[1]}"


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
            (rf"/cdn/({ANY})/(.+)", self._cdn),
        ):
            if match := re.fullmatch(pattern, path):
                return method(*match.groups())
        return self._answer(404, b"")

    def _repository(self, name: str, revision: str | None) -> Repository | None:
        """The repository, unless the answer is no: then that was given."""
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self._known()):
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            return None
        if revision not in {None, repository.branch, repository.commit}:
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return None
        return repository

    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def _whoami(self) -> None:
        if self._known():
            self._json({"type": "user", "name": "ada"})
        else:
            self._answer(401, b'{"error":"Invalid username or password."}', {"Content-Type": "application/json"})

    def _info(self, name: str, revision: str | None) -> None:
        if repository := self._repository(name, revision):
            siblings = [{"rfilename": path, **_metadata(content, "blobId")} for path, content in repository.files.items()]
            self._json({"id": name, "sha": repository.commit, "private": False, "tags": [], "siblings": siblings})

    def _tree(self, name: str, revision: str) -> None:
        if repository := self._repository(name, revision):
            files = [{"type": "file", "path": path, **_metadata(text, "oid")} for path, text in repository.files.items()]
            self._json(files)

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return None
        if repository.gated and not self._known():
            return self._answer(403, b"", {"X-Error-Code": "GatedRepo"})
        content = repository.files[path]
        head = {"X-Repo-Commit": repository.commit}
        if not _is_large(content):
            return self._answer(200, content, {**head, "ETag": f'"{_blob(content)}"'})
        linked = {"X-Linked-Etag": f'"{_sha256(content)}"', "X-Linked-Size": str(len(content))}
        return self._answer(302, b"", {**head, **linked, "Location": f"{self.hub.elsewhere}/cdn/{name}/{path}"})

    def _cdn(self, name: str, path: str) -> None:
        content = self.hub.repositories[name].files[path]
        start = int((re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) or ["", "0"])[1])
        threading.Event().wait(self.hub.pause)
        if self.hub.cut is not None:
            whole, self.hub.cut = content[start : start + self.hub.cut], None
            self.close_connection = True
            return self._answer(206 if start else 200, whole, length=len(content) - start)
        return self._answer(206 if start else 200, content[start:])

    def _json(self, content: object) -> None:
        self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, content: bytes, headers: Mapping[str, str] | None = None, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        if self._body:
            self.wfile.write(content)


def _metadata(content: bytes, blob: str) -> dict[str, Any]:
    plain = {"size": len(content), blob: _blob(content)}
    if not _is_large(content):
        return plain
    # The listing calls it oid, the repository's description sha256.
    return {**plain, "lfs": {"oid": _sha256(content), "sha256": _sha256(content), "size": len(content), "pointerSize": 134}}


def _is_large(content: bytes) -> bool:
    return len(content) > 1000


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
