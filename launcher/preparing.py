"""Brings what a plan needs to the disk: its engine's environment and its weights."""

from collections.abc import Mapping

from launcher import environments, weights
from launcher.engines.base import Engine
from launcher.home import Home
from launcher.plan import Plan
from launcher.progress import Progress
from launcher.world import Prepared


def expect(home: Home, env: Mapping[str, str], engines: Mapping[str, Engine], plan: Plan) -> Prepared:
    """Where things will be; nothing is touched."""
    build = environments.build_for(engines[plan.engine], plan.build)
    python = environments.python_of(home, build)
    return Prepared(
        environment=python.parents[1],
        python=python,
        weights=weights.folder(home, _name(plan), plan.variant.weights, env),
    )


def prepare(home: Home, env: Mapping[str, str], engines: Mapping[str, Engine], plan: Plan, progress: Progress) -> Prepared:
    """Install and fetch what is missing; raises LauncherError with what stood in the way."""
    weights.check(plan.variant.weights)
    progress.phase("environment")
    build = environments.build_for(engines[plan.engine], plan.build)
    environment = environments.ensure(home, build, progress=progress, env=env)
    progress.phase("weights")
    files = weights.fetch(
        home, _name(plan), plan.variant.weights, environment_python=environment.python, progress=progress, env=env
    )
    return Prepared(environment=environment.path, python=environment.python, weights=files)


def _name(plan: Plan) -> str:
    """Two variants of a model never share a folder."""
    return f"{plan.profile.name}-{plan.variant.name}"
