import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import LauncherError
from launcher.openhands_llm import fields_of
from launcher.wiring import openhands_settings as target
from tests.wiring.values import KEY, LARGE, OTHER, SMALL, place

PLACE = place(Path("/x"))
CHOSEN = replace(PLACE, chosen=frozenset({target.NAME}))
PATH = Path("/x/user/.openhands/settings.json")
OURS = fields_of(LARGE)


def connect(before: str | None, *, docker: bool = False) -> Any:
    after = target.connect({PATH: before}, replace(CHOSEN, docker=docker), LARGE)[PATH]
    assert after is not None
    return json.loads(after)


FLAT = {"language": "en", "llm_model": "claude", "llm_api_key": "sk-theirs", "llm_base_url": None, "agent": "CodeActAgent"}
APP = {
    "language": "en",
    "agent_settings": {"schema_version": 4, "llm": {"model": "gpt-5.5"}, "mcp_config": {"a": 1}},
    "llm_profiles": {"profiles": {"Default": {"model": "gpt-5.5"}}, "active": "Default"},
}
SERVER = {
    "schema_version": 6,
    "agent_settings": {"schema_version": 9, "llm": {"model": "gpt-5.6", "api_key": "gAAAAAx"}},
    "conversation_settings": {},
    "active_profile": None,
}
MIXED = {**FLAT, "agent_settings": {"llm": {"model": "x"}}}

SHAPES = {
    "no file becomes the nested one, without a version": (
        None,
        {"agent_settings": {"llm": OURS}, "active_profile": "qwen2.5-coder"},
    ),
    "an empty object too": ({}, {"agent_settings": {"llm": OURS}, "active_profile": "qwen2.5-coder"}),
    "the flat form of releases up to 0.62 keeps its shape": (
        FLAT,
        {**FLAT, "llm_model": LARGE.model, "llm_api_key": KEY, "llm_base_url": LARGE.base_url},
    ),
    "the application's profiles get ours, the same as the active one": (
        APP,
        {
            **APP,
            "agent_settings": {**APP["agent_settings"], "llm": fields_of(LARGE, null_lives=True)},  # type: ignore[dict-item]
            "llm_profiles": {
                "profiles": {"Default": {"model": "gpt-5.5"}, "qwen2.5-coder": fields_of(LARGE, null_lives=True)},
                "active": "qwen2.5-coder",
            },
        },
    ),
    "the agent server's versions stay": (
        SERVER,
        {**SERVER, "agent_settings": {"schema_version": 9, "llm": OURS}, "active_profile": "qwen2.5-coder"},
    ),
    "nested wins over flat keys that a newer release ignores": (MIXED, {**MIXED, "agent_settings": {"llm": OURS}}),
}


def text(content: object) -> str | None:
    return None if content is None else json.dumps(content, indent=4)


@pytest.mark.parametrize(("before", "after"), SHAPES.values(), ids=SHAPES)
def test_each_shape_is_kept_and_only_the_model_changes(before: object, after: object) -> None:
    assert connect(text(before)) == after


@pytest.mark.parametrize("before", [each for each, _ in SHAPES.values()], ids=SHAPES)
def test_taken_back_it_is_what_it_was(before: object) -> None:
    files = {PATH: text(before)}
    after = target.connect(files, CHOSEN, LARGE)
    assert target.disconnect(after, files, after) == files


def resaved(after: str) -> str:
    """As OpenHands saves it again: completed, its key encrypted, something else changed."""
    document = json.loads(after)
    llm = document.get("agent_settings", {}).get("llm")
    if llm:
        llm |= {"api_key": "gAAAAAours", "stream": True}
    return json.dumps({**document, "language": "de"})


@pytest.mark.parametrize("before", [each for each, _ in SHAPES.values()], ids=SHAPES)
def test_after_openhands_saved_it_only_ours_goes(before: Any) -> None:
    files = {PATH: text(before)}
    after = target.connect(files, CHOSEN, LARGE)[PATH]
    assert after is not None
    left = target.disconnect({PATH: resaved(after)}, files, {PATH: after})[PATH]
    assert left is not None
    assert json.loads(left) == {**(before or {}), "language": "de"}


def test_what_points_elsewhere_since_stays() -> None:
    for before in (FLAT, SERVER):
        files = {PATH: text(before)}
        now = {
            PATH: json.dumps(
                {**json.loads(text(before) or ""), "llm_model": "other", "agent_settings": {"llm": {"model": "o"}}}
            )
        }
        after = target.connect(files, CHOSEN, LARGE)
        assert target.disconnect(now, files, after) == now


def test_an_agent_in_a_container_is_given_the_hosts_name() -> None:
    assert connect(text(FLAT), docker=True)["llm_base_url"] == "http://host.docker.internal:8400/v1"
    assert connect(None, docker=True)["agent_settings"]["llm"]["base_url"] == "http://host.docker.internal:8400/v1"


@pytest.mark.parametrize(
    ("before", "chosen", "left"),
    [
        pytest.param(None, False, "", id="no file is no OpenHands, and nobody is told"),
        pytest.param(None, True, None, id="a file that was asked for is made"),
        pytest.param("{}", False, None, id="a file that is there is wired"),
        pytest.param(json.dumps(SERVER), False, None, id="the newest form that is known is wired"),
        pytest.param('{"schema_version": 7}', False, "newer form (7)", id="a newer file is left, with the reason"),
        pytest.param('{"agent_settings": {"schema_version": 10}}', True, "newer form (10)", id="newer agent settings too"),
    ],
)
def test_what_is_found_is_wired(before: str | None, chosen: bool, left: str | None) -> None:  # noqa: FBT001 - a table
    reason = target.leaves({PATH: before}, CHOSEN if chosen else PLACE)
    assert reason == left if not left else left in str(reason)


@pytest.mark.parametrize("broken", ["{", "[]", "1", '"x"', "nan"])
def test_what_is_no_object_is_left_alone(broken: str) -> None:
    with pytest.raises(LauncherError, match="left alone"):
        target.connect({PATH: broken}, CHOSEN, LARGE)


def test_a_window_that_openhands_does_not_load_is_refused() -> None:
    assert "16,384" in str(target.refuses(SMALL))
    assert target.refuses(OTHER) is None


def test_the_persistence_folder_is_the_one_that_the_user_named() -> None:
    moved = replace(PLACE, env={"OH_PERSISTENCE_DIR": "/data/oh"})
    assert target.paths(moved, LARGE) == (Path("/data/oh/settings.json"),)
