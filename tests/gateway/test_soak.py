"""The first hundreds of what `scripts/soak_gateway.py` does for thousands."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_clients_that_leave_and_engines_that_are_killed_leave_nothing_behind() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "soak_gateway.py", "--requests", "400", "--kills", "2", "--seed", "6", "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    told = json.loads(done.stdout)
    assert told["faults"] == []
    assert set(told["left"].values()) == {0}
    assert told["kills"] == 2
    assert told["fates"]["answered 200"] > 100
    assert (done.returncode, done.stderr) == (0, "")
