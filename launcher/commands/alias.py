"""`launcher alias`: other names for models, which agents may ask for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher import lock, store
from launcher.errors import LauncherError
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class AliasResult:
    """The other names there are, and the models that they stand for."""

    aliases: Mapping[str, str]
    exit_code: int = 0

    def json(self) -> object:
        return dict(self.aliases)

    def text(self) -> "RenderableType":
        from rich.table import Table

        if not self.aliases:
            return "No model has another name: `launcher alias default MODEL` gives it one."
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for header in ("name", "model"):
            table.add_column(header, no_wrap=True)
        for alias, model in sorted(self.aliases.items()):
            table.add_row(alias, model)
        return table


def run(world: World, alias: str | None, model: str | None, *, remove: bool = False) -> AliasResult:
    """List them; or let `alias` stand for `model`, or for nothing; raises LauncherError for names that cannot be."""
    if alias is None:
        return AliasResult(store.aliases(world.home))
    world.home.make()

    def wait(holder: lock.Holder) -> None:
        world.progress.say(f"waiting for `{holder.command}` (pid {holder.pid})")

    with lock.acquire(world.home.lock, f"launcher alias {alias}", waiting=wait, timeout=None):
        names = dict(store.aliases(world.home))
        if remove:
            if names.pop(alias, None) is None:
                raise LauncherError(f"there is no alias {alias}", hint="`launcher alias` lists them")
        elif model is None:
            raise LauncherError(f"{alias} for which model?", hint=f"`launcher alias {alias} MODEL`, or --remove")
        else:
            names[alias] = _model(world, alias, names.get(model, model))
        store.keep_aliases(world.home, names)
        return AliasResult(names)


def _model(world: World, alias: str, model: str) -> str:
    wanted = {want.name for want in store.wanted(world.home)}
    served = set(store.remotes(world.home))
    known = wanted | served | {server.name for server in store.look(world.home)[0]}
    if alias in served:
        raise LauncherError(f"{alias} is a provider's model that is served", hint=f"launcher llm serve {alias} --remove")
    if alias in wanted:
        hint = f"`launcher swap {model} --for {alias}` lets another model serve under its name"
        raise LauncherError(f"{alias} is a model that is served", hint=hint)
    if model not in known:
        hint = f"known here: {', '.join(sorted(known))}" if known else "`launcher up` serves one"
        raise LauncherError(f"{model} was never served here", hint=hint)
    return model
