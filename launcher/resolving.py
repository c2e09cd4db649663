"""Makes the lock of an engine's version that none is shipped for: wheels only, every file pinned by its hash."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher import atomic, environments, installing
from launcher.child import Log
from launcher.engines.base import Engine
from launcher.environments import Build
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.profile import CPU
from launcher.progress import Progress
from launcher.staging import staging
from launcher.uv import Uv, offline

# As scripts/lock_engines has them: no environment may need a compiler, and no configuration of a project slips in.
_OPTIONS = ("--no-config", "--no-build", "--no-header", "--no-annotate", "--quiet", "--index-strategy", "unsafe-best-match")


def ensure(home: Home, engine: Engine, build: Build, *, progress: Progress, env: Mapping[str, str]) -> None:
    """Resolve the build's lock into LAUNCHER_HOME, if there is none.

    Raises LauncherError for a version that does not exist, with the nearest ones, and for what uv failed at.
    """
    if build.lock.exists() or build.version == engine.VERSION:
        return
    home.make().locks.mkdir(mode=0o700, exist_ok=True)
    progress.update(f"looking for {engine.NAME} {build.version}")
    with Log(home.logs / f"lock-{build.name}.log") as log, staging(build.lock) as folder:
        resolver = _Resolver(engine, build, Uv(env, cpu_build=build.accelerator == CPU), folder, log)
        resolver.refuse_unknown()
        progress.update(f"choosing the packages of {build.name}")
        atomic.write(build.lock, f"{_size(engine, build)}{resolver.lock()}")


class _Resolver:
    """uv's resolver for one build, in a folder far from any project."""

    def __init__(self, engine: Engine, build: Build, uv: Uv, folder: Path, log: Log) -> None:
        self._package, *self._others = engine.REQUIREMENTS[build.accelerator]
        self._overrides = engine.OVERRIDES.get(build.accelerator, ())
        self._build = build
        self._uv = uv
        self._folder = folder
        self._log = log

    def refuse_unknown(self) -> None:
        """Raise LauncherError if there is no such version; asked for alone, which is quick."""
        version = self._build.version
        reason, text = self._compile([f"{self._package}=={version}"], "--no-deps")
        if reason is None:
            # 0.31 finds 0.31.0: two names for one environment.
            if (called := _version(text)) != version:
                raise LauncherError(f"{self._package} {version} is called {called}", hint=f"ask for --version {called}")
            return
        # What lies in a cache says nothing of what there is.
        away = offline(self._uv.env)
        older = "" if away else self._nearest(f"<{version}", "highest")
        newer = "" if away else self._nearest(f">{version}", "lowest")
        if not older and not newer:
            raise self._fault(f"cannot look for {self._package} {version}", reason)
        near = " and ".join(filter(None, (older, newer)))
        asked = [*(("--version", near.split()[0])), *(("--cpu",) if self._build.accelerator == CPU else ())]
        hint = f"the nearest: {near}; `launcher engines install {self._build.engine} {' '.join(asked)}`"
        raise LauncherError(f"there is no {self._package} {version} in wheels for {self._build.arch}", hint=hint)

    def lock(self) -> str:
        """The lock; raises LauncherError where the packages do not go together."""
        requirements = [f"{self._package}=={self._build.version}", *self._others]
        tries = installing.tries(self._build, self._uv)
        reason: str | None = None
        for settings in tries:
            reason, text = self._compile(requirements, "--generate-hashes", add=settings)
            if reason is None:
                return text
        raise self._fault(f"cannot choose the packages of {self._build.name}", reason or "")

    def _nearest(self, versions: str, resolution: str) -> str:
        _, text = self._compile([f"{self._package}{versions}"], "--no-deps", "--resolution", resolution)
        return _version(text)

    def _compile(
        self, requirements: Sequence[str], *options: str, add: Mapping[str, str] | None = None
    ) -> tuple[str | None, str]:
        """Why it cannot be, or None; and the lock."""
        wanted, overrides, made = (self._folder / name for name in ("wanted.in", "overrides.txt", "made.txt"))
        wanted.write_text("".join(f"{each}\n" for each in requirements), encoding="utf-8")
        overrides.write_text("".join(f"{each}\n" for each in self._overrides), encoding="utf-8")
        made.unlink(missing_ok=True)
        words: list[str | Path] = [
            *("pip", "compile", *_OPTIONS, *options),
            *("--python-version", self._build.python, "--overrides", overrides),
            *self._uv.index_options,
            *(wanted, "-o", made),
        ]
        reason = self._uv.run(words, cwd=self._folder, log=self._log, add=add)
        return reason, made.read_text(encoding="utf-8") if reason is None else ""

    def _fault(self, message: str, reason: str) -> LauncherError:
        where = f"the whole output is in {self._log.path}"
        if offline(self._uv.env):
            return LauncherError(f"{message} with what is here: {reason}", hint=f"run it once without --offline; {where}")
        return LauncherError(f"{message}: {reason}", hint=where)


def _version(made: str) -> str:
    found = re.search(r"==(\S+)", made)
    return found[1] if found else ""


def _size(engine: Engine, build: Build) -> str:
    """The first line, with the size of the shipped build's environment: how large this one is, nobody has measured."""
    shipped = environments.build_for(engine, build.accelerator).lock
    return f"# installed: {environments.installed_size(shipped) // 1_000_000} MB\n" if shipped.exists() else ""
