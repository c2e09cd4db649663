import shlex
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import LauncherError
from launcher.llm import LLMConfig
from launcher.wiring import openhands_toml as target
from tests.wiring.values import KEY, LARGE, OTHER, SMALL, place

PLACE = place(Path("/x"))
NAMED = place(Path("/x"), register_only=True)
PATH = PLACE.config_file
SETTINGS = {
    "model": "openai/qwen2.5-coder",
    "base_url": "http://127.0.0.1:8400/v1",
    "api_key": KEY,
    "max_input_tokens": 22_118,
    "max_output_tokens": 8_192,
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
}
OURS = f"""\
[llm]  # by launcher; to undo: launcher unwire
model = "openai/qwen2.5-coder"
base_url = "http://127.0.0.1:8400/v1"
api_key = "{KEY}"
max_input_tokens = 22118
max_output_tokens = 8192
native_tool_calling = true
timeout = 1800
num_retries = 4
retry_min_wait = 5
retry_max_wait = 30
retry_multiplier = 2.0
input_cost_per_token = 0.0
output_cost_per_token = 0.0
disable_vision = true
caching_prompt = false
drop_params = true
"""


def connect(before: str | None, *, register_only: bool = False, llm: LLMConfig = LARGE) -> str:
    after = target.connect({PATH: before}, NAMED if register_only else PLACE, llm)[PATH]
    assert after is not None
    return after


def disconnect(now: str | None, before: str | None, after: str) -> str | None:
    return target.disconnect({PATH: now}, {PATH: before}, {PATH: after})[PATH]


def windows(text: str) -> str:
    return text.replace("\n", "\r\n")


OLD = '[llm]\n# mine\nmodel = "claude"\napi_key = "sk-theirs"\ncustom_llm_provider = "anthropic"\n'
TRAPS = '[a]\nx = """\n[llm]\nmodel = "no"\n"""\ny = [\n  ["u"],\n[\n"[llm]"\n]\n]\n'

# Each text, and what it is once connected.
CONNECTED = {
    "no file": (None, OURS),
    "an empty file": ("", OURS),
    "only an empty line": ("\n", "\n" + OURS),
    "only spaces, without a line end": ("  ", "  \n" + OURS),
    "a section is appended after an empty line": ("[core]\nx = 1\n", "[core]\nx = 1\n\n" + OURS),
    "a last line without an end gets one": ("[core]\nx = 1", "[core]\nx = 1\n\n" + OURS),
    "the file's own line ends are used": ("[core]\r\nx = 1\r\n", "[core]\r\nx = 1\r\n\r\n" + windows(OURS)),
    "the line ends of most lines are used": ("a = 1\r\nb = 2\r\nc = 3\n", "a = 1\r\nb = 2\r\nc = 3\n\r\n" + windows(OURS)),
    "an old section is replaced as a whole": (OLD, OURS),
    "and with other line ends too": (windows(OLD), windows(OURS)),
    "an old section without a last line end": ('[llm]\nmodel = "x"', OURS),
    "an old section without keys": ("[llm]\n\n[z]\n", OURS + "\n[z]\n"),
    "a header with spaces and a comment": ('\t[ llm ] # mine\nmodel = "x"\n', OURS),
    "a header in quotes": ("['llm']\nmodel = 'x'\n", OURS),
    "remarks before the next section stay": (OLD + "\n# of z\n\n[z]\n", OURS + "\n# of z\n\n[z]\n"),
    "remarks at the end stay": (OLD + "\n# the end", OURS + "\n# the end"),
    "a string's last line is no remark": ('[llm]\nmodel = """\n# x"""\n# y\n[z]\n', OURS + "# y\n[z]\n"),
    "a string's comment lines are not remarks": ('[llm]\nmodel = """\n\n# x\n\n"""\n\n[z]\n', OURS + "\n[z]\n"),
    "sections below it stay": (OLD + '[llm.x]\nmodel = "y"\n', OURS + '[llm.x]\nmodel = "y"\n'),
    "sections below it stay in front, too": ('[llm.x]\nmodel = "y"\n\n' + OLD, '[llm.x]\nmodel = "y"\n\n' + OURS),
    "brackets in strings and arrays are no headers": (TRAPS + OLD + "[b]\n", TRAPS + OURS + "[b]\n"),
    "nor are they behind it": (OLD + TRAPS, OURS + TRAPS),
    "a section of such a name elsewhere is another one": ("[x.llm]\nmodel = 1\n", "[x.llm]\nmodel = 1\n\n" + OURS),
    "an array of tables in front": ("[[x]]\na = 1\n[[x]]\n" + OLD, "[[x]]\na = 1\n[[x]]\n" + OURS),
    "values that equal nothing, not even themselves": ("x = nan\n" + OLD, "x = nan\n" + OURS),
    "lists of the old section go": ("[llm]\nsafety_settings = [\n1,\n[2],\n]\n[z]\n", OURS + "[z]\n"),
}


@pytest.mark.parametrize(("before", "after"), CONNECTED.values(), ids=CONNECTED)
def test_the_llm_section_becomes_ours_and_all_else_stays(before: str | None, after: str) -> None:
    assert connect(before) == after


@pytest.mark.parametrize(("before", "after"), CONNECTED.values(), ids=CONNECTED)
def test_disconnecting_an_untouched_file_gives_the_very_text_back(before: str | None, after: str) -> None:
    assert disconnect(after, before, after) == before


@pytest.mark.parametrize(("before", "after"), CONNECTED.values(), ids=CONNECTED)
def test_what_others_add_around_our_section_survives_disconnecting(before: str | None, after: str) -> None:
    left = disconnect("# first\n" + after + "\n[added]\nx = 1\n", before, after)
    assert left is not None
    assert left.startswith("# first\n" + (before or "").rstrip("\n "))
    assert left.endswith("\n[added]\nx = 1\n")
    assert tomllib.loads(left.replace("nan", "0")) == {**tomllib.loads((before or "").replace("nan", "0")), "added": {"x": 1}}


@pytest.mark.parametrize(
    ("name", "header"),
    [
        pytest.param("devstral", "[llm.devstral]", id="a plain name"),
        pytest.param("qwen2.5-coder", '[llm."qwen2.5-coder"]', id="a name with a dot is quoted"),
        pytest.param('a"b', '[llm."a\\"b"]', id="a quote is escaped"),
    ],
)
def test_registering_only_adds_a_section_of_the_models_name(name: str, header: str) -> None:
    after = connect(OLD, register_only=True, llm=replace(LARGE, name=name))
    assert after == OLD + "\n" + OURS.replace("[llm]", header)
    assert tomllib.loads(after)["llm"] == {**tomllib.loads(OLD)["llm"], name: SETTINGS}
    assert disconnect(after, OLD, after) == OLD
    assert disconnect(after + "[z]\n", OLD, after) == OLD + "[z]\n"


def test_registering_only_replaces_a_section_of_that_name_and_gives_it_back() -> None:
    before = '[llm.devstral]\nmodel = "old"\n\n[llm.devstral.deeper]\n'
    after = connect(before, register_only=True, llm=OTHER)
    assert tomllib.loads(after)["llm"]["devstral"] == {**SETTINGS, "model": "openai/devstral", "deeper": {}}
    assert disconnect("# x\n" + after, before, after) == "# x\n" + before


REFUSED = {
    "llm as an inline table": "llm = { model = 'x' }\n",
    "llm as dotted keys": "llm.model = 'x'\n",
    "llm as an array of tables": "[[llm]]\nmodel = 'x'\n",
    "llm as a value": "llm = 1\n",
    "a section nested in it as an inline table": "[llm]\nother = { model = 'x' }\n",
    "a section nested in it as dotted keys": "[llm]\nother.model = 'x'\n",
    "a list of its own as an array of tables": "[llm]\n[[llm.safety_settings]]\nx = 1\n",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_a_form_that_cannot_be_replaced_alone_is_refused(text: str) -> None:
    with pytest.raises(LauncherError, match="holds llm in a form that cannot be replaced alone") as caught:
        connect(text)
    assert "[llm]" in caught.value.hint


def test_registering_only_refuses_a_name_that_is_a_key_of_the_section() -> None:
    with pytest.raises(LauncherError, match=r"holds llm\.model in a form"):
        connect("[llm]\nmodel = 'x'\n", register_only=True, llm=replace(LARGE, name="model"))


INVALID = {
    "a value without quotes": ("[llm]\nmodel = x\n", "at line 2, column 9"),
    "a section twice": ("[llm]\n[llm]\n", "twice"),
    "a byte order mark": ("\ufeff[llm]\n", "byte order mark"),
    "a lone carriage return": ("a = 1\rb = 2\n", "at line 1"),
    "brackets without end": ("a = " + "[" * 100_000, "recursion"),
}


@pytest.mark.parametrize(("text", "reason"), INVALID.values(), ids=INVALID)
def test_what_is_not_toml_is_left_alone_with_the_place_of_the_fault(text: str, reason: str) -> None:
    with pytest.raises(LauncherError, match="/x/config.toml is not valid TOML and was left alone: .*" + reason) as caught:
        connect(text)
    assert "--config-file" in caught.value.hint


ALIKE = "[llm]\n# mine\nmax_output_tokens = 8192\nseed = 1\n"
USERS = 'temperature = 0.5\nmodel = "mine"\n'
# What is in the file now, what was there before us, what is left. All were connected from `before`.
EDITED = {
    "a changed key stays and ours go": (
        "[core]\n",
        "[core]\n\n" + OURS.replace('"openai/qwen2.5-coder"', '"mine"'),
        '[core]\n\n[llm]  # by launcher; to undo: launcher unwire\nmodel = "mine"\n',
    ),
    "an added key stays": (None, OURS + "temperature = 0.5\n", OURS[: OURS.index("\n")] + "\ntemperature = 0.5\n"),
    "keys that are ours get their old lines back": (
        OLD + "[z]\n",
        OURS + "temperature = 0.5\n[z]\n",
        '[llm]\n# mine\nmodel = "claude"\napi_key = "sk-theirs"\ntemperature = 0.5\ncustom_llm_provider = "anthropic"\n[z]\n',
    ),
    "a changed key wins over its old line": (
        OLD,
        OURS.replace(KEY, "sk-new"),
        '[llm]\n# mine\nmodel = "claude"\napi_key = "sk-new"\ncustom_llm_provider = "anthropic"\n',
    ),
    "a removed key does not come back": (
        OLD,
        OURS.replace(f'api_key = "{KEY}"\n', ""),
        '[llm]\n# mine\nmodel = "claude"\ncustom_llm_provider = "anthropic"\n',
    ),
    "a remark in our section stays": ("a = 1\n", "a = 1\n\n" + OURS.replace("api_key", "# x\napi_key"), "a = 1\n\n# x\n"),
    "keys in another order are still ours": (
        "a = 1\n",
        "a = 1\n\n" + "\n".join(sorted(OURS.split("\n")[:-1])) + "\n",
        "a = 1\n",
    ),
    "a section wholly rewritten is left": (OLD, "[llm]\n" + USERS, "[llm]\n" + USERS),
    "a removed section does not come back": (OLD + "[z]\n", "[z]\n", "[z]\n"),
    "a section restored by hand is left": (OLD + "[z]\n", OLD + "[y]\n", OLD + "[y]\n"),
    "and is left whole, where a value of it happens to be ours": (ALIKE, ALIKE + "[y]\n", ALIKE + "[y]\n"),
    "an old key does not come back over a section of its name": (
        OLD,
        OURS + "x = 1\n[llm.custom_llm_provider]\n",
        OURS + "x = 1\n[llm.custom_llm_provider]\n",
    ),
    "a last line without an end is followed by what was added": ("x = 1", "x = 1\n\n" + OURS + "\n[z]\n", "x = 1\n[z]\n"),
    "our section moved to another place goes": ("[z]\n", OURS + "[z]\n[y]\n", "[z]\n[y]\n"),
    "a last line end that an editor removed": ("[z]\n", "[z]\n[y]\n\n" + OURS.rstrip("\n"), "[z]\n[y]\n"),
    "line ends that an editor converted": (OLD + "[z]\n", windows(OURS + "[z]\n[y]\n"), windows(OLD + "[z]\n[y]\n")),
    "an old section without a last line end, not the last now": ("[llm]\nx = 1", OURS + "[z]\n", "[llm]\nx = 1\n[z]\n"),
    "nothing foreign is left of a file that we made": (None, "\n" + OURS + "\n", None),
    "an empty file of the user's stays": ("", OURS + "\n", "\n"),
    "a removed file stays removed": (OLD, None, None),
}


@pytest.mark.parametrize(("before", "now", "left"), EDITED.values(), ids=EDITED)
def test_disconnecting_an_edited_file_takes_out_only_what_is_ours(
    before: str | None, now: str | None, left: str | None
) -> None:
    assert disconnect(now, before, connect(before)) == left


def test_disconnecting_what_is_no_toml_any_more_is_refused() -> None:
    with pytest.raises(LauncherError, match="is not valid TOML and was left alone"):
        disconnect(OURS + "oops\n", None, OURS)


@pytest.mark.parametrize("llm", [LARGE, SMALL], ids=["a large window", "a small window"])
def test_these_releases_refuse_no_model(llm: LLMConfig) -> None:
    assert target.refuses(llm) is None


@pytest.mark.parametrize(
    ("name", "register_only", "words"),
    [
        pytest.param("config.toml", False, ["--config-file", "config.toml"], id="the file is named"),
        pytest.param("a dir/c.toml", False, ["--config-file", "a dir/c.toml"], id="a path with a space is quoted"),
        pytest.param(
            "c.toml", True, ["--config-file", "c.toml", "-l", "qwen2.5-coder"], id="and the section, where it has a name"
        ),
    ],
)
def test_the_start_line_is_one_that_a_shell_understands(name: str, register_only: bool, words: list[str]) -> None:  # noqa: FBT001 - a table
    line = target.start_line(replace(PLACE, config_file=Path(name), register_only=register_only), LARGE)
    assert shlex.split(line) == ["python", "-m", "openhands.core.main", *words, "-t", "YOUR TASK"]
