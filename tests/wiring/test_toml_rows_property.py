"""Any config.toml: with our statements and our section in it, it holds all that was there; without them it is what it was."""

import tomllib
from pathlib import Path
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from launcher.wiring import slots
from launcher.wiring.slots import Slot
from launcher.wiring.toml_rows import TOML
from tests.wiring.test_openhands_toml_property import documents, parsed

PATH = Path("/x/config.toml")
SECTION = {"name": "launcher", "base_url": "http://127.0.0.1:8400/v1", "timeout": 600, "deep": {"é": True}}
VALUES: dict[Slot, object] = {("model",): "q", ("window",): 24_576, ("core", "launcher"): SECTION}


@given(before=documents(), others=st.sampled_from(["", "[theirs]\nx = 1\n"]))
def test_any_toml_comes_back_whole(before: str, others: str) -> None:
    says = parsed(before)
    assume(isinstance(says.get("core", {}), dict))
    after = slots.put(TOML(), PATH, before, VALUES)
    expected = {**says, "model": "q", "window": 24_576, "core": {**says.get("core", {}), "launcher": SECTION}}
    assert parsed(after) == expected

    def taken(now: str) -> Any:
        return slots.without(TOML(), PATH, now, before, after, lambda *_: list(VALUES))

    assert taken(after) == before
    end = "" if after.endswith("\n") else "\n"
    left = taken("# theirs\n" + after + end + others)
    assert left == "# theirs\n" + before + end + others or parsed(left) == {**says, **tomllib.loads(others)}
    changed = taken(after.replace("600", "60") + end + others)
    assert parsed(changed) == {**says, **tomllib.loads(others)}
    assert changed.count("größe") == before.count("größe")
