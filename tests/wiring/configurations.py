"""Configurations as people and programs write them, drawn at random: a text, and what it says."""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

# What the launcher's own entries stand in, and what others keep there: these are there at least sometimes.
KEYS = ("provider", "models", "launcher", "model", "other", "größe", "a b", "x.y", "#", "1")
STRINGS = (
    "",
    "x",
    "é",
    "yes",
    "null",
    "a: b",
    "# no remark",
    "// none",
    "/* none */",
    "{",
    "} ,",
    "'",
    "😀",
    "- a",
    "it's",
    "\t",
)
JSON_REMARKS = ("/* größe */", "/*\n * [llm] { , }\n */", "// ours? }\n", "// \"'\n")
YAML_REMARKS = ("# größe\n", "  # {{ - a: b\n", "#\n", "\n", "  \n")


@dataclass(frozen=True, slots=True)
class Configuration:
    """A text, and what it says."""

    text: str
    says: Any


_scalars = st.sampled_from(STRINGS) | st.integers(-5, 70_000) | st.booleans() | st.none() | st.sampled_from([0.5, 1.0])
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)
# The agent's own default model is one word, in every agent.
objects = st.builds(
    lambda says, model: {**says, "model": model} if "model" in says else says,
    st.dictionaries(st.sampled_from(KEYS), _values, max_size=5),
    _scalars,
)


@dataclass(frozen=True, slots=True)
class _Hand:
    """How somebody writes: drawn anew for each blank."""

    draw: st.DrawFn
    remarks: bool
    rows: bool
    unit: str

    def blank(self, depth: int) -> str:
        gap = self.draw(st.sampled_from(["", "", " ", "  "]))
        if self.rows and self.draw(st.booleans()):
            gap = "\n" + self.unit * depth
        if self.remarks and self.draw(st.integers(0, 5)) == 0:
            gap += self.draw(st.sampled_from(JSON_REMARKS))
        return gap


@st.composite
def json_texts(draw: st.DrawFn, *, comments: bool) -> Configuration:
    """JSON, tight or in rows, with comments and commas at the end where the dialect has them."""
    import json

    says = draw(objects)
    rows = draw(st.booleans())
    hand = _Hand(draw, comments and rows, rows, draw(st.sampled_from(["  ", "\t", "    "])))

    def bracketed(brackets: str, parts: list[str], depth: int) -> str:
        text = brackets[0] + hand.blank(depth)
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            comma = "," if not last or (comments and draw(st.booleans())) else ""
            text += part + hand.blank(depth) + comma + hand.blank(depth if not last else depth - 1)
        return text + brackets[1]

    def write(value: Any, depth: int) -> str:
        if isinstance(value, dict):
            pairs = [f"{json.dumps(k)}{hand.blank(depth)}:{hand.blank(depth)}{write(v, depth + 1)}" for k, v in value.items()]
            return bracketed("{}", pairs, depth)
        if isinstance(value, list):
            return bracketed("[]", [write(inner, depth + 1) for inner in value], depth)
        return json.dumps(value, ensure_ascii=draw(st.booleans()))

    return Configuration(_ended(draw, hand.blank(0) + write(says, 1) + hand.blank(0)), says)


@st.composite
def yaml_texts(draw: st.DrawFn) -> Configuration:
    """YAML in rows of odd widths, with brackets, remarks and block texts in it."""
    import json

    says = draw(objects)

    def remark(indent: str) -> str:
        return draw(st.sampled_from(["", "", "", *(indent + each if each.strip() else each for each in YAML_REMARKS)]))

    def flow(value: Any) -> str:
        if isinstance(value, str):
            # YAML has no pairs of escapes for what lies beyond \uffff.
            return json.dumps(value, ensure_ascii=max(value, default="") <= "\uffff" and draw(st.booleans()))
        return json.dumps(value, ensure_ascii=False)

    def rows(value: Any, indent: str) -> str:
        step = indent + " " * draw(st.integers(1, 4))
        text = ""
        pairs = value.items() if isinstance(value, dict) else ((None, inner) for inner in value)
        for key, inner in pairs:
            head = indent + (f"{json.dumps(key)}:" if key is not None else "-")
            text += remark(indent)
            if isinstance(inner, (dict, list)) and inner and draw(st.integers(0, 3)):
                text += head + draw(st.sampled_from(["", " ", "  # r"])) + "\n" + rows(inner, step)
            elif inner is None and draw(st.booleans()):
                text += head + "\n"
            elif inner == "x" and draw(st.booleans()):
                text += head + draw(st.sampled_from([" |-", " >-"])) + f"\n{step}x\n"
            else:
                text += head + " " + flow(inner) + draw(st.sampled_from(["", "", "  # r", " "])) + "\n"
        return text

    start = draw(st.sampled_from(["", "", "---\n", "# größe\n\n"]))
    body = rows(says, "") if says else draw(st.sampled_from(["", "{}\n", "# nothing\n"]))
    return Configuration(_ended(draw, start + body + remark("")), says)


def _ended(draw: st.DrawFn, text: str) -> str:
    if draw(st.integers(0, 3)) == 0:
        text = text.removesuffix("\n")
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    return draw(st.sampled_from(["", "", "", "\ufeff"])) + text
