"""Clients that send little, on real vLLM through the gateway: from what `launcher run` gives and `launcher llm env` prints."""

import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.ports_for_tests import own_port
from tests.real.conftest import Machine

pytestmark = pytest.mark.real

QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def up(machine: Machine) -> Iterator[None]:
    machine.run("up", "smollm2-135m", "--no-wire", "--no-proof")
    yield
    machine.run("down")


@pytest.mark.usefixtures("up")
def test_llm_asks_the_model_and_logs_it_where_it_always_does(machine: Machine, clients: Path) -> None:
    own = machine.user_home / ".config" / "io.datasette.llm"
    own.mkdir(parents=True)
    here = replace(machine, programs=clients.parent)
    assert "Paris" in here.run("run", "llm", "--", QUESTION, "-o", "temperature", "0", "-o", "max_tokens", "24")
    assert [path.name for path in own.iterdir()] == ["logs.db"]


@pytest.mark.usefixtures("up")
def test_aider_answers_a_message(machine: Machine, aider: Path) -> None:
    here = replace(machine, programs=aider.parent)
    words = ("--no-git", "--yes-always", "--no-stream", "--no-pretty", "--no-check-update", "--analytics-disable")
    out = here.run("run", "aider", "--", "--chat-mode", "ask", "--message", QUESTION, *words)
    assert "Model: hosted_vllm/smollm2-135m" in out
    assert "Tokens:" in out
    assert "received" in out


_OPENAI = """
import os, sys, openai
asked = [{"role": "user", "content": sys.argv[1]}]
client = openai.OpenAI()
answer = client.chat.completions.create(model=os.environ["OPENAI_MODEL"], messages=asked, temperature=0, max_tokens=24)
print(answer.choices[0].message.content)
"""
_LANGCHAIN = """
import os, sys
from langchain_openai import ChatOpenAI
model = ChatOpenAI(model=os.environ["OPENAI_MODEL"], temperature=0, max_tokens=24)
print("".join(part.text for part in model.stream(sys.argv[1])))
"""
_LITELLM = """
import sys, litellm
asked = [{"role": "user", "content": sys.argv[1]}]
answer = litellm.completion("hosted_vllm/smollm2-135m", messages=asked, temperature=0, max_tokens=24)
print(answer.choices[0].message.content)
"""


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize(
    ("whose", "fixture", "code"),
    [
        pytest.param("openai", "clients", _OPENAI, id="OpenAI's SDK"),
        pytest.param("openai", "clients", _LANGCHAIN, id="LangChain's, streaming"),
        pytest.param("litellm", "litellm_proxy", _LITELLM, id="LiteLLM's SDK"),
    ],
)
def test_an_sdk_answers_from_the_lines_of_a_shell(
    machine: Machine, whose: str, fixture: str, code: str, request: pytest.FixtureRequest
) -> None:
    python: Path = request.getfixturevalue(fixture)
    lines = machine.run("llm", "env", "smollm2-135m", "--for", whose)
    words = ["/bin/sh", "-c", f'eval "$1"; exec {python} -W ignore -c "$2" "$3"', "sh", lines, code, QUESTION]
    done = subprocess.run(words, env=quiet(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout


@pytest.mark.usefixtures("up")
def test_litellms_proxy_passes_the_model_on(machine: Machine, litellm_proxy: Path) -> None:
    env = machine.json("llm", "env", "smollm2-135m", "--for", "litellm", "--show-key")["variables"]
    config = machine.here / "litellm.yaml"
    # YAML takes JSON.
    config.write_text(
        '{"model_list": [{"model_name": "local", "litellm_params": {"model": "hosted_vllm/smollm2-135m",'
        '"api_base": "os.environ/HOSTED_VLLM_API_BASE", "api_key": "os.environ/HOSTED_VLLM_API_KEY"}}]}'
    )
    with proxy(litellm_proxy.parent / "litellm", config, env) as (address, key):
        client = openai.OpenAI(base_url=address, api_key=key, max_retries=0)
        asked: Any = [{"role": "user", "content": QUESTION}]
        answer = client.chat.completions.create(model="local", messages=asked, temperature=0, max_tokens=24)
    assert "Paris" in (answer.choices[0].message.content or "")


def quiet() -> dict[str, str]:
    """Without LiteLLM's question for a newer list of models."""
    return {"PATH": os.environ["PATH"], "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


@contextmanager
def proxy(program: Path, config: Path, env: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The address of a proxy and the key that it takes, until the block ends."""
    port, key = own_port(), f"sk-{secrets.token_urlsafe(32)}"
    words = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
    with (
        (config.parent / "proxy.log").open("w") as log,
        subprocess.Popen(words, env=quiet() | env | {"LITELLM_MASTER_KEY": key}, stdout=log, stderr=log) as process,
    ):
        try:
            deadline = time.monotonic() + 60
            while not _listens(port):
                assert process.poll() is None, (config.parent / "proxy.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/v1", key
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/liveliness").status_code == 200
    except httpx.TransportError:
        return False
