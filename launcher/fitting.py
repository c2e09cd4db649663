"""One variant on given devices: how much KV cache is left, and the largest context that it carries. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from launcher import cuda, memory
from launcher.architecture import Architecture
from launcher.correction import corrected
from launcher.engines.base import Budget, Engine
from launcher.gpu import GIB, Gpu, Inventory
from launcher.layers import Latent, Stage
from launcher.plan import Manner, Memory, Modelled, Plan, Wish
from launcher.profile import CPU, CUDA, Profile, Speculative, Variant
from launcher.quantisation import PRECISIONS, Quantisation
from launcher.release import Release, Releases
from launcher.starts import Setup, Start, device_of, served_of

# The smallest window that OpenHands still loads, once output and a tenth of slack are taken off.
AGENT_CONTEXT = 24_576
# Contexts are told in steps that people can read.
STEP = 1_024
# An agent and its summariser at the same time.
SESSIONS = 2
# What an engine takes at once at the least; few where the cache holds few sessions, since it captures graphs for each number.
FEWEST_SEQUENCES = 8
# Attention whose every layer keeps every token: a token's bytes say all.
PLAIN = "plain"
# How much longer than native a window must be before YaRN is worth it.
WORTH_STRETCHING = 1.5
# What CPUs are given: the engine's kernels for quantised weights are the GPUs'.
SIXTEEN_BIT = frozenset({"bf16", "fp16"})
# Attention over a KV cache in FP8 (vLLM, v1/attention/backends/flashinfer.py: from 8.0 on; its other backends from 8.9 on).
KV_COMPUTE = (8, 0)


@dataclass(frozen=True)
class Candidate:
    """One variant on one engine, not yet on any device; `starts` are the earlier ones on record."""

    profile: Profile
    variant: Variant
    engine: Engine
    wish: Wish
    releases: Releases
    starts: Sequence[Start] = ()

    @cached_property
    def architecture(self) -> Architecture:
        """The model's, quantised as this variant's repository is; asked for again for each context that is tried."""
        return quantised(self.profile, self.variant)

    def release(self, build: str) -> Release:
        """The engine's release that would serve."""
        return self.releases.get((self.engine.NAME, build), Release(self.engine.VERSION))

    @property
    def loaded(self) -> Quantisation:
        """What the weights are in once they are loaded."""
        return loaded_as(self.architecture, self.variant)

    def draft_fault(self, pipeline: int) -> str | None:
        """Why the model's own heads cannot draft in so many stages; None if they can."""
        if self.profile.speculative is None:
            return "its profile tells of no draft heads"
        if not self.architecture.drafts:
            return f"the repository of {self.variant.name} has no draft heads"
        return self.engine.draft_fault(self.architecture, pipeline=pipeline)

    @property
    def kv_dtype(self) -> str:
        """What was asked for, else what the checkpoint asks for, else the model's own: bf16 where its weights are quantised."""
        own = "fp16" if self.variant.precision == "fp16" else "bf16"
        return self.wish.kv_dtype or self.loaded.kv_dtype or own


def quantised(profile: Profile, variant: Variant) -> Architecture:
    """The model's architecture, quantised as the variant's repository is, and with the draft heads that that has."""
    found = profile.architecture
    if not variant.drafts:
        found = replace(found, drafts=0, parts=tuple(part for part in found.parts if not part.draft))
    return replace(found, quantisation=variant.quantisation) if variant.quantisation else found


def loaded_as(architecture: Architecture, variant: Variant) -> Quantisation:
    """The repository's own quantisation, or the one that the engine makes."""
    return architecture.quantisation or PRECISIONS[variant.precision]


def lightest(profile: Profile) -> int:
    """Bytes of the weights of the smallest variant: what no machine with less memory can serve."""
    made = ((quantised(profile, variant), variant) for variant in profile.variants)
    return min(memory.weights(each, loaded_as(each, variant), 1, files=variant.size) for each, variant in made)


@dataclass(frozen=True, slots=True)
class Layout:
    """Like GPUs in `pipeline` groups of `tensor`."""

    gpus: tuple[Gpu, ...]
    tensor: int
    pipeline: int


@dataclass(frozen=True, slots=True)
class Rank:
    """What one device of a layout holds: the bytes of its `stage`'s weights (None: all layers), and what is left.

    `note` tells what of this earlier starts showed.
    """

    stage: Stage | None
    weights: int
    budget: Budget
    modelled: Modelled | None = None
    note: str = ""

    @property
    def by_rule(self) -> Modelled:
        """Weights and overhead without what earlier starts showed, so that a correction is never measured against itself."""
        return self.modelled or Modelled(self.weights, self.budget.overhead)


def on_gpus(candidate: Candidate, layout: Layout, *, most: int | None) -> tuple[Plan | None, str]:
    """The plan on this group of GPUs with the most context, `most` tokens at most; or None and why.

    The model's own heads draft where its profile says so, unless that takes the working context away.
    """
    if reason := _device_fault(candidate, layout.gpus):
        return None, reason
    wish, told = candidate.wish, candidate.profile.speculative
    fault = candidate.draft_fault(layout.pipeline)
    if wish.speculative and fault:
        return None, f"no speculative decoding: {fault}"
    drafting, reason = (
        _on(candidate, layout, told, most=most) if told and not fault and wish.speculative is not False else (None, "")
    )
    if wish.speculative or (drafting and reaches(drafting, wish)):
        return drafting, reason
    plain, without = _on(candidate, layout, None, most=most)
    if plain is None or told is None or wish.speculative is False:
        return plain, without
    if fault is None and drafting and drafting.context >= plain.context and not reaches(plain, wish):
        return drafting, ""
    why = fault or (f"with its draft heads it {reason}" if drafting is None else _would_have(drafting))
    return replace(plain, notes=(*plain.notes, f"no speculative decoding: {why}")), ""


def reaches(plan: Plan, wish: Wish, sessions: int | None = None) -> bool:
    """Whether it gives the context to so many sessions; by default to those that were asked for, or to an agent's."""
    return plan.context >= goal(plan.profile, wish) and plan.sessions >= (sessions or wish.sessions or SESSIONS)


def goal(profile: Profile, wish: Wish) -> int:
    """The context that was asked for, or that an agent needs to work with this model."""
    return wish.context or profile.context_min


def _would_have(plan: Plan) -> str:
    # Rounded down: what is nearly two is not what two need.
    return f"with its draft heads there is room for {int(plan.sessions * 10) / 10} sessions of {plan.context:,} tokens"


def _device_fault(candidate: Candidate, gpus: Sequence[Gpu]) -> str | None:
    """Why the variant has no kernels on these GPUs; None if it has."""
    lowest = min(gpu.compute for gpu in gpus)
    on = candidate.variant.on
    needed = max(on.compute, candidate.engine.COMPUTE, KV_COMPUTE if candidate.kv_dtype == "fp8" else (0, 0))
    if lowest < needed:
        return f"needs compute capability {_dotted(needed)}; {gpus[0].name} has {_dotted(lowest)}"
    if reason := next(filter(None, (cuda.gpu_fault(candidate.release(CUDA), gpu) for gpu in gpus)), None):
        return reason
    if on.below and lowest >= on.below:
        return f"has kernels below compute capability {_dotted(on.below)} only; {gpus[0].name} has {_dotted(lowest)}"
    return None


def _on(candidate: Candidate, layout: Layout, speculative: Speculative | None, *, most: int | None) -> tuple[Plan | None, str]:
    """The plan with or without draft heads; or None and why."""
    architecture, gpus, wish = candidate.architecture, layout.gpus, candidate.wish
    # Every rank gets the same share, so the GPU with the least free memory decides.
    tightest = min(gpus, key=lambda gpu: gpu.free)
    stages = candidate.engine.stages(architecture.layers, layout.pipeline) if layout.pipeline > 1 else (None,)
    speculated = speculative.tokens if speculative else 0
    ranks = []
    for stage in stages:
        weights = _weights(candidate, layout.tensor, stage, drafts=speculative is not None)
        budget = candidate.engine.gpu_budget(
            architecture,
            tightest,
            weights=weights,
            tensor=layout.tensor,
            share=wish.memory_share,
            speculated=speculated,
        )
        if stage:
            # Stages talk through NCCL too, which a lone GPU does without.
            budget = _less(budget, overhead=max(0, memory.outside_torch(2) - memory.outside_torch(layout.tensor)))
        ranks.append(Rank(stage, weights, _within(budget, wish, tightest.total)))
    where = f"{len(gpus)} x {gpus[0].name}" if len(gpus) > 1 else gpus[0].name
    room = Room(candidate, tightest, layout.tensor, speculated, tuple(ranks))
    at_once = candidate.engine.SEQUENCES[CUDA]
    ruled, reason = _filled(room, layout, where=where, most=most, sequences=at_once)
    # By the rules alone: what starts taught depends on how many sequences they took at once.
    manner = Manner(speculative, _sequences(ruled, at_once), wish.can_sleep, wish.extra)
    if candidate.starts:
        known = tuple(_learnt(candidate, rank, layout, device_of(tightest), manner) for rank in ranks)
        ruled, reason = _filled(replace(room, ranks=known), layout, where=where, most=most, sequences=at_once)
    return ruled and replace(ruled, manner=manner), reason


def _sequences(plan: Plan | None, most: int) -> int:
    """How many sequences the engine takes at once: twice the sessions, since most are shorter than the context.

    In powers of two, so that a little more or less memory does not make another setup of it.
    """
    wanted = max(FEWEST_SEQUENCES, 2 * math.ceil(plan.sessions) if plan else 0)
    return min(most, 1 << (wanted - 1).bit_length())


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
    if wish.speculative:
        return None, "speculative decoding is planned on GPUs only"
    weights = _weights(candidate, 1, None, drafts=False)
    budget = _within(candidate.engine.cpu_budget(inventory, weights=weights), wish, inventory.ram.total)
    alone = Layout((), 1, 1)
    manner = Manner(sequences=candidate.engine.SEQUENCES[CPU], extra=wish.extra)
    rank = _learnt(candidate, Rank(None, weights, budget), alone, inventory.cpu.name, manner)
    room = Room(candidate, None, 1, 0, (rank,))
    # The host's memory is everybody's: no more of it than the sessions need.
    plan, reason = _filled(room, alone, where="this machine's memory", most=None, sequences=wish.sessions or SESSIONS)
    return plan and replace(plan, manner=manner), reason


def _within(budget: Budget, wish: Wish, total: int) -> Budget:
    """The budget, with no more claimed than the share of the device that was asked for."""
    if wish.memory_share is None:
        return budget
    claim = min(budget.claim, int(total * wish.memory_share))
    return replace(budget, claim=claim, kv=budget.kv - (budget.claim - claim))


def _less(budget: Budget, *, overhead: int) -> Budget:
    return replace(budget, overhead=budget.overhead + overhead, kv=budget.kv - overhead)


def _weights(candidate: Candidate, tensor: int, stage: Stage | None, *, drafts: bool) -> int:
    """Bytes of the weights on a rank; where the files' exact size is known, the model's facts only tell how it is split."""
    return memory.weights(
        candidate.architecture, candidate.loaded, tensor, files=candidate.variant.size, drafts=drafts, stage=stage
    )


def setup_of(
    profile: Profile,
    variant: Variant,
    engine: Engine,
    layout: Layout,
    *,
    device: str,
    kv_dtype: str,
    version: str,
    manner: Manner,
) -> Setup:
    """What the memory of a start follows from; `device` as in Setup, `version` the engine's that serves."""
    return Setup(
        device=device,
        engine=engine.NAME,
        version=version,
        model=profile.name,
        served=served_of(profile, variant, engine.NAME, manner),
        tensor=layout.tensor,
        pipeline=layout.pipeline,
        kv_dtype=kv_dtype,
    )


def _learnt(candidate: Candidate, rank: Rank, layout: Layout, device: str, manner: Manner) -> Rank:
    """The rank as earlier starts say that it is; where there is none, as the rules do."""
    if not candidate.starts:
        return rank
    setup = setup_of(
        candidate.profile,
        candidate.variant,
        candidate.engine,
        layout,
        device=device,
        kv_dtype=candidate.kv_dtype,
        version=candidate.release(CUDA if layout.gpus else CPU).version,
        manner=manner,
    )
    growing = any(isinstance(cache, Latent) and cache.sparse for cache, _ in candidate.architecture.kept)
    known = corrected(rank.weights, rank.budget, setup, candidate.starts, growing=growing)
    return replace(rank, weights=known.weights, budget=known.budget, modelled=rank.by_rule, note=known.note)


@dataclass(frozen=True, slots=True)
class Room:
    """What the ranks of a layout leave for the KV cache, on the GPU with the least free memory (None: the host's memory).

    `speculated` tokens are drafted at a time.
    """

    candidate: Candidate
    tightest: Gpu | None
    tensor: int
    speculated: int
    ranks: tuple[Rank, ...]

    def size(self, rank: Rank, context: int, sequences: float) -> int:
        """Bytes of cache that so many sequences of `context` tokens take of a rank."""
        return self.candidate.engine.kv_bytes(
            self.candidate.architecture, self.tightest, context, sequences,
            tensor=self.tensor, kv_dtype=self.candidate.kv_dtype, stage=rank.stage, speculated=self.speculated,
        )  # fmt: skip

    def tokens(self, rank: Rank, kv: int, context: int) -> int:
        """Tokens in sequences of `context` that `kv` bytes of a rank hold."""
        return self.candidate.engine.kv_tokens(
            self.candidate.architecture, self.tightest, kv, context,
            tensor=self.tensor, kv_dtype=self.candidate.kv_dtype, stage=rank.stage, speculated=self.speculated,
        )  # fmt: skip

    def holds(self, context: int, sequences: int) -> bool:
        """Whether each rank has room for so many sequences of `context` tokens."""
        return all(self.size(rank, context, sequences) <= rank.budget.kv for rank in self.ranks)


def _filled(room: Room, layout: Layout, *, where: str, most: int | None, sequences: int) -> tuple[Plan | None, str]:
    """The plan that there is room for: the largest context, and KV cache for `sequences` of it at most."""
    candidate, gpus = room.candidate, layout.gpus
    context = _context(room, candidate.profile, candidate.wish, most)
    if not context:
        return None, _too_large(room, len(gpus), where)
    # The stage that holds the fewest tokens decides for all (vLLM, kv_cache_utils.py: the smallest number of blocks).
    tokens, fullest = min(
        ((room.tokens(rank, rank.budget.kv, context), rank) for rank in room.ranks),
        key=lambda each: (each[0], -each[1].weights),
    )
    kv, claim = fullest.budget.kv, fullest.budget.claim
    if tokens > context * sequences:
        kv = min(kv, room.size(fullest, context, sequences))
        tokens = room.tokens(fullest, kv, context)
        claim = min(claim, _most_claimed(room, context, sequences))
    made = Plan(
        profile=candidate.profile,
        variant=candidate.variant,
        engine=candidate.engine.NAME,
        gpus=gpus,
        tensor=layout.tensor,
        pipeline=layout.pipeline,
        context=context,
        sessions=tokens / context,
        kv_dtype=candidate.kv_dtype,
        memory=Memory(fullest.weights, kv, fullest.budget.overhead, claim, tokens, fullest.by_rule),
        manner=Manner(),
        notes=(fullest.note,) if fullest.note else (),
    )
    return made, ""


def _most_claimed(room: Room, context: int, sequences: int) -> int:
    """What the rank that needs most needs: all claim the same."""
    return max(rank.weights + rank.budget.overhead + room.size(rank, context, sequences) for rank in room.ranks)


def _too_large(room: Room, devices: int, where: str) -> str:
    profile, wish = room.candidate.profile, room.candidate.wish
    least = wish.context or min(AGENT_CONTEXT, profile.context_max)
    need = _most_claimed(room, least, wish.sessions or 1)
    claim = min(rank.budget.claim for rank in room.ranks)
    each = " on each GPU" if devices > 1 else ""
    return f"needs about {need / GIB:.1f} GiB{each}; {where} can give {max(0, claim) / GIB:.1f} GiB"


def _context(room: Room, profile: Profile, wish: Wish, most: int | None) -> int:
    """The context that there is room for, up to `most`; 0: none.

    SESSIONS sequences of it, but one agent works before two do, unless a number of sessions was asked for.
    """
    if wish.context:
        return wish.context if room.holds(wish.context, wish.sessions or 1) else 0
    native, longest = profile.architecture.context, profile.context_max
    reachable = min(longest, most or longest)
    found = _largest(room, reachable, wish.sessions or SESSIONS)
    if wish.sessions is None and found < profile.context_min:
        found = max(found, _largest(room, min(profile.context_min, reachable), 1))
    # Stretching the window costs some accuracy at every length: not for a few tokens more.
    if native < found < min(WORTH_STRETCHING * native, longest):
        return min(native, reachable)
    return found if found >= min(longest, STEP) else 0


def _largest(room: Room, limit: int, sequences: int) -> int:
    """The largest context for so many sequences: the limit itself, or in whole steps below it."""
    if room.holds(limit, sequences):
        return limit
    low, high = 0, limit // STEP
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if room.holds(middle * STEP, sequences) else (low, middle - 1)
    return low * STEP


def _dotted(compute: tuple[int, int]) -> str:
    return f"{compute[0]}.{compute[1]}"
