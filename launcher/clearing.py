"""Finds what takes room for us, who uses it, and frees what was chosen: never what a server or an installation uses."""

import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from launcher import background, catalogue, environments, fetching, lock, processes, sizes, store, weights, weights_record
from launcher.clearance import KINDS, Footprint, Item, Kind, freed
from launcher.errors import LauncherError
from launcher.profile_weights import HubWeights
from launcher.runners import spares
from launcher.staging import remove
from launcher.uv import Uv
from launcher.world import World

Weigh = Callable[[Path], tuple[Footprint, float]]
UV = "uv-cache"
# What a write in progress keeps beside its place is there for a moment (seconds).
_YOUNG = 60.0
# What another verb holds the home for is long, or a moment (seconds).
_PATIENCE = 1.0
_WORK = "an installation or a download"


@dataclass(frozen=True, slots=True)
class Cleared:
    """What is gone, what came free in bytes, and what stayed: the name and why."""

    gone: tuple[Item, ...]
    freed: int
    stayed: tuple[tuple[str, str], ...] = ()


def survey(world: World, *, weigh: Weigh = sizes.weigh, kinds: Collection[Kind] = KINDS) -> tuple[Item, ...]:
    """All that takes room, by kind and name; nothing is changed."""
    world.progress.phase("sizes")
    users = _Users.look(world)
    found: list[Item] = []
    every: tuple[tuple[Kind, str, Iterator[Item]], ...] = (
        ("environments", "environments", _environments(world, users)),
        ("caches", "caches", _caches(world, users)),
        ("logs", "logs", _logs(world, users)),
        ("weights", "weights", _weights(world, users)),
        ("staging", "what was left half done", _staging(world)),
    )
    for _, what, items in (each for each in every if each[0] in kinds):
        world.progress.update(f"measuring {what}")
        for item in items:
            footprint, read = weigh(item.path)
            found.append(replace(item, footprint=footprint, used=item.used or read))
    return tuple(found)


def clear(world: World, chosen: tuple[Item, ...]) -> Cleared:
    """Free these, as far as nobody began to use them since they were chosen.

    Raises LauncherError while a verb that changes things is at work.
    """
    if not chosen:
        return Cleared((), 0)
    with _alone(world):
        if damaged := store.look(world.home)[1]:
            # It may be all that tells of a server that runs.
            raise damaged[0]
        # Sizes are known; who uses what may have changed.
        now = {(item.kind, item.path): item.holder for item in survey(world, weigh=lambda _path: (Footprint(), 0.0))}
        gone: list[Item] = []
        stayed: list[tuple[str, str]] = []
        world.progress.phase("cleaning")
        for item in (each for each in chosen if (each.kind, each.path) in now):
            world.progress.update(f"removing {item.name}")
            holder = now[item.kind, item.path]
            if reason := f"in use by {holder}" if holder else _free(world, item):
                stayed.append((item.name, reason))
            else:
                gone.append(item)
    return Cleared(tuple(gone), freed(item.footprint for item in gone), tuple(stayed))


def _alone(world: World) -> AbstractContextManager[None]:
    """Nothing is started meanwhile; where there is no home, nothing can be."""
    if not world.home.root.exists():
        return nullcontext()
    return lock.acquire(world.home.lock, "launcher clean", waiting=lambda _holder: None, timeout=_PATIENCE)


@dataclass(frozen=True, slots=True)
class _Users:
    """What runs: its name, its environment, its log, its processes. An orphan of a server that is gone is one too."""

    engines: tuple[tuple[str, Path, Path, tuple[int, ...]], ...]

    @classmethod
    def look(cls, world: World) -> "_Users":
        home = world.home
        seen = [(server, server.handle) for server in store.look(home)[0] if server.handle]
        running = [(s.label, handle.environment, s.log, world.runner.processes(handle)) for s, handle in seen]
        known = {handle.server_id for _, handle in seen}
        if spare := spares.kept(home):
            running.append(
                ("the warm spare", spare.handle.environment, home.logs / "spare.log", world.runner.processes(spare.handle))
            )
            known.add(spare.handle.server_id)
        if serving := background.at_work(home):
            running += [("launcher serve", Path(), log, (serving.pid,)) for log in (home.serve_log, home.access_log)]
        pids = {pid for _, _, _, pids in running for pid in pids}
        strays = [pid for pid in processes.strays(home.environments, home.logs, known, uid=os.geteuid()) if pid not in pids]
        orphans = [(f"an orphan (pid {pid})", Path(), Path(), (pid,)) for pid in strays]
        return cls(tuple(each for each in running if each[3]) + tuple(orphans))

    def of_environment(self, path: Path) -> str:
        return self._first(lambda environment, _log, pids: environment == path or _mention(pids, path))

    def of_log(self, path: Path) -> str:
        """What is no log was written by an engine, which runs in this folder: it may be any of those that run."""
        is_log = ".log" in path.suffixes
        return self._first(lambda _environment, log, _pids: log == path or not is_log)

    def of_files(self, path: Path) -> str:
        return self._first(lambda _environment, _log, pids: _mention(pids, path))

    def _first(self, uses: Callable[[Path, Path, tuple[int, ...]], bool]) -> str:
        return next((name for name, environment, log, pids in self.engines if uses(environment, log, pids)), "")


def _mention(pids: tuple[int, ...], path: Path) -> bool:
    return any(processes.mentions(pid, path) for pid in pids)


def _environments(world: World, users: _Users) -> Iterator[Item]:
    # An image takes its room in docker, which `engines remove` frees.
    images = {each.path for each in environments.read_all(world.home) if each.image}
    for path in (each for each in _visible(world.home.environments) if each not in images):
        holder = users.of_environment(path) or _locked(path)
        # Python reads it at each start, and nobody else does.
        yield _item("environments", path, holder, used=sizes.last_read(path / "pyvenv.cfg"))


def _caches(world: World, users: _Users) -> Iterator[Item]:
    for path in _visible(world.home.caches):
        yield _item("caches", path, users.of_environment(world.home.environments / path.name) or users.of_files(path))
    if world.home.environments.exists():
        cache = Uv(world.env, cpu_build=True).cache(cwd=world.home.environments)
        if cache.exists():
            working = (holder for path in _visible(world.home.environments) if (holder := _locked(path)))
            yield _item("caches", cache, next(working, ""), name=UV, inside=False)


def _logs(world: World, users: _Users) -> Iterator[Item]:
    folders = {"environment": world.home.environments, "weights": world.home.weights}
    for path in sorted(world.home.logs.glob("[!.]*")):
        # What an installation or a download writes is called after both: environment-vllm-0.32.0-cpu.log.
        work, _, subject = path.name.removesuffix(".log").partition("-")
        working = _locked(folders[work] / subject) if work in folders else ""
        yield _item("logs", path, users.of_log(path) or working)


def _weights(world: World, users: _Users) -> Iterator[Item]:
    for path in _visible(world.home.weights):
        yield _item("weights", path, users.of_files(path) or _locked(path))
    for repo in sorted(_repositories(world)):
        path = weights.repository(repo, world.env)
        if path.exists():
            locks = (path.parent / ".locks" / path.name).glob("*.lock")
            working = next((_WORK for each in locks if lock.holder(each)), "")
            yield _item("weights", path, users.of_files(path) or working, name=repo, inside=False)


def _repositories(world: World) -> set[str]:
    """The repositories that profiles here are served from, and those that were fetched for us."""
    variants = (variant for profile in catalogue.load_all(world.profiles).values() for variant in profile.variants)
    named = {variant.weights.repo for variant in variants if isinstance(variant.weights, HubWeights)}
    return named | {each.repo for each in weights_record.read_all(world.home)}


def _staging(world: World) -> Iterator[Item]:
    """What was never moved to its place, since whoever made it was killed."""
    home = world.home
    folders = (home.root, home.environments, home.weights, home.caches, home.state, home.key.parent, home.wired, home.profiles)
    inner = (home.state / "wanted", home.state / "seen")
    for parent in (*folders, *inner):
        for path in sorted(parent.glob(".*.*")):
            place = path.with_name(path.name[1:].rpartition(".")[0])
            item = _item("staging", path, _locked(place))
            if time.time() - path.lstat().st_mtime > _YOUNG or item.holder:
                yield item


def _item(kind: Kind, path: Path, holder: str, *, name: str = "", used: float = 0.0, inside: bool = True) -> Item:
    """Not measured yet."""
    return Item(kind, name or path.name, path, Footprint(), used, holder, inside)


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir())


def _locked(place: Path) -> str:
    """Who works on this place right now, "" for nobody."""
    holder = lock.holder(place.with_name(f"{place.name}.lock"))
    return f"{holder.command} (pid {holder.pid})" if holder else ""


def _free(world: World, item: Item) -> str:
    """Remove it; why it stayed, "" when it is gone."""
    if item.name == UV and not item.inside:
        return Uv(world.env, cpu_build=True).clean_cache(cwd=world.home.root) or ""
    try:
        if not item.inside:
            fetching.remove(item.name, env=world.env, cwd=world.home.root)
            # What that left: in place, since a folder moved aside in a cache of others' would stay there if we were killed.
            if item.path.exists():
                shutil.rmtree(item.path)
            for record in (each for each in weights_record.read_all(world.home) if each.repo == item.name):
                record.path.unlink(missing_ok=True)
        elif item.kind in {"environments", "weights"}:
            path = item.path.with_name(f"{item.name}.lock")
            with lock.acquire(path, "launcher clean", waiting=lambda _holder: None, timeout=0.0):
                remove(item.path)
        else:
            remove(item.path)
    except LauncherError as fault:
        return fault.message
    except OSError as error:
        return f"{error.strerror} ({error.filename})"
    return ""
