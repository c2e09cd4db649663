"""Profile and inventory to Plan: which variant on which devices, with the largest context that fits. Pure.

The order of choice: the best precision that gives an agent a working context; within it, the layout with the most context,
then the fewest GPUs.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from launcher import memory
from launcher.engines.base import Budget, Engine
from launcher.gpu import GIB, Gpu, Inventory
from launcher.plan import DoesNotFit, Memory, Plan, Rejection, Wish
from launcher.profile import CPU, CUDA, Profile, Variant

# An agent works well from here on (OpenHands' documentation of local models: 22k at least, 32k recommended).
WORKING_CONTEXT = 32_768
# The smallest window that OpenHands still loads, once output and a tenth of slack are taken off.
AGENT_CONTEXT = 24_576
# Contexts are told in steps that people can read.
STEP = 1_024
# An agent and its summariser at the same time.
SESSIONS = 2
# How much longer than native a window must be before YaRN is worth it.
WORTH_STRETCHING = 1.5
# What CPUs are given: the engine's kernels for quantised weights are the GPUs'.
SIXTEEN_BIT = frozenset({"bf16", "fp16"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """One variant on one engine, not yet on any device."""

    profile: Profile
    variant: Variant
    engine: Engine
    wish: Wish


def plan(profile: Profile, inventory: Inventory, engines: Mapping[str, Engine], wish: Wish | None = None) -> Plan | DoesNotFit:
    """The best plan for `profile` on `inventory`, or every variant's reason for having none.

    A context under AGENT_CONTEXT is refused unless it was asked for or is all that the model has.
    """
    wish = wish or Wish()
    rejections: list[Rejection] = []
    small: list[Plan] = []
    for candidate in _candidates(profile, engines, wish):
        best, reason = _best(candidate, inventory)
        variant, engine = candidate.variant.name, candidate.engine.NAME
        if best is None:
            rejections.append(Rejection(variant, engine, reason))
        elif best.context >= _goal(profile, wish):
            return replace(best, notes=_notes(best, rejections))
        else:
            small.append(best)
            rejections.append(Rejection(variant, engine, _too_small(best, _goal(profile, wish))))
    usable = [each for each in small if wish.context is None and each.context >= AGENT_CONTEXT]
    if usable:
        best = max(usable, key=lambda each: each.context)
        return replace(best, notes=_notes(best, rejections))
    return DoesNotFit(
        profile, tuple(rejections) or (Rejection(wish.variant or "", wish.engine or "", "there is no such variant"),)
    )


def choose(
    profiles: Iterable[Profile], inventory: Inventory, engines: Mapping[str, Engine], wish: Wish | None = None
) -> Plan | None:
    """The plan of the largest model that runs here with a context that suits an agent; else of the largest that runs.

    It notes why the next larger model lost.
    """
    outcomes = [plan(profile, inventory, engines, wish) for profile in profiles]
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
    # The last variant is the smallest: its reason is what is really missing.
    return (f"{lost.profile.name} does not fit: {lost.rejections[-1].variant} {lost.rejections[-1].reason}",)


def _candidates(profile: Profile, engines: Mapping[str, Engine], wish: Wish) -> Iterator[Candidate]:
    for variant in profile.variants:
        for name, engine in engines.items():
            if wish.variant in (None, variant.name) and wish.engine in (None, name):
                yield Candidate(profile, variant, engine, wish)


def _goal(profile: Profile, wish: Wish) -> int:
    return wish.context or min(WORKING_CONTEXT, profile.context_max)


def _best(candidate: Candidate, inventory: Inventory) -> tuple[Plan | None, str]:
    profile, asked = candidate.profile, candidate.wish.context
    if asked and asked > profile.context_max:
        return None, f"the model's context ends at {profile.context_max:,} tokens"
    if not inventory.gpus:
        return _on_cpu(candidate, inventory)
    if CUDA not in profile.runs_on:
        return None, "this model is served on CPUs only"
    found: list[Plan] = []
    reasons: list[str] = []
    for gpus in _layouts(profile, inventory.gpus):
        each, reason = _on_gpus(candidate, gpus)
        if each is None:
            reasons.append(reason)
        else:
            found.append(each)
    if found:
        return max(found, key=lambda each: (each.context, -each.tensor)), ""
    if CPU in profile.runs_on:
        made, _ = _on_cpu(candidate, inventory)
        if made:
            return replace(made, notes=(f"on the CPU, since no GPU here will do: {reasons[-1]}",)), ""
    # The reason of the largest layout says most: smaller ones have even less room.
    return None, reasons[-1]


def _layouts(profile: Profile, gpus: tuple[Gpu, ...]) -> Iterator[tuple[Gpu, ...]]:
    """Groups of like GPUs whose size divides the attention heads, smallest first; in each the GPUs with most free memory."""
    heads, kv_heads = profile.architecture.heads, profile.architecture.kv_heads

    def kind(gpu: Gpu) -> tuple[str, int, str]:
        return gpu.name, gpu.total, gpu.uuid if gpu.slice else ""

    groups = [sorted(like, key=lambda gpu: -gpu.free) for _, like in groupby(sorted(gpus, key=kind), key=kind)]
    layouts = [
        tuple(sorted(group[:size], key=lambda gpu: gpu.index))
        for group in groups
        for size in range(1, len(group) + 1)
        if heads % size == 0 and (kv_heads % size == 0 or size % kv_heads == 0)
    ]
    return iter(sorted(layouts, key=lambda layout: sum(gpu.free for gpu in layout)))


def _on_gpus(candidate: Candidate, gpus: tuple[Gpu, ...]) -> tuple[Plan | None, str]:
    architecture, variant = candidate.profile.architecture, candidate.variant
    lowest = min(gpu.compute for gpu in gpus)
    needed = max(variant.compute, candidate.engine.COMPUTE)
    if lowest < needed:
        return None, f"needs compute capability {_dotted(needed)}; {gpus[0].name} has {_dotted(lowest)}"
    tensor = len(gpus)
    weights = _weights(candidate, tensor)
    # Every rank gets the same share, so the GPU with the least free memory decides.
    tightest = min(gpus, key=lambda gpu: gpu.free)
    budget = candidate.engine.gpu_budget(architecture, tightest, weights=weights, tensor=tensor)
    where = f"{tensor} x {gpus[0].name}" if tensor > 1 else gpus[0].name
    made, reason = _filled(candidate, gpus, weights, budget, where=where)
    return (None if made is None else _trimmed(made, candidate.engine.KV_BLOCK[CUDA], candidate.engine.SEQUENCES)), reason


def _on_cpu(candidate: Candidate, inventory: Inventory) -> tuple[Plan | None, str]:
    profile = candidate.profile
    if CPU not in profile.runs_on:
        found = f" ({', '.join(inventory.unsupported)}: not supported)" if inventory.unsupported else ""
        return None, f"needs an NVIDIA GPU, and there is none here{found}"
    if candidate.variant.precision not in SIXTEEN_BIT:
        return None, f"quantised weights ({candidate.variant.name}) are served on GPUs only"
    weights = _weights(candidate, 1)
    budget = candidate.engine.cpu_budget(inventory, weights=weights)
    made, reason = _filled(candidate, (), weights, budget, where="this machine's memory")
    # The host's memory is everybody's: no more of it than the sessions need.
    return (None if made is None else _trimmed(made, candidate.engine.KV_BLOCK[CPU], SESSIONS)), reason


def _weights(candidate: Candidate, tensor: int) -> int:
    """Bytes of the weights on each rank; where the files' exact size is known, the model's facts only tell how it is split."""
    architecture, variant = candidate.profile.architecture, candidate.variant
    modelled = memory.weights(architecture, variant.precision, tensor)
    if variant.size is None:
        return modelled
    return round(modelled * variant.size / memory.weights(architecture, variant.precision, 1))


def _filled(
    candidate: Candidate, gpus: tuple[Gpu, ...], weights: int, budget: Budget, *, where: str
) -> tuple[Plan | None, str]:
    """The plan that a budget gives: KV cache in whole blocks, and of that a context."""
    profile, wish = candidate.profile, candidate.wish
    tensor = max(1, len(gpus))
    # The engines keep the cache in the model's own dtype, which is bf16 where the weights are quantised.
    kv_dtype = "fp16" if candidate.variant.precision == "fp16" else "bf16"
    per_token = memory.kv_bytes_per_token(profile.architecture, kv_dtype, tensor)
    block = candidate.engine.KV_BLOCK[CUDA if gpus else CPU]
    tokens = max(0, budget.kv) // per_token // block * block
    context = _context(tokens, profile, wish)
    if not context:
        need = weights + budget.overhead + (wish.context or min(AGENT_CONTEXT, profile.context_max)) * per_token
        each = " on each GPU" if tensor > 1 else ""
        return None, f"needs about {need / GIB:.1f} GiB{each}; {where} can give {max(0, budget.claim) / GIB:.1f} GiB"
    sizes = Memory(weights=weights, kv=tokens * per_token, overhead=budget.overhead, claim=budget.claim, kv_tokens=tokens)
    made = Plan(
        profile=profile,
        variant=candidate.variant,
        engine=candidate.engine.NAME,
        gpus=gpus,
        tensor=tensor,
        pipeline=1,
        context=context,
        sessions=tokens / context,
        kv_dtype=kv_dtype,
        memory=sizes,
    )
    return made, ""


def _trimmed(plan: Plan, block: int, sequences: int) -> Plan:
    """Claim no more KV cache than this many full sequences can use."""
    tokens = min(plan.memory.kv_tokens, -(-plan.context * sequences // block) * block)
    kv = plan.memory.kv // plan.memory.kv_tokens * tokens
    claim = min(plan.memory.claim, plan.memory.weights + plan.memory.overhead + kv)
    return replace(plan, memory=replace(plan.memory, kv=kv, kv_tokens=tokens, claim=claim), sessions=tokens / plan.context)


def _context(tokens: int, profile: Profile, wish: Wish) -> int:
    """The context that `tokens` of KV cache give: SESSIONS sequences of it, but one agent works before two do. 0: none."""
    if wish.context:
        return wish.context if tokens >= wish.context else 0
    native, longest = profile.architecture.context, profile.context_max
    wanted = max(tokens // SESSIONS, min(tokens, WORKING_CONTEXT))
    # Stretching the window costs some accuracy at every length: not for a few tokens more.
    reachable = longest if wanted >= WORTH_STRETCHING * native else native
    context = min(reachable, wanted // STEP * STEP)
    return context if context >= min(longest, STEP) else 0


def _too_small(plan: Plan, goal: int) -> str:
    why = "an agent works well from" if goal == WORKING_CONTEXT else "it has"
    return f"only {plan.context:,} tokens of context fit; {why} {goal:,} (--context {plan.context} takes it as it is)"


def _notes(plan: Plan, rejections: list[Rejection]) -> tuple[str, ...]:
    lost = (f"{each.variant} on {each.engine}: {each.reason}" for each in rejections if each.variant != plan.variant.name)
    notes = [*plan.notes, *lost]
    if plan.context > plan.profile.architecture.context:
        native = plan.profile.architecture.context
        notes.append(f"stretched with YaRN from its native {native:,} tokens; --context {native} avoids that")
    if plan.context < AGENT_CONTEXT:
        notes.append(
            f"{plan.context:,} tokens of context prove the path and are too few for work: OpenHands' newer releases load no "
            f"model under {AGENT_CONTEXT:,}, those up to 0.62 do"
        )
    return (*notes, *plan.profile.notes)


def _dotted(compute: tuple[int, int]) -> str:
    return f"{compute[0]}.{compute[1]}"
