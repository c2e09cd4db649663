"""`launcher keys remove`: whoever has this key is let in no more."""

from dataclasses import dataclass

from launcher import keys
from launcher.home import Home


@dataclass(frozen=True, slots=True)
class KeysRemoveResult:
    """The key that is gone."""

    name: str
    exit_code: int = 0

    def json(self) -> object:
        return {"removed": self.name}

    def text(self) -> str:
        return f"The key {self.name} is gone."


def run(home: Home, name: str) -> KeysRemoveResult:
    """Take it away; raises LauncherError if there is none, or it is the agents' own."""
    return KeysRemoveResult(keys.remove(home, name).name)
