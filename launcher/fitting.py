"""One variant on given devices: how much KV cache is left, and the largest context that it carries. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from launcher import memory
from launcher.architecture import Architecture
from launcher.correction import corrected
from launcher.engines.base import Budget, Engine
from launcher.gpu import GIB, Gpu, Inventory
from launcher.layers import Latent
from launcher.plan import Memory, Modelled, Plan, Wish
from launcher.profile import CPU, CUDA, Profile, Variant
from launcher.starts import Setup, Start, device_of, served_of

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
    """One variant on one engine, not yet on any device; `starts` are the earlier ones on record."""

    profile: Profile
    variant: Variant
    engine: Engine
    wish: Wish
    starts: Sequence[Start] = ()

    @property
    def architecture(self) -> Architecture:
        """The model's, quantised as this variant's repository is."""
        model, own = self.profile.architecture, self.variant.quantisation
        return replace(model, quantisation=own) if own else model


@dataclass(frozen=True, slots=True)
class Layout:
    """Like GPUs in `pipeline` groups of `tensor`."""

    gpus: tuple[Gpu, ...]
    tensor: int
    pipeline: int

    def stage(self, layers: int) -> int:
        """Layers of the fullest stage (vLLM: distributed/utils.py, get_pp_indices)."""
        return -(-layers // self.pipeline)


def on_gpus(candidate: Candidate, layout: Layout, *, most: int | None) -> tuple[Plan | None, str]:
    """The plan on this group of GPUs with the most context, `most` tokens at most; or None and why."""
    architecture, gpus, wish = candidate.architecture, layout.gpus, candidate.wish
    lowest = min(gpu.compute for gpu in gpus)
    on = candidate.variant.on
    needed = max(on.compute, candidate.engine.COMPUTE, KV_COMPUTE if wish.kv_dtype == "fp8" else (0, 0))
    if lowest < needed:
        return None, f"needs compute capability {_dotted(needed)}; {gpus[0].name} has {_dotted(lowest)}"
    if on.below and lowest >= on.below:
        return None, f"has kernels below compute capability {_dotted(on.below)} only; {gpus[0].name} has {_dotted(lowest)}"
    weights = _weights(candidate, layout)
    # Every rank gets the same share, so the GPU with the least free memory decides.
    tightest = min(gpus, key=lambda gpu: gpu.free)
    budget = candidate.engine.gpu_budget(architecture, tightest, weights=weights, tensor=layout.tensor)
    if layout.pipeline > 1:
        # Stages talk through NCCL too, which a lone GPU does without.
        budget = _less(budget, overhead=max(0, memory.outside_torch(2) - memory.outside_torch(layout.tensor)))
    where = f"{len(gpus)} x {gpus[0].name}" if len(gpus) > 1 else gpus[0].name
    budget = _within(budget, wish, tightest.total)
    made, reason = _filled(candidate, layout, weights, budget, device=device_of(tightest), where=where, most=most)
    return (None if made is None else _trimmed(made, candidate.engine.KV_BLOCK[CUDA], candidate.engine.SEQUENCES[CUDA])), reason


def on_cpu(candidate: Candidate, inventory: Inventory) -> tuple[Plan | None, str]:
    """The plan in the host's memory; or None and why."""
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
    device, where = inventory.cpu.name, "this machine's memory"
    made, reason = _filled(candidate, alone, weights, budget, device=device, where=where, most=None)
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
    architecture, variant = candidate.architecture, candidate.variant
    loaded = architecture.quantisation or variant.precision
    modelled = memory.weights(architecture, loaded, layout.tensor, files=variant.size)
    embeddings = min(modelled, architecture.embedding_parameters * memory.SIXTEEN_BIT // layout.tensor)
    return embeddings + -(-(modelled - embeddings) * layout.stage(architecture.layers) // architecture.layers)


def _filled(
    candidate: Candidate, layout: Layout, weights: int, budget: Budget, *, device: str, where: str, most: int | None
) -> tuple[Plan | None, str]:
    """The plan that a budget gives: KV cache in whole blocks, and of that a context, of `most` tokens if that is said."""
    profile, wish, gpus = candidate.profile, candidate.wish, layout.gpus
    # The engines keep the cache in the model's own dtype, which is bf16 where the weights are quantised.
    kv_dtype = wish.kv_dtype or ("fp16" if candidate.variant.precision == "fp16" else "bf16")
    modelled = Modelled(weights, budget.overhead)
    growing = any(isinstance(cache, Latent) and cache.sparse for cache in profile.architecture.caches)
    setup = setup_of(profile, candidate.variant, candidate.engine, layout, device=device, kv_dtype=kv_dtype)
    learnt = corrected(weights, budget, setup, candidate.starts, growing=growing)
    weights, budget = learnt.weights, learnt.budget
    cache = _cache(candidate, layout, budget.kv, kv_dtype)
    context = _solved(cache, profile, wish, most)
    tokens = cache.tokens(context)
    if not context:
        least = wish.context or min(AGENT_CONTEXT, profile.context_max)
        need = weights + budget.overhead + cache.size(least, wish.sessions or 1)
        each = " on each GPU" if len(gpus) > 1 else ""
        return None, f"needs about {need / GIB:.1f} GiB{each}; {where} can give {max(0, budget.claim) / GIB:.1f} GiB"
    kv = min(budget.kv, cache.size(context, tokens / context))
    sizes = Memory(weights, kv, budget.overhead, budget.claim, tokens, modelled)
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
        notes=(learnt.note,) if learnt.note else (),
    )
    return made, ""


def setup_of(profile: Profile, variant: Variant, engine: Engine, layout: Layout, *, device: str, kv_dtype: str) -> Setup:
    """What the memory of a start follows from; `device` as in Setup."""
    return Setup(
        device=device,
        engine=engine.NAME,
        version=engine.VERSION,
        model=profile.name,
        served=served_of(profile, variant, engine.NAME),
        tensor=layout.tensor,
        pipeline=layout.pipeline,
        kv_dtype=kv_dtype,
    )


@dataclass(frozen=True, slots=True)
class Cache:
    """What a rank's bytes of KV cache hold: `tokens` of sequences of a context, and back, the `size` of so many of them."""

    tokens: Callable[[int], int]
    size: Callable[[int, float], int]


def _cache(candidate: Candidate, layout: Layout, kv: int, kv_dtype: str) -> Cache:
    architecture, engine = candidate.architecture, candidate.engine
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
    wanted = tokens // wish.sessions if wish.sessions else max(tokens // SESSIONS, min(tokens, profile.context_min))
    # Stretching the window costs some accuracy at every length: not for a few tokens more.
    reachable = longest if wanted >= WORTH_STRETCHING * native else native
    context = min(reachable, most or reachable, wanted // STEP * STEP)
    return context if context >= min(longest, STEP) else 0


def _dotted(compute: tuple[int, int]) -> str:
    return f"{compute[0]}.{compute[1]}"
