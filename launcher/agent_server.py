"""The door to a running agent server of OpenHands: asks it to try a profile, to keep it, and to use it from now on."""

import http.client
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from launcher.errors import LauncherError
from launcher.llm import LLMConfig
from launcher.openhands_llm import fields_of

# The variables that name the key of its interface (openhands-agent-server, config.py; Agent Canvas).
KEYS = ("OH_SESSION_API_KEYS_0", "SESSION_API_KEY", "LOCAL_BACKEND_API_KEY")
# The server bounds its own try of a profile to 15 s.
_PATIENCE = 30.0
_HINT = "name its address: --agent-server http://HOST:PORT; its key is taken from SESSION_API_KEY"


@dataclass(frozen=True, slots=True)
class Activated:
    """What the server did: `version` is OpenHands' own; a profile that it could not use is kept, and not in use."""

    address: str
    version: str
    active: bool
    reason: str = ""


def activate(address: str, llm: LLMConfig, env: Mapping[str, str]) -> Activated:
    """Validate, save and activate; raises LauncherError if no agent server answers there, or it refuses us."""
    headers = {"Content-Type": "application/json"}
    if key := next((env[each] for each in KEYS if env.get(each)), None):
        headers["X-Session-API-Key"] = key
    about = _asked(address, "GET", "/server_info", None, headers)
    if "sdk_version" not in about:
        raise LauncherError(f"what answers at {address} is no agent server of OpenHands", hint=_HINT)
    version, place, profile = str(about["sdk_version"]), f"/api/profiles/{quote(llm.name)}", fields_of(llm)
    tried = _asked(address, "POST", f"{place}/validate", {"llm": profile}, headers)
    _asked(address, "POST", place, {"llm": profile, "include_secrets": True}, headers)
    if not tried.get("valid"):
        error = tried.get("error") or {}
        return Activated(address, version, active=False, reason=f"{error.get('type')}: {error.get('message')}")
    _asked(address, "POST", f"{place}/activate", {}, headers)
    return Activated(address, version, active=True)


def _asked(address: str, method: str, path: str, body: object, headers: Mapping[str, str]) -> dict[str, Any]:
    parts = urlsplit(address)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        with closing(kind(parts.hostname or "", parts.port, timeout=_PATIENCE)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), dict(headers))
            response = connection.getresponse()
            text = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise LauncherError(f"no agent server answers at {address}: {error}", hint=_HINT) from None
    if response.status >= http.client.BAD_REQUEST:
        # Not its words: a 422 tells what was sent, the key too.
        raise LauncherError(f"the agent server answered {method} {path} with {response.status}", hint=_HINT)
    try:
        told = json.loads(text)
    except ValueError:
        told = {}
    return told if isinstance(told, dict) else {}
