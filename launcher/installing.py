"""Makes the locked, isolated environment of a build: whole or not at all, once, whoever else is at it."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from launcher import disk, environments, inspecting, lock
from launcher.child import Child, Log
from launcher.environment import Environment, own_python
from launcher.environments import INSTALLING, Build, digest, find, installed_size
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.profile import CPU
from launcher.progress import Progress
from launcher.staging import clear, put, staging
from launcher.uv import Uv, offline


def ensure(home: Home, build: Build, *, progress: Progress, env: Mapping[str, str]) -> Environment:
    """The environment, made now if need be: built in a folder beside its place and moved there whole.

    `env` is the user's environment. Raises LauncherError for a platform without a lock, a full disk, or what uv failed at.
    """
    if found := find(home, build):
        return found
    _refuse_unsupported(build)
    folder = home.make().environments
    folder.mkdir(mode=0o700, exist_ok=True)

    def waiting(holder: lock.Holder) -> None:
        progress.say(f"{build.name} is being made by {holder.command} (pid {holder.pid}): waiting for it")

    with lock.acquire(folder / f"{build.name}.lock", INSTALLING, waiting=waiting, timeout=None):
        return find(home, build) or _make(home, build, progress, env)


def compile_all(there: Environment, *, progress: Progress, env: Mapping[str, str]) -> None:
    """Byte-compile all of an environment's modules, on every core; what cannot be compiled is left to its import.

    Imports compile what they need, once: a fifth of the modules. Compiling all of them takes longer than that saves, but for
    who waits for something else meanwhile.
    """
    libraries = there.python.parents[1] / "lib"
    words: list[str | Path] = [there.python, "-I", "-m", "compileall", "-q", "-j", "0", libraries]
    kept = {name: value for name, value in env.items() if not name.startswith("PYTHON")}
    with Child(words, env=kept, cwd=there.path) as child:
        for _ in child.lines():
            progress.update(f"byte-compiling {there.name}")


def tries(build: Build, uv: Uv) -> tuple[dict[str, str], ...]:
    """What to add to uv's environment for this build, one try after the other."""
    return attempts(build.accelerator, uv.env, torch_at_hand=_holds_torch(uv.env), no_index=bool(uv.index_options))


def attempts(
    accelerator: str, settings: Mapping[str, str], *, torch_at_hand: bool, no_index: bool
) -> tuple[dict[str, str], ...]:
    """What to add to uv's environment, one try after the other.

    A CPU build needs a CPU torch, which the package index does not have: it comes from where pip's settings point to, or from
    PyTorch's own index, of which uv knows the address. `torch_at_hand`: a folder of `find-links` holds it.
    """
    if accelerator != CPU or torch_at_hand or no_index:
        return ({},)
    torch = {"UV_TORCH_BACKEND": "cpu"}
    configured = any(settings.get(name) for name in ("UV_FIND_LINKS", *_INDEXES))
    return ({}, torch) if configured else (torch,)


_INDEXES = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")


def _refuse_unsupported(build: Build) -> None:
    if build.lock.exists():
        return
    prefix = f"{build.engine}-{build.version}-{build.accelerator}-"
    there = ", ".join(sorted(path.stem.removeprefix(prefix) for path in build.lock.parent.glob(f"{prefix}*.txt"))) or "none"
    message = f"{build.name} does not exist for {build.arch}"
    raise LauncherError(message, hint=f"supported architectures for it: {there}")


def _make(home: Home, build: Build, progress: Progress, env: Mapping[str, str]) -> Environment:
    uv = Uv(env, cpu_build=build.accelerator == CPU)
    place = environments.place(home, build)
    clear(place)
    cache = uv.cache(cwd=home.environments)
    _check_disk(build, home.environments, cache)
    with Log(home.logs / f"environment-{build.name}.log") as log, staging(place) as folder:
        _install(uv, build, folder, log, progress, add=_link_mode(env, home.environments, cache))
        made = _proven(build, folder, progress, env)
        environments.record(made)
        put(folder, place)
    return replace(made, path=place, name=build.name, python=own_python(place))


def _proven(build: Build, folder: Path, progress: Progress, env: Mapping[str, str]) -> Environment:
    """The environment in its staging folder, once its PyTorch has been imported; raises LauncherError if that cannot be.

    Better now than in the log of a server; and only PyTorch itself tells which GPUs it has code for.
    """
    release = environments.release_of(build)
    if release.torch:
        found = inspecting.inspect(own_python(folder), ("torch",), env=env, progress=progress)
        if found.fault:
            hint = "the system may lack what PyTorch needs: a newer glibc, or a library that the fault names"
            raise LauncherError(f"{build.name} can be installed here and does not work: {found.fault}", hint=hint)
        release = replace(release, torch=found.torch, cuda=found.cuda, archs=found.archs)
    progress.update(f"measuring {build.name}")
    return Environment(
        name=build.name,
        path=folder,
        python=own_python(folder),
        engine=build.engine,
        accelerator=build.accelerator,
        release=release,
        made_from=digest(build.lock),
        made=time.time(),
        size=disk.usage(folder).size,
    )


def _check_disk(build: Build, environments: Path, cache: Path) -> None:
    size = installed_size(build.lock)
    what = f"the environment {build.name}"
    free = disk.free_bytes(environments)
    hint = "make room, or set LAUNCHER_HOME to a directory on a larger disk"
    disk.check(what, needs=size, free=free, path=environments, hint=hint)
    if not disk.same_disk(environments, cache):
        hint = "make room, or set UV_CACHE_DIR to a directory on a larger disk"
        disk.check(what, needs=size, free=disk.free_bytes(cache), path=cache, hint=hint)


def _link_mode(env: Mapping[str, str], environments: Path, cache: Path) -> dict[str, str]:
    """Across file systems packages must be copied; within one uv links them, so that they take their room only once."""
    return {} if env.get("UV_LINK_MODE") or disk.same_disk(environments, cache) else {"UV_LINK_MODE": "copy"}


def _install(uv: Uv, build: Build, folder: Path, log: Log, progress: Progress, *, add: Mapping[str, str]) -> None:
    progress.update(f"a Python {build.python} for {build.name}")
    _make_interpreter(uv, build, folder, log)
    reason = None
    for settings in tries(build, uv):
        watch = Watching(build, progress)
        reason = uv.run(_sync(build, folder, uv), cwd=folder.parent, log=log, add={**add, **settings}, watch=watch)
        if reason is None:
            return
    if offline(uv.env):
        hint = f"run it once without --offline, so that uv's cache holds all of it; the whole output is in {log.path}"
        raise LauncherError(f"cannot install {build.name} with what is here: {reason}", hint=hint)
    hint = f"the whole output is in {log.path}; what is downloaded already is kept"
    raise LauncherError(f"cannot install {build.name}: {reason}", hint=hint)


def _make_interpreter(uv: Uv, build: Build, folder: Path, log: Log) -> None:
    """An installed Python if there is one, else one that uv downloads."""
    words: list[str | Path] = ["venv", "--relocatable", "--python", build.python, folder]
    if reason := uv.run([*words, "--allow-existing"], cwd=folder.parent, log=log):
        hint = f"install Python {build.python}, or let uv download it; the whole output is in {log.path}"
        raise LauncherError(f"no Python {build.python} for {build.name}: {reason}", hint=hint)
    if build.accelerator != CPU and not _has_headers(folder / "bin" / "python"):
        # Triton compiles against Python.h when a server starts. Distributions keep it in a package apart; uv's Pythons have it.
        # Where none can be had, the installed one stays.
        uv.run([*words, "--clear", "--managed-python"], cwd=folder.parent, log=log)


def _has_headers(python: Path) -> bool:
    show = "import sysconfig; print(sysconfig.get_path('include'))"
    with Child([python, "-I", "-c", show], env={}, cwd=python.parent) as child:
        said = [line for line in child.lines() if line]
    return bool(said) and (Path(said[-1]) / "Python.h").exists()


def _sync(build: Build, folder: Path, uv: Uv) -> list[str | Path]:
    return [
        *("pip", "sync", "--python", folder / "bin" / "python", "--require-hashes", "--no-build"),
        # Hashes decide what is installed, so that it may come from any index.
        *("--index-strategy", "unsafe-best-match"),
        *uv.index_options,
        build.lock,
    ]


def _holds_torch(settings: Mapping[str, str]) -> bool:
    folders = [Path(place) for place in settings.get("UV_FIND_LINKS", "").split(",") if place and "://" not in place]
    return any(True for folder in folders for _ in folder.glob("torch-*+cpu-*.whl"))


class Watching:
    """Tells how far uv is, from its own lines and from the bytes that it has written."""

    def __init__(self, build: Build, progress: Progress) -> None:
        self._name = build.name
        self._size = installed_size(build.lock)
        self._progress = progress
        self._stage = "fetching"

    def __call__(self, child: Child, line: str | None) -> None:
        for begin, stage in (("Prepared ", "linking"), ("Installed ", "checking")):
            if line and line.startswith(begin):
                self._stage = stage
        if self._stage == "fetching":
            done = min(child.written(), self._size)
            text = f"fetching {self._name}: {disk.gigabytes(done)} of about {disk.gigabytes(self._size)}"
            self._progress.update(text, done, self._size)
        else:
            self._progress.update(f"{self._stage} {self._name}")
