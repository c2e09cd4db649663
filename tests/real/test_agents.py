"""Real agents, run and wired, through the real gateway, on the stub: most send more than a small model takes.

Each has files of its user's that say otherwise, and these are the same afterwards.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from launcher import keys
from launcher.running.registry import AGENTS
from tests.homestead import MODEL, Homestead, awaited, homestead
from tests.ports_for_tests import own_port
from tests.stub_http import ANSWER

pytestmark = pytest.mark.real

NOWHERE = "http://127.0.0.1:9"
# Of 65,536: a quarter is more than 8,192 of output, nine tenths of the rest are input (LLMConfig.of), and both together.
CONTEXT, WINDOW = 65_536, 59_801


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homestead]:
    """A home in which the model is served."""
    with homestead(tmp_path_factory.mktemp("agents-of-a-user")) as made:
        keys.ensure(made.home.key)
        made.want(own_port(), context=CONTEXT)
        made.attend()
        made.ready()
        yield made


@dataclass(frozen=True)
class Case:
    """An agent: the fixture with its program, what is typed after the dashes, and what its user's files say."""

    programs: str
    words: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)


_PROVIDER = {"npm": "@ai-sdk/openai-compatible", "options": {"baseURL": f"{NOWHERE}/v1"}, "models": {"other": {}}}
_OPENCODE = {"model": "theirs/other", "provider": {"theirs": _PROVIDER}}
_KILO = {"$schema": "https://app.kilo.ai/config.json", "permission": {"bash": "allow"}, **_OPENCODE}
_QWEN = {
    "$version": 4,
    "modelProviders": {"openai": [{"id": "other", "baseUrl": f"{NOWHERE}/v1", "envKey": "THEIRS"}]},
    "security": {"auth": {"selectedType": "openai"}},
    "model": {"name": "other"},
}
CASES = {
    "claude": Case(
        "agents",
        ("-p", "say pong", "--output-format", "json"),
        {
            ".claude/settings.json": json.dumps(
                {"env": {"ANTHROPIC_BASE_URL": NOWHERE, "ANTHROPIC_AUTH_TOKEN": "theirs", "CLAUDE_CODE_USE_BEDROCK": "1"}}
            )
        },
    ),
    "codex": Case(
        "agents",
        ("exec", "--skip-git-repo-check", "--json", "say pong"),
        {
            ".codex/config.toml": 'model = "other"\nmodel_provider = "theirs"  # mine\n[model_providers.theirs]\n'
            f'name = "theirs"\nbase_url = "{NOWHERE}/v1"\nwire_api = "responses"\n'
        },
    ),
    "opencode": Case(
        "agents",
        ("run", "--format", "json", "say pong"),
        # It adds the schema itself to a file that names none.
        {".config/opencode/opencode.json": json.dumps({"$schema": "https://opencode.ai/config.json", **_OPENCODE})},
    ),
    "kilo": Case(
        "agents",
        ("run", "say pong"),
        # It adds schema and permission itself to a file that names none.
        {".config/kilo/kilo.jsonc": json.dumps(_KILO).replace(", ", ", // mine\n", 1)},
    ),
    "qwen": Case("agents", ("-p", "say pong", "-o", "json"), {".qwen/settings.json": json.dumps(_QWEN)}),
    "aider": Case(
        "aider",
        (
            *("--message", "say pong", "--no-git", "--yes-always", "--no-stream", "--no-pretty", "--no-check-update"),
            "--analytics-disable",
        ),
        {".env": f"HOSTED_VLLM_API_BASE={NOWHERE}\n", ".aider.conf.yml": "model: openai/other  # mine\n"},
    ),
    "llm": Case("clients", ("say pong", "--no-stream"), {".config/io.datasette.llm/default_model.txt": "other"}),
    "openhands": Case(
        "openhands_cli",
        ("--headless", "--json", "-t", "say pong"),
        {".openhands/agent_settings.json": '{"kind": "Agent", "llm": {"model": "other"}}'},
    ),
}

# Codex has a profile of ours, and its own default stays its user's.
PROFILE = {"codex": ("--profile", "launcher")}
LAUNCHER = (sys.executable, "-m", "launcher")


def ran(served: Homestead, programs: Path, *argv: str) -> str:
    """What a command prints, with the agent in PATH; it must end well."""
    path = os.pathsep.join((str(programs), served.env["PATH"]))
    env = served.env | {"PATH": path, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "OPENHANDS_SUPPRESS_BANNER": "1"}
    home, nothing = served.env["HOME"], subprocess.DEVNULL
    done = subprocess.run(argv, cwd=home, env=env, stdin=nothing, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def asked(served: Homestead) -> list[tuple[str, str, str]]:
    """Key, model and status of each request for an answer that the gateway has put on its log."""
    log = served.home.access_log
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [(key, model, status) for _, _, key, method, _, model, status, *_ in lines if method == "POST"]


def set_up(served: Homestead, name: str, request: pytest.FixtureRequest) -> tuple[Case, Path]:
    """The case, its user's files written, and the folder of its program."""
    case, home = CASES[name], Path(served.env["HOME"])
    fixture: Path = request.getfixturevalue(case.programs)
    for path, text in case.files.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
    return case, fixture if fixture.is_dir() else fixture.parent


def files(served: Homestead, case: Case) -> Mapping[str, str]:
    return {path: (Path(served.env["HOME"]) / path).read_text() for path in case.files}


@pytest.mark.parametrize("name", sorted(set(CASES) & set(AGENTS)))
def test_an_agent_that_is_run_answers_from_the_local_model_whatever_its_users_files_say(
    served: Homestead, name: str, request: pytest.FixtureRequest
) -> None:
    case, programs = set_up(served, name, request)
    before = len(asked(served))
    assert ANSWER in ran(served, programs, *LAUNCHER, "run", name, "--", *case.words)
    assert files(served, case) == case.files
    awaited(lambda: len(asked(served)) > before)
    assert set(asked(served)[before:]) == {("default", MODEL, "200")}
    assert list(served.home.running.iterdir()) == []


# OpenHands reads what was written for it in test_openhands.py.
@pytest.mark.parametrize("name", sorted(set(CASES) - {"openhands"}))
def test_an_agent_that_is_wired_starts_with_the_local_model_and_has_its_files_back(
    served: Homestead, name: str, request: pytest.FixtureRequest
) -> None:
    case, programs = set_up(served, name, request)
    ran(served, programs, *LAUNCHER, "wire", name, "--default", "--no-proof")
    before = len(asked(served))
    assert ANSWER in ran(served, programs, name, *PROFILE.get(name, ()), *case.words)
    awaited(lambda: len(asked(served)) > before)
    assert set(asked(served)[before:]) == {("default", MODEL, "200")}
    ran(served, programs, *LAUNCHER, "unwire", name)
    assert files(served, case) == case.files


def test_claude_code_knows_the_window(served: Homestead, agents: Path) -> None:
    told = json.loads(ran(served, agents, *LAUNCHER, "run", "claude", "--", *CASES["claude"].words))
    assert told["modelUsage"][MODEL]["contextWindow"] == WINDOW


def test_copilot_answers_from_the_lines_of_a_shell(served: Homestead, agents: Path) -> None:
    lines = ran(served, agents, *LAUNCHER, "llm", "env", MODEL, "--for", "copilot")
    before = len(asked(served))
    assert ANSWER in ran(served, agents, "sh", "-c", f'{lines}\nexec copilot -p "say pong" --allow-all-tools -s')
    awaited(lambda: len(asked(served)) > before)
    assert set(asked(served)[before:]) == {("default", MODEL, "200")}
