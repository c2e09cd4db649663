"""What each agent is started with: commands, variables and files as values."""

import json
import tomllib
from pathlib import Path

import pytest

from launcher.endpoint import Endpoint
from launcher.forms import KEY
from launcher.llm import LLMConfig
from launcher.running.base import Mirror, Start, User
from launcher.running.registry import AGENTS

HIDDEN = "sk-very-secret-0123456789"
FOLDER, HOME = Path("/launcher/running/x"), Path("/home/user")
URL = "http://127.0.0.1:8400/v1"
# What LLMConfig.of makes of 32,768 tokens: 8,192 of output, nine tenths of the rest of input, together 30,310.
LOCAL = LLMConfig.of(Endpoint("qwen3-coder", URL, HIDDEN, 32_768), native_tool_calling=True)
WORDS = ("run", "say hi")


def started(name: str, **env: str) -> Start:
    return AGENTS[name].start(LOCAL, WORDS, FOLDER, User(HOME, env))


def text(start: Start, name: str) -> str:
    return next(text for path, text in start.files.items() if path.name == name)


@pytest.mark.parametrize("name", AGENTS)
def test_the_key_is_in_a_secret_or_a_file_and_never_where_others_see_it(name: str) -> None:
    start = started(name)
    assert HIDDEN not in " ".join(start.command.argv) + json.dumps(dict(start.command.env)) + repr(start)
    assert HIDDEN in "".join([*start.command.secrets.values(), *start.files.values()])


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_is_told_the_address_and_the_model_and_then_what_was_typed(name: str) -> None:
    start = started(name)
    told = " ".join([*start.command.argv, *start.command.env.values(), *start.files.values()])
    assert "http://127.0.0.1:8400" in told
    assert "qwen3-coder" in told
    assert start.command.argv[0] == AGENTS[name].PROGRAM
    assert start.command.argv[-2:] == WORDS


@pytest.mark.parametrize("name", AGENTS)
def test_files_lie_in_the_folder_of_this_run(name: str) -> None:
    start = started(name)
    assert all(path.is_relative_to(FOLDER) for path in start.files)
    assert start.mirror is None or start.mirror.folder.is_relative_to(FOLDER)


def test_claude_code_is_told_in_settings_since_the_users_come_before_the_environment() -> None:
    start = started("claude")
    assert start.command.argv[:3] == ("claude", "--settings", f"{FOLDER}/settings.json")
    env = json.loads(text(start, "settings.json"))["env"]
    assert env["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8400"
    assert (env["ANTHROPIC_AUTH_TOKEN"], env["ANTHROPIC_API_KEY"]) == (HIDDEN, "")
    assert env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "30310"
    assert env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "8192"
    assert {value for name, value in env.items() if name.endswith("_MODEL")} == {"qwen3-coder"}


def test_codex_gets_options_that_its_toml_parser_reads() -> None:
    argv = started("codex").command.argv
    values = tomllib.loads("\n".join(value for option, value in zip(argv[1::2], argv[2::2], strict=False) if option == "-c"))
    assert values["model_provider"] == "launcher"
    assert (values["model"], values["model_context_window"]) == ("qwen3-coder", 30_310)
    provider = values["model_providers"]["launcher"]
    assert (provider["base_url"], provider["wire_api"], provider["env_key"]) == (URL, "responses", KEY)


def test_opencode_is_told_both_limits_and_a_small_model_of_ours() -> None:
    content = json.loads(started("opencode").command.env["OPENCODE_CONFIG_CONTENT"])
    assert content["provider"]["launcher"]["models"]["qwen3-coder"]["limit"] == {"context": 30_310, "output": 8_192}
    assert content["provider"]["launcher"]["options"]["apiKey"] == f"{{env:{KEY}}}"
    assert content["model"] == content["small_model"] == "launcher/qwen3-coder"


def test_aider_has_its_key_in_a_file_since_a_users_dotenv_comes_before_the_environment() -> None:
    start = started("aider")
    (settings,) = json.loads(text(start, "settings.yml"))
    assert settings["name"] == "aider/extra_params"
    assert settings["extra_params"]["api_key"] == HIDDEN
    known = json.loads(text(start, "metadata.json"))["hosted_vllm/qwen3-coder"]
    assert (known["max_input_tokens"], known["max_output_tokens"]) == (22_118, 8_192)


def test_qwen_code_has_its_limits_in_settings_that_come_before_the_users() -> None:
    start = started("qwen")
    content = json.loads(text(start, "settings.json"))
    assert start.command.env["QWEN_CODE_SYSTEM_SETTINGS_PATH"] == f"{FOLDER}/settings.json"
    (model,) = content["modelProviders"]["openai"]
    assert (model["id"], model["envKey"], model["generationConfig"]["contextWindowSize"]) == ("qwen3-coder", KEY, 30_310)


def test_goose_goes_to_the_address_whatever_its_own_settings_say() -> None:
    command = started("goose").command
    assert (command.env["OPENAI_HOST"], command.env["OPENAI_BASE_PATH"]) == ("http://127.0.0.1:8400", "v1/chat/completions")
    assert command.secrets == {"OPENAI_API_KEY": HIDDEN}


def test_openhands_starts_with_an_agent_and_a_condenser_of_the_same_model() -> None:
    agent = json.loads(text(started("openhands"), "agent_settings.json"))
    assert agent["llm"]["model"] == agent["condenser"]["llm"]["model"] == "openai/qwen3-coder"
    assert agent["condenser"]["max_tokens"] == 22_118


@pytest.mark.parametrize(
    ("agent", "env", "shown"),
    [
        pytest.param("llm", {}, f"{HOME}/.config/io.datasette.llm", id="llm's folder is the platform's"),
        pytest.param("llm", {"XDG_CONFIG_HOME": "/xdg"}, "/xdg/io.datasette.llm", id="llm's folder moves with the platform's"),
        pytest.param("llm", {"LLM_USER_PATH": "/mine"}, "/mine", id="llm's folder is named"),
        pytest.param("openhands", {}, f"{HOME}/.openhands", id="OpenHands has its usual folder"),
        pytest.param("openhands", {"OPENHANDS_PERSISTENCE_DIR": "/oh"}, "/oh", id="OpenHands' folder is named"),
    ],
)
def test_an_agent_that_reads_one_folder_sees_the_users_own(agent: str, env: dict[str, str], shown: str) -> None:
    mirror = started(agent, **env).mirror
    assert isinstance(mirror, Mirror)
    assert str(mirror.of) == shown


def test_conversations_of_openhands_stay_the_users() -> None:
    assert started("openhands").command.env["OPENHANDS_CONVERSATIONS_DIR"] == f"{HOME}/.openhands/conversations"
