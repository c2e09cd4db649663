"""`launcher models add`: a profile of the user's own, derived from a repository or a folder, to be edited."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher import catalogue, derive, recipe
from launcher.deciding import place, served_from
from launcher.errors import LauncherError
from launcher.profile_weights import Found, HubWeights
from launcher.recipe import Recipe
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class AddResult:
    """The file that was written; `hides` says that a shipped profile has the same name.

    `recipe` is the address of the recipe that it was made with, "" without one, and then `reason` why.
    """

    name: str
    path: Path
    hides: bool
    recipe: str = ""
    reason: str = ""
    exit_code: int = 0

    def json(self) -> object:
        return {
            "name": self.name,
            "file": str(self.path),
            "hides_shipped": self.hides,
            "recipe": self.recipe or None,
            "recipe_reason": self.reason or None,
        }

    def text(self) -> "RenderableType":
        hidden = " It hides the shipped profile of the same name." if self.hides else ""
        used = f"Made with {self.recipe}." if self.recipe else f"No recipe of vLLM's was used: {self.reason}."
        return f"{self.path} is written.{hidden}\n{used}\n`launcher up {self.name}` serves it; edit the file as you like."


def run(world: World, reference: str, *, with_recipe: bool | None = None) -> AddResult:
    """Derive a profile and write it; raises LauncherError if there is one already.

    `with_recipe` True wants a recipe of vLLM's and fails without, False does not ask for one, None takes it if there is one.
    """
    weights = place(world, reference)
    if weights is None:
        raise LauncherError(f"{reference!r} is no repository", hint="a repository is ORGANISATION/MODEL, a folder ./FOLDER")
    if isinstance(weights, HubWeights) and (known := served_from(world, weights.repo)):
        raise LauncherError(f"the profile {known.name} serves {weights.repo} already", hint=f"`launcher up {known.name}`")
    facts = world.facts(weights)
    hides = facts.name in catalogue.paths(world.profiles)
    found = _recipe(world, weights) if with_recipe is not False else "it was not asked for"
    if with_recipe and isinstance(found, str):
        raise LauncherError(f"there is no recipe to use: {found}", hint="without --recipe, all is derived from the repository")
    table = derive.table(facts)
    if isinstance(found, Recipe):
        table = recipe.merge(table, found, {repo: _table(world, repo) for repo in found.repositories})
    text = derive.toml(table, schema=catalogue.shipped() / "schema.json")
    path = catalogue.add(world.home.make().profiles, facts.name, text)
    used, reason = ("", found) if isinstance(found, str) else (found.url, "")
    return AddResult(facts.name, path, hides, used, reason)


def _recipe(world: World, weights: Found) -> Recipe | str:
    """The recipe for a repository, or why there is none."""
    if not isinstance(weights, HubWeights):
        return "there are none for folders"
    world.progress.update(f"asking vLLM's recipes about {weights.repo}")
    answer = world.recipe(weights.repo)
    if isinstance(answer, str):
        return answer
    return recipe.read(answer.content, repo=weights.repo, url=answer.url)


def _table(world: World, repo: str) -> Mapping[str, Any] | str:
    """What another repository of a recipe says of itself, or why that cannot be served: one of several, it is left out."""
    try:
        return derive.table(world.facts(HubWeights(repo)))
    except LauncherError as fault:
        return fault.message
