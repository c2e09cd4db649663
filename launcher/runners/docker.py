"""Engines in their makers' images: docker's own program in the foreground, as a server's first process on this machine.

So its log, its life and its exit code are the engine's, and the supervisor is the same. Docker is asked for the rest: what runs
in the container, and its end, which is not that of the program. What has no container is a command of this machine (local.py).
"""

import hashlib
import math
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from launcher import docker, processes
from launcher.command import Command
from launcher.engines.base import SHARED, Container, Engine, Site
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.plan import Plan
from launcher.runners import local
from launcher.runners.base import Handle

CACHES = "/caches"
# What a server that computes has no use for, of all that docker leaves to root in a container (moby, oci/caps/defaults.go). It
# keeps DAC_OVERRIDE, without which root cannot read what is this user's alone.
DROPPED = ("AUDIT_WRITE", "MKNOD", "NET_RAW", "SETFCAP", "SYS_CHROOT")
# How long docker may take to list processes (seconds), and its program to end once its container did.
_LISTS, _ENDS = 5.0, 5.0


@dataclass(frozen=True, slots=True)
class Box:
    """Which image is run, by which docker, for which home and server."""

    image: str
    daemon: str
    home: Home
    environment: str
    server_id: str

    @property
    def name(self) -> str:
        return f"launcher-{self.server_id}"

    @property
    def volume(self) -> str:
        return volume(self.home, self.environment)


def volume(home: Home, environment: str) -> str:
    """Docker's own volume for what an image's engine compiles.

    Not a folder of the home: both makers' images run as root, and nobody else could remove what that leaves there.
    """
    return f"launcher-{hashlib.sha256(bytes(home.root)).hexdigest()[:8]}-{environment}"


def command(engine: Engine, plan: Plan, site: Site, box: Box, *, reads: Iterable[Path]) -> Command:
    """`docker run` for this plan: it sees the plan's GPUs and no others, and the folders that it `reads`.

    In its own network it listens on every address, of which docker shows one on the host's loopback. Docker would refuse a port
    that is taken. The key, and whatever else is secret, goes by the environment of docker's program: `--env NAME`.
    """
    inside = engine.contained(plan, Container(model=str(site.weights), port=site.port)).keeping(engine.CACHES, Path(CACHES))
    gpus = ",".join(gpu.uuid for gpu in plan.gpus)
    told = [f"{name}={value}" for name, value in sorted(inside.env.items())]
    argv = [
        *("docker", *docker.at(box.daemon), "run", "--rm", "--init", "--pull", "never"),
        *("--name", box.name),
        *("--label", f"{docker.OF_HOME}={box.home.root}", "--label", f"{docker.OF_SERVER}={box.server_id}"),
        # In quotes of its own: docker reads the value as a row of CSV.
        *(("--gpus", f'"device={gpus}"') if gpus else ()),
        *("--publish", f"{site.host}:{site.port}:{site.port}"),
        # Either this or the host's own IPC (docs.vllm.ai, "Using Docker"); its own goes with it.
        *("--shm-size", f"{SHARED}g"),
        # What is printed comes here; docker would keep all of it a second time, as long as the server runs.
        *("--log-driver", "none"),
        *("--security-opt", "no-new-privileges"),
        *(word for name in DROPPED for word in ("--cap-drop", name)),
        *(word for path in reads for word in ("--mount", _mount(path))),
        *("--mount", f"type=volume,src={box.volume},dst={CACHES}"),
        *(word for each in (*told, engine.IMAGE.key, processes.SERVER_ID) for word in ("--env", each)),
        *("--entrypoint", inside.argv[0], box.image, *inside.argv[1:]),
    ]
    return Command(tuple(argv), secrets={**inside.secrets, engine.IMAGE.key: site.api_key})


def _mount(path: Path) -> str:
    """The same path inside, so that links mean the same."""
    fields = ("type=bind", f"src={path}", f"dst={path}", "readonly")
    return ",".join(f'"{each.replace(chr(34), chr(34) * 2)}"' if set(each) & set(',"') else each for each in fields)


def read_by(weights: Path) -> tuple[Path, ...]:
    """The folders that a model's files lie in: its own, and those that links in it lead to, as in the hub's cache."""
    found = {weights}
    for path in weights.rglob("*"):
        link = path
        while link.is_symlink():
            link = Path(os.path.normpath(link.parent / link.readlink()))
            found.add(link.parent)
    return tuple(sorted(each for each in found if not found & set(each.parents)))


@dataclass(frozen=True, slots=True)
class Docker:
    """A Runner of both kinds; `env` says where docker's program is found."""

    env: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def start(self, command: Command, *, log: Path, server_id: str, environment: Path, inherited: Mapping[str, str]) -> Handle:
        """Start `command`, which may be docker's program; raises LauncherError if it cannot be executed."""
        if command.argv[0] == "docker":
            docker.program(inherited)
        return local.start(command, log=log, server_id=server_id, environment=environment, inherited=inherited)

    def alive(self, handle: Handle) -> bool:
        """Whether the first process runs; without docker's program nobody hears of what goes on in a container."""
        return local.alive(handle)

    def exit_code(self, handle: Handle) -> int | None:
        """How it ended: docker's program ends as what it runs does, with 125 to 127 where that could not be."""
        return local.exit_code(handle)

    def processes(self, handle: Handle) -> tuple[int, ...]:
        """The pids of all of it; those in a container as this machine has them, as far as docker says so in time."""
        here = set(local.processes(handle))
        if handle.container:
            with suppress(LauncherError):
                # The first line is the heading.
                words = ("top", handle.container, "-eo", "pid")
                here |= {int(pid) for pid in self._ask(handle, *words, timeout=_LISTS).split()[1:]}
        return tuple(sorted(here))

    def stop(self, handle: Handle, *, grace: float) -> None:
        """End all of it, also what docker's program left when it was killed; raises LauncherError while docker has it still."""
        if not handle.container:
            local.stop(handle, grace=grace)
            return
        with suppress(LauncherError):
            seconds = math.ceil(grace)
            self._ask(handle, "stop", "-t", str(seconds), handle.container, timeout=seconds + docker.ANSWERS)
        local.stop(handle, grace=_ENDS)
        with suppress(LauncherError):
            self._ask(handle, "rm", "--force", "--volumes", handle.container)
        label = f"{docker.OF_SERVER}={handle.server_id}"
        if left := docker.containers(label, self.env, daemon=handle.daemon):
            name = left[0][0]
            raise LauncherError(f"docker did not end the container {name}", hint=f"`docker rm --force {name}`")

    def _ask(self, handle: Handle, *words: str, timeout: float = docker.ANSWERS) -> str:
        return docker.ask(words, self.env, daemon=handle.daemon, timeout=timeout)
