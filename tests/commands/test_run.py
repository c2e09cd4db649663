"""`launcher run` in a little world: the stub engine, and shell scripts for agents."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import keys, store
from launcher.commands import down, run
from launcher.commands.run import RunRequest
from launcher.errors import LauncherError
from launcher.running.registry import AGENTS
from launcher.words import parse
from launcher.world import World
from tests.ports_for_tests import own_port
from tests.world import Told, little_world


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The only folder of programs, beside the system's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


@pytest.fixture
def world(tmp_path: Path, programs: Path) -> Iterator[World]:
    made = little_world(tmp_path, context=32_768)
    made = replace(made, env={"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(tmp_path)}, progress=Told())
    store.keep_port(made.home, own_port())
    yield made
    down.run(made, None)


def install(programs: Path, name: str, script: str) -> None:
    (programs / name).write_text(f"#!/bin/sh\n{script}\n")
    (programs / name).chmod(0o755)


def said(world: World) -> list[str]:
    assert isinstance(world.progress, Told)
    return world.progress.said


@pytest.mark.parametrize(
    ("typed", "agent", "model", "words"),
    [
        pytest.param(["run", "llm"], "llm", None, (), id="nothing for the agent"),
        pytest.param(["run", "llm", "--model", "m", "--", "hi"], "llm", "m", ("hi",), id="our options before"),
        pytest.param(
            ["run", "codex", "--", "--json", "--help"], "codex", None, ("--json", "--help"), id="options that are ours too"
        ),
        pytest.param(["run", "codex", "--", "a", "--", "b"], "codex", None, ("a", "--", "b"), id="a second pair of dashes"),
    ],
)
def test_what_stands_behind_the_dashes_is_the_agents(
    typed: list[str], agent: str, model: str | None, words: tuple[str]
) -> None:
    got = parse(typed)
    assert (got.agent, got.model, got.words, got.json) == (agent, model, words, False)


def test_an_unknown_agent_is_told_the_list(world: World) -> None:
    with pytest.raises(LauncherError, match="unknown agent 'cursor'") as fault:
        run.ready(world, RunRequest("cursor"), AGENTS)
    assert fault.value.hint == "known: aider, claude, codex, goose, llm, opencode, openhands, qwen"


@pytest.mark.parametrize("name", AGENTS)
def test_a_program_that_is_missing_is_told_with_the_line_that_installs_it(world: World, name: str) -> None:
    with pytest.raises(LauncherError, match="is not on this machine") as fault:
        run.ready(world, RunRequest(name), AGENTS)
    assert fault.value.hint == f"install it: {AGENTS[name].INSTALL}"
    assert store.wanted(world.home) == ()


def test_the_model_is_started_if_need_be_and_the_agents_code_is_ours(world: World, programs: Path, tmp_path: Path) -> None:
    install(programs, "codex", f'printf "%s\\n" "$MODEL_LAUNCHER_KEY" "$@" > {tmp_path}/told; exit 7')
    ready = run.ready(world, RunRequest("codex", ("exec", "say hi")), AGENTS)
    assert run.run(world, ready) == 7
    key, *argv = (tmp_path / "told").read_text().splitlines()
    assert key == keys.read(world.home.key)
    assert argv[-2:] == ["exec", "say hi"]
    assert 'model="tiny"' in argv
    assert not any(key in word for word in argv)


def test_a_model_that_runs_serves_the_next_agent_at_once(world: World, programs: Path) -> None:
    install(programs, "llm", 'test "$LLM_MODEL" = tiny')
    install(programs, "claude", 'test "$(stat -c %a "$2")" = 600 && grep -q ANTHROPIC_BASE_URL "$2"')
    assert run.run(world, run.ready(world, RunRequest("llm"), AGENTS)) == 0
    (first,) = store.wanted(world.home)
    assert run.run(world, run.ready(world, RunRequest("claude", model="tiny"), AGENTS)) == 0
    assert store.wanted(world.home) == (first,)
    assert list(world.home.running.iterdir()) == []


def test_what_keeps_an_agent_from_working_well_is_said(tmp_path: Path, programs: Path) -> None:
    made = little_world(tmp_path, context=8_192)
    made = replace(made, env={"PATH": f"{programs}:{os.defpath}"}, progress=Told())
    store.keep_port(made.home, own_port())
    install(programs, "codex", "true")
    install(programs, "llm", "true")
    try:
        run.ready(made, RunRequest("llm"), AGENTS)
        assert not [text for text in said(made) if "coding agents" in text]
        run.ready(made, RunRequest("codex"), AGENTS)
    finally:
        down.run(made, None)
    # 8,192 tokens: a quarter of output, nine tenths of the rest of input.
    assert "tiny takes 5,529 tokens of input: coding agents send thousands before the first question" in said(made)


@pytest.mark.parametrize("name", AGENTS)
def test_a_dry_run_shows_all_of_it_with_the_key_masked_and_touches_nothing(world: World, name: str) -> None:
    key = keys.ensure(world.home.key)
    before = {path: path.stat().st_mtime_ns for path in world.home.root.rglob("*")}
    result = run.dry_run(world, RunRequest(name, ("words",)), AGENTS)
    shown = json.dumps(result.json())
    assert key not in shown + repr(result)
    assert "****" in shown
    assert "tiny" in shown
    assert AGENTS[name].INSTALL in shown
    assert {path: path.stat().st_mtime_ns for path in world.home.root.rglob("*")} == before
