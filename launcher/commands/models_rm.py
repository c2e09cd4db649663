"""`launcher models rm`: frees what a model takes on the disk; without --yes it only shows that."""

from dataclasses import dataclass

from launcher import clearing, weights, weights_record
from launcher.commands.clean import Chosen
from launcher.deciding import find
from launcher.errors import LauncherError
from launcher.profile import Profile
from launcher.profile_weights import HubWeights, LocalWeights
from launcher.world import World


@dataclass(frozen=True, slots=True)
class RemoveResult(Chosen):
    """What would go, and stays so far."""

    def text(self) -> "str":
        from launcher.disk import gigabytes

        lines = [f"{item.name}: {gigabytes(item.footprint.size)} in {item.path}" for item in self.items]
        if any(not item.inside for item in self.items):
            lines.append("The hub's cache is other programs' too.")
        return "\n".join([*lines, "Nothing was removed: --yes frees it."])


def run(world: World, reference: str) -> RemoveResult:
    """What the model's weights take; raises LauncherError for what is served, what is not here, and what we did not fetch."""
    profile = find(world, reference)
    names = _names(world, profile)
    items = tuple(item for item in clearing.survey(world, kinds={"weights"}) if item.name in names)
    if not items:
        raise LauncherError(f"no weights of {profile.name} are here that this launcher fetched", hint=_why(profile))
    for item in items:
        if item.holder:
            raise LauncherError(
                f"{item.name} is in use by {item.holder}", hint="`launcher ps` shows what runs, `launcher down` stops it"
            )
    return RemoveResult(items)


def _names(world: World, profile: Profile) -> set[str]:
    """What the profile's weights are called on this disk; of the hub's, what was fetched for us."""
    fetched = {each.repo for each in weights_record.read_all(world.home)}
    hub = {each.weights.repo for each in profile.variants if isinstance(each.weights, HubWeights)}
    made = {weights.called(profile.name, each.name) for each in profile.variants if not isinstance(each.weights, LocalWeights)}
    return (hub & fetched) | made


def _why(profile: Profile) -> str:
    if any(isinstance(each.weights, LocalWeights) for each in profile.variants):
        return "a folder of yours is never removed"
    return "what others fetched into the hub's cache, `hf cache` shows and frees"
