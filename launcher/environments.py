"""The environments on this machine: which there are, and which of them serves an engine; and the builds that could be made."""

import difflib
import hashlib
import platform
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from launcher import atomic, cuda, disk, environment, lock, release, store
from launcher.engines.base import Engine
from launcher.environment import MARKER, Environment, own_python
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.profile import CPU, CUDA
from launcher.release import Release, Releases
from launcher.staging import staging

LOCKS = Path(__file__).parent / "engines" / "locks"
ACCELERATORS = (CUDA, CPU)
INSTALLING = "the installation of an engine"


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


def build_for(
    engine: Engine, accelerator: str, *, version: str | None = None, arch: str | None = None, locks: Path = LOCKS
) -> Build:
    """The build of a version, which is the adapter's own if none is named; whether there is a lock for it is seen later."""
    arch, version = arch or platform.machine(), version or engine.VERSION
    return Build(
        engine=engine.NAME,
        version=version,
        accelerator=accelerator,
        arch=arch,
        python=engine.PYTHON[accelerator],
        lock=locks / f"{engine.NAME}-{version}-{accelerator}-{arch}.txt",
    )


def release_of(build: Build) -> Release:
    """What the build will be, by its lock; only its version where there is none for this machine."""
    if not build.lock.exists():
        return Release(build.version)
    return release.read(build.version, build.lock.read_text(encoding="utf-8"), cuda.ARCHS.get(build.arch, {}))


def installed_size(locked: Path) -> int:
    """The bytes that the environment takes on the disk, as the lock's first line says."""
    with locked.open(encoding="utf-8") as lines:
        match = re.fullmatch(r"# installed: (\d+) MB\n", next(lines, ""))
    return int(match[1]) * 1_000_000 if match else 0


def pin_of(locked: Path, package: str) -> str | None:
    """The pinned requirement of a package in a lock, `six==1.17.0`."""
    pin = re.search(rf"^{re.escape(package)}==[^\s;]+", locked.read_text(encoding="utf-8"), re.MULTILINE)
    return pin[0] if pin else None


def digest(locked: Path) -> str:
    """What tells one lock from another."""
    return hashlib.sha256(locked.read_bytes()).hexdigest()


def place(home: Home, build: Build) -> Path:
    """The folder of the build's environment, be it there or not."""
    return home.environments / build.name


def python_of(home: Home, build: Build) -> Path:
    """The interpreter of the environment, be it there or not."""
    return own_python(place(home, build))


def find(home: Home, build: Build) -> Environment | None:
    """The build's environment, if it is whole and was made from today's lock."""
    there = _read(place(home, build))
    return there if there and not there.broken and not _stale(there, build.lock) else None


def read_all(home: Home) -> tuple[Environment, ...]:
    """Every environment there is, by name, the broken ones too."""
    folders = sorted(path for path in home.environments.glob("[!.]*") if path.is_dir())
    return tuple(there for path in folders if (there := _read(path)))


def named(home: Home, name: str) -> Environment:
    """The environment called `name`; raises LauncherError with the closest names if there is none."""
    there = {each.name: each for each in read_all(home)}
    if name in there:
        return there[name]
    closest = difflib.get_close_matches(name, there, n=3, cutoff=0.4) or list(there)
    hint = f"there are {', '.join(closest)}" if closest else "`launcher engines install vllm` makes one"
    raise LauncherError(f"there is no environment {name!r}", hint=hint)


def stale(home: Home, there: Environment, engines: Mapping[str, Engine], *, locks: Path = LOCKS) -> bool:
    """Whether the lock of an environment that was made here is another one by now; one whose lock is gone stays as it is."""
    engine = engines.get(there.engine)
    if there.adopted or there.image or engine is None or there.accelerator not in engine.PYTHON:
        return False
    version = there.release.version
    return _stale(there, _lock(home, engine, there.accelerator, version, locks))


def build_of(home: Home, engine: Engine, accelerator: str, version: str | None, *, locks: Path = LOCKS) -> Build:
    """The build of a version, with the lock that is shipped or that was resolved here."""
    version = version or engine.VERSION
    return replace(build_for(engine, accelerator, version=version), lock=_lock(home, engine, accelerator, version, locks))


def serves(engine: str, accelerator: str) -> str:
    """The word for what an environment can be chosen for: `vllm-cuda`."""
    return f"{engine}-{accelerator}"


def chosen(home: Home, engine: Engine, accelerator: str) -> Environment | None:
    """The environment that a person chose for this engine and build; None where it is the launcher's own.

    Raises LauncherError if it is gone, or cannot be used any more.
    """
    own, name = build_for(engine, accelerator).name, taken(home, engine, accelerator)
    if name == own:
        return None
    hint = f"`launcher engines use {own}` goes back to this launcher's own, `launcher engines` shows what there is"
    there = _read(home.environments / name)
    if there is None:
        raise LauncherError(f"the environment {name}, chosen for {engine.NAME} on {accelerator}, is gone", hint=hint)
    if there.broken:
        message = f"the environment {name}, chosen for {engine.NAME} on {accelerator}, is broken: {there.broken}"
        raise LauncherError(message, hint=f"`launcher engines check {name}` says more; {hint}")
    return there


def taken(home: Home, engine: Engine, accelerator: str) -> str:
    """The name of the environment that serves this engine and build, be it there or not."""
    own = build_for(engine, accelerator).name
    return store.chosen(home).get(serves(engine.NAME, accelerator), own)


def releases(home: Home, engines: Mapping[str, Engine]) -> Releases:
    """What would serve each engine and build now: the environment that is there, else what the lock says."""
    found = {}
    for engine in engines.values():
        for accelerator in engine.PYTHON:
            build = build_for(engine, accelerator)
            there = _read(home.environments / taken(home, engine, accelerator))
            known = there is not None and not there.broken
            found[engine.NAME, accelerator] = there.release if there and known else release_of(build)
    return found


def record(there: Environment) -> None:
    """Write the marker of an environment: the last that is done to one."""
    atomic.write(there.path / MARKER, environment.marker(there))


def adopt(home: Home, there: Environment) -> None:
    """Note an environment that somebody else made; a folder of ours holds the note, and nothing else.

    Raises LauncherError if the name is taken.
    """
    folder = home.make().environments
    folder.mkdir(mode=0o700, exist_ok=True)
    with lock.acquire(folder / f"{there.name}.lock", f"launcher engines add {there.name}", waiting=lambda _: None, timeout=0):
        if there.path.exists():
            raise LauncherError(f"there is an environment {there.name} already", hint="choose another name, or remove that one")
        with staging(there.path) as fresh:
            atomic.write(fresh / MARKER, environment.marker(there))
            fresh.replace(there.path)


def remove(home: Home, there: Environment) -> disk.Usage:
    """Delete what was made here, its lock and its caches with it, or forget what was adopted; the room that it took.

    Raises LauncherError while it is being installed.
    """
    with lock.acquire(
        home.environments / f"{there.name}.lock", f"launcher engines remove {there.name}", waiting=lambda _: None, timeout=0
    ):
        caches = home.caches / there.name
        taken = [disk.usage(each) for each in (there.path, caches)]
        # Moved aside first: a kill in the middle leaves a folder that the next installation clears, not half an environment.
        with staging(there.path) as aside:
            there.path.replace(aside)
        shutil.rmtree(caches, ignore_errors=True)
        for resolved in home.locks.glob(f"{there.name}-*.txt"):
            resolved.unlink(missing_ok=True)
    return disk.Usage(sum(each.size for each in taken), sum(each.freed for each in taken))


def refuse_name(name: str, engines: Iterable[str]) -> None:
    """Raise LauncherError for a name that an adopted environment cannot have."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name.endswith(".lock"):
        raise LauncherError(f"{name!r} is no name for an environment", hint="use letters, digits, dots and dashes")
    if any(re.match(rf"{engine}-\d", name) for engine in engines):
        raise LauncherError(f"{name!r} is a name for what the launcher makes", hint=f"for example my-{name}")


def _lock(home: Home, engine: Engine, accelerator: str, version: str, locks: Path) -> Path:
    shipped = build_for(engine, accelerator, version=version, locks=locks).lock
    return shipped if version == engine.VERSION else home.locks / shipped.name


def _read(path: Path) -> Environment | None:
    try:
        text = (path / MARKER).read_text(encoding="utf-8")
        there = environment.parse(text, path)
    except FileNotFoundError:
        return Environment(path.name, path, own_python(path), broken="it was never finished") if path.is_dir() else None
    except (OSError, ValueError):
        return Environment(path.name, path, own_python(path), broken="its record cannot be read")
    if there.image:
        # Docker is not asked: this is read by verbs that answer at once.
        return there
    # The interpreter is a link to one of the system's, or a user's, which may be gone after an upgrade.
    return there if there.python.exists() else replace(there, broken=f"its interpreter {_target(there.python)} is gone")


def _target(python: Path) -> Path:
    return python.readlink() if python.is_symlink() else python


def _stale(there: Environment, locked: Path) -> bool:
    return locked.exists() and there.made_from != digest(locked)
