"""Any config.toml: connecting changes the [llm] section alone, and disconnecting gives the bytes back."""

import tomllib
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.wiring import openhands_toml as target
from tests.wiring.test_openhands_toml import SETTINGS
from tests.wiring.values import LARGE, place

PATH = Path("/x/config.toml")
# As tests/wiring/test_openhands_toml.py has them; floats are text here.
OURS = {key: str(value) if isinstance(value, float) else value for key, value in SETTINGS.items()}

REMARKS = st.sampled_from(["", "", "\n", "# größe [llm]\n", "  # x\n\n", "\t\n", "\n\n# api_key = 'x'\n\n"])
VALUES = st.sampled_from(
    [
        "1",
        "'x'",
        '"é \\" [llm]"',
        "nan",
        "1979-05-27T07:32:00Z",
        '"""\n[llm]\nmodel = 1\n# """',
        "'''\n[x]\n'''",
        "[\n[1],\n[2], # [llm]\n]",
        "[ # x\n\n]",
        '["""\n[llm]\n"""]  # y',
    ]
)
SPACES = st.sampled_from([" = ", "=", "\t =  "])
HEADERS = st.sampled_from(["[{}]", "[ {} ]", "  [{}]  # [llm]", "\t[{}]\t"])


@st.composite
def keys(draw: st.DrawFn) -> str:
    lines = [
        draw(REMARKS) + f"{draw(st.sampled_from(['', '  ']))}{name}{draw(SPACES)}{draw(VALUES)}\n"
        for name in draw(st.lists(st.sampled_from(["model", "api_version", '"a b"', "'ü'", "z-1"]), unique=True))
    ]
    return "".join(lines)


@st.composite
def documents(draw: st.DrawFn) -> str:
    names = ["llm", "core", "llm.x", 'llm."y.z"', "core.llm", "sandbox", "'llm '"]
    text = draw(keys())
    for name in draw(st.lists(st.sampled_from(names), unique=True)):
        text += draw(REMARKS) + draw(HEADERS).format(name) + "\n" + draw(keys())
    for _ in range(draw(st.integers(0, 2))):
        text += "[[list]]\n" + draw(keys())
    text += draw(REMARKS)
    if draw(st.booleans()):
        text = text.removesuffix("\n")
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


def parsed(text: str) -> dict[str, Any]:
    return tomllib.loads(text, parse_float=str)  # a nan is not equal to itself


def below(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The sections below [llm], but not the one that is ours."""
    return {key: value for key, value in document.get("llm", {}).items() if isinstance(value, dict) and key != name}


@settings(deadline=None, max_examples=150)
@given(before=documents(), register_only=st.booleans(), added=st.sampled_from(["[added]\nx = 1\n", "\n# é\n[added]\nx = 1"]))
def test_any_file_comes_back_whole(before: str, register_only: bool, added: str) -> None:  # noqa: FBT001 - drawn
    chosen = place(PATH.parent, register_only=register_only)
    after = target.connect({PATH: before}, chosen, LARGE)[PATH]
    assert after is not None

    old, new = parsed(before), parsed(after)
    assert {**new, "llm": None} == {**old, "llm": None}
    assert below(new, LARGE.name) == below(old, LARGE.name)
    own = {key: value for key, value in new["llm"].items() if not isinstance(value, dict)}
    assert (new["llm"][LARGE.name] if register_only else own) == OURS

    assert target.disconnect({PATH: after}, {PATH: before}, {PATH: after}) == {PATH: before}

    added = added if after.endswith("\n") else "\n" + added
    left = target.disconnect({PATH: after + added}, {PATH: before}, {PATH: after})[PATH]
    assert left is not None
    assert left.startswith(before)
    assert left.endswith(added)
    assert left[len(before) : -len(added)] in ("", "\n", "\r\n")
    assert parsed(left) == {**old, "added": {"x": 1}}
