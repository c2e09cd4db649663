"""`launcher swap`: another engine, version or model behind the same address, key and name."""

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from launcher import configurations, environments, keys, lock, probe, store, telling
from launcher.command import inheritable
from launcher.deciding import meant
from launcher.endpoint import Endpoint
from launcher.engines.base import Engine
from launcher.errors import LauncherError
from launcher.following import follow, settled
from launcher.plan import Plan
from launcher.profile import CPU, CUDA
from launcher.server import Server, ServerSpec, Swapped, Wanted, serves
from launcher.serving import as_planned, plan_now
from launcher.stopwatch import Stopwatch
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType

_LOOK = 0.05
# How long the verb stays with one that still finishes its requests: it goes by itself.
_COMPANY = 60.0


@dataclass(frozen=True, slots=True)
class SwapRequest:
    """What a person typed: an engine, an engine@version or a model; the name whose place it takes; what else it is to be."""

    what: str
    alias: str | None = None
    context: int | None = None
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """What served, or serves now."""

    model: str
    engine: str
    version: str
    variant: str
    context: int

    @classmethod
    def of(cls, want: Wanted) -> "Side":
        plan = want.planned
        return cls(want.name, plan.engine or "", want.prepared.version, plan.variant or "", plan.context or 0)

    def json(self) -> dict[str, object]:
        return {
            "model": self.model,
            "engine": self.engine,
            "version": self.version,
            "variant": self.variant,
            "context": self.context,
        }

    def __str__(self) -> str:
        return f"{self.model} on {self.engine} {self.version}".rstrip()


@dataclass(frozen=True, slots=True)
class SwapResult:
    """What took whose place, and what it cost; `swapped` is None where nothing had to be done, or nothing came of it.

    `fault` is why the new one does not serve: then what was before does, and `hint` says what to do.
    """

    before: Side
    after: Side
    names: tuple[str, ...]
    swapped: Swapped | None
    seconds: Mapping[str, float]
    fault: str = ""
    hint: str = ""
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return 1 if self.fault else 0

    @property
    def kind(self) -> str:
        if self.swapped is None:
            return "none"
        return "beside" if self.swapped.beside else "in turn"

    def json(self) -> object:
        swapped = self.swapped or Swapped()
        return {
            "from": self.before.json(),
            "to": self.after.json(),
            "names": list(self.names),
            "kind": self.kind,
            "stall_ms": round(swapped.stall * 1000, 1),
            "held": swapped.held,
            "failed": swapped.failed,
            "rolled_back": bool(self.fault),
            "detail": self.fault,
            "hint": self.hint,
            "seconds": dict(self.seconds),
            "notes": list(self.notes),
        }

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        if self.fault:
            head = Text.assemble(("✗ ", "red"), f"{self.after} does not serve: {self.fault}")
            return Group(head, Text.assemble(("hint: ", "dim"), self.hint), f"{self.before} serves, as before.")
        if self.swapped is None:
            return Text.assemble(("✓ ", "green"), f"{self.after}: {self.hint or 'serves already'}")
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="dim", no_wrap=True)
        facts.add_column(overflow="fold")
        for label, value in self._facts(self.swapped):
            facts.add_row(label, value)
        remarks = [Text.assemble(("! ", "yellow"), note) for note in self.notes]
        head = Text.assemble(("✓ ", "green"), (str(self.after), "bold"), f" serves in place of {self.before}")
        return Group(head, Text(), facts, *([Text()] if remarks else []), *remarks)

    def _facts(self, swapped: Swapped) -> Iterator[tuple[str, str]]:
        yield "agents ask for", f"{', '.join(self.names)}: address, key and name are the same as before"
        yield "how", "beside the old one" if swapped.beside else "after the old one: both do not fit at once"
        waited = f"{swapped.held} waited, {_span(swapped.stall)} at most" if swapped.held else "none had to wait"
        yield "requests", f"{waited}; {swapped.failed or 'none'} failed"
        told = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items() if seconds >= 1)
        yield "time", told or "under a second"
        back = self.before.engine if self.before.engine != self.after.engine else f"{self.before.engine}@{self.before.version}"
        yield "back", f"`launcher swap {back if self.before.model == self.after.model else self.before.model}`"


def run(world: World, request: SwapRequest) -> SwapResult:
    """Serve something else in the place of what serves; raises LauncherError for what cannot be begun."""
    world.home.make()

    def wait(holder: lock.Holder) -> None:
        world.progress.phase("waiting")
        world.progress.update(f"for `{holder.command}` (pid {holder.pid}), which is at work")

    with lock.acquire(world.home.lock, f"launcher swap {request.what}", waiting=wait, timeout=None):
        try:
            return _swap(world, request)
        except _FailedError as failed:
            return failed.result


def _swap(world: World, request: SwapRequest) -> SwapResult:
    watch = Stopwatch(world.progress)
    world = replace(world, progress=watch)
    watch.phase("plan")
    back = _place(world, request.alias)
    served = store.started(world.home, back)
    engine, _, version = request.what.partition("@")
    with _version_chosen(world, world.engines.get(engine), version, back):
        specs = _specs(world, request, back, served)
        same = served and serves(served, specs[0]) and version in {"", back.prepared.version}
        if served and same and served.state in {"ready", "idle", "asleep"}:
            rests = "" if served.state == "ready" else f"it is {served.state}: the next request starts it, or `launcher wake`"
            return SwapResult(Side.of(back), Side.of(back), (back.name,), None, watch.seconds(), hint=rests)
        plan, want = _wish(world, specs, back, served)
        swapped, fault, hint = _carried_out(world, want, back, served)
        if fault:
            raise _FailedError(SwapResult(Side.of(back), Side.of(want), (back.name,), None, watch.seconds(), fault, hint))
    names = _named(world, want, back, request.alias)
    if configurations.traits(world.home, want.name) is None:
        configurations.note(world.home, want.name, telling.traits(plan.profile, plan.engine))
    _see_it_leave(world, back)
    return SwapResult(
        Side.of(back), Side.of(want), names, swapped, watch.seconds(), notes=(*plan.notes, *_narrower(back, want))
    )


class _FailedError(Exception):
    """A swap that came to nothing, with what is to be told of it: what was chosen for it is given back on the way."""

    def __init__(self, result: SwapResult) -> None:
        super().__init__(result.fault)
        self.result = result


def _place(world: World, alias: str | None) -> Wanted:
    """What is to be replaced: what an alias or a name stands for, else the only model that is wanted."""
    found = _named_place(world, alias)
    if (found.spec.replicas or 1) > 1:
        hint = f"`launcher up {found.name} --replicas {found.spec.replicas}` with other options replaces them one by one"
        raise LauncherError(f"{found.name} has {found.spec.replicas} replicas, and a swap takes the place of one", hint=hint)
    return found


def _named_place(world: World, alias: str | None) -> Wanted:
    wanted = {want.name: want for want in store.wanted(world.home)}
    if alias and (found := wanted.get(store.aliases(world.home).get(alias, alias))):
        return found
    there = ", ".join(wanted)
    if len(wanted) == 1:
        return next(iter(wanted.values()))
    if not wanted:
        raise LauncherError("nothing is served yet", hint="`launcher up` serves a model")
    raise LauncherError(f"whose place? {there} are served", hint=f"name one: --for {next(iter(wanted))}")


@contextmanager
def _version_chosen(world: World, engine: Engine | None, version: str, back: Wanted) -> Iterator[None]:
    """With this version of an engine as the one that serves, for as long as nothing fails: it stays chosen then."""
    if engine is None or not version:
        yield
        return
    accelerator = CUDA if back.planned.gpus else CPU
    what, before = environments.serves(engine.NAME, accelerator), store.chosen(world.home)
    store.choose(world.home, what, _environment(world, engine, accelerator, version))
    try:
        yield
    except BaseException:
        store.choose(world.home, what, before.get(what))
        raise


def _environment(world: World, engine: Engine, accelerator: str, version: str) -> str | None:
    """The name of the environment with that version; None for the launcher's own, which is installed if need be."""
    if version == engine.VERSION:
        return None
    there = [
        each for each in environments.read_all(world.home) if (each.engine, each.accelerator) == (engine.NAME, accelerator)
    ]
    found = next((each.name for each in there if each.release.version == version and not each.broken), None)
    if found is None:
        known = ", ".join(sorted({engine.VERSION, *(each.release.version for each in there)}))
        hint = f"`launcher engines install {engine.NAME} --version {version}` makes it; there are {known}"
        raise LauncherError(f"{engine.NAME} {version} for {accelerator} is not installed", hint=hint)
    return found


def _specs(world: World, request: SwapRequest, back: Wanted, served: Server | None) -> tuple[ServerSpec, ...]:
    """What it is to be, the best first: the same weights and window, where only the engine changes."""
    engine = request.what.partition("@")[0]
    if engine not in world.engines:
        if "@" in request.what and "/" not in request.what:
            known = ", ".join(world.engines)
            raise LauncherError(f"{engine!r} is no engine", hint=f"there are {known}; a model is named without a version")
        return (meant(world, ServerSpec(model=request.what, context=request.context, variant=request.variant)),)
    context = request.context or (served.context if served else back.planned.context)
    spec = replace(back.spec, engine=engine, context=context, variant=request.variant)
    if engine != back.planned.engine and spec.engine_args:
        # They are options of the other engine.
        world.progress.say(f"without {' '.join(spec.engine_args)}: {engine} has other options")
        spec = replace(spec, engine_args=())
    if request.variant:
        return (spec,)
    return (replace(spec, variant=back.planned.variant), spec)


def _wish(world: World, specs: tuple[ServerSpec, ...], back: Wanted, served: Server | None) -> tuple[Plan, Wanted]:
    """Plan it and bring what it needs to the disk, while the old one serves."""
    spec, plan = _plan(world, specs, served)
    spec = replace(spec, model=plan.profile.name, origin=plan.profile.origin)
    others = {want.name: want for want in store.wanted(world.home)}
    there = others.get(spec.model)
    if there and there.name != back.name and (server := store.started(world.home, there)) and serves(server, spec):
        # It serves already, under its own name.
        if (there.spec.replicas or 1) > 1:
            hint = f"`launcher down {back.name}`, then `launcher alias {back.name} {there.name}` lets it answer for that name"
            raise LauncherError(f"{there.name} has {there.spec.replicas} replicas, and takes nobody's place", hint=hint)
        return plan, replace(there, back=replace(back, back=None))
    ready = world.prepare(plan, world.progress)
    return plan, Wanted(
        spec=replace(spec, pinned=ready.pinned),
        ask=str(uuid.uuid4()),
        planned=as_planned(spec, plan),
        prepared=ready,
        env=inheritable(world.env),
        spare=back.spare,
        idle_stop=back.idle_stop,
        keep=back.keep,
        fallback=back.fallback,
        back=replace(back, back=None),
    )


def _plan(world: World, specs: tuple[ServerSpec, ...], served: Server | None) -> tuple[ServerSpec, Plan]:
    """Beside the old one where that leaves the window that agents were told, else as it would be alone."""
    leaving = (served,) if served and served.handle else ()
    fault: LauncherError | None = None
    for spec in specs:
        try:
            alone = plan_now(world, spec, leaving)
        except LauncherError as error:
            fault = fault or error
            continue
        enough = min(alone.context, served.context if served else alone.context)
        try:
            beside = plan_now(world, spec)
        except LauncherError:
            return spec, alone
        # The processor is no place beside a GPU.
        return spec, beside if beside.context >= enough and bool(beside.gpus) == bool(alone.gpus) else alone
    raise fault or LauncherError("there is nothing to plan")


def _carried_out(world: World, want: Wanted, back: Wanted, served: Server | None) -> tuple[Swapped | None, str, str]:
    """See the swap through: what it cost, or why what was before serves again and what to do."""
    before = next((each for each in store.wanted(world.home) if each.name == want.name), None)
    store.want(world.home, want)
    try:
        server = follow(world, want)
        _ask(world, back.name, want, server)
    except LauncherError as fault:
        if served and served.state == "ready":
            world.progress.say(f"{fault.message}: {Side.of(back)} goes on")
            follow(world, back)
        _taken_back(world, want, before, back)
        return None, fault.message, fault.hint
    except BaseException:
        _taken_back(world, want, before, back)
        raise
    # The switch is on record a moment after the server is.
    return (store.started(world.home, want) or server).swapped or Swapped(), "", ""


def _ask(world: World, name: str, want: Wanted, server: Server) -> None:
    """The path that agents take leads to the new one, under the old name too."""
    key, context = keys.ensure(world.home.key), server.context or want.planned.context or 0
    probe.prove(Endpoint(name, store.address(world.home), key, context), tokens=1)


def _taken_back(world: World, want: Wanted, before: Wanted | None, back: Wanted) -> None:
    """Wish what was wished before, and see to it that nothing is left of the other."""
    if want.name == back.name:
        store.want(world.home, back)
    elif before:
        store.want(world.home, before)
    else:
        store.unwant(world.home, want.name)
    if before is None or before.ask != want.ask:
        settled(world, {want.ask})


def _named(world: World, want: Wanted, back: Wanted, alias: str | None) -> tuple[str, ...]:
    """Keep the names that lead to it now; what it has displaced is not wanted any more."""
    names = dict(store.aliases(world.home))
    for each, model in tuple(names.items()):
        names[each] = want.name if model == back.name else model
    names |= {each: want.name for each in (back.name, alias) if each and each != want.name}
    names.pop(want.name, None)
    if names != store.aliases(world.home):
        store.keep_aliases(world.home, names)
    if want.name != back.name:
        store.unwant(world.home, back.name)
    return (want.name, *(each for each, model in names.items() if model == want.name))


def _see_it_leave(world: World, back: Wanted) -> None:
    """Show how the old one finishes, for a while."""
    deadline = time.monotonic() + _COMPANY
    shown = False
    while (server := store.started(world.home, back)) and server.handle and server.state != "held":
        if not shown:
            world.progress.phase("leave")
            world.progress.update(f"{server.engine} finishes its requests and ends")
            shown = True
        if time.monotonic() > deadline:
            world.progress.say(f"{server.engine} still finishes requests, and ends by itself after them")
            return
        time.sleep(_LOOK)


def _narrower(back: Wanted, want: Wanted) -> tuple[str, ...]:
    told, now = back.planned.context or 0, want.planned.context or 0
    if now >= told:
        return ()
    return (f"the window is {now:,} tokens, and agents were told {told:,}: `launcher wire` tells them",)


def _span(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.0f} s"
