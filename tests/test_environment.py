import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import environment
from launcher.environment import Environment
from launcher.release import Release

PATH = Path("/home/environments/vllm-0.32.0-cuda")
OURS = Environment(
    name=PATH.name,
    path=PATH,
    python=PATH / "bin" / "python",
    engine="vllm",
    accelerator="cuda",
    release=Release("0.32.0", "2.13.0", (13, 0), ("sm_90",)),
    made_from="7f",
    made=1_790_000_000.5,
    size=9_100_000_000,
)
ADOPTED = replace(OURS, python=Path("/opt/vllm/bin/python"), made_from="", size=0, adopted=True)
IMAGE = replace(
    OURS, made_from="", image="vllm/vllm-openai@sha256:7a", tag="vllm/vllm-openai:v0.32.0", daemon="unix:///run/docker.sock"
)


@pytest.mark.parametrize(
    "there",
    [
        pytest.param(OURS, id="one that was made here"),
        pytest.param(ADOPTED, id="one that was adopted, with its own interpreter"),
        pytest.param(IMAGE, id="an image that was pulled"),
        pytest.param(replace(IMAGE, adopted=True), id="an image that docker had"),
        pytest.param(replace(OURS, accelerator="cpu", release=Release("0.32.0", "2.13.0+cpu")), id="a CPU build"),
    ],
)
def test_a_marker_is_read_as_it_was_written(there: Environment) -> None:
    assert environment.parse(environment.marker(there), PATH) == there


@pytest.mark.parametrize("there", [pytest.param(OURS, id="one that was made here"), pytest.param(ADOPTED, id="an adopted one")])
def test_a_marker_from_before_there_were_images_is_read(there: Environment) -> None:
    before = {key: each for key, each in json.loads(environment.marker(there)).items() if key not in _LATER}
    assert environment.parse(json.dumps(before), PATH) == there


_LATER = {"adopted", "image", "tag", "daemon"}


def test_what_was_made_here_is_read_where_it_lies_now() -> None:
    staged = replace(OURS, path=Path("/home/environments/.x"), python=Path("/home/environments/.x/bin/python"))
    assert environment.parse(environment.marker(staged), PATH) == OURS


def changed(**fields: object) -> str:
    return json.dumps({**json.loads(environment.marker(OURS)), **fields})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "Expecting value", id="empty"),
        pytest.param("7f7f7f", "Extra data", id="an older launcher's, the hash alone"),
        pytest.param("[1]", "TypeError", id="no object"),
        pytest.param(changed(version=2), "not of version 1", id="of a newer version"),
        pytest.param(changed(cuda=[13]), "IndexError", id="half a CUDA version"),
        pytest.param(changed(made="yesterday"), "could not convert", id="a time in words"),
        pytest.param("{}", "KeyError 'version'", id="nothing in it"),
    ],
)
def test_what_is_no_marker_is_told(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        environment.parse(text, PATH)
