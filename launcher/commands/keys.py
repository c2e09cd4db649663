"""`launcher keys`: the keys that clients may send, by name; never the keys themselves."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher import keys
from launcher.home import Home
from launcher.keys import NamedKey

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class KeysResult:
    """The keys there are."""

    keys: tuple[NamedKey, ...]
    exit_code: int = 0

    def json(self) -> object:
        return [{"name": key.name, "fingerprint": key.fingerprint, "path": str(key.path)} for key in self.keys]

    def text(self) -> "RenderableType":
        from rich.table import Table

        if not self.keys:
            return "There is no key yet: `launcher up` makes one."
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for header in ("name", "fingerprint", "file"):
            table.add_column(header, no_wrap=True)
        for key in self.keys:
            table.add_row(key.name, key.fingerprint, str(key.path))
        return table


def run(home: Home) -> KeysResult:
    """Read them; raises LauncherError if one holds no key."""
    return KeysResult(keys.listed(home))
