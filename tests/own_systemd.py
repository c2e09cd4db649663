"""A real systemd for a user, in namespaces of its own, and what becomes there of a model that a unit keeps alive.

    unshare --mount --pid --fork --mount-proc --propagation private python -m tests.own_systemd ROOT PORT

Prints what was seen, as JSON. All that it starts ends with it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.homestead import Homestead, awaited, homestead, lives

SYSTEMD = Path("/lib/systemd/systemd")
# systemd's own hierarchy of control groups: it needs no other one, and none is touched.
GROUPS = Path("/sys/fs/cgroup/systemd")


def why_not() -> str:
    """Why this cannot be done here, "" if it can."""
    if not SYSTEMD.exists():
        return "systemd is not installed here"
    if os.geteuid():
        return "namespaces are for root here"
    if Path("/run/systemd/system").exists():
        return "this machine's own systemd is at work"
    if not GROUPS.is_dir():
        return "systemd has no hierarchy of control groups of its own here"
    unshare = shutil.which("unshare")
    words = [unshare or "false", "--mount", "--pid", "--fork", "true"]
    allowed = subprocess.run(words, capture_output=True, check=False)
    return "namespaces are not allowed here" if allowed.returncode else ""


def main(root: Path, port: int) -> None:
    stand_alone()
    with homestead(root) as place:
        place.env["XDG_RUNTIME_DIR"] = str(root / "run")
        (root / "run").mkdir(mode=0o700)
        print(json.dumps(story(place, port)))  # noqa: T201 - its result


def stand_alone() -> None:
    """Control groups and a place at work that no other systemd has, in these namespaces."""
    for words in (
        ["mount", "-t", "tmpfs", "none", str(GROUPS.parent)],
        ["mkdir", str(GROUPS)],
        ["mount", "-t", "cgroup", "-o", "none,name=systemd", "none", str(GROUPS)],
        ["mkdir", "-p", "/run/systemd"],
        ["mount", "-t", "tmpfs", "none", "/run/systemd"],
        # By this systemctl knows that systemd is there, sd_booted(3).
        ["mkdir", "/run/systemd/system"],
    ):
        subprocess.run(words, check=True)


def story(place: Homestead, port: int) -> dict[str, Any]:
    """What is true at each point of a unit's life."""
    place.want(port)
    place.attend()
    server = place.ready()

    def is_the_same() -> bool:
        return place.ready().handle == server.handle and place.ready().restarts == 0 and lives(server)

    seen: dict[str, Any] = {}
    with at_work(place.env):
        first = told(place, "enable")
        seen["enabled"] = is_the_same()
        os.kill(first["pid"], signal.SIGKILL)
        awaited(lambda: keeper(place) not in {0, first["pid"]})
        seen["killed"] = is_the_same()
        place.env["HF_HOME"] = "/big/hf"
        second = told(place, "enable")
        seen["written anew"] = [second["already"], is_the_same()]
        seen["disabled"] = [told(place, "disable")["models"], is_the_same()]
        seen["its unit"] = ask(place.env, "show", "--property=LoadState", first["unit"])
        third = told(place, "enable")
        seen["enabled again"] = is_the_same()
    seen["machine down"] = [lives(server), keeper(place)]
    with at_work(place.env):
        awaited(lambda: keeper(place) not in {0, third["pid"]})
        again = place.ready()
        seen["machine up"] = [lives(again), again.restarts]
        ask(place.env, "stop", first["unit"])
        seen["stopped"] = [lives(again), keeper(place)]
    return seen


@contextmanager
def at_work(env: Mapping[str, str]) -> Iterator[None]:
    """The user's systemd, from its start to its orderly end."""
    with (Path(env["HOME"]) / "systemd.log").open("ab") as log:
        words = [str(SYSTEMD), "--user", "--unit=default.target", "--log-target=console"]
        process = subprocess.Popen(words, env=env, stdout=log, stderr=log)
        awaited(lambda: ask(env, "is-system-running") in {"running", "degraded"})
        yield
        ask(env, "exit")
        process.wait(30)


def told(place: Homestead, *words: str) -> dict[str, Any]:
    done = place.launcher(*words, "--json")
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def ask(env: Mapping[str, str], *words: str) -> str:
    argv = ["systemctl", "--user", *words]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False).stdout.strip()


def keeper(place: Homestead) -> int:
    """The process that keeps the models alive, 0 if there is none."""
    holder = place.holder()
    return holder.pid if holder else 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
