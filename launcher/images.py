"""Engines as images of docker's: taken in, asked for, and let go of. What is noted of one is an environment like any other."""

import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from launcher import docker, environments
from launcher.engines.base import Engine
from launcher.environment import Environment, own_python
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.profile import CUDA
from launcher.progress import Progress
from launcher.release import Release
from launcher.runners.docker import volume
from launcher.uv import offline


def tag_of(engine: Engine, version: str) -> str:
    """The image of a version, as the engine's makers tag it."""
    return f"{engine.IMAGE.name.rpartition(':')[0]}:v{version}"


def name_of(engine: Engine, version: str) -> str:
    """What the environment of that image is called."""
    return f"{engine.NAME}-{version}-image"


def take(
    home: Home, engine: Engine, name: str, tag: str, *, gpus: bool, env: Mapping[str, str], progress: Progress
) -> tuple[Environment, bool]:
    """Note an image as an environment, pulled if docker does not have it; and whether all of that was so already.

    Raises LauncherError where docker cannot be asked, where it cannot give containers the machine's `gpus`, and for what the
    pull failed at.
    """
    daemon = docker.daemon(env)
    if gpus and not docker.look(env, daemon=daemon).gpus:
        # As docker would say it, but before gigabytes are fetched.
        raise docker.explained("docker run", 'could not select device driver "" with capabilities: [[gpu]]')
    before = next((each for each in environments.read_all(home) if each.name == name), None)
    noted = before and (before.tag, before.daemon) == (tag, daemon)
    if before and not noted:
        raise LauncherError(f"there is an environment {name} already", hint="choose another name, or remove that one")
    there = docker.image(before.image if before and noted else tag, env, daemon=daemon)
    if before and noted and there:
        return before, True
    ours = there is None
    if ours and offline(env):
        raise LauncherError(f"docker does not have {tag}", hint="run it once without --offline, or `docker load` it")
    if ours:
        docker.pull(tag, home, env, progress, daemon=daemon)
        there = docker.image(tag, env, daemon=daemon)
    if there is None:
        raise LauncherError(f"docker has pulled {tag}, and does not have it", hint="`docker images` shows what it has")
    place = home.environments / name
    made = Environment(
        name=name,
        path=place,
        python=own_python(place),
        engine=engine.NAME,
        accelerator=CUDA,
        release=Release(_version(tag), cuda=there.cuda),
        made=time.time(),
        size=there.size,
        # What was there before us is somebody else's.
        adopted=not ours,
        image=there.reference,
        tag=tag,
        daemon=daemon,
    )
    if before and noted:
        environments.record(made)
    else:
        environments.adopt(home, made)
    return made, False


def seen(there: Environment, env: Mapping[str, str]) -> Environment:
    """The environment as docker has it now, broken if it does not; raises LauncherError where docker cannot be asked."""
    found = docker.image(there.image, env, daemon=there.daemon)
    return there if found else replace(there, broken=f"docker does not have {there.tag} any more")


def drop(home: Home, there: Environment, env: Mapping[str, str]) -> None:
    """Have docker remove the image, if it was pulled for us, and what its engine compiled; raises LauncherError."""
    if shutil.which("docker", path=env.get("PATH")) is None:
        # It is gone, and whatever it had with it as far as anybody can tell.
        return
    with suppress(LauncherError):
        # There is none before the first start.
        docker.ask(("volume", "rm", volume(home, there.name)), env, daemon=there.daemon)
    if there.adopted or docker.image(there.image, env, daemon=there.daemon) is None:
        return
    # By its tag, with which the digest goes, unless that means another image by now, which is somebody else's.
    named = docker.image(there.tag, env, daemon=there.daemon)
    name = there.tag if named and named.reference == there.image else there.image
    docker.ask(("image", "rm", name), env, daemon=there.daemon, timeout=6 * docker.ANSWERS)


def _version(tag: str) -> str:
    """The engine's version as its tag tells it, "" where that is no number."""
    found = re.search(r":v?(\d+\.\d[\w.]*)", tag)
    return found[1] if found else ""
