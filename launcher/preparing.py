"""Brings what a plan needs to the disk: its engine's environment and its weights."""

from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from launcher import cuda, environments, host, installing, ports, weights
from launcher.beside import beside
from launcher.command import inheritable
from launcher.engines.base import Engine, Site
from launcher.environment import Environment, own_python
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.plan import Plan
from launcher.prepared import Prepared
from launcher.profile_weights import HubWeights
from launcher.progress import Progress
from launcher.release import Release
from launcher.runners import spares

_T = TypeVar("_T")
# Seconds between two looks at work that goes on beside.
_TURN = 0.2


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
        weights=weights.folder(home, weights.called(plan.profile.name, plan.variant.name), plan.variant.weights, env),
        caches=home.caches / there.name,
        version=there.release.version,
        image=there.image,
        daemon=there.daemon,
    )


def prepare(home: Home, env: Mapping[str, str], engines: Mapping[str, Engine], plan: Plan, progress: Progress) -> Prepared:
    """Install and fetch what is missing, both at once; raises LauncherError with what stood in the way.

    While the weights are still coming, the engine's imports are done already: a spare waits for them.
    """
    kind = plan.variant.weights
    weights.check(kind)
    progress.phase("environment")
    if found := weights.locate(home, weights.called(plan.profile.name, plan.variant.name), kind):
        there = environment(home, env, engines, plan, progress)
        progress.phase("weights")
        return _prepared(home, there, found, weights.pin(home, kind, found))
    installed: Future[Environment] = Future()

    def fetch(shown: Progress) -> Path:
        return weights.fetch(
            home,
            weights.called(plan.profile.name, plan.variant.name),
            kind,
            environment_python=lambda: interpreter(_awaited(installed, shown, "waiting for the environment")),
            progress=shown,
            env=env,
        )

    with beside(progress, "weights", fetch) as (files, shown):
        there = environment(home, env, engines, plan, shown)
        installed.set_result(there)
        if not there.image:
            _imports_begin(home, engines[plan.engine], plan, there, env)
        if isinstance(kind, HubWeights) and not there.image and not files.done():
            # The network is what is waited for. A conversion would have to share the processor.
            installing.compile_all(there, progress=shown, env=env)
        if not files.done():
            progress.phase("waiting")
        found = _awaited(files, shown, "for the weights" + ("" if there.image else "; the engine is imported meanwhile"))
        return _prepared(home, there, found, weights.pin(home, kind, found))


def environment(
    home: Home, env: Mapping[str, str], engines: Mapping[str, Engine], plan: Plan, progress: Progress
) -> Environment:
    """The environment that serves the plan, with code for its GPUs."""
    engine = engines[plan.engine]
    there = environments.chosen(home, engine, plan.build) or _own(home, engine, plan, progress, env)
    _refuse_gpus(engine, there, plan)
    return there


def interpreter(there: Environment) -> Path:
    """What runs Python with this engine's packages; raises LauncherError for an image, which has none on this machine."""
    if there.image:
        hint = f"`launcher engines install {there.engine}` makes an environment that does, then `launcher engines use` it"
        raise LauncherError(f"{there.name} is an image, and these weights are converted by an engine's own Python", hint=hint)
    return there.python


def _awaited(outcome: "Future[_T]", progress: Progress, text: str) -> _T:
    """What other work comes to, and meanwhile a word at each turn: who waits must be able to stop."""
    while True:
        with suppress(TimeoutError):
            return outcome.result(timeout=_TURN)
        progress.update(text)


def _imports_begin(home: Home, engine: Engine, plan: Plan, there: Environment, env: Mapping[str, str]) -> None:
    ready = _prepared(home, there, Path("/"))
    site = Site(python=there.python, weights=ready.weights, host=ports.LOOPBACK, port=ports.FIRST, api_key="")
    command = engine.command(plan, site).keeping(engine.CACHES, ready.caches)
    spares.make(home, command, environment=there.path, room=host.ram().available, inherited=inheritable(env))


def _prepared(home: Home, there: Environment, files: Path, pinned: str = "") -> Prepared:
    caches = home.caches / there.name
    for folder in (home.caches, caches):
        folder.mkdir(mode=0o700, exist_ok=True)
    return Prepared(
        environment=there.path,
        python=there.python,
        weights=files,
        caches=caches,
        version=there.release.version,
        pinned=pinned,
        image=there.image,
        daemon=there.daemon,
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
