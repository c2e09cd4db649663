"""`launcher llm serve`: a provider's model at the gateway's address, under its own name and with the gateway's key."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import keys, lock, ports, remotes, store
from launcher.endpoint import Window
from launcher.errors import LauncherError
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class LLMServeResult:
    """Where it is asked from now on; `served` is False where that was taken back."""

    name: str
    served: bool
    base_url: str
    key: Path
    where: str = ""
    window: Window = Window()  # noqa: RUF009 - it is frozen
    exit_code: int = 0

    def json(self) -> object:
        return {
            "name": self.name,
            "served": self.served,
            "base_url": self.base_url,
            "key_file": str(self.key),
            "context": self.window.context or None,
        }

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        if not self.served:
            return f"{self.name} is not served any more."
        return Group(
            Text.assemble(("✓ ", "green"), (self.name, "bold"), f" answers at {self.base_url}, with the key in {self.key}"),
            Text.assemble(("! ", "yellow"), f"{self.where}; whoever has a key of this launcher can ask it"),
            Text.assemble(("Undo: ", "dim"), f"`launcher llm serve {self.name} --remove`"),
        )


def run(world: World, name: str, *, remove: bool = False) -> LLMServeResult:
    """Wish it, or wish it no more; raises LauncherError for one that cannot be."""
    home = world.home.make()

    def wait(holder: lock.Holder) -> None:
        world.progress.say(f"waiting for `{holder.command}` (pid {holder.pid})")

    with lock.acquire(home.lock, f"launcher llm serve {name}", waiting=wait, timeout=None):
        served = dict(store.remotes(home))
        if remove:
            if served.pop(name, None) is None:
                raise LauncherError(f"{name} is not served", hint="`launcher ps` shows what is")
            store.keep_remotes(home, served)
            return LLMServeResult(name, served=False, base_url=store.address(home), key=home.key)
        llm, made = remotes.asked(world, name)
        if name in store.aliases(home):
            raise LauncherError(f"{name} is another name of {store.aliases(home)[name]}", hint="`launcher alias` lists them")
        takes = remotes.window(llm)
        if store.port(home) is None:
            store.keep_port(home, ports.free(ports.FIRST))
        keys.ensure(home.key)
        store.keep_remotes(home, {**served, name: takes})
    world.attend(world)
    return LLMServeResult(name, True, store.address(home), home.key, remotes.where(llm, made), takes)  # noqa: FBT003 - a field
