"""The real hub, whose large files come over Xet: where it can be reached."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.conftest import ROOT, Machine

pytestmark = pytest.mark.real

REPO = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture(scope="module", autouse=True)
def _hub() -> None:
    try:
        socket.create_connection(("huggingface.co", 443), 5).close()
    except OSError as error:
        pytest.skip(f"the hub cannot be reached from here ({error}): fetching over Xet (hf_xet) is not proven")


@pytest.mark.parametrize("xet", [pytest.param(True, id="over Xet"), pytest.param(False, id="by plain HTTP")])
def test_a_small_model_is_fetched_and_every_file_is_the_hubs(machine: Machine, tmp_path: Path, *, xet: bool) -> None:
    way = {} if xet else {"HF_HUB_DISABLE_XET": "1"}
    env = {**machine.env, **way, "LAUNCHER_HOME": str(tmp_path / "launcher"), "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}

    def launcher(*words: str) -> str:
        argv = [sys.executable, "-m", "launcher", *words, "--json"]
        return subprocess.run(argv, env=env, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=600).stdout

    last = json.loads(launcher("pull", REPO).splitlines()[-1])
    assert (last["event"], len(last["commit"])) == ("done", 40)
    assert [each["damaged"] for each in json.loads(launcher("models", "verify", REPO))] == [[]]
