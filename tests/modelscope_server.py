"""ModelScope on loopback: repositories in memory, the two requests that its client makes for them, and what goes wrong."""

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests.on_loopback import on_loopback


@dataclass
class ModelScope:
    """Serves while it is entered. `private` wants a token; `wrong`: so many answers have another byte; `cut`: end early.

    `asked` are the paths of files whose contents were asked for.
    """

    repositories: dict[str, dict[str, bytes]]
    private: bool = False
    wrong: int = 0
    cut: int = 0
    asked: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        site = self
        self._lock = threading.Lock()

        class Handler(_Handler):
            pass

        Handler.site = site
        self._open = on_loopback(Handler)
        self._port = self._open.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.__exit__(kind, error, trace)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def takes(self, fault: str) -> bool:
        """Whether this answer is to have that fault."""
        with self._lock:
            left = getattr(self, fault)
            setattr(self, fault, max(0, left - 1))
            return bool(left)


class _Handler(BaseHTTPRequestHandler):
    site: ModelScope
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(split.query).items()}
        found = re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo(/files)?", unquote(split.path))
        files = self.site.repositories.get(found[1]) if found else None
        if files is None or found is None:
            self._say(404, {"Code": 404, "Success": False, "Message": "no such thing"})
        elif self.site.private:
            self._say(403, {"Code": 403, "Success": False, "Message": "no permission"})
        elif found[2]:
            self._say(200, {"Code": 200, "Success": True, "Data": {"Files": [_told(*each) for each in files.items()]}})
        elif (path := asked["FilePath"]) in files:
            self.site.asked.append(path)
            self._content(files[path])
        else:
            self._say(404, {"Code": 404, "Success": False, "Message": "no such file"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def _content(self, content: bytes) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(found[1]) if found else 0
        last = min(int(found[2]) if found and found[2] else len(content) - 1, len(content) - 1)
        piece = content[first : last + 1]
        if self.site.takes("wrong"):
            piece = bytes([piece[0] ^ 1]) + piece[1:]
        self.send_response(206 if found else 200)
        self.send_header("Content-Length", str(len(piece)))
        self.send_header("Accept-Ranges", "bytes")
        if found:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if len(piece) > 1000 and self.site.takes("cut"):
            self.wfile.write(piece[: len(piece) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(piece)

    def _say(self, status: int, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class calls it so
        """Tests read what they asked for, not the terminal."""


def _told(path: str, content: bytes) -> dict[str, object]:
    return {
        "Path": path,
        "Name": path,
        "Type": "blob",
        "Size": len(content),
        "Sha256": hashlib.sha256(content).hexdigest(),
        "Revision": "0" * 40,
    }
