"""Makes the locked, isolated environment that each build of an engine runs in, and finds it again."""

import hashlib
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher import disk, lock
from launcher.child import Child, Log
from launcher.engines.base import Engine
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.progress import Progress
from launcher.staging import clear, put, staging
from launcher.uv import Uv

LOCKS = Path(__file__).parent / "engines" / "locks"
CPU = "cpu"
# Written last: a folder without it is not whole. It holds the hash of the lock that the environment was made from.
MARKER = ".made-from"


@dataclass(frozen=True, slots=True)
class Build:
    """One build of an engine: for `cpu` or `cuda`, for an architecture (`x86_64`), on a Python (`3.11`)."""

    engine: str
    version: str
    accelerator: str
    arch: str
    python: str
    lock: Path

    @property
    def name(self) -> str:
        return f"{self.engine}-{self.version}-{self.accelerator}"


@dataclass(frozen=True, slots=True)
class Environment:
    """An installed build: its folder and the interpreter in it."""

    name: str
    path: Path
    python: Path


def build_for(engine: Engine, accelerator: str, *, arch: str | None = None, locks: Path = LOCKS) -> Build:
    """The build that the adapter was written for, on this machine's architecture; `ensure` says if there is no lock for it."""
    arch = arch or platform.machine()
    return Build(
        engine=engine.NAME,
        version=engine.VERSION,
        accelerator=accelerator,
        arch=arch,
        python=engine.PYTHON[accelerator],
        lock=locks / f"{engine.NAME}-{engine.VERSION}-{accelerator}-{arch}.txt",
    )


def python_of(home: Home, build: Build) -> Path:
    """The interpreter of the environment, be it there or not."""
    return _place(home, build).python


def find(home: Home, build: Build) -> Environment | None:
    """The environment, if it is whole and was made from today's lock."""
    place = _place(home, build)
    try:
        made_from = (place.path / MARKER).read_text(encoding="ascii")
        # The interpreter is a link to one of the system's, which may be gone after an upgrade.
        return place if made_from == _digest(build.lock) and place.python.exists() else None
    except OSError:
        return None


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

    with lock.acquire(folder / f"{build.name}.lock", "the installation of an engine", waiting=waiting, timeout=None):
        found = find(home, build)
        return found or _make(home, build, progress, env)


def installed_size(locked: Path) -> int:
    """The bytes that the environment takes on the disk, as the lock's first line says."""
    with locked.open(encoding="utf-8") as lines:
        match = re.fullmatch(r"# installed: (\d+) MB\n", next(lines, ""))
    return int(match[1]) * 1_000_000 if match else 0


def cuda_of(locked: Path) -> tuple[int, int] | None:
    """The CUDA that a lock's packages were built with, (13, 0); None for a build without one."""
    pin = re.search(r"^nvidia-cuda-runtime(?:-cu\d+)?==(\d+)\.(\d+)", locked.read_text(encoding="utf-8"), re.MULTILINE)
    return (int(pin[1]), int(pin[2])) if pin else None


def pin_of(locked: Path, package: str) -> str | None:
    """The pinned requirement of a package in a lock, `six==1.17.0`."""
    pin = re.search(rf"^{re.escape(package)}==[^\s;]+", locked.read_text(encoding="utf-8"), re.MULTILINE)
    return pin[0] if pin else None


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


def _place(home: Home, build: Build) -> Environment:
    path = home.environments / build.name
    return Environment(name=build.name, path=path, python=path / "bin" / "python")


def _digest(locked: Path) -> str:
    return hashlib.sha256(locked.read_bytes()).hexdigest()


def _refuse_unsupported(build: Build) -> None:
    if build.lock.exists():
        return
    prefix = f"{build.engine}-{build.version}-{build.accelerator}-"
    there = ", ".join(sorted(path.stem.removeprefix(prefix) for path in build.lock.parent.glob(f"{prefix}*.txt"))) or "none"
    message = f"{build.name} does not exist for {build.arch}"
    raise LauncherError(message, hint=f"supported architectures for it: {there}")


def _make(home: Home, build: Build, progress: Progress, env: Mapping[str, str]) -> Environment:
    uv = Uv(env, cpu_build=build.accelerator == CPU)
    place = _place(home, build)
    clear(place.path)
    cache = uv.cache(cwd=home.environments)
    _check_disk(build, home.environments, cache)
    with Log(home.logs / f"environment-{build.name}.log") as log, staging(place.path) as folder:
        _install(uv, build, folder, log, progress, add=_link_mode(env, home.environments, cache))
        (folder / MARKER).write_text(_digest(build.lock), encoding="ascii")
        put(folder, place.path)
    return place


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
    no_index = bool(uv.index_options)
    tries = attempts(build.accelerator, uv.env, torch_at_hand=_holds_torch(uv.env), no_index=no_index)
    reason = None
    for settings in tries:
        watch = Watching(build, progress)
        reason = uv.run(_sync(build, folder, uv), cwd=folder.parent, log=log, add={**add, **settings}, watch=watch)
        if reason is None:
            return
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
        *("pip", "sync", "--python", folder / "bin" / "python", "--require-hashes", "--no-build", "--compile-bytecode"),
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
        for begin, stage in (("Prepared ", "linking"), ("Installed ", "byte-compiling")):
            if line and line.startswith(begin):
                self._stage = stage
        if self._stage == "fetching":
            done = min(child.written(), self._size)
            text = f"fetching {self._name}: {disk.gigabytes(done)} of about {disk.gigabytes(self._size)}"
            self._progress.update(text, done, self._size)
        else:
            self._progress.update(f"{self._stage} {self._name}")
