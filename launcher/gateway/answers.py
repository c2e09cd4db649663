"""The bytes that the gateway says itself: errors in the client's form, waiting comments, an engine's request."""

import re
import time
from types import MappingProxyType

import msgspec

from launcher.gateway.decisions import Refusal
from launcher.gateway.paths import Dialect, Way

# Who answered in the place of the model that was asked for.
FALLBACK = "X-Launcher-Fallback"
LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"

# Those that engines and the gateway answer with (RFC 9110, 15); any other has no words, which it does not need.
_PHRASES = {
    200: "OK",
    201: "Created",
    204: "No Content",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}
_STATUS_LINES = {status: f"HTTP/1.1 {status} {phrase}\r\n".encode() for status, phrase in _PHRASES.items()}
# Names of headers (RFC 9110, 5.6.2), with commas between.
_TOKENS = re.compile(rb"[\w!#$%&'*+.^`|~-]+(, ?[\w!#$%&'*+.^`|~-]+)*", re.ASCII)
_UNAUTHORIZED, _SERVERS = 401, 500
# OpenAI's names for its errors (openai-python, _exceptions.py), by status; all others are the server's.
_KINDS = MappingProxyType(
    {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        405: "invalid_request_error",
        413: "request_too_large",
        503: "overloaded_error",
    }
)


def status_line(status: int) -> bytes:
    """The first line of an answer."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def refusal(what: Refusal, dialect: Dialect, *, request: bytes, close: bool, bare: bool = False, origin: bytes = b"") -> bytes:
    """A whole answer that says why; `bare` for HEAD, which has no body, `origin` as `for_origin` made it."""
    body = error(what, dialect)
    parts = [
        status_line(what.status),
        b"Content-Type: application/json\r\nContent-Length: %d\r\nX-Request-Id: %b\r\n" % (len(body), request),
        b"Date: %b\r\n" % _date(),
    ]
    if what.retry_after:
        parts.append(b"Retry-After: %d\r\n" % what.retry_after)
    if what.allow:
        parts.append(b"Allow: %b\r\n" % what.allow.encode())
    if what.status == _UNAUTHORIZED:
        parts.append(b"WWW-Authenticate: Bearer\r\n")
    if close:
        parts.append(b"Connection: close\r\n")
    parts.append(b"%b\r\n" % origin)
    if not bare:
        parts.append(body)
    return b"".join(parts)


def for_origin(allowed: str) -> bytes:
    """The lines of an answer's head that let a page of this origin, or of any (`*`), read it."""
    vary = "" if allowed == "*" else "Vary: Origin\r\n"
    exposed = f"Access-Control-Expose-Headers: X-Request-Id, Retry-After, {FALLBACK}\r\n"
    return f"Access-Control-Allow-Origin: {allowed}\r\n{vary}{exposed}".encode()


def preflight(way: Way, origin: bytes, headers: bytes, *, request: bytes, close: bool) -> bytes:
    """What a page may ask here; `headers` are those that it wants to send, all of which it may."""
    methods = b", ".join(way.methods)
    asked = b"Access-Control-Allow-Headers: %b\r\n" % headers if _TOKENS.fullmatch(headers) else b""
    return b"".join(
        (
            status_line(204),
            origin,
            b"Access-Control-Allow-Methods: %b\r\nAccess-Control-Max-Age: 600\r\n%b" % (methods, asked),
            b"X-Request-Id: %b\r\nDate: %b\r\n" % (request, _date()),
            b"Connection: close\r\n\r\n" if close else b"\r\n",
        )
    )


def error(what: Refusal, dialect: Dialect) -> bytes:
    """The error as JSON, in the form that the client's library reads."""
    kind = _KINDS.get(what.status, "api_error" if what.status >= _SERVERS else "invalid_request_error")
    if dialect == "anthropic":
        return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": what.message}})
    return msgspec.json.encode({"error": {"message": what.message, "type": kind, "param": None, "code": what.code}})


def error_event(what: Refusal, dialect: Dialect) -> bytes:
    """The error as the last event of a stream; the blank line before it ends an event that was cut short."""
    if dialect == "openai":
        return b"\n\ndata: %b\n\n" % error(what, dialect)
    if dialect == "anthropic":
        return b"\n\nevent: error\ndata: %b\n\n" % error(what, dialect)
    body = msgspec.json.encode(
        {"type": "error", "code": what.code, "message": what.message, "param": None, "sequence_number": 0}
    )
    return b"\n\nevent: error\ndata: %b\n\n" % body


def comment(name: str, state: str, before: int) -> bytes:
    """A line that clients skip, for a stream that waits."""
    ahead = f", {before} before this one" if before else ""
    return f": {name} is {state}{ahead}\n\n".encode()


def answered_by(fallback: str, *, opened: bool) -> bytes:
    """What tells that a fallback answers: a line of the answer's head, or a comment in a stream that is `opened` already."""
    return f": {fallback} answers in its place\n\n".encode() if opened else f"{FALLBACK}: {fallback}\r\n".encode()


def chunk(content: bytes) -> bytes:
    """A piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(content), content)


def _date() -> bytes:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()).encode()
