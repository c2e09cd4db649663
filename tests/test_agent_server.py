"""The interface of an agent server, in the forms of openhands-agent-server 1.58.0 (profiles_router.py)."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from launcher import agent_server
from launcher.endpoint import Endpoint
from launcher.errors import LauncherError
from launcher.llm import LLMConfig
from launcher.openhands_llm import fields_of
from tests.model_server import Asked, ModelServer, serving

KEY = "sk-very-secret-0123456789"
LLM = LLMConfig.of(Endpoint("qwen", "http://127.0.0.1:8400/v1", KEY, 32_768), native_tool_calling=True)
ENV = {"SESSION_API_KEY": "sess"}


@dataclass
class AgentServer(ModelServer):
    """Answers as an agent server does; `verdict` is that of its own try of a profile."""

    verdict: dict[str, Any] = field(default_factory=lambda: {"valid": True, "error": None})
    about: dict[str, Any] = field(default_factory=lambda: {"sdk_version": "1.58.0"})

    def answer(self, asked: Asked) -> tuple[int, Any]:
        if asked.path == "/server_info":
            return 200, self.about
        if asked.headers.get("x-session-api-key") != "sess":
            return 401, {"detail": "Unauthorized"}
        return (200, self.verdict) if asked.path.endswith("/validate") else (201, {"name": "qwen", "message": "done"})


def test_a_profile_is_tried_kept_and_used() -> None:
    with serving(AgentServer()) as server:
        done = agent_server.activate(server.address, LLM, ENV)
    assert (done.version, done.active) == ("1.58.0", True)
    profile = fields_of(LLM)
    assert [(asked.path, asked.body) for asked in server.asked] == [
        ("/server_info", None),
        ("/api/profiles/qwen/validate", {"llm": profile}),
        ("/api/profiles/qwen", {"llm": profile, "include_secrets": True}),
        ("/api/profiles/qwen/activate", {}),
    ]


def test_what_the_server_cannot_use_is_kept_and_not_used() -> None:
    error = {"type": "LLMAuthenticationError", "message": "Invalid key"}
    with serving(AgentServer(verdict={"valid": False, "error": error})) as server:
        done = agent_server.activate(server.address, LLM, ENV)
    assert (done.active, done.reason) == (False, "LLMAuthenticationError: Invalid key")
    assert not [asked for asked in server.asked if asked.path.endswith("/activate")]


def test_nobody_but_an_agent_server_is_sent_the_key() -> None:
    with serving(AgentServer(about={"detail": "Not Found"})) as server, pytest.raises(LauncherError, match="no agent server"):
        agent_server.activate(server.address, LLM, ENV)
    assert [asked.path for asked in server.asked] == ["/server_info"]
    assert KEY not in str(server.asked)


def test_a_server_that_wants_another_key_is_told_without_ours() -> None:
    with serving(AgentServer()) as server, pytest.raises(LauncherError) as caught:
        agent_server.activate(server.address, LLM, {})
    assert "with 401" in caught.value.message
    assert KEY not in caught.value.message


def test_nobody_there_is_told() -> None:
    with serving(AgentServer()) as server:
        pass
    with pytest.raises(LauncherError, match="no agent server answers at"):
        agent_server.activate(server.address, LLM, ENV)
