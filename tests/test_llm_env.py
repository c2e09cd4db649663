import shlex
import subprocess
from pathlib import Path

import pytest

from launcher import llm_env
from launcher.endpoint import Endpoint
from launcher.llm import LLMConfig, docker_url

LOCAL = LLMConfig.of(Endpoint("qwen", "http://127.0.0.1:8400/v1", "sk-k'ey", 32_768), native_tool_calling=True)


def test_every_name_that_openhands_documents_is_read() -> None:
    env = {
        "LLM_MODEL": "azure/mine",
        "LLM_API_KEY": "sk-x",
        "LLM_BASE_URL": "https://x.openai.azure.com",
        "LLM_API_VERSION": "2024-12-01-preview",
        "LLM_EMBEDDING_MODEL": "e",
        "LLM_EMBEDDING_DEPLOYMENT_NAME": "d",
        "LLM_DROP_PARAMS": "true",
        "LLM_DISABLE_VISION": "1",
        "LLM_CACHING_PROMPT": "no",
        "LLM_NUM_RETRIES": "4",
        "LLM_RETRY_MIN_WAIT": "5",
        "LLM_RETRY_MAX_WAIT": "30",
        "LLM_RETRY_MULTIPLIER": "2",
        "PATH": "/bin",
    }
    found = llm_env.read(env)
    assert found.fields == {
        "model": "azure/mine",
        "base_url": "https://x.openai.azure.com",
        "api_version": "2024-12-01-preview",
        "embedding_model": "e",
        "embedding_deployment_name": "d",
        "drop_params": True,
        "disable_vision": True,
        "caching_prompt": False,
        "num_retries": 4,
        "retry_min_wait": 5,
        "retry_max_wait": 30,
        "retry_multiplier": 2.0,
    }
    assert (found.secrets, found.ignored) == ({"api_key": "sk-x"}, ())


@pytest.mark.parametrize(
    ("variable", "text", "reason"),
    [
        pytest.param("LLM_NUM_RETRIES", "many", "no whole number", id="a number that is none"),
        pytest.param("LLM_MODEL", "", "it is empty", id="nothing"),
        pytest.param("LLM_SOMETHING", "1", "no such setting", id="a name that OpenHands does not know"),
        pytest.param("LLM_LITELLM_EXTRA_BODY", "{}", "cannot read a table", id="a table, on which openhands-sdk fails"),
    ],
)
def test_what_openhands_ignores_is_ignored_and_told(variable: str, text: str, reason: str) -> None:
    found = llm_env.read({variable: text})
    assert (found.fields, found.secrets) == ({}, {})
    assert [each for each in found.ignored if variable in each and reason in each]


def test_what_is_written_is_read_back_the_same() -> None:
    variables = llm_env.variables(LOCAL)
    found = llm_env.read(variables)
    assert {**found.fields, **found.secrets} == {
        "model": "openai/qwen",
        "base_url": "http://127.0.0.1:8400/v1",
        "api_key": "sk-k'ey",
        "num_retries": 4,
        "retry_min_wait": 5,
        "retry_max_wait": 30,
        "retry_multiplier": 2.0,
        "timeout": 1800,
        "max_input_tokens": 22_118,
        "max_output_tokens": 8_192,
        "input_cost_per_token": 0.0,
        "output_cost_per_token": 0.0,
        "drop_params": True,
        "disable_vision": True,
        "caching_prompt": False,
        "native_tool_calling": True,
        "reasoning_effort": "none",
    }
    assert found.ignored == ()


@pytest.mark.parametrize("show_key", [True, False])
def test_a_shell_gets_the_key_and_the_terminal_only_if_it_shall(tmp_path: Path, show_key: bool) -> None:  # noqa: FBT001 - a table
    key = tmp_path / "the key"
    key.write_text("sk-k'ey\n")
    lines = "\n".join(llm_env.shell(llm_env.variables(LOCAL), {"LLM_API_KEY": str(key)}, show_key=show_key))
    assert ("sk-k" in lines) is show_key
    script = f'{lines}\nprintf "%s|%s" "$LLM_API_KEY" "$LLM_MODEL"'
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"})
    assert done.stdout == "sk-k'ey|openai/qwen"


def test_an_env_file_quotes_nothing_since_docker_would_take_the_quotes_too() -> None:
    assert "LLM_API_KEY=sk-k'ey\n" in llm_env.env_file(llm_env.variables(LOCAL))


def test_a_container_is_told_how_to_reach_this_machine() -> None:
    words = llm_env.docker_words("/home/a b/x.env")
    assert shlex.join(words) == "--add-host host.docker.internal:host-gateway --env-file '/home/a b/x.env'"


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        pytest.param("http://127.0.0.1:8400/v1", "http://host.docker.internal:8400/v1", id="loopback is the container's own"),
        pytest.param("http://localhost:8400/v1", "http://host.docker.internal:8400/v1", id="so is its name"),
        pytest.param("http://[::1]:8400/v1", "http://host.docker.internal:8400/v1", id="and IPv6's"),
        pytest.param("https://api.openai.com/v1", "https://api.openai.com/v1", id="the world is the same"),
        pytest.param("http://127.0.0.1.example.com/v1", "http://127.0.0.1.example.com/v1", id="a name that begins alike"),
        pytest.param("", "", id="a provider's own address"),
    ],
)
def test_addresses_as_a_container_reaches_them(address: str, inside: str) -> None:
    assert docker_url(address) == inside
