"""`launcher models verify`: reads fetched weights again, names what is damaged, and fetches that again."""

from dataclasses import dataclass

from launcher import local_model, verifying, weights, weights_record
from launcher.deciding import find
from launcher.disk import gigabytes
from launcher.errors import LauncherError
from launcher.profile import Profile, Variant
from launcher.profile_weights import HubWeights
from launcher.weights_record import Recorded
from launcher.world import World


@dataclass(frozen=True, slots=True)
class Verified:
    """One variant's weights: how many bytes were read, the files that were damaged, and whether they are whole by now."""

    variants: tuple[str, ...]
    where: str
    size: int
    damaged: tuple[str, ...] = ()
    whole: bool = True


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was read, one entry for each repository or folder; 1 if something is damaged still."""

    name: str
    checked: tuple[Verified, ...]

    @property
    def exit_code(self) -> int:
        return 0 if all(each.whole for each in self.checked) else 1

    def json(self) -> object:
        return [
            {
                "variants": list(each.variants),
                "where": each.where,
                "size": each.size,
                "damaged": list(each.damaged),
                "whole": each.whole,
            }
            for each in self.checked
        ]

    def text(self) -> str:
        return "\n".join(_line(each) for each in self.checked)


def run(world: World, reference: str) -> VerifyResult:
    """Check all variants of a model that are on this disk; raises LauncherError if none is."""
    profile = find(world, reference)
    world.progress.phase("weights")
    checked = (*_from_hub(world, profile), *_others(world, profile))
    if not checked:
        raise LauncherError(f"no weights of {profile.name} are here", hint=f"`launcher pull {reference}` fetches them")
    return VerifyResult(profile.name, checked)


def _from_hub(world: World, profile: Profile) -> tuple[Verified, ...]:
    """Each snapshot once: several variants may be served from it."""
    variants: dict[HubWeights, list[Variant]] = {}
    for each in profile.variants:
        if isinstance(each.weights, HubWeights):
            variants.setdefault(each.weights, []).append(each)
    found = ((each, weights_record.find(world.home, each), served) for each, served in variants.items())
    return tuple(_checked(world, profile, each, record, served) for each, record, served in found if record)


def _checked(world: World, profile: Profile, origin: HubWeights, found: Recorded, served: list[Variant]) -> Verified:
    names = tuple(each.name for each in served)
    damaged = verifying.damaged(found, world.progress)
    if not damaged:
        return Verified(names, f"{found.repo}@{found.commit}", found.size)
    verifying.drop(found, damaged)
    world.progress.say(f"damaged: {', '.join(damaged)} of {found.repo}")
    whole = True
    try:
        weights.fetch(
            world.home,
            weights.called(profile.name, names[0]),
            HubWeights(origin.repo, found.commit, origin.code),
            environment_python=lambda: world.home.root,
            progress=world.progress,
            env=world.env,
            anew=True,
        )
    except LauncherError as fault:
        world.progress.say(f"not fetched again: {fault.message}")
        whole = False
    return Verified(names, f"{found.repo}@{found.commit}", found.size, damaged, whole)


def _others(world: World, profile: Profile) -> tuple[Verified, ...]:
    """What is no repository has no hashes: a model's own headers tell whether it is whole."""
    checked = []
    for each in profile.variants:
        place = weights.folder(world.home, weights.called(profile.name, each.name), each.weights, world.env)
        if not isinstance(each.weights, HubWeights) and place.is_dir():
            fault = local_model.fault(place)
            total = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
            checked.append(Verified((each.name,), str(place), total, (fault,) if fault else (), whole=not fault))
    return tuple(checked)


def _line(each: Verified) -> str:
    head = f"{', '.join(each.variants)}: {each.where}, {gigabytes(each.size)}"
    if not each.damaged:
        return f"{head}: every file is what it was when it was fetched"
    return f"{head}: damaged {', '.join(each.damaged)}" + ("; fetched again, whole now" if each.whole else "; not whole")
