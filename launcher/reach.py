"""Asks whether the hub and the index of packages answer, each in its own client's words and within a few seconds."""

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from launcher.checks.network import HubSeen, IndexSeen
from launcher.child import Child, mask
from launcher.uv import Uv

# Longer than this nobody waits for a check (seconds).
PATIENCE = 2.5


def hub(env: Mapping[str, str], *, needed: bool, patience: float = PATIENCE) -> tuple[HubSeen, float | None]:
    """Whether the hub answers and takes the token; and the seconds that our clock is ahead of its, None where it said nothing.

    `needed` is passed on.
    """
    told = _ask_hub(env, patience)
    seen = HubSeen(
        endpoint=mask(told.get("endpoint", env.get("HF_ENDPOINT", "the hub"))),
        offline=told.get("offline", False),
        token=told.get("token", False),
        status=told.get("status"),
        user=told.get("user", ""),
        reason=mask(told.get("reason", "")),
        seconds=told.get("seconds", 0.0),
        needed=needed,
    )
    return seen, _ahead(told.get("date", ""))


def index(env: Mapping[str, str], requirement: str, *, needed: bool) -> IndexSeen:
    """Whether uv gets `requirement`, a pinned package, from where it would install engines; `needed` is passed on."""
    uv = Uv(env, cpu_build=False)
    name = uv.env.get("UV_DEFAULT_INDEX") or uv.env.get("UV_INDEX_URL") or ""
    more = len((uv.env.get("UV_INDEX") or uv.env.get("UV_EXTRA_INDEX_URL") or "").split())
    forbidden = "--no-index" in uv.index_options
    offline = uv.env.get("UV_OFFLINE", "").lower() in {"1", "true", "yes", "on"}
    if forbidden or offline:
        return IndexSeen(name=mask(name), forbidden=forbidden, offline=offline, needed=needed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        reason = uv.resolves(requirement, cwd=Path(folder), seconds=PATIENCE)
    seconds = time.monotonic() - began
    return IndexSeen(name=mask(name), more=more, reason=reason or "", seconds=seconds, needed=needed)


def _ask_hub(env: Mapping[str, str], patience: float) -> dict[str, Any]:
    """What the client said, as lines of JSON, until the patience is over."""
    deadline = time.monotonic() + patience
    told: dict[str, Any] = {}
    said = ""
    argv = [sys.executable, "-P", "-m", "launcher.hub", "whoami"]
    with tempfile.TemporaryDirectory() as folder, Child(argv, env=env, cwd=Path(folder)) as child:
        for line in child.lines():
            if line and line.startswith("{"):
                told |= json.loads(line)
            said = line or said
            if time.monotonic() > deadline:
                return {"reason": f"no answer within {patience:.1f} seconds", **told}
        status = child.wait()
    return told if status == 0 else {**told, "reason": f"its client failed: {said}"}


def _ahead(date: str) -> float | None:
    """Seconds from the other's date, as HTTP writes it, to our time."""
    try:
        return time.time() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
