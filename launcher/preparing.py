"""Brings what a plan needs to the disk: its engine's environment and its weights."""

from collections.abc import Mapping

from launcher import cuda, environments, installing, weights
from launcher.engines.base import Engine
from launcher.environment import Environment, own_python
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.plan import Plan
from launcher.progress import Progress
from launcher.release import Release
from launcher.runners import spares
from launcher.world import Prepared


def expect(home: Home, env: Mapping[str, str], engines: Mapping[str, Engine], plan: Plan) -> Prepared:
    """Where things will be; nothing is touched."""
    engine = engines[plan.engine]
    there = environments.chosen(home, engine, plan.build)
    if there is None:
        path = environments.place(home, environments.build_for(engine, plan.build))
        there = Environment(name=path.name, path=path, python=own_python(path), release=Release(engine.VERSION))
    return Prepared(
        environment=there.path,
        python=there.python,
        weights=weights.folder(home, _name(plan), plan.variant.weights, env),
        caches=home.caches / there.name,
        version=there.release.version,
    )


def prepare(home: Home, env: Mapping[str, str], engines: Mapping[str, Engine], plan: Plan, progress: Progress) -> Prepared:
    """Install and fetch what is missing; raises LauncherError with what stood in the way."""
    weights.check(plan.variant.weights)
    progress.phase("environment")
    engine = engines[plan.engine]
    environment = environments.chosen(home, engine, plan.build) or _own(home, engine, plan, progress, env)
    _refuse_gpus(engine, environment, plan)
    progress.phase("weights")
    files = weights.fetch(
        home, _name(plan), plan.variant.weights, environment_python=environment.python, progress=progress, env=env
    )
    caches = home.caches / environment.name
    for folder in (home.caches, caches):
        folder.mkdir(mode=0o700, exist_ok=True)
    return Prepared(
        environment=environment.path,
        python=environment.python,
        weights=files,
        caches=caches,
        version=environment.release.version,
    )


def _own(home: Home, engine: Engine, plan: Plan, progress: Progress, env: Mapping[str, str]) -> Environment:
    """The launcher's own environment, made if need be; a spare with what stood there before in its memory ends."""
    build = environments.build_for(engine, plan.build)
    if found := environments.find(home, build):
        return found
    spare = spares.kept(home)
    if spare and spare.handle.environment == environments.place(home, build):
        spares.end(home)
    return installing.ensure(home, build, progress=progress, env=env)


def _refuse_gpus(engine: Engine, there: Environment, plan: Plan) -> None:
    """What the plan could only assume, PyTorch itself has said by now: which GPUs it has code for."""
    if refused := cuda.refusal(engine.NAME, there.release, "", plan.gpus, engine.LAST_FOR_CUDA):
        raise LauncherError(f"{there.name} does not run here: {refused.reason}", hint=refused.remedy)


def _name(plan: Plan) -> str:
    """Two variants of a model never share a folder."""
    return f"{plan.profile.name}-{plan.variant.name}"
