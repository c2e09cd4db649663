"""`launcher keys add`: a key for somebody else, shown once."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher import keys
from launcher.home import Home
from launcher.keys import NamedKey
from launcher.results import copied

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class KeysAddResult:
    """The new key; `show` says whether it may be seen where this goes."""

    key: NamedKey
    show: bool
    exit_code: int = 0

    def json(self) -> object:
        told = {"name": self.key.name, "fingerprint": self.key.fingerprint, "path": str(self.key.path)}
        return {**told, "key": self.key.text} if self.show else told

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        said = Text.assemble(("✓ ", "green"), "the key ", (self.key.name, "bold"), f" is in {self.key.path}")
        return Group(said, copied(self.key.text)) if self.show else said


def run(home: Home, name: str, *, show: bool) -> KeysAddResult:
    """Make it; raises LauncherError if there is one of that name."""
    return KeysAddResult(keys.add(home, name), show=show)
