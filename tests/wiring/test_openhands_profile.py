import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.llm import LLMConfig
from launcher.wiring import openhands_profile as target
from tests.wiring.values import KEY, LARGE, OTHER, SMALL, place

PLACE = place(Path("/x"))
PATH = Path("/x/user/.openhands/profiles/qwen2.5-coder.json")


def connected(llm: LLMConfig = LARGE) -> str:
    text = target.connect({PATH: None}, PLACE, llm)[PATH]
    assert text is not None
    return text


def test_a_model_has_one_file_in_the_users_store() -> None:
    assert target.paths(PLACE, LARGE) == (PATH,)


def test_the_profile_says_all_that_openhands_cannot_find_out_about_a_local_text_model() -> None:
    assert json.loads(connected()) == {
        "schema_version": 1,
        "model": "openai/qwen2.5-coder",
        "base_url": "http://127.0.0.1:8400/v1",
        "api_key": KEY,
        "usage_id": "agent",
        "max_input_tokens": LARGE.max_input_tokens,
        "max_output_tokens": LARGE.max_output_tokens,
        "native_tool_calling": True,
        "timeout": 1800,
        "num_retries": 4,
        "retry_min_wait": 5,
        "retry_max_wait": 30,
        "retry_multiplier": 2.0,
        "input_cost_per_token": 0.0,
        "output_cost_per_token": 0.0,
        "disable_vision": True,
        "caching_prompt": False,
        "drop_params": True,
        "reasoning_effort": "none",
        "api_mode": "chat",
        "capability_overrides": {
            "supports_reasoning_effort": False,
            "supports_sampling_params": True,
            "supports_vision": False,
            "supports_prompt_cache": False,
            "supports_responses_api": False,
        },
    }


def test_a_model_whose_tool_calls_no_parser_reads_gets_its_tools_in_the_prompt() -> None:
    assert json.loads(connected(replace(LARGE, native_tool_calling=False)))["native_tool_calling"] is False


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        pytest.param("qwen2.5-coder", True, id="dots and dashes are taken"),
        pytest.param("a" * 64, True, id="64 characters are taken"),
        pytest.param("a" * 65, False, id="65 characters are not"),
        pytest.param("../settings", False, id="a path is not a name"),
        pytest.param(".hidden", False, id="a name does not begin with a dot"),
        pytest.param("org/model", False, id="nor has it a slash"),
        pytest.param("model\n", False, id="nor a line end"),
    ],
)
def test_names_are_those_that_the_store_takes(name: str, taken: bool) -> None:  # noqa: FBT001 - a table
    assert (target.refuses(replace(LARGE, name=name)) is None) is taken


@pytest.mark.parametrize(
    ("window", "refused"),
    [pytest.param(16_383, True, id="one too few is refused"), pytest.param(16_384, False, id="the smallest window is loaded")],
)
def test_a_window_that_openhands_does_not_load_is_refused(window: int, refused: bool) -> None:  # noqa: FBT001 - a table
    assert (target.refuses(replace(LARGE, max_input_tokens=window)) is not None) is refused


def test_the_refusal_names_both_numbers() -> None:
    reason = target.refuses(SMALL)
    assert reason
    assert reason.startswith("OpenHands would not load it: smollm2-135m has 5,529 input tokens of 16,384; with ALLOW_SHORT")


def changed(**values: object) -> str:
    return json.dumps({**json.loads(connected()), **values})


@pytest.mark.parametrize(
    ("now", "before", "left"),
    [
        pytest.param(connected(), None, None, id="our file goes"),
        pytest.param(connected(), "theirs", "theirs", id="a file that stood there comes back"),
        pytest.param(changed(temperature=0.2), None, None, id="our file goes with a temperature that somebody set"),
        pytest.param(changed(api_key="gAAAAA"), None, None, id="our file goes when a server saved it with an encrypted key"),
        pytest.param(changed(model="openai/gpt"), None, "same", id="a file that names another model now stays"),
        pytest.param(changed(base_url="http://other/v1"), "theirs", "same", id="a file that points to another server stays"),
        pytest.param("{", None, "same", id="a file that is not JSON any more stays"),
        pytest.param("[]", None, "same", id="a file that is no profile any more stays"),
        pytest.param(None, "theirs", "same", id="a file that somebody removed does not come back"),
    ],
)
def test_disconnecting_takes_the_profile_out_unless_it_is_somebody_elses_now(
    now: str | None, before: str | None, left: str | None
) -> None:
    expected = now if left == "same" else left
    assert target.disconnect({PATH: now}, {PATH: before}, {PATH: connected()}) == {PATH: expected}


def test_the_start_line_names_the_profile_and_no_key() -> None:
    line = target.start_line(PLACE, OTHER)
    assert "devstral" in line
    assert KEY not in line
    assert "\n" not in line
