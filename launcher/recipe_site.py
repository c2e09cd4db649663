"""The door to the recipes that vLLM's people publish: one JSON file for each repository of the hub."""

import json
import queue
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

SITE = "https://recipes.vllm.ai"
# A mirror, or a server of one's own.
ADDRESS = "LAUNCHER_RECIPES_URL"
# Seconds for all of it: a machine without a network must not be waited for. Most files have some 100 KiB.
PATIENCE = 5.0
LARGEST = 8 << 20
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an address says, as parsed JSON."""

    url: str
    content: Any


def fetch(repo: str, *, env: Mapping[str, str], patience: float = PATIENCE) -> Answer | str:
    """The recipe for a repository, or why there is none; nothing is fetched where HF_HUB_OFFLINE is set.

    Proxies are those of the environment. The work is left to a thread that nobody waits for any longer: a name server that
    does not answer keeps a client for as long as it likes.
    """
    if env.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return "HF_HUB_OFFLINE is set"
    site = env.get(ADDRESS, "").rstrip("/") or SITE
    answers: queue.SimpleQueue[Answer | str] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(_asked(site, repo, patience)), daemon=True).start()
    try:
        return answers.get(timeout=patience)
    except queue.Empty:
        return f"{site} did not answer within {patience:.0f} s"


def _asked(site: str, repo: str, patience: float) -> Answer | str:
    import httpx

    try:
        with httpx.Client(timeout=patience, follow_redirects=True) as client:
            return _recipe(client, site, repo)
    except (httpx.HTTPError, httpx.InvalidURL, ImportError, OSError, ValueError) as error:
        # ImportError: a SOCKS proxy, for which the client wants another package; OSError: a file of certificates.
        return f"{site} cannot be asked: {' '.join(str(error).split()) or type(error).__name__}"


def _recipe(client: Any, site: str, repo: str) -> Answer | str:
    """Names are the hub's, where letters' case does not count; the site's files are found by the exact name alone."""
    found = _json(client, f"{site}/{repo}.json")
    if found is None:
        index = _json(client, f"{site}/models.json")
        known = index.content if index and isinstance(index.content, list) else []
        names = [str(each.get("hf_id")) for each in known if isinstance(each, dict)]
        exact = next((name for name in names if name.lower() == repo.lower() and _REPOSITORY.fullmatch(name)), None)
        found = _json(client, f"{site}/{exact}.json") if exact and exact != repo else None
    return found or f"{site} has none for {repo}"


def _json(client: Any, url: str) -> Answer | None:
    """What an address answers; None for no such file. Raises the client's errors, and ValueError for no JSON."""
    with client.stream("GET", url, headers={"Accept": "application/json"}) as response:
        if response.status_code == HTTPStatus.NOT_FOUND:
            return None
        response.raise_for_status()
        text = bytearray()
        for piece in response.iter_bytes():
            text += piece
            if len(text) > LARGEST:
                raise ValueError(f"{url} is larger than {LARGEST >> 20} MiB")
    try:
        return Answer(url, json.loads(text))
    except ValueError:
        raise ValueError(f"{url} is not JSON") from None
