"""OpenHands itself reads what was written for it. Its command ends with 0 on any fault, so its events are read."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.endpoint import Endpoint
from launcher.home import Home
from launcher.llm import LLMConfig
from launcher.wiring import apply
from launcher.wiring.base import Place
from launcher.wiring.registry import TARGETS
from tests.model_server import WORDS, ModelServer, serving

pytestmark = pytest.mark.real


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serving(ModelServer()) as made:
        yield made


@pytest.fixture
def user_home(tmp_path: Path, server: ModelServer) -> Path:
    """A user's home in which every generation of OpenHands was told of the server's model."""
    llm = LLMConfig.of(Endpoint("m", f"{server.address}/v1", "sk-very-secret", server.context), native_tool_calling=True)
    (tmp_path / "user").mkdir()
    place = Place(home=tmp_path / "user", config_file=tmp_path / "config.toml", chosen=frozenset(TARGETS))
    home = Home(tmp_path / "launcher")
    assert not apply.write(apply.propose(TARGETS, place, llm, home).edits, home).faults
    return place.home


def ran(words: list[str], user_home: Path) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("LLM_", "OH_", "OPENHANDS_", "PYTEST_"))}
    env |= {"HOME": str(user_home), "LITELLM_LOCAL_MODEL_COST_MAP": "True", "OPENHANDS_SUPPRESS_BANNER": "1"}
    done = subprocess.run(words, env=env, cwd=user_home, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_sdk_loads_the_profile_and_sends_nothing_that_was_not_said(
    user_home: Path, server: ModelServer, openhands_sdk: Path
) -> None:
    code = (
        "from openhands.sdk import LLMProfileStore, Message, TextContent; llm = LLMProfileStore().load('m');"
        "answer = llm.completion(messages=[Message(role='user', content=[TextContent(text='Say hi')])]);"
        "print('SAID', llm.max_input_tokens, llm.num_retries, answer.message.content[0].text)"
    )
    assert f"SAID 22118 4 {WORDS}" in ran([str(openhands_sdk), "-W", "ignore", "-c", code], user_home)
    (asked,) = [each for each in server.asked if each.path == "/v1/chat/completions"]
    assert asked.headers["authorization"] == "Bearer sk-very-secret"
    assert asked.body.keys() == {"messages", "model", "max_completion_tokens"}
    assert asked.body["max_completion_tokens"] == 8_192


def test_the_command_starts_with_the_agent_that_was_written(user_home: Path, server: ModelServer, openhands_cli: Path) -> None:
    command = str(openhands_cli.parent / "openhands")
    out = ran([command, "--headless", "--json", "-t", "say hi"], user_home)
    assert WORDS in out
    assert "ConversationErrorEvent" not in out
    asked = [each.body for each in server.asked if each.path == "/v1/chat/completions"]
    assert asked
    assert any(body.get("tools") for body in asked)
    assert not any("reasoning_effort" in body for body in asked)
    written = json.loads((user_home / ".openhands" / "agent_settings.json").read_text())
    assert written["llm"]["model"] == "openai/m"
