"""Which plan a person's words mean on a machine: the model by its name or the best that suits, and why not."""

from launcher import catalogue, planner, ports, store
from launcher.command import Command
from launcher.engines.base import Site
from launcher.errors import LauncherError
from launcher.gpu import Inventory
from launcher.machines import inventory_on
from launcher.plan import DoesNotFit, Plan, Wish
from launcher.profile import CPU, Profile
from launcher.server import ServerSpec
from launcher.world import World

# Machines that people have or rent, the smallest first: what an agent's model would need, if this one is too small for it.
_LADDER = ("RTX-3090", "RTX-5090", "L40S", "A100-80GB", "2xA100-80GB")


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
    wish = Wish(context=spec.context, engine=spec.engine, variant=spec.variant)
    if spec.model:
        profile = catalogue.load(world.profiles, spec.model)
        _refuse_variant(profile, spec.variant)
        return planner.plan(profile, inventory, world.engines, wish)
    profiles = catalogue.load_all(world.profiles)
    best = planner.choose(profiles.values(), inventory, world.engines, wish)
    if best is None:
        # Every profile's reasons would be a page: the smallest model's tell what is missing.
        smallest = min(profiles.values(), key=lambda profile: profile.architecture.parameters)
        return planner.plan(smallest, inventory, world.engines, wish)
    return best


def _refuse_variant(profile: Profile, variant: str | None) -> None:
    known = [each.name for each in profile.variants]
    if variant not in {None, *known}:
        raise LauncherError(f"{profile.name} has no variant {variant!r}", hint=f"it has {', '.join(known)}")


def command_of(world: World, plan: Plan, on_port: int | None = None) -> Command:
    """The command that `up` would start, with the paths and the port that it would use and a key that is none."""
    expected = world.expect(plan)
    port = on_port or store.port(world.home) or ports.free(ports.FIRST)
    site = Site(python=expected.python, weights=expected.weights, host=ports.LOOPBACK, port=port, api_key="")
    return world.engines[plan.engine].command(plan, site)


def refusal(outcome: DoesNotFit) -> LauncherError:
    """A plan that does not exist, as the error of a verb that needs one."""
    by_reason: dict[str, list[str]] = {}
    for each in outcome.rejections:
        by_reason.setdefault(each.reason, []).append(each.variant)
    reasons = "; ".join(f"{', '.join(variants)}: {reason}" for reason, variants in by_reason.items())
    return LauncherError(f"{outcome.profile.name} cannot run here: {reasons}", hint=what_would_do(outcome))


def what_would_do(outcome: DoesNotFit) -> str:
    """What a person can do about a plan that does not exist."""
    if CPU in outcome.profile.runs_on:
        return "free some memory, or ask for less with --context; `launcher models` lists what runs here"
    return f"`launcher plan {outcome.profile.name} --on 2xA100-80GB` shows what it takes; `launcher models` what runs here"


def with_a_gpu(world: World) -> str:
    """What the smallest GPU that carries an agent's model would bring, in a sentence."""
    profiles = catalogue.load_all(world.profiles)
    for machine in _LADDER:
        inventory = inventory_on(machine)
        best = planner.choose(profiles.values(), inventory, world.engines)
        if best and best.context >= planner.AGENT_CONTEXT:
            return (
                f"With a GPU such as {machine.replace('-', ' ', 1)} this command serves {best.profile.name} "
                f"({best.variant.name}) with {best.context:,} tokens: `launcher plan --on {machine}`"
            )
    return ""
