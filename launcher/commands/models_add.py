"""`launcher models add`: a profile of the user's own, derived from a repository or a folder, to be edited."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import catalogue, derive
from launcher.deciding import place, served_from
from launcher.errors import LauncherError
from launcher.profile_weights import HubWeights
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class AddResult:
    """The file that was written; `hides` says that a shipped profile has the same name."""

    name: str
    path: Path
    hides: bool
    exit_code: int = 0

    def json(self) -> object:
        return {"name": self.name, "file": str(self.path), "hides_shipped": self.hides}

    def text(self) -> "RenderableType":
        hidden = " It hides the shipped profile of the same name." if self.hides else ""
        return f"{self.path} is written.{hidden}\n`launcher up {self.name}` serves it; edit the file as you like."


def run(world: World, reference: str) -> AddResult:
    """Derive a profile and write it; raises LauncherError if there is one already."""
    weights = place(world, reference)
    if weights is None:
        raise LauncherError(f"{reference!r} is no repository", hint="a repository is ORGANISATION/MODEL, a folder ./FOLDER")
    if isinstance(weights, HubWeights) and (known := served_from(world, weights.repo)):
        raise LauncherError(f"the profile {known.name} serves {weights.repo} already", hint=f"`launcher up {known.name}`")
    facts = world.facts(weights)
    hides = facts.name in catalogue.paths(world.profiles)
    text = derive.toml(derive.table(facts), schema=catalogue.shipped() / "schema.json")
    path = catalogue.add(world.home.make().profiles, facts.name, text)
    return AddResult(facts.name, path, hides)
