"""`launcher engines`: the environments there are, what each is good for, and those that could be made."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher import environments, store
from launcher.disk import gigabytes
from launcher.environment import Environment
from launcher.environments import Build
from launcher.server import state_now
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text


@dataclass(frozen=True, slots=True)
class Row:
    """An environment, or one that could be made; `models` are what it serves right now.

    `taken` says that `launcher up` serves with it, `chosen` that a person said so.
    """

    there: Environment
    installed: bool
    models: tuple[str, ...] = ()
    taken: bool = False
    chosen: bool = False
    stale: bool = False

    def json(self) -> dict[str, object]:
        there, release = self.there, self.there.release
        return {
            "name": there.name,
            "engine": there.engine,
            "version": release.version,
            "build": there.accelerator,
            "installed": self.installed,
            "size": there.size,
            "made": there.made or None,
            "python": None if there.image else str(there.python),
            "image": there.image or None,
            "torch": release.torch,
            "cuda": ".".join(map(str, release.cuda or ())),
            "serves": list(self.models),
            "taken": self.taken,
            "chosen": self.chosen,
            "adopted": there.adopted,
            "stale": self.stale,
            "broken": there.broken,
        }


@dataclass(frozen=True, slots=True)
class EnginesResult:
    """All of them, those that are installed first."""

    rows: tuple[Row, ...]
    exit_code: int = 0

    def json(self) -> object:
        return [row.json() for row in self.rows]

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="dim", pad_edge=False)
        for header in ("NAME", "ENGINE", "VERSION", "BUILD", "SIZE", "STATE"):
            table.add_column(header, no_wrap=header != "STATE", justify="right" if header == "SIZE" else "left")
        for row in self.rows:
            there = row.there
            size = gigabytes(there.size) if there.size else "-"
            style = "" if row.installed else "dim"
            words = (there.name, there.engine or "-", there.release.version or "-", there.accelerator or "-")
            table.add_row(*(Text(word, style) for word in words), Text(size, style), _state(row))
        about = (
            "\n`launcher up` takes the chosen ones, and installs what is missing; `launcher engines --help` lists the verbs."
        )
        return Group(table, Text(about, "dim"))


def run(world: World) -> EnginesResult:
    """Look at the folders and at what runs; nothing is changed."""
    there = environments.read_all(world.home)
    serving = running_in(world)
    chosen = store.chosen(world.home)
    own = {build.name: build for build in _own(world)}
    taken = {**{environments.serves(each.engine, each.accelerator): name for name, each in own.items()}, **chosen}
    rows = [
        Row(
            each,
            installed=True,
            models=serving.get(each.name, ()),
            taken=each.name in taken.values(),
            chosen=each.name in chosen.values(),
            stale=environments.stale(world.home, each, world.engines),
        )
        for each in there
    ]
    missing = [build for name, build in own.items() if name not in {each.name for each in there} and build.lock.exists()]
    rows += [Row(_possible(world, build), installed=False, taken=build.name in taken.values()) for build in missing]
    return EnginesResult(tuple(rows))


def running_in(world: World) -> Mapping[str, tuple[str, ...]]:
    """The models that are served now, by the name of the environment that serves them."""
    found: dict[str, tuple[str, ...]] = {}
    for server in store.look(world.home)[0]:
        alive = server.handle is not None and world.runner.alive(server.handle)
        if server.handle and state_now(server, alive=alive)[0] in {"starting", "ready", "waiting"}:
            name = server.handle.environment.name
            found[name] = (*found.get(name, ()), server.name)
    return found


def _own(world: World) -> Iterator[Build]:
    """What this launcher was written for, on this machine."""
    for engine in world.engines.values():
        yield from (environments.build_for(engine, accelerator) for accelerator in engine.PYTHON)


def _possible(world: World, build: Build) -> Environment:
    path = environments.place(world.home, build)
    return Environment(
        name=build.name,
        path=path,
        python=environments.python_of(world.home, build),
        engine=build.engine,
        accelerator=build.accelerator,
        release=environments.release_of(build),
        size=environments.installed_size(build.lock),
    )


def _state(row: Row) -> "Text":
    from rich.text import Text

    return Text(", ").join(Text(word, style) for word, style in _words(row))


def _words(row: Row) -> Iterable[tuple[str, str]]:
    if not row.installed:
        return [("not installed", "dim")]
    words = [(f"serves {model}", "green") for model in row.models]
    if row.chosen:
        words.append(("chosen", "green"))
    elif row.taken:
        words.append(("`up` takes it", ""))
    if row.there.image:
        words.append((f"image {row.there.tag}", ""))
    if row.there.adopted:
        words.append(("adopted", ""))
    if row.stale:
        words.append(
            ("stale: its lock has changed, `up` makes it anew" if row.taken else "stale: its lock has changed", "yellow")
        )
    if row.there.broken:
        words.append((f"broken: {row.there.broken}", "red"))
    return words or [("not used", "dim")]
