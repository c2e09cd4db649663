import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.openhands_llm import fields_of
from launcher.wiring import openhands_cli as target
from tests.wiring.values import KEY, LARGE, SMALL, place

PLACE = place(Path("/x"))
PATH = Path("/x/user/.openhands/agent_settings.json")
AGENT = fields_of(LARGE, null_lives=True)
CONDENSER = fields_of(LARGE, usage="condenser", null_lives=True)
MADE = {"kind": "LLMSummarizingCondenser", "llm": CONDENSER, "max_size": 240, "keep_first": 2, "max_tokens": 22_118}
THEIRS = {
    "kind": "Agent",
    "llm": {"model": "claude", "api_key": "sk-theirs"},
    "tools": [{"name": "terminal"}],
    "condenser": {"kind": "LLMSummarizingCondenser", "llm": {"model": "claude"}, "max_size": 80, "max_tokens": None},
}
BARE = {"kind": "Agent", "llm": {"model": "claude"}, "condenser": None}


def connect(before: object) -> str:
    text = None if before is None else json.dumps(before)
    after = target.connect({PATH: text}, PLACE, LARGE)[PATH]
    assert after is not None
    return after


def test_the_command_gets_a_model_that_is_sent_no_effort_of_openhands_own() -> None:
    llm = json.loads(connect(None))["llm"]
    assert (llm["model"], llm["api_key"], llm["usage_id"], llm["reasoning_effort"]) == (LARGE.model, KEY, "agent", None)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(None, {"llm": AGENT, "kind": "Agent", "condenser": MADE}, id="a new file has a condenser with the window"),
        pytest.param(
            THEIRS,
            {**THEIRS, "llm": AGENT, "condenser": {**THEIRS["condenser"], "llm": CONDENSER, "max_tokens": 22_118}},  # type: ignore[dict-item]
            id="tools and the condenser's size stay",
        ),
        pytest.param(BARE, {**BARE, "llm": AGENT, "condenser": MADE}, id="without a condenser an overflow would be the end"),
    ],
)
def test_the_model_becomes_the_agents_and_its_condensers(before: object, after: object) -> None:
    assert json.loads(connect(before)) == after


@pytest.mark.parametrize(
    ("before", "changed", "left"),
    [
        pytest.param(None, {"tools": []}, None, id="a file that we made goes, since the command takes none without a model"),
        pytest.param(None, {"llm": {"model": "theirs"}}, {"kind": "Agent"}, id="unless it has another model now"),
        pytest.param(THEIRS, {"tools": []}, {**THEIRS, "tools": []}, id="what the command saved since stays"),
        pytest.param(BARE, {"x": 1}, {**BARE, "x": 1}, id="a condenser that was none is none again"),
    ],
)
def test_after_the_command_saved_it_only_ours_goes(before: object, changed: dict[str, Any], left: Any) -> None:
    files = {PATH: None if before is None else json.dumps(before)}
    after = connect(before)
    now = json.dumps({**json.loads(after), **changed})
    result = target.disconnect({PATH: now}, files, {PATH: after})[PATH]
    expected = left and {**left, **({"llm": changed["llm"]} if "llm" in changed else {})}
    assert (result and json.loads(result)) == expected


@pytest.mark.parametrize(
    ("text", "programs", "chosen", "left"),
    [
        pytest.param(None, (), (), "", id="without the command and its file nobody is told"),
        pytest.param(None, ("openhands",), (), None, id="the command alone is enough"),
        pytest.param("{}", (), (), None, id="its file alone is enough"),
        pytest.param(None, (), (target.NAME,), None, id="what was asked for is made"),
    ],
)
def test_what_is_found_is_wired(text: str | None, programs: tuple[str, ...], chosen: tuple[str, ...], left: str | None) -> None:
    there = replace(PLACE, programs=frozenset(programs), chosen=frozenset(chosen))
    assert target.leaves({PATH: text}, there) == left


def test_the_persistence_folder_is_the_commands_own_variable() -> None:
    moved = replace(PLACE, env={"OPENHANDS_PERSISTENCE_DIR": "/data/cli", "OH_PERSISTENCE_DIR": "/data/oh"})
    assert target.paths(moved, LARGE) == (Path("/data/cli/agent_settings.json"),)


def test_a_window_that_the_command_would_call_corrupted_is_refused() -> None:
    assert "16,384" in str(target.refuses(SMALL))
