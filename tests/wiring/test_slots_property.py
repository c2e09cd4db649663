"""Any configuration: with our entries in it, it holds all that was there; without them it is byte for byte what it was."""

import json
import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from launcher.home import Home
from launcher.wiring import apply, slots
from launcher.wiring.base import Place
from launcher.wiring.jsonc import JSON
from launcher.wiring.registry import TARGETS
from launcher.wiring.slots import Item, Language, Slot
from launcher.wiring.yaml_rows import YAML
from tests.wiring.configurations import JSON_REMARKS, Configuration, json_texts, yaml_texts
from tests.wiring.values import LARGE
from tests.wiring.values import place as place_of

PATH = Path("/x/agent.config")
URL = "http://127.0.0.1:8400/v1"
ENTRY: dict[str, Any] = {"url": URL, "models": {"q": {"limit": 32_768, "cost": 0.0}}, "args": ["a", "b: c"]}
ITEM: dict[str, Any] = {"id": "q", "url": URL, "roles": ["chat"]}
KEYED: Slot = ("provider", "launcher")
LISTED: Slot = ("models", Item((("id", "q"), ("url", URL))))
CHOSEN: Slot = ("model",)
VALUES: dict[Slot, object] = {KEYED: ENTRY, LISTED: ITEM, CHOSEN: "launcher/q"}
ORDERS = st.permutations(list(VALUES.items())).map(lambda pairs: dict(pairs[:2] if pairs[0][0] == CHOSEN else pairs))


def without_remarks(text: str) -> str:
    for remark in (each.rstrip("\n") for each in JSON_REMARKS):
        text = text.replace(remark.replace("\n", "\r\n"), " ").replace(remark, " ")
    return re.sub(r",(\s*[}\]])", r"\1", text)


def json_says(text: str) -> Any:
    text = text.removeprefix("\ufeff")
    return json.loads(without_remarks(text) if text.strip() else "{}")


def yaml_says(text: str) -> Any:
    return yaml.safe_load(text) or {}


def expected(says: Any, values: dict[Slot, Any]) -> Any:
    """What a configuration says once these are in it."""
    says = {**says}
    if KEYED in values:
        says["provider"] = {**(says.get("provider") or {}), "launcher": ENTRY}
    if LISTED in values:
        says["models"] = [*(says.get("models") or []), ITEM]
    if CHOSEN in values:
        says["model"] = "launcher/q"
    return says


def takes(says: Any, values: dict[Slot, Any]) -> bool:
    """Whether nothing stands in the way of these."""
    kept = says.get("provider"), says.get("models")
    return (KEYED not in values or kept[0] in (None, []) or isinstance(kept[0], dict)) and (
        LISTED not in values or kept[1] in (None, {}) or isinstance(kept[1], list)
    )


def came_back(language: Language, before: str, values: dict[Slot, Any], says: Any, remark: str) -> None:
    after = slots.put(language, PATH, before, values)
    assert says(after) == expected(says(before), values)

    def taken(now: str) -> str | None:
        return slots.without(language, PATH, now, before, after, lambda *_: list(values))

    assert taken(after) == before

    # Somebody else's remark at the top, or a value of ours that somebody changed: what is theirs stays, all of ours goes.
    mark = "\ufeff" if after.startswith("\ufeff") else ""
    end = "\r\n" if "\r\n" in after else "\n"
    assert taken(mark + remark + end + after.removeprefix(mark)) == mark + remark + end + before.removeprefix(mark)
    if KEYED in values:
        left = taken(after.replace("32768", "16384"))
        assert left is not None
        assert says(left) == says(before)
        assert left.count("größe") == before.count("größe")


@pytest.mark.parametrize("comments", [True, False], ids=["with comments", "plain"])
@given(draw=st.data(), values=ORDERS)
def test_any_json_comes_back_whole(comments: bool, draw: st.DataObject, values: dict[Slot, Any]) -> None:  # noqa: FBT001
    drawn: Configuration = draw.draw(json_texts(comments=comments))
    assume(takes(drawn.says, values))
    came_back(JSON(comments=comments), drawn.text, values, json_says, "// ???" if comments else " ")


@given(drawn=yaml_texts(), values=ORDERS)
def test_any_yaml_comes_back_whole(drawn: Configuration, values: dict[Slot, Any]) -> None:
    assume(takes(yaml_says(drawn.text), values))
    came_back(YAML(), drawn.text, values, yaml_says, "# ???")


# What agents' entries stand in, at the top of their files.
OURS = {
    *("provider", "models", "model", "small_model", "env", "modelProviders", "security", "providers", "model_list"),
    *("name", "version", "schema", "language_models", "agent", "agents"),
}


def world_place(root: Path, name: str) -> Place:
    """All of the agent's files below a folder, and its default ours."""
    return replace(place_of(root), chosen=frozenset({name}), default=True, own=root / "own")


# The agents' own files, with their own entries: those whose file is one of these kinds.
AGENTS = {
    "opencode.json": ("opencode", json_texts(comments=True)),
    "settings.json of qwen": ("qwen", json_texts(comments=True)),
    "settings.json of claude": ("claude", json_texts(comments=False)),
    "models.json of pi": ("pi", json_texts(comments=True)),
    "settings.json of Zed": ("zed", json_texts(comments=True)),
    "openclaw.json": ("openclaw", json_texts(comments=True)),
    "litellm.yaml": ("litellm", yaml_texts()),
    "config.yaml of continue": ("continue", yaml_texts()),
}


@pytest.mark.parametrize(("name", "texts"), AGENTS.values(), ids=AGENTS)
@given(draw=st.data())
def test_any_agents_file_comes_back_whole_over_a_symlink(
    name: str, texts: st.SearchStrategy[Configuration], draw: st.DataObject
) -> None:
    drawn = draw.draw(texts)
    target = {name: TARGETS[name]}
    with TemporaryDirectory() as folder:
        home, place = Home(Path(folder) / "launcher"), world_place(Path(folder), name)
        path = TARGETS[name].paths(place, LARGE)[-1 if name == "opencode" else 0]
        path.parent.mkdir(parents=True, exist_ok=True)
        real = Path(folder) / f"dotfiles{path.suffix}"
        real.write_bytes(drawn.text.encode())
        path.symlink_to(real)
        proposal = apply.propose(target, place, LARGE, home)
        if proposal.faults:
            # Only where something else stands in the place of ours.
            assert "in a form" in proposal.faults[0].message
            assert proposal.edits == ()
            return
        assert apply.write(proposal.edits, home).faults == ()
        text = real.read_bytes().decode()
        read = yaml_says if path.suffix == ".yaml" else json_says
        says = read(text)
        assert LARGE.base_url.removesuffix("/v1") in text
        others = {key: value for key, value in read(drawn.text).items() if key not in OURS}
        assert {key: value for key, value in says.items() if key not in OURS} == others
        apply.unwire(target, home)
        assert path.is_symlink()
        assert real.read_bytes() == drawn.text.encode()
