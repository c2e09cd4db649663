"""An exported unit under a real systemd, in namespaces as tests/own_systemd.py has: `python -m tests.real.unit_alone MODEL`.

Prints what was seen, as JSON. HOME and LAUNCHER_HOME are those of the test.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.homestead import awaited
from tests.own_systemd import ask, at_work, stand_alone


def main(model: str) -> None:
    stand_alone()
    run = Path(os.environ["HOME"]) / "run"
    run.mkdir(mode=0o700)
    env = {**os.environ, "XDG_RUNTIME_DIR": str(run)}
    text = launcher(env, "export", "systemd", model)
    (first,) = [line for line in text.splitlines() if "enable --now" in line]
    name = first.split()[-1]
    units = Path(env["HOME"]) / ".config" / "systemd" / "user"
    units.mkdir(parents=True)
    (units / name).write_text(text)
    seen: dict[str, Any] = {}
    with at_work(env):
        ask(env, "daemon-reload")
        ask(env, "enable", "--now", name)
        # Its start has ended: so the model has answered.
        before = server(env)
        seen["started"] = [ask(env, "is-active", name), before["state"]]
        os.kill(int(ask(env, "show", "--property=MainPID", "--value", name)), signal.SIGKILL)
        awaited(lambda: ask(env, "show", "--property=NRestarts", "--value", name) == "1")
        awaited(lambda: ask(env, "is-active", name) == "active")
        after = server(env)
        seen["killed"] = [after["state"], after["pid"] == before["pid"]]
        ask(env, "stop", name)
        seen["stopped"] = server(env)["state"]
    print(json.dumps(seen))  # noqa: T201 - its result


def server(env: dict[str, str]) -> dict[str, Any]:
    (only,) = json.loads(launcher(env, "ps", "--json"))
    return dict(only)


def launcher(env: dict[str, str], *words: str) -> str:
    argv = [sys.executable, "-m", "launcher", *words]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main(sys.argv[1])
