"""Profile and inventory to Plan: which variant on which devices, with the largest context that fits. Pure.

The order of choice: the best precision that gives an agent a working context; within it, the layout with the most context,
then the fewest GPUs. Layers are split over GPUs one after another (a pipeline) only where no tensor-parallel group gives that
context, and then for no more than it: such a group serves one session no faster than a single GPU.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
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
# Attention whose every layer keeps every token: a token's bytes say all.
PLAIN = "plain"
# How much longer than native a window must be before YaRN is worth it.
WORTH_STRETCHING = 1.5
# What CPUs are given: the engine's kernels for quantised weights are the GPUs'.
SIXTEEN_BIT = frozenset({"bf16", "fp16"})
# Attention over a KV cache in FP8 (vLLM, v1/attention/backends/flashinfer.py: from 8.0 on; its other backends from 8.9 on).
KV_COMPUTE = (8, 0)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One variant on one engine, not yet on any device."""

    profile: Profile
    variant: Variant
    engine: Engine
    wish: Wish


@dataclass(frozen=True, slots=True)
class Layout:
    """Like GPUs in `pipeline` groups of `tensor`."""

    gpus: tuple[Gpu, ...]
    tensor: int
    pipeline: int

    def stage(self, layers: int) -> int:
        """Layers of the fullest stage (vLLM: distributed/utils.py, get_pp_indices)."""
        return -(-layers // self.pipeline)


def plan(profile: Profile, inventory: Inventory, engines: Mapping[str, Engine], wish: Wish | None = None) -> Plan | DoesNotFit:
    """The best plan for `profile` on `inventory`, or every variant's reason for having none.

    A context under AGENT_CONTEXT is refused unless it was asked for or is all that the model has.
    """
    wish = wish or Wish()
    rejections: list[Rejection] = []
    small: list[tuple[Plan, Candidate]] = []
    for candidate in _candidates(profile, engines, wish):
        best, reason = _best(candidate, inventory)
        variant, engine = candidate.variant.name, candidate.engine.NAME
        if best is None:
            rejections.append(Rejection(variant, engine, reason))
        elif best.context >= _goal(profile, wish):
            return replace(best, notes=_notes(best, rejections, candidate, inventory))
        else:
            small.append((best, candidate))
            rejections.append(Rejection(variant, engine, _too_small(best, _goal(profile, wish))))
    usable = [each for each in small if wish.context is None and each[0].context >= AGENT_CONTEXT]
    if usable:
        best, candidate = max(usable, key=lambda each: each[0].context)
        return replace(best, notes=_notes(best, rejections, candidate, inventory))
    if not small and inventory.gpus and CPU in profile.runs_on and not _over_gpus(wish):
        # Only now: a quantised variant on a GPU is better than a whole one on the CPU.
        outcome = plan(profile, replace(inventory, gpus=()), engines, wish)
        if isinstance(outcome, Plan):
            why = f"on the CPU, since no GPU here will do: {rejections[-1].reason}"
            return replace(outcome, notes=(why, *outcome.notes))
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
    if reason := next(_refusals(candidate, inventory), None):
        return None, reason
    if not inventory.gpus:
        return _on_cpu(candidate, inventory)
    if CUDA not in candidate.profile.runs_on:
        return None, "this model is served on CPUs only"
    goal = _goal(candidate.profile, candidate.wish)
    layouts = list(_layouts(candidate, inventory.gpus))
    asked = candidate.wish.pipeline
    best, reason = _best_of(candidate, [each for each in layouts if each.pipeline == (asked or 1)])
    if asked is None and (best is None or best.context < goal):
        staged, _ = _best_of(candidate, [each for each in layouts if each.pipeline > 1], most=goal)
        if staged and (best is None or staged.context > best.context):
            return staged, ""
    return best, reason


def _refusals(candidate: Candidate, inventory: Inventory) -> Iterator[str]:
    """What was asked for and cannot be, however much memory there is."""
    architecture, wish = candidate.profile.architecture, candidate.wish
    if wish.context and wish.context > candidate.profile.context_max:
        yield f"the model's context ends at {candidate.profile.context_max:,} tokens"
    if wish.tensor and (reason := _indivisible(candidate, wish.tensor)):
        yield reason
    if wish.pipeline and wish.pipeline > architecture.layers:
        yield f"{wish.pipeline} pipeline stages are more than the model's {architecture.layers} layers"
    if architecture.kind != PLAIN and (wish.pipeline or 1) > 1:
        yield f"pipeline stages are planned for plain attention only; this model's is {architecture.kind}"
    if wish.sessions and wish.sessions > candidate.engine.SEQUENCES:
        yield f"{wish.sessions} sessions are more than the {candidate.engine.SEQUENCES} that the engine takes at once"
    size = (wish.tensor or 1) * (wish.pipeline or 1)
    largest = max((len(group) for group in _like(inventory.gpus)), default=0)
    if largest and size > largest:
        yield f"needs {size} GPUs of one kind; the most that are alike here: {largest}"
    if not inventory.gpus and CPU in candidate.profile.runs_on and _over_gpus(wish):
        yield "--tensor and --pipeline split a model over GPUs, and there is none here"


def _over_gpus(wish: Wish) -> bool:
    """Whether several GPUs were asked for: no CPU will do then."""
    return (wish.tensor or 1) * (wish.pipeline or 1) > 1


def _indivisible(candidate: Candidate, tensor: int) -> str | None:
    """Why this many GPUs cannot share each layer; None if they can."""
    heads, kv_heads = candidate.profile.architecture.heads, candidate.profile.architecture.kv_heads
    if heads % tensor:
        return f"tensor parallel {tensor} does not divide the {heads} attention heads"
    if kv_heads % tensor and tensor % kv_heads:
        return f"tensor parallel {tensor} neither divides the {kv_heads} KV heads nor is a multiple of them"
    return None


def _best_of(candidate: Candidate, layouts: list[Layout], *, most: int | None = None) -> tuple[Plan | None, str]:
    found: list[Plan] = []
    reason = "there is no such group of GPUs"
    for layout in layouts:
        # The reason of the largest layout says most: smaller ones have even less room.
        each, reason = _on_gpus(candidate, layout, most=most)
        if each:
            found.append(each)
    best = max(found, key=lambda each: (each.context, -len(each.gpus), -each.pipeline), default=None)
    return best, "" if best else reason


def _like(gpus: tuple[Gpu, ...]) -> list[list[Gpu]]:
    """Groups of like GPUs, in each the freest first."""

    def kind(gpu: Gpu) -> tuple[str, int, str]:
        return gpu.name, gpu.total, gpu.uuid if gpu.slice else ""

    return [sorted(like, key=lambda gpu: -gpu.free) for _, like in groupby(sorted(gpus, key=kind), key=kind)]


def _layouts(candidate: Candidate, gpus: tuple[Gpu, ...]) -> Iterator[Layout]:
    """What was asked for, or every group whose size divides the attention heads, in every number of stages; smallest first."""
    wish, architecture = candidate.wish, candidate.profile.architecture
    # Stages are counted as like: those of mixed layers are not.
    most = architecture.layers if architecture.kind == PLAIN else 1
    layouts = [
        Layout(tuple(sorted(group[: tensor * pipeline], key=lambda gpu: gpu.index)), tensor, pipeline)
        for group in _like(gpus)
        for tensor in range(1, len(group) + 1)
        if wish.tensor in {None, tensor} and _indivisible(candidate, tensor) is None
        for pipeline in range(1, min(len(group) // tensor, most) + 1)
        if wish.pipeline in {None, pipeline}
    ]
    return iter(sorted(layouts, key=lambda layout: sum(gpu.free for gpu in layout.gpus)))


def _on_gpus(candidate: Candidate, layout: Layout, *, most: int | None) -> tuple[Plan | None, str]:
    architecture, gpus, wish = candidate.profile.architecture, layout.gpus, candidate.wish
    lowest = min(gpu.compute for gpu in gpus)
    needed = max(candidate.variant.compute, candidate.engine.COMPUTE, KV_COMPUTE if wish.kv_dtype == "fp8" else (0, 0))
    if lowest < needed:
        return None, f"needs compute capability {_dotted(needed)}; {gpus[0].name} has {_dotted(lowest)}"
    weights = _weights(candidate, layout)
    # Every rank gets the same share, so the GPU with the least free memory decides.
    tightest = min(gpus, key=lambda gpu: gpu.free)
    budget = candidate.engine.gpu_budget(architecture, tightest, weights=weights, tensor=layout.tensor)
    if layout.pipeline > 1:
        # Stages talk through NCCL too, which a lone GPU does without.
        budget = _less(budget, overhead=max(0, memory.outside_torch(2) - memory.outside_torch(layout.tensor)))
    where = f"{len(gpus)} x {gpus[0].name}" if len(gpus) > 1 else gpus[0].name
    made, reason = _filled(candidate, layout, weights, _within(budget, wish, tightest.total), where=where, most=most)
    return (None if made is None else _trimmed(made, candidate.engine.KV_BLOCK[CUDA], candidate.engine.SEQUENCES)), reason


def _on_cpu(candidate: Candidate, inventory: Inventory) -> tuple[Plan | None, str]:
    profile, wish = candidate.profile, candidate.wish
    if CPU not in profile.runs_on:
        found = f" ({', '.join(inventory.unsupported)}: not supported)" if inventory.unsupported else ""
        return None, f"needs an NVIDIA GPU, and there is none here{found}"
    if candidate.variant.precision not in SIXTEEN_BIT:
        return None, f"quantised weights ({candidate.variant.name}) are served on GPUs only"
    if profile.architecture.kind != PLAIN:
        return None, f"{profile.architecture.kind} attention is planned on GPUs only"
    if wish.kv_dtype == "fp8":
        return None, "an FP8 KV cache is planned on GPUs only"
    alone = Layout((), 1, 1)
    weights = _weights(candidate, alone)
    budget = _within(candidate.engine.cpu_budget(inventory, weights=weights), wish, inventory.ram.total)
    made, reason = _filled(candidate, alone, weights, budget, where="this machine's memory", most=None)
    # The host's memory is everybody's: no more of it than the sessions need.
    sessions = wish.sessions or SESSIONS
    return (None if made is None else _trimmed(made, candidate.engine.KV_BLOCK[CPU], sessions)), reason


def _within(budget: Budget, wish: Wish, total: int) -> Budget:
    """The budget, with no more claimed than the share of the device that was asked for."""
    if wish.memory_share is None:
        return budget
    claim = min(budget.claim, int(total * wish.memory_share))
    return replace(budget, claim=claim, kv=budget.kv - (budget.claim - claim))


def _less(budget: Budget, *, overhead: int) -> Budget:
    return replace(budget, overhead=budget.overhead + overhead, kv=budget.kv - overhead)


def _weights(candidate: Candidate, layout: Layout) -> int:
    """Bytes of the weights on each rank; where the files' exact size is known, the model's facts only tell how it is split.

    The first and the last stage of a pipeline hold the embeddings beside their layers; each is counted with both.
    """
    architecture, variant = candidate.profile.architecture, candidate.variant
    modelled = memory.weights(architecture, variant.precision, layout.tensor)
    if variant.size is not None:
        modelled = round(modelled * variant.size / memory.weights(architecture, variant.precision, 1))
    embeddings = min(modelled, architecture.embedding_parameters * memory.SIXTEEN_BIT // layout.tensor)
    return embeddings + -(-(modelled - embeddings) * layout.stage(architecture.layers) // architecture.layers)


def _filled(
    candidate: Candidate, layout: Layout, weights: int, budget: Budget, *, where: str, most: int | None
) -> tuple[Plan | None, str]:
    """The plan that a budget gives: KV cache in whole blocks, and of that a context, of `most` tokens if that is said."""
    profile, wish, gpus = candidate.profile, candidate.wish, layout.gpus
    # The engines keep the cache in the model's own dtype, which is bf16 where the weights are quantised.
    kv_dtype = wish.kv_dtype or ("fp16" if candidate.variant.precision == "fp16" else "bf16")
    cache = _cache(candidate, layout, budget.kv, kv_dtype)
    context = _solved(cache, profile, wish, most)
    tokens = cache.tokens(context)
    if not context:
        least = wish.context or min(AGENT_CONTEXT, profile.context_max)
        need = weights + budget.overhead + cache.size(least, wish.sessions or 1)
        each = " on each GPU" if len(gpus) > 1 else ""
        return None, f"needs about {need / GIB:.1f} GiB{each}; {where} can give {max(0, budget.claim) / GIB:.1f} GiB"
    kv = min(budget.kv, cache.size(context, tokens / context))
    sizes = Memory(weights=weights, kv=kv, overhead=budget.overhead, claim=budget.claim, kv_tokens=tokens)
    made = Plan(
        profile=profile,
        variant=candidate.variant,
        engine=candidate.engine.NAME,
        gpus=gpus,
        tensor=layout.tensor,
        pipeline=layout.pipeline,
        context=context,
        sessions=tokens / context,
        kv_dtype=kv_dtype,
        memory=sizes,
    )
    return made, ""


@dataclass(frozen=True, slots=True)
class Cache:
    """What a rank's bytes of KV cache hold: `tokens` of sequences of a context, and back, the `size` of so many of them."""

    tokens: Callable[[int], int]
    size: Callable[[int, float], int]


def _cache(candidate: Candidate, layout: Layout, kv: int, kv_dtype: str) -> Cache:
    architecture, engine = candidate.profile.architecture, candidate.engine
    if architecture.kind == PLAIN:
        every = memory.kv_bytes_per_token(architecture, kv_dtype, layout.tensor)
        per_token = -(-every * layout.stage(architecture.layers) // architecture.layers)
        block = engine.KV_BLOCK[CUDA if layout.gpus else CPU]
        tokens = max(0, kv) // per_token // block * block
        return Cache(lambda _: tokens, lambda context, sequences: round(context * sequences) * per_token)
    # Windows and states take the same room in a long sequence as in a short one: how many tokens fit depends on the context.
    tightest = min(layout.gpus, key=lambda gpu: gpu.free)
    return Cache(
        lambda context: engine.kv_tokens(architecture, tightest, kv, max(1, context), tensor=layout.tensor, kv_dtype=kv_dtype),
        lambda context, sequences: engine.kv_bytes(
            architecture, tightest, context, sequences, tensor=layout.tensor, kv_dtype=kv_dtype
        ),
    )


def _solved(cache: Cache, profile: Profile, wish: Wish, most: int | None) -> int:
    """The largest context whose own capacity carries it, in whole steps; 0: none."""
    if wish.context or profile.architecture.kind == PLAIN:
        return _context(cache.tokens(wish.context or 0), profile, wish, most)
    low, high = 0, profile.context_max // STEP
    while low < high:
        middle = (low + high + 1) // 2
        carried = _context(cache.tokens(middle * STEP), profile, wish, most) >= middle * STEP
        low, high = (middle, high) if carried else (low, middle - 1)
    return low * STEP


def _trimmed(plan: Plan, block: int, sequences: int) -> Plan:
    """Claim no more KV cache than this many full sequences can use."""
    if plan.profile.architecture.kind != PLAIN:
        return plan
    tokens = min(plan.memory.kv_tokens, -(-plan.context * sequences // block) * block)
    kv = plan.memory.kv // plan.memory.kv_tokens * tokens
    claim = min(plan.memory.claim, plan.memory.weights + plan.memory.overhead + kv)
    return replace(plan, memory=replace(plan.memory, kv=kv, kv_tokens=tokens, claim=claim), sessions=tokens / plan.context)


def _context(tokens: int, profile: Profile, wish: Wish, most: int | None) -> int:
    """The context that `tokens` of KV cache give, up to `most`; 0: none.

    SESSIONS sequences of it, but one agent works before two do, unless a number of sessions was asked for.
    """
    if wish.context:
        return wish.context if tokens >= wish.context * (wish.sessions or 1) else 0
    native, longest = profile.architecture.context, profile.context_max
    wanted = tokens // wish.sessions if wish.sessions else max(tokens // SESSIONS, min(tokens, WORKING_CONTEXT))
    # Stretching the window costs some accuracy at every length: not for a few tokens more.
    reachable = longest if wanted >= WORTH_STRETCHING * native else native
    context = min(reachable, most or reachable, wanted // STEP * STEP)
    return context if context >= min(longest, STEP) else 0


def _too_small(plan: Plan, goal: int) -> str:
    why = "an agent works well from" if goal == WORKING_CONTEXT else "it has"
    return f"only {plan.context:,} tokens of context fit; {why} {goal:,} (--context {plan.context} takes it as it is)"


def _notes(plan: Plan, rejections: list[Rejection], candidate: Candidate, inventory: Inventory) -> tuple[str, ...]:
    notes = [f"{each.variant} on {each.engine}: {each.reason}" for each in rejections if each.variant != plan.variant.name]
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
    return (*notes, *_layout_notes(plan, candidate, inventory), *plan.profile.notes)


def _layout_notes(plan: Plan, candidate: Candidate, inventory: Inventory) -> Iterator[str]:
    """Why GPUs stay idle beside those that are used, or why they stand one after another."""
    wish = candidate.wish
    if plan.pipeline > 1 and wish.pipeline is None:
        yield f"the layers are split over {plan.pipeline} stages: no group that shares each layer gives this context"
    if not plan.gpus or wish.tensor or wish.pipeline:
        return
    alike = next(len(group) for group in _like(inventory.gpus) if plan.gpus[0] in group)
    used = len(plan.gpus)
    larger = [_indivisible(candidate, size) for size in range(used + 1, alike + 1)]
    if larger and all(larger):
        yield f"{used} of {alike} like GPUs are used: {larger[-1]}; --pipeline {alike} uses them one after another"


def _dotted(compute: tuple[int, int]) -> str:
    return f"{compute[0]}.{compute[1]}"
