"""A way to a provider through the proxy that the environment names (RFC 9110, 9.3.6: CONNECT)."""

import asyncio
import base64
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import unquote, urlsplit

from launcher.gateway.links import Link

# An answer's head may have this many bytes.
_HEAD = 16 << 10
_USUAL_PORT = 80


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where it listens; `credentials` are what it wants to be told, "" for nothing."""

    host: str
    port: int
    credentials: str = field(default="", repr=False)


def proxy(host: str, port: int, settings: Mapping[str, str]) -> Proxy | None:
    """The proxy for TLS to this host, None for a direct way; raises OSError for one that is not spoken to in plain HTTP.

    `settings` as urllib has them: `https`, and `no` for those that are asked directly.
    """
    address = settings.get("https", "")
    direct = urllib.request.proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed leaves it out
    if not address or direct(f"{host}:{port}", dict(settings)):
        return None
    parts = urlsplit(address if "://" in address else f"http://{address}")
    if parts.scheme != "http" or not parts.hostname:
        raise OSError(None, "HTTPS_PROXY names no proxy that begins with http://")
    words = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if parts.username else ""
    return Proxy(parts.hostname, parts.port or _USUAL_PORT, base64.b64encode(words.encode()).decode())


def settings() -> Mapping[str, str]:
    """What the environment says of proxies."""
    return urllib.request.getproxies_environment()


async def connect(link: Link, through: Proxy, host: str, port: int, context: ssl.SSLContext) -> None:
    """Connect the link over TLS; raises OSError where the proxy or the host does not let it."""
    loop = asyncio.get_running_loop()
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    transport, asked = await loop.create_connection(lambda: _Asking(place, through.credentials), through.host, through.port)
    try:
        await asked.answered
        # The proxy's part is over: from here on it passes bytes.
        secure = await loop.start_tls(transport, link, context, server_hostname=host)
    except BaseException:
        transport.abort()
        raise
    if secure is None:
        raise ConnectionResetError(None, "the connection ended")
    link.connection_made(secure)


class _Asking(asyncio.Protocol):
    """Asks the proxy for a way; `answered` is done once there is one."""

    def __init__(self, place: str, credentials: str) -> None:
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        authorization = f"Proxy-Authorization: Basic {credentials}\r\n" if credentials else ""
        self._words = f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{authorization}\r\n".encode()
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._words)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self.answered.done():
            return
        if self._head.endswith(b"\r\n\r\n"):
            status = self._head.split(b"\r\n", 1)[0].split(b" ")
            if len(status) > 1 and status[0].startswith(b"HTTP/1.") and status[1].startswith(b"2"):
                self.answered.set_result(None)
            else:
                self._fail(f"the proxy answered {self._head.splitlines()[0][:80].decode('latin-1')!r}")
        elif b"\r\n\r\n" in self._head or len(self._head) > _HEAD:
            self._fail("the proxy answered something else than a way")

    def connection_lost(self, _: Exception | None) -> None:
        if not self.answered.done():
            self._fail("the proxy ended the connection")

    def _fail(self, why: str) -> None:
        self.answered.set_exception(ConnectionRefusedError(None, why))
