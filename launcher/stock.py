"""What lies in LAUNCHER_HOME, and whether it is whole: environments, weights, records, file modes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher import environments, keys, local_model, lock, sizes, store, weights, weights_record
from launcher.checks.home import Kept, State
from launcher.engines.base import Engine
from launcher.environment import Environment
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.plan import Plan
from launcher.profile import CPU, CUDA, Profile
from launcher.profile_weights import HubWeights, LocalWeights
from launcher.weights_record import Recorded
from launcher.wiring import records


def builds(engines: Mapping[str, Engine]) -> tuple[environments.Build, ...]:
    """The builds that there are for this machine's processor."""
    every = (environments.build_for(engine, accelerator) for engine in engines.values() for accelerator in (CUDA, CPU))
    return tuple(build for build in every if build.lock.exists())


def installed(home: Home, engines: Mapping[str, Engine], plan: Plan | None) -> tuple[Kept, ...]:
    """Each environment that is there, and the one that the plan needs."""
    expected = {build.name: environments.installed_size(build.lock) for build in builds(engines)}
    there = {each.name: each for each in environments.read_all(home)}
    needed = environments.taken(home, engines[plan.engine], plan.build) if plan else ""
    return tuple(
        Kept(
            name=name,
            state=_environment(home, name, there.get(name), engines),
            needed=name == needed,
            size=expected.get(name, 0),
        )
        for name in sorted(there.keys() | ({needed} - {""}))
    )


def fetched(home: Home, plan: Plan | None) -> tuple[Kept, ...]:
    """The weights that were fetched, and those that the plan needs."""
    kept = {each.repo: Kept(each.repo, "broken" if each.faulty() else "whole") for each in weights_record.read_all(home)}
    for path in _folders(home.weights):
        whole = (path / weights.MARKER).exists() and local_model.fault(path) is None
        kept[path.name] = Kept(path.name, "whole" if whole else "broken")
    if plan and not isinstance(plan.variant.weights, LocalWeights):
        name = f"{plan.profile.name}-{plan.variant.name}"
        repo = getattr(plan.variant.weights, "repo", name)
        state: State = "whole" if weights.locate(home, name, plan.variant.weights) else "absent"
        if state == "absent" and repo in kept:
            state = "broken"
        if lock.holder(home.weights / f"{name}.lock"):
            state = "at work"
        size = plan.memory.weights * max(1, len(plan.gpus))
        kept[repo] = Kept(repo, state, needed=True, size=size)
    return tuple(kept[name] for name in sorted(kept))


@dataclass(frozen=True, slots=True)
class Stored:
    """What of a model's weights is on the disk: bytes, and when they were last read (seconds since the epoch, 0 for never)."""

    size: int = 0
    used: float = 0.0


def stored(home: Home, profile: Profile, records: Sequence[Recorded]) -> Stored:
    """Of all variants together, each file once."""
    repos = {each.weights.repo for each in profile.variants if isinstance(each.weights, HubWeights)}
    snapshots = {each.folder: each.files for each in records if each.repo in repos}
    files = {folder / name: size for folder, sizes_of in snapshots.items() for name, size in sizes_of.items()}
    for variant in profile.variants:
        place = home.weights / weights.called(profile.name, variant.name)
        files |= {path: path.stat().st_size for path in place.glob("*") if path.is_file()}
    used = {path: sizes.last_read(path) for path in files}
    there = [path for path, read in used.items() if read]
    return Stored(sum(files[path] for path in there), max(used.values(), default=0.0))


def damaged(home: Home) -> tuple[tuple[str, str], ...]:
    """What is wrong with records, and what to do about it."""
    return tuple((fault.message, fault.hint) for fault in _damaged(home))


def private(home: Home) -> Iterator[Path]:
    """What must be for this user alone: the home, the folder of the keys, and the files with keys, records and logs."""
    yield from (home.root, home.key.parent)
    for folder in (home.key.parent, home.state, home.wired, home.logs):
        yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def _environment(home: Home, name: str, there: Environment | None, engines: Mapping[str, Engine]) -> State:
    if lock.holder(home.environments / f"{name}.lock"):
        return "at work"
    if there is None:
        return "absent"
    if there.broken:
        return "broken"
    return "stale" if environments.stale(home, there, engines) else "whole"


def _damaged(home: Home) -> Iterator[LauncherError]:
    yield from store.look(home)[1]
    for read in (store.port, lambda home: keys.read(home.key)):
        try:
            read(home)
        except LauncherError as fault:
            yield fault
    for path in records.paths(home):
        try:
            records.load(path)
        except LauncherError as fault:
            yield fault


def _folders(parent: Path) -> list[Path]:
    """The folders in it; hidden ones are not finished."""
    return [path for path in parent.glob("[!.]*") if path.is_dir()] if parent.is_dir() else []
