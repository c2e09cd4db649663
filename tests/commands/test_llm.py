"""`launcher llm ...` in a little world: real files, a model server on this machine, the stub engine."""

import json
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from launcher import configurations, keys
from launcher.asking import Patience
from launcher.commands import down, llm, llm_add, llm_edit, llm_env, llm_rm, llm_show, llm_test, llm_use, unwire, up
from launcher.commands.llm_add import AddRequest
from launcher.commands.llm_edit import EditRequest
from launcher.commands.llm_use import UseRequest
from launcher.commands.up import UpRequest
from launcher.commands.wire_result import WireResult
from launcher.errors import LauncherError
from launcher.results import Result
from launcher.server import ServerSpec
from launcher.wiring.registry import TARGETS
from launcher.world import World
from tests.model_server import ModelServer, serving
from tests.ports_for_tests import own_port
from tests.world import little_world

KEY = "sk-very-secret-0123456789"


@dataclass
class Person:
    """Types these words, one after another, and a key; without words nobody is there."""

    words: list[str] = field(default_factory=list)
    key: str | None = None
    asked: list[str] = field(default_factory=list)

    def say(self, question: str, choices: Sequence[str] = ()) -> str | None:
        self.asked.append(question)
        if self.words and choices:
            assert self.words[0] in choices
        return self.words.pop(0) if self.words else None

    def secret(self, question: str) -> str | None:
        self.asked.append(question)
        return self.key


NOBODY = Person()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = little_world(tmp_path, models=("tiny",), context=32_768)
    yield made
    down.run(made, None)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serving(ModelServer()) as made:
        yield made


def shown(result: Result) -> str:
    """All that anybody sees of a result."""
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as captured:
        console.print(result.text())
    return captured.get() + json.dumps(result.json())


def add(world: World, **more: Any) -> None:
    request = {"name": "cloud", "provider": "openai", "model": "gpt-5.6", "key": KEY, **more}
    llm_add.run(world, AddRequest(**request), NOBODY)


# -- adding --


def test_what_was_typed_is_kept_and_the_key_in_a_file_of_its_own(world: World) -> None:
    result = llm_add.run(world, AddRequest("cloud", "openai", "gpt-5.6", ("temperature=0.2",), key=KEY), NOBODY)
    path = configurations.path(world.home, "cloud")
    assert tomllib.loads(path.read_text()) == {"provider": "openai", "temperature": 0.2, "model": "openai/gpt-5.6"}
    secret = configurations.secret_path(world.home, "cloud", "api_key")
    assert secret.read_text().strip() == KEY
    assert {stat.S_IMODE(each.stat().st_mode) for each in (path, secret)} == {0o600}
    assert KEY not in shown(result) + repr(result)
    assert "spending limit at OpenAI" in shown(result)
    assert "verified" in shown(result)


def test_a_person_is_asked_for_what_is_missing_and_for_nothing_else(world: World) -> None:
    person = Person(["azure", "mine", "https://x.openai.azure.com", "2024-12-01-preview"], KEY)
    answers = replace(person)  # the first two questions have choices
    llm_add.run(world, AddRequest("az", provider="azure", model="mine"), replace(answers, words=person.words[2:]))
    kept = configurations.load(world.home, "az")
    assert kept is not None
    assert dict(kept.settings.fields) == {
        "model": "azure/mine",
        "base_url": "https://x.openai.azure.com",
        "api_version": "2024-12-01-preview",
    }
    assert kept.secrets == {"api_key": KEY}


def test_models_are_offered_with_the_provider(world: World) -> None:
    person = Person(["anthropic", "claude-opus-5-5"], KEY)
    assert llm_add.run(world, AddRequest("mine"), person).model == "anthropic/claude-opus-5-5"
    assert person.asked == ["Provider", "Model (the model's name)", "API key of Anthropic"]


USUAL = {
    "azure": (
        {"AZURE_API_KEY": KEY, "AZURE_API_BASE": "https://x.openai.azure.com", "AZURE_API_VERSION": "2024-12-01-preview"},
        {"base_url": "https://x.openai.azure.com", "api_version": "2024-12-01-preview"},
    ),
    "gemini": ({"GEMINI_API_KEY": KEY}, {}),
    "groq": ({"GROQ_API_KEY": KEY}, {}),
    "openai": ({"OPENAI_API_KEY": KEY}, {}),
    "openrouter": ({"OPENROUTER_API_KEY": KEY, "OR_APP_NAME": "mine"}, {"openrouter_app_name": "mine"}),
    "anthropic": ({"ANTHROPIC_API_KEY": KEY}, {}),
    "litellm": ({"LITELLM_PROXY_API_KEY": KEY, "LITELLM_PROXY_API_BASE": "http://p:4000"}, {"base_url": "http://p:4000"}),
}


@pytest.mark.parametrize("provider", USUAL)
def test_the_usual_variables_are_enough(world: World, provider: str) -> None:
    env, fields = USUAL[provider]
    llm_add.run(replace(world, env=env), AddRequest("mine", provider, "m"), NOBODY)
    kept = configurations.load(world.home, "mine")
    assert kept is not None
    assert {key: value for key, value in kept.settings.fields.items() if key != "model"} == fields
    assert kept.secrets == {"api_key": KEY}


def test_another_address_never_gets_the_key_of_openai(world: World) -> None:
    env = {"OPENAI_API_KEY": KEY}
    with pytest.raises(LauncherError, match="needs a key"):
        llm_add.run(replace(world, env=env), AddRequest("x", "compatible", "m", ("base_url=http://h:1/v1",)), NOBODY)


def test_openhands_own_variables_become_a_configuration(world: World) -> None:
    env = {"LLM_MODEL": "groq/m", "LLM_API_KEY": KEY, "LLM_NUM_RETRIES": "8", "LLM_EMBEDDING_MODEL": "e", "LLM_X": "1"}
    result = llm_add.run(replace(world, env=env), AddRequest("mine", from_env=True), NOBODY)
    kept = configurations.load(world.home, "mine")
    assert kept is not None
    assert (kept.settings.provider, dict(kept.settings.fields)) == (
        "groq",
        {"embedding_model": "e", "model": "groq/m", "num_retries": 8},
    )
    assert any("LLM_X" in note for note in result.notes)


FAULTS: Mapping[str, tuple[Mapping[str, Any], str, str]] = {
    "no such provider": ({"provider": "opnai"}, "unknown provider 'opnai'", "closest: openai"),
    "no provider": ({"provider": None, "model": None}, "which provider?", "azure, gemini"),
    "no model": ({"model": None}, "which model?", "such as gpt-6.1-sol"),
    "no key": ({"key": None}, "OpenAI needs a key", "OPENAI_API_KEY"),
    "no endpoint": ({"provider": "azure"}, "Azure OpenAI needs base_url", "AZURE_API_BASE"),
    "an address without /v1": (
        {"provider": "compatible", "words": ("base_url=http://127.0.0.1:1",)},
        "answer under /v1",
        "up to and with /v1",
    ),
    "a proxy with /v1": ({"provider": "litellm", "words": ("base_url=http://h:1/v1",)}, "ends in /v1", "without /v1"),
    "a key as a field": ({"words": (f"api_key={KEY}",)}, "api_key is a secret", "the fields are"),
    "a name that leads elsewhere": ({"name": "../x"}, "is no name", ""),
    "a wrong field": ({"words": ("temprature=1",)}, "closest: temperature", ""),
}


@pytest.mark.parametrize(("changed", "message", "hint"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_is_told_and_nothing_is_kept(world: World, changed: Mapping[str, Any], message: str, hint: str) -> None:
    with pytest.raises(LauncherError) as caught:
        add(world, **changed)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert KEY not in caught.value.message + caught.value.hint
    assert configurations.names(world.home) == ()


def test_a_key_file_is_its_users_alone(world: World, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o644)
    with pytest.raises(LauncherError, match="may be read by others"):
        add(world, key=None, key_file=file)
    file.chmod(0o600)
    add(world, key=None, key_file=file)
    kept = configurations.load(world.home, "cloud")
    assert kept is not None
    assert kept.secrets == {"api_key": KEY}


# -- looking, changing, forgetting --


def test_nothing_that_is_shown_holds_the_key(world: World) -> None:
    add(world)
    for result in (llm.run(world, TARGETS), llm_show.run(world, "cloud"), llm_env.run(world, "cloud", form="shell")):
        assert KEY not in shown(result) + repr(result)
        assert "gpt-5.6" in shown(result)
    assert KEY in shown(llm_env.run(world, "cloud", form="shell", show_key=True))


def test_fields_are_set_and_taken_out(world: World) -> None:
    add(world)
    edited = llm_edit.run(world, EditRequest("cloud", ("timeout=60", "temperature=0.2")), TARGETS)
    assert edited.changed == ("timeout", "temperature")
    assert llm_edit.run(world, EditRequest("cloud", ("timeout=",)), TARGETS).changed == ("timeout",)
    assert llm_edit.run(world, EditRequest("cloud", ("temperature=0.2",)), TARGETS).changed == ()
    assert llm_edit.run(world, EditRequest("cloud", key="sk-new"), TARGETS).changed == ("api_key",)
    kept = configurations.load(world.home, "cloud")
    assert kept is not None
    assert (dict(kept.settings.fields), kept.secrets) == (
        {"model": "openai/gpt-5.6", "temperature": 0.2},
        {"api_key": "sk-new"},
    )


def test_an_editor_gets_the_text_without_the_key_and_a_fault_changes_nothing(world: World) -> None:
    add(world)
    seen = []

    def editor(text: str) -> str:
        seen.append(text)
        return text + "timeout = 60\n" if len(seen) == 1 else text + "tmeout = 60\n"

    assert llm_edit.run(world, EditRequest("cloud", editor=editor), TARGETS).changed == ("timeout",)
    with pytest.raises(LauncherError, match="unknown field 'tmeout'"):
        llm_edit.run(world, EditRequest("cloud", editor=editor), TARGETS)
    assert KEY not in "".join(seen)
    assert "tmeout" not in configurations.path(world.home, "cloud").read_text()


def test_what_is_forgotten_leaves_no_file(world: World) -> None:
    add(world)
    llm_env.run(world, "cloud", form="docker")
    configurations.env_path(world.home, "cloud", "open-webui").write_text("from when it was a local model's name")
    llm_rm.run(world, "cloud", TARGETS)
    assert list(world.home.llm.iterdir()) == []
    with pytest.raises(LauncherError, match="no LLM configuration called 'cloud'; there are: none"):
        llm_show.run(world, "cloud")


def test_what_an_agent_has_is_not_forgotten(world: World) -> None:
    add(world)
    llm_use.run(world, UseRequest("cloud"), TARGETS)
    with pytest.raises(LauncherError, match="openhands still has cloud"):
        llm_rm.run(world, "cloud", TARGETS)
    unwire.run(world, TARGETS)
    llm_rm.run(world, "cloud", TARGETS)


def test_variables_are_written_for_a_container_with_the_hosts_name(world: World) -> None:
    add(world, provider="compatible", model="m", words=("base_url=http://127.0.0.1:8400/v1",))
    result = llm_env.run(world, "cloud", form="docker")
    assert result.path is not None
    assert stat.S_IMODE(result.path.stat().st_mode) == 0o600
    assert "LLM_BASE_URL=http://host.docker.internal:8400/v1\n" in result.path.read_text()
    assert f"LLM_API_KEY={KEY}\n" in result.path.read_text()
    assert KEY not in shown(result)
    assert result.lines == (f"--add-host host.docker.internal:host-gateway --env-file {result.path}",)


def test_a_local_model_is_told_to_other_programs_in_their_own_variables(world: World) -> None:
    up.run(world, UpRequest(ServerSpec("tiny"), port=own_port()))
    key = keys.read(world.home.key)
    assert key
    result = llm_env.run(world, "tiny", form="shell", client="anthropic")
    assert f'export ANTHROPIC_AUTH_TOKEN="$(cat {world.home.key})"' in result.lines
    assert key not in shown(result) + repr(result)
    inside = llm_env.run(world, "tiny", form="docker", client="open-webui").path
    assert inside is not None
    assert "OPENAI_API_BASE_URLS=http://host.docker.internal:" in inside.read_text()
    assert f"OPENAI_API_KEYS={key}\n" in inside.read_text()


def test_a_providers_key_lands_in_no_other_providers_variable(world: World) -> None:
    add(world, provider="anthropic", model="claude-opus-5-5")
    with pytest.raises(LauncherError, match="cloud is no local model"):
        llm_env.run(world, "cloud", form="shell", client="openai")


# -- using --


def written(result: WireResult) -> dict[str, str]:
    return {edit.target: edit.path.name for edit in result.edits}


GENERATIONS = {
    "none named: those that are found": (None, {"openhands-profile", "openhands-toml"}),
    "v0": ("v0", {"openhands-toml"}),
    "v1": ("v1", {"openhands-settings"}),
    "cli": ("cli", {"openhands-cli"}),
    "profile": ("profile", {"openhands-profile"}),
    "all": ("all", {"openhands-profile", "openhands-toml", "openhands-settings", "openhands-cli"}),
}


@pytest.mark.parametrize(("generation", "targets"), GENERATIONS.values(), ids=GENERATIONS)
def test_one_command_tells_the_generations_that_were_chosen(world: World, generation: str | None, targets: set[str]) -> None:
    add(world)
    result = llm_use.run(world, UseRequest("cloud", generation=generation), TARGETS)
    assert written(result).keys() == targets
    assert result.exit_code == 0
    for edit in result.edits:
        assert KEY in edit.path.read_text()
        assert stat.S_IMODE(edit.path.stat().st_mode) == 0o600
    assert KEY not in shown(result) + repr(result)
    assert {each.how for each in unwire.run(world, TARGETS).undone} == {"removed"}
    assert not (world.user_home / ".openhands").exists()


def test_a_dry_run_shows_masked_edits_and_writes_nothing(world: World) -> None:
    add(world)
    result = llm_use.dry_run(world, UseRequest("cloud", generation="all"), TARGETS)
    assert KEY not in shown(result) + repr(result)
    assert "****" in shown(result)
    assert not (world.user_home / ".openhands").exists()
    assert unwire.run(world, TARGETS).undone == ()


def test_without_a_key_nothing_is_written_since_openhands_would_retry_for_minutes(world: World) -> None:
    add(world)
    configurations.secret_path(world.home, "cloud", "api_key").unlink()
    with pytest.raises(LauncherError, match="cloud has no key"):
        llm_use.run(world, UseRequest("cloud"), TARGETS)


def test_an_agent_and_a_generation_that_are_not_there_are_told(world: World) -> None:
    add(world)
    for request, known in (
        (UseRequest("cloud", agent="cursor"), "openhands"),
        (UseRequest("cloud", generation="v9"), "v0, v1"),
    ):
        with pytest.raises(LauncherError) as caught:
            llm_use.run(world, request, TARGETS)
        assert known in caught.value.hint


def test_an_agent_goes_to_the_cloud_and_back_in_one_command_each(world: World) -> None:
    port = own_port()
    config = world.home.openhands_config
    up.run(world, UpRequest(ServerSpec("tiny"), targets=TARGETS, port=port))
    local = config.read_text()
    add(world)
    llm_use.run(world, UseRequest("cloud"), TARGETS)
    assert tomllib.loads(config.read_text())["llm"]["model"] == "openai/gpt-5.6"
    back = llm_use.run(world, UseRequest("tiny"), TARGETS)
    assert config.read_text() == local
    assert back.proof is not None
    row = next(row for row in llm.run(world, TARGETS).rows if row.told.llm.name == "tiny")
    assert (row.state, "openhands-toml" in row.agents) == ("ready", True)
    down.run(world, None)
    still = llm_use.run(world, UseRequest("tiny"), TARGETS)
    assert (still.proof, "proof is still to come" in still.why) == (None, True)
    assert tomllib.loads(config.read_text())["llm"]["api_key"] == keys.read(world.home.key)


def test_what_a_person_set_of_a_local_model_outlives_its_next_start(world: World) -> None:
    port = own_port()
    request = UpRequest(ServerSpec("tiny"), targets=TARGETS, port=port)
    up.run(world, request)
    llm_edit.run(world, EditRequest("tiny", ("temperature=0.2", "native_tool_calling=true")), TARGETS)
    down.run(world, None)
    up.run(world, request)
    section = tomllib.loads(world.home.openhands_config.read_text())["llm"]
    assert (section["temperature"], section["native_tool_calling"]) == (0.2, True)
    llm_rm.run(world, "tiny", TARGETS)
    assert llm_show.run(world, "tiny").told.llm.temperature is None


# -- testing --


def compatible(world: World, server: ModelServer, *words: str) -> None:
    add(world, provider="compatible", model="m", words=(f"base_url={server.address}/v1", *words))


def states(result: llm_test.LLMTestResult) -> dict[str, str]:
    return {check.name: check.state for check in result.checks}


def test_all_that_a_configuration_claims_is_asked(world: World, server: ModelServer) -> None:
    compatible(world, server, "max_input_tokens=24576", "max_output_tokens=8192", "disable_vision=false")
    result = llm_test.run(world, "cloud")
    assert states(result) == {
        "completion": "pass",
        "streaming": "pass",
        "tool call": "pass",
        "vision": "warn",  # it says Paris, whatever it is shown
        "window": "pass",
    }
    assert result.exit_code == 0
    assert KEY not in shown(result) + repr(result)


def test_a_window_that_is_longer_than_the_servers_is_a_fault(world: World, server: ModelServer) -> None:
    compatible(world, server, "max_input_tokens=30000", "max_output_tokens=8192")
    result = llm_test.run(world, "cloud")
    assert (states(result)["window"], states(result)["vision"], result.exit_code) == ("fail", "skip", 1)
    assert "38,192 tokens are claimed, the server says 32,768" in shown(result)


def test_a_first_answer_that_does_not_come_ends_the_test(world: World, server: ModelServer) -> None:
    compatible(world, server)
    server.statuses = [503] * 9
    slept: list[float] = []
    result = llm_test.run(world, "cloud", patience=Patience(sleep=slept.append))
    assert (states(result), slept, len(server.asked)) == ({"completion": "fail"}, [5, 5, 8], 4)
    assert "after 4 attempts" in shown(result)


def test_what_needs_a_clouds_credentials_says_which(world: World) -> None:
    llm_add.run(world, AddRequest("v", "vertex", "gemini-2.5-pro"), NOBODY)
    with pytest.raises(LauncherError, match="VERTEXAI_PROJECT"):
        llm_test.run(world, "v")


def test_a_local_model_that_does_not_run_is_not_asked(world: World) -> None:
    port = own_port()
    up.run(world, UpRequest(ServerSpec("tiny"), port=port))
    assert states(llm_test.run(world, "tiny"))["completion"] == "pass"
    down.run(world, None)
    with pytest.raises(LauncherError, match="tiny is not running"):
        llm_test.run(world, "tiny")
