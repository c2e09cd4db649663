"""What systemd really makes of the unit: models outlive `launcher serve`, and come back with the machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.homestead import MODEL, ROOT
from tests.own_systemd import GROUPS, why_not
from tests.ports_for_tests import own_port


@pytest.mark.skipif(bool(why_not()), reason=f"no systemd of our own: {why_not()}")
def test_a_model_outlives_its_keepers_and_comes_back_with_the_machine(tmp_path: Path) -> None:
    port = own_port()
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private"]
    words = [*namespaces, sys.executable, "-m", "tests.own_systemd", str(tmp_path), str(port)]
    before = set(GROUPS.glob("**/"))
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    # systemd leaves at least the group that it put itself into; all in them have ended with their namespace.
    for group in sorted(set(GROUPS.glob("**/")) - before, reverse=True):
        group.rmdir()
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout) == {
        "enabled": True,
        "killed": True,
        "written anew": [False, True],
        "disabled": [[MODEL], True],
        "its unit": "LoadState=not-found",
        "enabled again": True,
        "machine down": [False, 0],
        "machine up": [True, 0],
        "stopped": [False, 0],
    }
