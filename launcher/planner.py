"""Profile and inventory to Plan: which variant on which devices, with the largest context that fits. Pure.

The order of choice: the best precision that gives an agent a working context for all sessions, or else for one, since its
answers depend on that; within it, the first engine that does, since their answers are alike; within that, the layout with the
most context, then the fewest GPUs. Layers are split over GPUs one after another (a pipeline) only where no tensor-parallel
group gives that context, and then for no more than it: such a group serves one session no faster than a single GPU. Machines of
a cluster stand one after another, and only where no single one gives it: between them is the slowest link.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from types import MappingProxyType

from launcher import cuda
from launcher.engines.base import Engine
from launcher.fitting import AGENT_CONTEXT, SIXTEEN_BIT, Candidate, Layout, goal, on_cpu, on_gpus, reaches
from launcher.gpu import GIB, Gpu, Inventory
from launcher.plan import DoesNotFit, Plan, Rejection, Wish, by_reason
from launcher.profile import CPU, CUDA, Profile
from launcher.release import Releases
from launcher.starts import Start

_ADAPTERS_OWN: Releases = MappingProxyType({})


def plan(
    profile: Profile,
    inventory: Inventory,
    engines: Mapping[str, Engine],
    wish: Wish | None = None,
    starts: Sequence[Start] = (),
    *,
    releases: Releases = _ADAPTERS_OWN,
) -> Plan | DoesNotFit:
    """The best plan for `profile` on `inventory`, or every variant's reason for having none.

    A context under AGENT_CONTEXT is refused unless it was asked for or is all that the model has. `starts` are the earlier
    ones on record, the oldest first: what they took corrects what the rules say. `releases` tells which release of each engine
    would serve, where it is not simply the one that its adapter was written for. Of a cluster one machine is taken where any
    holds the model in any precision.
    """
    wish = wish or Wish()
    outcome = _planned(profile, inventory, engines, wish, starts, releases, across=False)
    if isinstance(outcome, Plan) or not _is_cluster(inventory):
        return outcome
    return _planned(profile, inventory, engines, wish, starts, releases, across=True)


def _is_cluster(inventory: Inventory) -> bool:
    return len({gpu.node for gpu in inventory.gpus}) > 1


def _planned(
    profile: Profile,
    inventory: Inventory,
    engines: Mapping[str, Engine],
    wish: Wish,
    starts: Sequence[Start],
    releases: Releases,
    *,
    across: bool,
) -> Plan | DoesNotFit:
    """The best plan on single machines, or `across` several."""
    tried: list[tuple[Candidate, Plan | None, str]] = []
    coarser: list[Candidate] = []
    for _, alike in groupby(_candidates(profile, engines, wish, starts, releases), key=_precision):
        if any(best and reaches(best, wish) for _, best, _ in tried):
            coarser += alike
        else:
            tried += [(candidate, *_best(candidate, inventory, across=across)) for candidate in alike]
    chosen = _chosen([(candidate, best) for candidate, best, _ in tried if best], wish)
    rejections = [
        Rejection(candidate.variant.name, candidate.engine.NAME, reason if best is None else _lost(best, chosen, profile, wish))
        for candidate, best, reason in tried
        if best is None or chosen is None or best is not chosen[1]
    ]
    if chosen:
        best = chosen[1]
        after = f"less precise than {best.variant.name}, which does"
        rejections += [Rejection(each.variant.name, each.engine.NAME, after) for each in coarser]
        order = [(each.variant.name, each.engine.NAME) for each in _candidates(profile, engines, wish, starts, releases)]
        places = {each: order.index((each.variant, each.engine)) for each in rejections}
        taken = order.index((best.variant.name, best.engine))
        # What would have been taken first is news; the others matter to who compares.
        before = [each for each in rejections if places[each] < taken]
        others = _told(each for each in rejections if places[each] > taken)
        return replace(best, notes=_notes(best, before, chosen[0], inventory), others=others)
    planned = any(best for _, best, _ in tried)
    on_gpus_only = _is_cluster(inventory) or _over_gpus(wish)
    if not planned and inventory.gpus and CPU in profile.runs_on and not on_gpus_only:
        # Only now: a quantised variant on a GPU is better than a whole one on the CPU.
        outcome = plan(profile, replace(inventory, gpus=()), engines, wish, starts, releases=releases)
        if isinstance(outcome, Plan):
            why = f"on the CPU, since no GPU here will do: {DoesNotFit(profile, tuple(rejections)).missing.reason}"
            return replace(outcome, notes=(why, *outcome.notes))
    return DoesNotFit(
        profile, tuple(rejections) or (Rejection(wish.variant or "", wish.engine or "", "there is no such variant"),)
    )


def _precision(candidate: Candidate) -> int:
    """Bits of most weights: 4.25 and 4.5 are as good as one another."""
    return round(candidate.loaded.bits)


def _chosen(made: list[tuple[Candidate, Plan]], wish: Wish) -> tuple[Candidate, Plan] | None:
    """Of the plans the one in the best precision that gives the context to all sessions; or to one; or at all to an agent.

    Within a precision the engine that stands first, then the most context; of equal ones that which works fastest: in the
    fewest stages, and as the profile orders them.
    """
    for sessions in (None, 1):
        for _, alike in groupby(made, key=lambda each: _precision(each[0])):
            good = [each for each in alike if reaches(each[1], wish, sessions)]
            first = [each for each in good if each[1].engine == good[0][1].engine]
            if first:
                return max(first, key=lambda each: (each[1].context, -each[1].pipeline))
    usable = [each for each in made if wish.context is None and each[1].context >= AGENT_CONTEXT]
    return max(usable, key=lambda each: each[1].context, default=None)


def _lost(plan: Plan, chosen: tuple[Candidate, Plan] | None, profile: Profile, wish: Wish) -> str:
    """Why a plan was not taken: it gives too little, or another gives more."""
    if plan.context < goal(profile, wish):
        return _too_small(plan, goal(profile, wish), wish)
    if not reaches(plan, wish):
        return f"room for {plan.sessions:.1f} sessions of {plan.context:,} tokens (--variant {plan.variant.name} takes it so)"
    taken = chosen[1] if chosen else plan
    if taken.context > plan.context:
        return f"{plan.context:,} tokens of context, and {taken.variant.name} on {taken.engine} gives {taken.context:,}"
    return f"{taken.variant.name} on {taken.engine} stands before it and does as well"


def choose(
    profiles: Iterable[Profile],
    inventory: Inventory,
    engines: Mapping[str, Engine],
    wish: Wish | None = None,
    starts: Sequence[Start] = (),
    *,
    releases: Releases = _ADAPTERS_OWN,
) -> Plan | None:
    """The plan of the largest model that runs here with a context that suits an agent; else of the largest that runs.

    It notes why the next larger model lost.
    """
    outcomes = [plan(profile, inventory, engines, wish, starts, releases=releases) for profile in profiles]
    best = max(
        (outcome for outcome in outcomes if isinstance(outcome, Plan)),
        key=lambda each: (each.context >= AGENT_CONTEXT, each.profile.architecture.parameters),
        default=None,
    )
    return best and replace(best, notes=(*best.notes, *_next_larger(best, outcomes)))


def _next_larger(best: Plan, outcomes: Iterable[Plan | DoesNotFit]) -> tuple[str, ...]:
    size = best.profile.architecture.parameters
    larger = [each for each in outcomes if isinstance(each, DoesNotFit) and each.profile.architecture.parameters > size]
    if not larger:
        return ()
    lost = min(larger, key=lambda each: each.profile.architecture.parameters)
    return (f"{lost.profile.name} does not fit: {lost.missing.variant} {lost.missing.reason}",)


def _candidates(
    profile: Profile, engines: Mapping[str, Engine], wish: Wish, starts: Sequence[Start], releases: Releases
) -> Iterator[Candidate]:
    for variant in profile.variants:
        for name, engine in engines.items():
            if wish.variant in (None, variant.name) and wish.engine in (None, name):
                yield Candidate(profile, variant, engine, wish, releases, starts)


def _best(candidate: Candidate, inventory: Inventory, *, across: bool) -> tuple[Plan | None, str]:
    if reason := next(_refusals(candidate, inventory), None):
        return None, reason
    if not inventory.gpus:
        return on_cpu(candidate, inventory)
    if CUDA not in candidate.profile.runs_on:
        return None, "this model is served on CPUs only"
    best, reason = (_first_across if across else _best_layout)(candidate, inventory)
    if best and candidate.wish.can_sleep and _asleep(best) > inventory.ram.total:
        return (
            None,
            f"asleep it needs {_asleep(best) / GIB:.1f} GiB of the host's memory, which has {inventory.ram.total / GIB:.1f}",
        )
    return best, reason


def _asleep(plan: Plan) -> int:
    """Bytes of the host's memory that a sleeping server keeps: the weights of all ranks, as large as the largest's."""
    return plan.memory.weights * len(plan.gpus)


def _best_layout(candidate: Candidate, inventory: Inventory) -> tuple[Plan | None, str]:
    needed = goal(candidate.profile, candidate.wish)
    layouts = list(_layouts(candidate, inventory.gpus))
    asked = candidate.wish.pipeline
    best, reason = _best_of(candidate, [each for each in layouts if each.pipeline == (asked or 1)])
    if asked is None and (best is None or not reaches(best, candidate.wish)):
        staged, _ = _best_of(candidate, [each for each in layouts if each.pipeline > 1], most=needed)
        if staged and (best is None or _worth(staged, candidate) > _worth(best, candidate)):
            return staged, ""
    return best, reason


def _first_across(candidate: Candidate, inventory: Inventory) -> tuple[Plan | None, str]:
    """The plan on the fewest machines that give what is needed, with all the context that these carry; else None and why."""
    best, reason = None, "there are no such groups of GPUs on several machines"
    for _, layouts in groupby(_across(candidate, inventory.gpus), key=lambda layout: len({gpu.node for gpu in layout.gpus})):
        best, reason = _best_of(candidate, list(layouts))
        if best and reaches(best, candidate.wish):
            break
    return best, reason


def _refusals(candidate: Candidate, inventory: Inventory) -> Iterator[str]:
    """What was asked for and cannot be, however much memory there is."""
    engine, wish, release = candidate.engine, candidate.wish, candidate.release(CUDA if inventory.gpus else CPU)
    needed = candidate.profile.min_version.get(engine.NAME)
    if needed and _numbers(release.version) < _numbers(needed):
        yield f"needs {engine.NAME} {needed} or newer; this launcher serves with {release.version}"
    if inventory.gpus and (refused := cuda.refusal(engine.NAME, release, inventory.driver, (), engine.LAST_FOR_CUDA)):
        yield f"{engine.NAME} {release.version} {refused.reason}: {refused.remedy}"
    if wish.context and wish.context > candidate.profile.context_max:
        yield f"the model's context ends at {candidate.profile.context_max:,} tokens"
    if reason := _illegal(candidate, wish.tensor or 1, wish.pipeline or 1):
        yield reason
    at_once = candidate.engine.SEQUENCES[CUDA if inventory.gpus else CPU]
    if wish.sessions and wish.sessions > at_once:
        yield f"{wish.sessions} sessions are more than the {at_once} that the engine takes at once"
    if inventory.gpus and (reason := _scarce(wish, inventory.gpus)):
        yield reason
    if not inventory.gpus and CPU in candidate.profile.runs_on and _over_gpus(wish):
        yield "--tensor and --pipeline split a model over GPUs, and there is none here"
    if wish.can_sleep and (reason := _sleepless(inventory)):
        yield reason
    if inventory.gpus and _would_be_whole(candidate):
        yield f"the profile has no option for {candidate.engine.NAME} that quantises to {candidate.variant.precision}"


def _scarce(wish: Wish, gpus: tuple[Gpu, ...]) -> str | None:
    """Why there are too few GPUs for the layout that was asked for; None if there are enough."""
    size = (wish.tensor or 1) * (wish.pipeline or 1)
    largest = max(sum(map(len, groups)) for groups in _alike(gpus))
    if size > largest:
        return f"needs {size} GPUs of one kind; the most that are alike here: {largest}"
    if (wish.tensor or 1) > max(map(len, _like(gpus))):
        return f"GPUs that share each layer are of one machine, and none here has {wish.tensor}; --pipeline goes over machines"
    return None


def _sleepless(inventory: Inventory) -> str | None:
    """Why no server could sleep here; None if one could."""
    if not inventory.gpus:
        return "--can-sleep gives a GPU's memory back, and there is none here"
    if all(gpu.unified for gpu in inventory.gpus):
        return "--can-sleep keeps the weights in the host's memory meanwhile, and this GPU's memory is the host's"
    return None


def _would_be_whole(candidate: Candidate) -> bool:
    """Whether a precision that engines make while they load is one that this engine is not told to make."""
    variant = candidate.variant
    made_while_loading = variant.precision not in SIXTEEN_BIT and candidate.architecture.quantisation is None
    return made_while_loading and not variant.args.get(candidate.engine.NAME)


def _numbers(version: str) -> tuple[int, ...]:
    """The release part of a version, which an adopted engine may carry more than: `0.33.0rc1`, `0.33.1.dev4+g12ab`."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _over_gpus(wish: Wish) -> bool:
    """Whether several GPUs were asked for: no CPU will do then."""
    return (wish.tensor or 1) * (wish.pipeline or 1) > 1


def _illegal(candidate: Candidate, tensor: int, pipeline: int) -> str | None:
    """Why the engine would not start this layout; None if it would."""
    return candidate.engine.layout_fault(candidate.architecture, candidate.loaded, tensor=tensor, pipeline=pipeline)


def _best_of(candidate: Candidate, layouts: list[Layout], *, most: int | None = None) -> tuple[Plan | None, str]:
    found: list[Plan] = []
    reason = "there is no such group of GPUs"
    for layout in layouts:
        # The reason of the largest layout says most: smaller ones have even less room.
        each, reason = on_gpus(candidate, layout, most=most)
        if each:
            found.append(each)
    return max(found, key=lambda each: _worth(each, candidate), default=None), "" if found else reason


def _worth(plan: Plan, candidate: Candidate) -> tuple[bool, int, int, int]:
    """Of the layouts of a variant: what all sessions can work with, the most context, the fewest GPUs and stages."""
    return reaches(plan, candidate.wish), plan.context, -len(plan.gpus), -plan.pipeline


def _like(gpus: tuple[Gpu, ...]) -> list[list[Gpu]]:
    """Groups of like GPUs of one machine, in each the freest first."""

    def place(gpu: Gpu) -> tuple[str, int, str, int]:
        return *_kind(gpu), gpu.node

    return [sorted(like, key=lambda gpu: -gpu.free) for _, like in groupby(sorted(gpus, key=place), key=place)]


def _alike(gpus: tuple[Gpu, ...]) -> list[list[list[Gpu]]]:
    """The same groups by what they are made of, one of each machine; in each the largest first."""
    groups = groupby(_like(gpus), key=lambda group: _kind(group[0]))
    return [sorted(each, key=lambda group: (-len(group), group[0].node)) for _, each in groups]


def _kind(gpu: Gpu) -> tuple[str, int, str]:
    return gpu.name, gpu.total, gpu.uuid if gpu.slice else ""


def _layouts(candidate: Candidate, gpus: tuple[Gpu, ...]) -> Iterator[Layout]:
    """What was asked for, or every group that the engine starts the model on, in every number of stages; smallest first."""
    wish, most = candidate.wish, candidate.profile.architecture.layers
    # Of machines that are alike one stands for all.
    groups = {(*_kind(group[0]), *(gpu.free for gpu in group)): group for group in reversed(_like(gpus))}
    layouts = [
        Layout(tuple(sorted(group[: tensor * pipeline], key=lambda gpu: gpu.index)), tensor, pipeline)
        for group in reversed(groups.values())
        for tensor in range(1, len(group) + 1)
        if wish.tensor in {None, tensor} and _illegal(candidate, tensor, 1) is None
        for pipeline in range(1, min(len(group) // tensor, most) + 1)
        if wish.pipeline in {None, pipeline} and (pipeline == 1 or _illegal(candidate, tensor, pipeline) is None)
    ]
    return iter(sorted(layouts, key=lambda layout: sum(gpu.free for gpu in layout.gpus)))


def _across(candidate: Candidate, gpus: tuple[Gpu, ...]) -> Iterator[Layout]:
    """Layouts over two machines or more, the fewest first: as many stages on each, which unasked fill it.

    Both engines want as many ranks on each node (vLLM, config/parallel.py: local_world_size; SGLang, entrypoints/engine.py:
    pp_size_per_node).
    """
    wish, most = candidate.wish, candidate.profile.architecture.layers
    for groups in _alike(gpus):
        for nodes in range(2, len(groups) + 1):
            least = min(len(group) for group in groups[:nodes])
            for tensor, stages in itertools.product(range(least, 0, -1), range(1, least + 1)):
                pipeline, size = nodes * stages, tensor * stages
                if wish.tensor not in {None, tensor} or wish.pipeline not in {None, pipeline} or not size <= least:
                    continue
                if pipeline <= most and (size == least or wish.pipeline) and _illegal(candidate, tensor, pipeline) is None:
                    chosen = (sorted(group[:size], key=lambda gpu: gpu.index) for group in groups[:nodes])
                    yield Layout(tuple(itertools.chain.from_iterable(chosen)), tensor, pipeline)


def _too_small(plan: Plan, goal: int, wish: Wish) -> str:
    why = "it has" if goal == plan.profile.context_max else "an agent works well from"
    each = f" for each of {wish.sessions} sessions" if wish.sessions and wish.sessions > 1 else ""
    return f"only {plan.context:,} tokens of context fit{each}; {why} {goal:,} (--context {plan.context} takes it as it is)"


def _told(lost: Iterable[Rejection]) -> tuple[str, ...]:
    return tuple(f"{who}: {reason}" for reason, who in by_reason(list(lost)).items())


def _notes(plan: Plan, before: list[Rejection], candidate: Candidate, inventory: Inventory) -> tuple[str, ...]:
    notes = [*_told(before), *plan.notes]
    if plan.profile.architecture.generic:
        notes.append("its model_type is not known: its memory is counted by the generic rule for decoders")
    if plan.context > plan.profile.architecture.context:
        native = plan.profile.architecture.context
        notes.append(f"stretched with YaRN from its native {native:,} tokens; --context {native} avoids that")
    if plan.context < AGENT_CONTEXT:
        notes.append(
            f"{plan.context:,} tokens of context prove the path and are too few for work: OpenHands' newer releases load no "
            f"model under {AGENT_CONTEXT:,}, those up to 0.62 do"
        )
    if plan.manner.can_sleep:
        notes.append(f"asleep it keeps its weights in {_asleep(plan) / GIB:.1f} GiB of the host's memory")
        notes += filter(None, [candidate.engine.AWAKE_NOTE])
    return (*notes, *_layout_notes(plan, candidate, inventory), *plan.profile.notes)


def _layout_notes(plan: Plan, candidate: Candidate, inventory: Inventory) -> Iterator[str]:
    """Why GPUs stay idle beside those that are used, or why they stand one after another."""
    wish = candidate.wish
    if plan.nodes > 1:
        yield (
            f"no single machine gives it a working context: {plan.tensor} GPUs of one share each layer over its own links, and "
            f"between the {plan.nodes} machines each token passes once from stage to stage"
        )
    elif plan.pipeline > 1 and wish.pipeline is None:
        yield f"the layers are split over {plan.pipeline} stages: no group that shares each layer gives this context to as many"
    if not plan.gpus or wish.tensor or wish.pipeline:
        return
    alike = next(len(group) for group in _like(inventory.gpus) if plan.gpus[0] in group)
    used = len(plan.gpus)
    larger = [_illegal(candidate, size, 1) for size in range(used + 1, alike + 1)]
    if larger and all(larger):
        staged = _illegal(candidate, 1, alike) is None
        how = f"; --pipeline {alike} uses them one after another" if staged and plan.pipeline == 1 else ""
        yield f"{used} of {alike} like GPUs are used: {larger[-1]}{how}"
