"""Real clients ask a hub and an index on loopback: what they answer, refuse, or never say."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from launcher import reach
from launcher.checks.network import HubSeen
from tests.hub_server import Hub
from tests.on_loopback import on_loopback
from tests.test_weights import hub_env

# As much as two cores that are shared may take to start a client.
PATIENT = 60.0


@contextmanager
def silent() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


HUBS: dict[str, tuple[dict[str, str], bool, dict[str, object]]] = {
    "without a token": ({}, False, {"token": False, "status": 401, "user": ""}),
    "with a token that it knows": ({"HF_TOKEN": "hf_test"}, False, {"token": True, "status": 200, "user": "ada"}),
    "with a token that it does not know": ({"HF_TOKEN": "hf_wrong"}, False, {"token": True, "status": 401, "user": ""}),
    "while it is broken": ({}, True, {"status": 503}),
    "where nobody listens": ({"HF_ENDPOINT": "http://127.0.0.1:9"}, False, {"status": None, "endpoint": "http://127.0.0.1:9"}),
    "offline": ({"HF_HUB_OFFLINE": "1"}, False, {"offline": True, "status": None}),
}


@pytest.mark.parametrize(("more", "down", "expected"), HUBS.values(), ids=HUBS.keys())
def test_the_hub_is_asked(tmp_path: Path, more: dict[str, str], expected: dict[str, object], *, down: bool) -> None:
    with Hub({}, down=down) as server:
        seen, ahead = reach.hub(hub_env(tmp_path, server.url, **more), needed=True, patience=PATIENT)
    assert {name: getattr(seen, name) for name in expected} == expected
    assert seen.needed
    assert bool(seen.reason) is (seen.status is None and not seen.offline)
    assert (ahead is None) is (seen.status is None)
    assert ahead is None or abs(ahead) < PATIENT
    assert "hf_" not in repr(seen)


def test_a_hub_that_never_answers_is_not_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    with silent() as url:
        seen, ahead = reach.hub(hub_env(tmp_path, url), needed=False, patience=0.5)
    assert seen == HubSeen(endpoint=seen.endpoint, reason="no answer within 0.5 seconds")
    assert ahead is None
    assert time.monotonic() - began < PATIENT / 4


class Index(BaseHTTPRequestHandler):
    """An index with one package."""

    def do_GET(self) -> None:
        found = self.path.rstrip("/") == "/simple/tiny"
        page = b'<a href="/tiny-1.0-py3-none-any.whl">tiny-1.0-py3-none-any.whl</a>' if found else b""
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class calls it so
        """Keep the tests' output clean."""


@contextmanager
def an_index() -> Iterator[str]:
    with on_loopback(Index) as port:
        yield f"http://me:secret@127.0.0.1:{port}/simple"


def user_env(tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME")}
    return {**kept, "UV_CACHE_DIR": str(tmp_path / "cache"), "PIP_CONFIG_FILE": os.devnull, **more}


def test_the_index_that_pip_is_configured_with_is_asked(tmp_path: Path) -> None:
    with an_index() as url:
        there = reach.index(user_env(tmp_path, PIP_INDEX_URL=url), "tiny==1.0", needed=True)
        gone = reach.index(user_env(tmp_path, PIP_INDEX_URL=url), "none==1.0", needed=False)
    assert (there.reason, there.needed, gone.needed) == ("", True, False)
    assert "none was not found" in gone.reason
    assert there.name.startswith("http://****@127.0.0.1")
    assert "secret" not in repr((there, gone))


AWAY: dict[str, tuple[dict[str, str], str, bool, bool]] = {
    "nobody listens": ({"PIP_INDEX_URL": "http://127.0.0.1:9/simple"}, "Connection refused", False, False),
    "pip may use none": ({"PIP_NO_INDEX": "1"}, "", True, False),
    "uv is offline": ({"UV_OFFLINE": "1"}, "", False, True),
}


@pytest.mark.parametrize(("more", "reason", "forbidden", "offline"), AWAY.values(), ids=AWAY.keys())
def test_an_index_that_is_away(tmp_path: Path, more: dict[str, str], reason: str, *, forbidden: bool, offline: bool) -> None:
    seen = reach.index(user_env(tmp_path, **more), "tiny==1.0", needed=False)
    assert reason in seen.reason
    assert bool(seen.reason) is bool(reason)
    assert (seen.forbidden, seen.offline) == (forbidden, offline)


def test_further_indexes_are_asked_too(tmp_path: Path) -> None:
    with an_index() as url:
        env = user_env(tmp_path, PIP_EXTRA_INDEX_URL=url, PIP_INDEX_URL=url.replace("/simple", "/none"))
        seen = reach.index(env, "tiny==1.0", needed=False)
    assert (seen.reason, seen.more) == ("", 1)


def test_an_index_that_never_answers_is_not_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    with silent() as url:
        seen = reach.index(user_env(tmp_path, PIP_INDEX_URL=f"{url}/simple"), "tiny==1.0", needed=False)
    assert seen.reason
    assert time.monotonic() - began < PATIENT / 4
