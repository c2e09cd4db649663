"""Docker's own program on this machine: asked, and answered within seconds."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.child import Child
from launcher.docker_faults import ASIDE, FAULTS, PULLING
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.progress import Progress

# A daemon answers in milliseconds; one that hangs must not take us along (seconds).
ANSWERS = 10.0
# What of a container's labels leads back to us.
OF_HOME, OF_SERVER = "launcher.home", "launcher.server"


@dataclass(frozen=True, slots=True)
class Image:
    """An image that docker has: how a start names exactly this one, its bytes, and the CUDA that it says it is made with."""

    reference: str
    size: int
    cuda: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Daemon:
    """A docker that answers: its version, and whether it can give NVIDIA's GPUs to a container."""

    version: str
    gpus: bool


def program(env: Mapping[str, str]) -> str:
    """Docker's own program; raises LauncherError if there is none."""
    if found := shutil.which("docker", path=env.get("PATH")):
        return found
    hint = "install Docker Engine (https://docs.docker.com/engine/install) and the NVIDIA Container Toolkit"
    raise LauncherError("there is no `docker` on the PATH", hint=hint)


def at(daemon: str) -> tuple[str, ...]:
    """The words that lead to that daemon, whatever the shell says that we were started from."""
    return ("--host", daemon) if daemon else ()


def ask(words: Sequence[str], env: Mapping[str, str], *, daemon: str = "", timeout: float = ANSWERS) -> str:
    """What docker prints; raises LauncherError with its reason, and where it says nothing for so many seconds."""
    done = _run(words, env, daemon, timeout)
    if done.returncode:
        raise explained(f"docker {words[0]}", done.stderr)
    return done.stdout


def _run(words: Sequence[str], env: Mapping[str, str], daemon: str, timeout: float) -> "subprocess.CompletedProcess[str]":
    argv = [program(env), *at(daemon), *words]
    try:
        return subprocess.run(
            argv, env=dict(env), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        )
    except OSError as error:
        raise LauncherError(f"cannot run {argv[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        hint = "`sudo systemctl restart docker`, if it stays like that"
        raise LauncherError(f"docker did not answer in {timeout:.0f} s", hint=hint) from None


def explained(what: str, said: str) -> LauncherError:
    """What docker said, as a fault that tells what to do."""
    lines = [line for line in said.splitlines() if not re.search(ASIDE, line)]
    for fault in (*FAULTS, *PULLING):
        for line in lines:
            if found := re.search(fault.pattern, line):
                cause = fault.cause.format(*filter(None, found.groups()))
                return LauncherError(f"{what}: {cause}" if fault in PULLING else cause, hint=fault.remedy)
    last = lines[-1].removeprefix("Error response from daemon: ") if lines else "it said nothing"
    return LauncherError(f"{what}: {last}", hint="`docker info` says whether docker itself is well")


def daemon(env: Mapping[str, str]) -> str:
    """The address of the docker that a person uses here; raises LauncherError for one on another machine."""
    address = ask(("context", "inspect", "--format", "{{.Endpoints.docker.Host}}"), env).strip()
    if not address.startswith("unix://"):
        hint = "`docker context use default`, or unset DOCKER_HOST: weights and GPUs are this machine's"
        raise LauncherError(f"docker leads to {address or 'nowhere'}, and not to this machine", hint=hint)
    return address


def look(env: Mapping[str, str], *, daemon: str) -> Daemon:
    """The daemon itself; raises LauncherError where it cannot be asked."""
    told: dict[str, Any] = json.loads(ask(("info", "--format", "{{json .}}"), env, daemon=daemon))
    if faults := told.get("ServerErrors"):
        raise explained("docker info", "\n".join(faults))
    devices = [each.get("ID", "") for each in told.get("DiscoveredDevices") or []]
    # `--gpus` needs the toolkit's hook on the PATH, its runtime, or what it wrote of the GPUs (CDI).
    known = "nvidia" in (told.get("Runtimes") or {}) or any(each.startswith("nvidia.com/gpu") for each in devices)
    hook = shutil.which("nvidia-container-runtime-hook", path=env.get("PATH"))
    return Daemon(told.get("ServerVersion", ""), known or hook is not None)


def image(name: str, env: Mapping[str, str], *, daemon: str) -> Image | None:
    """The image of that name, tag or digest; None if docker does not have it."""
    done = _run(("image", "inspect", "--format", "{{json .}}", name), env, daemon, ANSWERS)
    if done.returncode and "No such image" in done.stderr:
        return None
    if done.returncode:
        raise explained("docker image inspect", done.stderr)
    told = json.loads(done.stdout)
    pulled = told.get("RepoDigests") or []
    # NVIDIA's base images, which both engines' are made from, have it among their variables.
    found = re.search(r"^CUDA_VERSION=(\d+)\.(\d+)", "\n".join(told["Config"].get("Env") or []), re.MULTILINE)
    return Image(pulled[0] if pulled else told["Id"], int(told["Size"]), (int(found[1]), int(found[2])) if found else None)


def pull(name: str, home: Home, env: Mapping[str, str], progress: Progress, *, daemon: str) -> None:
    """Have docker fetch an image; raises LauncherError."""
    layers: set[str] = set()
    done: set[str] = set()
    said: list[str] = []
    with Child([program(env), *at(daemon), "pull", name], env=env, cwd=home.make().root) as child:
        for line in child.lines():
            if line:
                said.append(line)
                layer, _, what = line.partition(": ")
                layers |= {layer} if what in _LAYER | _DONE else set()
                done |= {layer} if what in _DONE else set()
            progress.update(f"docker fetches {name}: {len(done)} of {len(layers)} layers", len(done), len(layers))
        if child.wait():
            raise explained(f"docker cannot pull {name}", "\n".join(said))


_LAYER, _DONE = frozenset({"Pulling fs layer", "Waiting"}), frozenset({"Pull complete", "Already exists"})


def containers(label: str, env: Mapping[str, str], *, daemon: str) -> tuple[tuple[str, str], ...]:
    """The containers with a label (`KEY=VALUE`), running or not: the name of each, and the server that it is of."""
    shown = f'{{{{.Names}}}}\t{{{{.Label "{OF_SERVER}"}}}}'
    told = ask(("ps", "--all", "--filter", f"label={label}", "--format", shown), env, daemon=daemon)
    return tuple((name, server) for name, _, server in (line.partition("\t") for line in told.splitlines() if line))
