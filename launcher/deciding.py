"""Which plan a person's words mean on a machine: the model that is named or the best that suits, and why not."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from launcher import catalogue, engine_args, fitting, history, planner, ports, store
from launcher.command import Command
from launcher.derive import derive, served_name, where
from launcher.engines.base import Site
from launcher.errors import LauncherError
from launcher.gpu import Inventory, holders, named
from launcher.machines import inventory_on
from launcher.plan import DoesNotFit, Plan, Wish
from launcher.profile import Profile, Variant
from launcher.profile_weights import MODELSCOPE, Found, HubWeights, LocalWeights, ModelScopeWeights
from launcher.server import ServerSpec
from launcher.world import World

# Machines that people have or rent, the smallest first: what an agent's model would need, if this one is too small for it.
_LADDER = (
    "RTX-3090",
    "RTX-5090",
    "L40S",
    "A100-80GB",
    "RTX-PRO-6000",
    "2xA100-80GB",
    "4xA100-80GB",
    "8xH100-80GB",
    "8xH200",
    "8xB300",
)
# What `up` without a name chooses among, of the shipped ones: the largest that gives an agent its window. OpenHands' own
# coders, open ones for the cards between, and the model that needs neither a hub nor a GPU. The largest of all profiles would
# be one that nobody asked for: hundreds of gigabytes on a large machine.
_UNASKED = frozenset({"openhands-lm-32b", "qwen3-coder-30b-a3b", "gpt-oss-20b", "openhands-lm-7b", "smollm2-135m"})
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


def decide(world: World, spec: ServerSpec, inventory: Inventory) -> Plan | DoesNotFit:
    """The plan for a wanted model, or for the model that suits the machine best where none is named ("").

    Raises LauncherError for a model or a GPU that does not exist.
    """
    if missing := set(spec.gpus) - {gpu.index for gpu in inventory.gpus}:
        known = ", ".join(str(gpu.index) for gpu in inventory.gpus)
        hint = f"GPUs here: {known}" if known else "`launcher gpus` shows what this machine has"
        raise LauncherError(f"there is no GPU {', '.join(map(str, sorted(missing)))}", hint=hint)
    if spec.gpus:
        inventory = inventory.only(set(spec.gpus))
    _refuse_engine_args(world, spec)
    wish = Wish(
        context=spec.context,
        engine=spec.engine,
        variant=spec.variant,
        tensor=spec.tensor,
        pipeline=spec.pipeline,
        memory_share=spec.memory_share,
        kv_dtype=spec.kv_dtype,
        sessions=spec.sessions,
        speculative=spec.speculative,
        can_sleep=spec.can_sleep,
        extra=engine_args.words(spec.engine_args),
    )
    starts, releases = history.read(world.home), world.releases()
    if reference := spec.origin or spec.model:
        profile = find(world, reference, trusted=spec.trust_remote_code)
        _refuse_variant(profile, spec.variant)
        return pinned(planner.plan(profile, inventory, world.engines, wish, starts, releases=releases), spec.pinned)
    profiles = _unasked(world)
    best = planner.choose(profiles, inventory, world.engines, wish, starts, releases=releases)
    if best is None:
        # Every profile's reasons would be a page: the smallest model's tell what is missing.
        smallest = min(profiles, key=lambda profile: profile.architecture.parameters)
        return planner.plan(smallest, inventory, world.engines, wish, starts, releases=releases)
    return best


def _refuse_engine_args(world: World, spec: ServerSpec) -> None:
    if spec.engine_args and spec.engine is None:
        hint = f"name it: --engine {' or '.join(world.engines)}"
        raise LauncherError("--engine-arg is for one engine, and its options mean nothing to another", hint=hint)
    for text in spec.engine_args:
        if reason := engine_args.fault(text, world.engines[spec.engine or ""].DECIDED):
            hint = "`launcher up --help` tells what can be asked for; keys and tokens are read from the environment"
            # Not the text itself: what looks like a secret is not repeated.
            raise LauncherError(f"--engine-arg {re.split('[= ]', text, maxsplit=1)[0]} {reason}", hint=hint)


def _unasked(world: World) -> Sequence[Profile]:
    """The profiles that may be served unasked: some of the shipped ones, and all of the user's own."""
    found = catalogue.paths(world.profiles)
    own = (path for name, path in found.items() if name in _UNASKED or path.parent != catalogue.shipped())
    return [catalogue.read(path) for path in own]


def _refuse_variant(profile: Profile, variant: str | None) -> None:
    known = [each.name for each in profile.variants]
    if variant not in {None, *known}:
        raise LauncherError(f"{profile.name} has no variant {variant!r}", hint=f"it has {', '.join(known)}")


def find(world: World, reference: str, *, trusted: str = "") -> Profile:
    """The profile that a person means by a name, a repository of the hub or a folder; derived where there is none.

    `trusted` is the commit whose code may run. Raises LauncherError for what does not exist, or cannot be served.
    """
    weights = place(world, reference)
    if isinstance(weights, HubWeights) and trusted:
        return derive(world.facts(replace(weights, revision=trusted, code=True)))
    if trusted:
        hint = "leave --trust-remote-code out: it is for a repository of the hub, ORGANISATION/MODEL, at a commit"
        raise LauncherError(f"{reference} brings no code of its own that could run", hint=hint)
    if weights is None:
        return profile_of(world, reference)
    if isinstance(weights, HubWeights) and (profile := served_from(world, weights.repo)):
        return profile
    return derive(world.facts(weights))


def profile_of(world: World, name: str) -> Profile:
    """The profile of that name; raises LauncherError where there is none, with what is meant by a provider's model."""
    if name not in catalogue.paths(world.profiles):
        _refuse_a_providers(world, name)
    return catalogue.load(world.profiles, name)


def _refuse_a_providers(world: World, name: str) -> None:
    # All of LLM's settings, for a slip.
    from launcher import configurations

    kept = configurations.load(world.home, name)
    if kept and kept.settings.provider != "local":
        hint = f"`launcher llm serve {name}` has this address answer for it, `launcher llm use {name}` tells OpenHands of it"
        raise LauncherError(f"{name} is a provider's model: it cannot run here", hint=hint)


def pinned(outcome: Plan | DoesNotFit, pin: str) -> Plan | DoesNotFit:
    """The plan with the weights that were served before, REPOSITORY@COMMIT, if it is of that repository."""
    repo, _, commit = pin.rpartition("@")
    if not isinstance(outcome, Plan) or not isinstance(outcome.variant.weights, HubWeights):
        return outcome
    if outcome.variant.weights.repo != repo:
        return outcome
    exact = replace(outcome.variant.weights, revision=commit)
    return replace(outcome, variant=replace(outcome.variant, weights=exact))


def meant(world: World, spec: ServerSpec) -> ServerSpec:
    """The same in words that say it wherever one stands: as the record of its server would, without asking the hub for it."""
    weights = place(world, spec.model)
    if weights is None:
        return spec
    if isinstance(weights, HubWeights) and (profile := served_from(world, weights.repo)):
        return replace(spec, model=profile.name, origin=profile.origin)
    return replace(spec, model=served_name(weights), origin=where(weights))


def place(world: World, reference: str) -> Found | None:
    """The folder or the repository that a person's words name; None if they are a profile's name."""
    if reference.startswith(MODELSCOPE):
        name = reference.removeprefix(MODELSCOPE)
        if not _REPOSITORY.fullmatch(name):
            raise LauncherError(f"{name!r} is no repository of ModelScope", hint=f"write {MODELSCOPE}ORGANISATION/MODEL")
        return ModelScopeWeights(name)
    if reference.startswith((".", "/", "~")):
        return LocalWeights(_folder(world, reference))
    if "/" not in reference:
        return None
    if not _REPOSITORY.fullmatch(reference):
        hint = f"a repository is ORGANISATION/MODEL; a folder begins with ./, / or ~: ./{reference}"
        raise LauncherError(f"{reference!r} names neither a repository nor a folder", hint=hint)
    return HubWeights(reference)


def served_from(world: World, repository: str) -> Profile | None:
    """The profile of which a variant is served from this repository, with only those variants."""
    for profile in catalogue.load_all(world.profiles).values():
        variants = tuple(each for each in profile.variants if _is_from(each, repository))
        if variants:
            return profile if variants == profile.variants else replace(profile, variants=variants, origin=repository)
    return None


def _folder(world: World, reference: str) -> Path:
    """An absolute path without `..`, so that it means the same wherever it is read again."""
    user = reference == "~" or reference.startswith("~/")
    path = world.user_home / reference[2:] if user else world.cwd / reference
    return path.resolve()


def _is_from(variant: Variant, repository: str) -> bool:
    return isinstance(variant.weights, HubWeights) and variant.weights.repo.lower() == repository.lower()


def command_of(world: World, plan: Plan, on_port: int | None = None) -> Command:
    """The command that `up` would start, with the paths and the port that it would use and a key that is none.

    Where compilers keep what they make is left out: ten variables that a person who types it does without.
    """
    expected = world.expect(plan)
    port = on_port or store.port(world.home) or ports.free(ports.FIRST)
    site = Site(python=expected.python, weights=expected.weights, host=ports.LOOPBACK, port=port, api_key="")
    if expected.image:
        from launcher.runners import docker

        box = docker.Box(expected.image, expected.daemon, world.home, expected.environment.name, plan.profile.name)
        return docker.command(world.engines[plan.engine], plan, site, box, reads=docker.read_by(expected.weights))
    return world.engines[plan.engine].command(plan, site)


def refusal(world: World, spec: ServerSpec, inventory: Inventory, outcome: DoesNotFit) -> LauncherError:
    """A plan that does not exist, as the error of a verb that needs one."""
    by_reason: dict[str, dict[str, list[str]]] = {}
    for each in outcome.rejections:
        by_reason.setdefault(each.reason, {}).setdefault(each.variant, []).append(each.engine)
    engines = {each.engine for each in outcome.rejections}
    reasons = "; ".join(
        f"{', '.join(_named(variant, lost, of=len(engines)) for variant, lost in by_variant.items())}: {reason}"
        for reason, by_variant in by_reason.items()
    )
    return LauncherError(
        f"{outcome.profile.name} cannot run here: {reasons}", hint=what_would_do(world, spec, inventory, outcome)
    )


def _named(variant: str, lost: list[str], *, of: int) -> str:
    """A variant, with the engines that it lost on unless it lost on all of them."""
    return variant if len(lost) == of else f"{variant} on {', '.join(lost)}"


def what_would_do(world: World, spec: ServerSpec, inventory: Inventory, outcome: DoesNotFit) -> str:
    """What a person can do about a plan that does not exist: ask for less, free memory, or take another machine."""
    profile = outcome.profile
    unasked = planner.plan(profile, inventory, world.engines, releases=world.releases())
    if isinstance(unasked, Plan) and spec != ServerSpec(model=spec.model, origin=spec.origin):
        what = f"{unasked.variant.name} on {unasked.devices} with {unasked.context:,} tokens of context"
        return f"without these options it would be {what}"
    if isinstance(planner.plan(profile, inventory.freed(), world.engines, releases=world.releases()), Plan):
        return f"it would run once {named(holders(inventory.gpus)) or 'other programs'} let go of memory"
    here = "`launcher models` lists what runs here"
    if machine := smallest_machine(world, profile):
        return f"it fits on {machine}: `launcher plan {profile.origin or profile.name} --on {machine}`; {here}"
    return here


def smallest_machine(world: World, profile: Profile) -> str | None:
    """The smallest of the machines that people have or rent on which this model runs."""
    least = fitting.lightest(profile)
    machines = ((name, inventory_on(name)) for name in _LADDER)
    large = ((name, machine) for name, machine in machines if sum(gpu.total for gpu in machine.gpus) > least)
    return next((name for name, machine in large if isinstance(planner.plan(profile, machine, world.engines), Plan)), None)


def with_a_gpu(world: World) -> str:
    """What the smallest GPU that carries an agent's model would bring, in a sentence."""
    profiles = _unasked(world)
    for machine in _LADDER:
        inventory = inventory_on(machine)
        best = planner.choose(profiles, inventory, world.engines)
        if best and best.context >= fitting.AGENT_CONTEXT:
            return (
                f"With a GPU such as {machine.replace('-', ' ', 1)} this command serves {best.profile.name} "
                f"({best.variant.name}) with {best.context:,} tokens: `launcher plan --on {machine}`"
            )
    return ""
