"""Any JSON object: connected it holds all that was there, disconnected it is what it was."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.wiring import openhands_cli, openhands_settings
from launcher.wiring.base import Target
from tests.wiring.values import LARGE, place

PATH = Path("/x/user/.openhands/x.json")
PLACE = place(Path("/x"))
# The keys that OpenHands has, and others: what is ours to change is at least sometimes there, and in forms that nobody expects.
KEYS = st.sampled_from(
    (
        *("llm", "condenser", "kind", "agent_settings", "llm_profiles", "profiles", "active", "active_profile", "max_tokens"),
        *("llm_model", "llm_api_key", "llm_base_url", "language", "größe", ""),
    )
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
OURS = {
    "llm",
    "condenser",
    "kind",
    "agent_settings",
    "llm_profiles",
    "active_profile",
    "llm_model",
    "llm_api_key",
    "llm_base_url",
}


@pytest.mark.parametrize("target", [openhands_settings, openhands_cli], ids=["settings", "command"])
@settings(max_examples=300)
@given(
    content=st.dictionaries(KEYS, VALUES, max_size=6),
    indent=st.sampled_from([None, 1, 2, 4, "\t"]),
    end=st.sampled_from(["", "\n"]),
)
def test_any_object_comes_back_whole(target: Target, content: dict[str, Any], indent: int | str | None, end: str) -> None:
    before = {PATH: json.dumps(content, indent=indent) + end}
    after = target.connect(before, PLACE, LARGE)
    text = after[PATH]
    assert text is not None
    connected = json.loads(text)
    assert {key: value for key, value in connected.items() if key not in OURS} == {
        key: value for key, value in content.items() if key not in OURS
    }
    assert LARGE.model in text
    assert target.disconnect(after, before, after) == before

    # Somebody else's key comes in: it stays, and all of ours goes.
    left = target.disconnect({PATH: json.dumps({**connected, "theirs": [1]}, indent=indent)}, before, after)[PATH]
    assert left is not None
    assert json.loads(left) == {**content, "theirs": [1]}
