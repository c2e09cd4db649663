import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import catalogue, fitting, memory, planner
from launcher.architecture import read
from launcher.engines.registry import ENGINES
from launcher.fitting import Layout, setup_of
from launcher.gpu import GIB, Gpu, GpuProcess, Inventory
from launcher.machines import inventory_on
from launcher.plan import DoesNotFit, Manner, Plan, Wish
from launcher.profile import Profile
from launcher.release import Release
from launcher.starts import Measured, Setup, Start, device_of
from tests.machines_for_tests import machine
from tests.starts_for_tests import start

PROFILES = catalogue.load_all([catalogue.shipped()])
OPENHANDS = PROFILES["openhands-lm-32b"]
SMOLLM = PROFILES["smollm2-135m"]


def planned(inventory: Inventory, wish: Wish | None = None) -> Plan:
    outcome = planner.plan(OPENHANDS, inventory, ENGINES, wish)
    assert isinstance(outcome, Plan), outcome
    return outcome


@pytest.mark.parametrize(
    ("inventory", "variant", "tensor", "context"),
    [
        pytest.param(machine(2, 79.25), "bf16", 2, 131_072, id="two 80 GB cards give the whole stretched window"),
        pytest.param(machine(8, 79.18), "bf16", 2, 131_072, id="of eight 80 GB cards two are enough"),
        pytest.param(machine(4, 44.4), "bf16", 4, 131_072, id="four 48 GB cards carry full precision together"),
        pytest.param(machine(1, 79.18), "fp8", 1, 78_848, id="one 80 GB card halves precision for a second session"),
        pytest.param(machine(4, 23.58), "fp8", 4, 82_944, id="four 24 GB cards do so too"),
        pytest.param(machine(3, 79.18), "bf16", 2, 131_072, id="three cards use two, since 40 heads do not divide by 3"),
        pytest.param(machine(1, 44.4), "mxfp4", 1, 32_768, id="one 48 GB card gives up precision for a working window"),
        pytest.param(machine(2, 23.58), "mxfp4", 2, 32_768, id="two 24 GB cards give up precision for a working window"),
    ],
)
def test_the_best_precision_with_a_working_window_is_chosen(
    inventory: Inventory, variant: str, tensor: int, context: int
) -> None:
    plan = planned(inventory)
    assert (plan.variant.name, plan.tensor, plan.context) == (variant, tensor, context)
    assert len(plan.gpus) == tensor


@pytest.mark.parametrize(
    ("inventory", "wish", "reason"),
    [
        pytest.param(machine(), Wish(variant="bf16"), "needs an NVIDIA GPU, and there is none here", id="no GPU"),
        pytest.param(
            replace(machine(), unsupported=("AMD Radeon",)),
            Wish(variant="bf16"),
            "AMD Radeon: not supported",
            id="another maker's GPU",
        ),
        pytest.param(machine(1, 14.6), Wish(variant="bf16"), "needs about", id="a card that is too small"),
        pytest.param(
            machine(1, 79, compute=(7, 5)), Wish(variant="bf16"), "needs compute capability 8.0", id="a card that is too old"
        ),
        pytest.param(
            machine(2, 79.25), Wish(context=200_000, variant="bf16"), "ends at 131,072", id="a context beyond the model's"
        ),
        pytest.param(
            machine(1, 79.18), Wish(context=131_072, variant="bf16"), "needs about 95.3 GiB", id="a context beyond the memory"
        ),
        pytest.param(machine(1, 23.58), Wish(variant="mxfp4"), "only", id="a window too small for an agent"),
        pytest.param(machine(2, 79.25), Wish(variant="gguf"), "no such variant", id="a variant that does not exist"),
    ],
)
def test_what_cannot_run_is_refused_with_the_reason(inventory: Inventory, wish: Wish, reason: str) -> None:
    outcome = planner.plan(OPENHANDS, inventory, ENGINES, wish)
    assert isinstance(outcome, DoesNotFit)
    assert reason in outcome.rejections[0].reason


def test_a_context_that_was_asked_for_is_the_one_served() -> None:
    assert planned(machine(2, 79.25), Wish(context=8_192)).context == 8_192


def test_a_small_card_next_to_a_large_one_joins_no_group() -> None:
    large, small = machine(1, 79.18, name="H100").gpus[0], machine(1, 23.58, name="RTX 4090").gpus[0]
    plan = planned(replace(machine(), gpus=(replace(small, index=0), replace(large, index=1))))
    assert [gpu.name for gpu in plan.gpus] == ["H100"]


def test_mig_slices_are_used_one_at_a_time() -> None:
    gpus = tuple(replace(gpu, uuid=f"MIG-{gpu.index}") for gpu in machine(4, 39.5).gpus)
    plan = planned(replace(machine(), gpus=gpus))
    assert (len(plan.gpus), plan.variant.name) == (1, "mxfp4")


def test_of_like_cards_the_freest_are_taken() -> None:
    gpus = [*machine(4, 79.25).gpus]
    gpus[0] = replace(gpus[0], free=gpus[0].free // 2)
    assert [gpu.index for gpu in planned(replace(machine(), gpus=tuple(gpus))).gpus] == [1, 2]


def test_the_window_is_not_stretched_for_a_few_tokens_more() -> None:
    plan = planned(machine(1, 44.4))
    assert plan.sessions > 2
    assert plan.context == 32_768


@pytest.mark.parametrize(
    ("inventory", "name"),
    [
        pytest.param(machine(ram=16), "smollm2-135m", id="no GPU: the embedded model"),
        pytest.param(machine(1, 23.58), "smollm2-135m", id="a GPU too small for the agent's model: the embedded one"),
        pytest.param(machine(2, 79.25), "openhands-lm-32b", id="large GPUs: the agent's model"),
    ],
)
def test_without_a_name_the_machine_decides(inventory: Inventory, name: str) -> None:
    plan = planner.choose([PROFILES["openhands-lm-32b"], SMOLLM], inventory, ENGINES)
    assert plan is not None
    assert plan.profile.name == name


def test_on_a_cpu_two_sessions_are_held_and_no_more() -> None:
    plan = planner.plan(SMOLLM, machine(ram=16), ENGINES)
    assert isinstance(plan, Plan)
    # 23,040 bytes a token: what vLLM 0.32 printed for this model, in whole blocks of 128, of which the pool holds one back.
    assert (plan.context, plan.memory.kv_tokens, plan.memory.kv) == (8_192, 16_512, 16_512 * 23_040)
    assert any("too few for work" in note for note in plan.notes)


# SGLang keeps two percent of the free memory away from its pool.
@pytest.mark.parametrize(("ram", "sglang"), [(1.0, "2.4"), (2.0, "2.5")])
def test_a_machine_without_the_memory_is_refused_with_both_numbers(ram: float, sglang: str) -> None:
    outcome = planner.plan(SMOLLM, machine(ram=ram), ENGINES)
    assert isinstance(outcome, DoesNotFit)
    assert [each.engine for each in outcome.rejections] == ["vllm", "sglang"]
    assert "needs about 2.9 GiB; this machine's memory can give" in outcome.rejections[0].reason
    assert f"needs about {sglang} GiB; this machine's memory can give" in outcome.rejections[1].reason


def test_the_engine_with_fewer_processes_serves_where_the_other_does_not_fit() -> None:
    plan = planner.plan(SMOLLM, machine(ram=3), ENGINES)
    assert isinstance(plan, Plan)
    assert (plan.engine, plan.context) == ("sglang", 8_192)
    assert plan.notes[0].startswith("fp16 on vllm: needs about 2.9 GiB")


# -- what a person asks for beyond the model --


def test_three_cards_use_two_and_say_how_to_use_the_third() -> None:
    plan = planned(machine(3, 79.18))
    told = "2 of 3 like GPUs are used: tensor parallel 3 does not divide the 40 attention heads; --pipeline 3 uses them"
    assert any(note.startswith(told) for note in plan.notes)
    assert not any("like GPUs are used" in note for note in planned(machine(8, 79.18)).notes)


@pytest.mark.parametrize(
    ("gib", "variant"),
    [
        pytest.param(44.4, "bf16", id="48 GB: two would give it to one session"),
        pytest.param(23.58, "fp8", id="24 GB: two would have to halve precision again"),
    ],
)
def test_three_cards_stand_one_after_another_where_no_group_gives_a_working_window(gib: float, variant: str) -> None:
    plan = planned(machine(3, gib))
    assert (plan.variant.name, plan.tensor, plan.pipeline, plan.context) == (variant, 1, 3, 32_768)
    assert plan.sessions >= 2
    assert [gpu.index for gpu in plan.gpus] == [0, 1, 2]
    assert any(note.startswith("the layers are split over 3 stages") for note in plan.notes)


@pytest.mark.parametrize(
    ("wish", "layout"),
    [
        pytest.param(Wish(tensor=4), (4, 1), id="tensor"),
        pytest.param(Wish(tensor=1, pipeline=3), (1, 3), id="both"),
        pytest.param(Wish(tensor=2, pipeline=2), (2, 2), id="both, of the same size"),
        pytest.param(Wish(tensor=2), (2, 1), id="no pipeline unless it is asked for"),
    ],
)
def test_the_layout_that_was_asked_for_is_the_one_planned(wish: Wish, layout: tuple[int, int]) -> None:
    plan = planned(machine(16, 79.18), wish)
    assert (plan.tensor, plan.pipeline) == layout
    assert len(plan.gpus) == plan.tensor * plan.pipeline


def test_the_stage_with_the_least_room_decides() -> None:
    plan = planned(machine(3, 79.18), Wish(tensor=1, pipeline=3, variant="bf16"))
    # vLLM splits 64 layers over 3 stages as 21, 22 and 21 (distributed/utils.py, get_pp_indices): the second has no embeddings.
    embeddings = 2 * 152_064 * 5_120 * 2
    whole = planned(machine(2, 79.18), Wish(tensor=1, pipeline=1, variant="bf16")).memory.weights
    positions = 32_768 * 128 * 2
    assert plan.memory.weights == pytest.approx((whole - embeddings - positions) * 22 / 64 + positions, rel=1e-5)
    assert plan.memory.kv_tokens == pytest.approx(plan.memory.kv // (16 * 2 * 22 * 8 * 128 * 2) * 16, abs=1)


def test_an_fp8_cache_takes_half_the_bytes_of_a_token() -> None:
    plain, eight = (planned(machine(1, 79.18), Wish(variant="fp8", kv_dtype=dtype)) for dtype in (None, "fp8"))
    assert (plain.kv_dtype, eight.kv_dtype) == ("bf16", "fp8")
    assert plain.memory.kv_tokens == pytest.approx(plain.memory.kv // (16 * 2 * 64 * 8 * 128 * 2) * 16, abs=1)
    assert eight.memory.kv_tokens == pytest.approx(eight.memory.kv // (16 * 2 * 64 * 8 * 128) * 16, abs=1)
    assert eight.context >= plain.context


def test_a_share_of_the_memory_is_not_exceeded() -> None:
    gpu = machine(1, 79.18).gpus[0]
    plan = planned(machine(1, 79.18), Wish(memory_share=0.5))
    assert (plan.variant.name, plan.memory.claim <= 0.5 * gpu.total) == ("mxfp4", True)


def test_a_larger_share_than_the_engines_own_is_taken_as_far_as_it_is_free() -> None:
    # vLLM's own is 0.92 (config/cache.py); gpt-oss 120B on one H100 is published with 0.95 (vllm-project/vllm, issue 27508).
    gpu = machine(1, 79.18).gpus[0]
    usual, larger, all_of_it = (planned(machine(1, 79.18), Wish(memory_share=share)) for share in (None, 0.95, 1))
    assert [round(each.memory.claim / gpu.total, 2) for each in (usual, larger)] == [0.92, 0.95]
    assert usual.context < larger.context < all_of_it.context
    assert all_of_it.memory.claim < gpu.free


def test_the_context_is_what_all_sessions_can_have() -> None:
    contexts = {sessions: planned(machine(2, 79.25), Wish(sessions=sessions)).context for sessions in (None, 2, 4, 8)}
    tokens = planned(machine(2, 79.25)).memory.kv_tokens
    # Two have the whole window; four share what there is; for eight it is not worth to stretch the window.
    assert contexts == {None: 131_072, 2: 131_072, 4: tokens // 4 // 1024 * 1024, 8: 32_768}


@pytest.mark.parametrize(
    ("inventory", "wish", "reason"),
    [
        pytest.param(machine(8, 79.18), Wish(tensor=3), "tensor parallel 3 does not divide the 40 attention heads", id="3"),
        pytest.param(machine(8, 79.18), Wish(tensor=5), "does not divide the 27648 elements between an MLP's halves", id="5"),
        pytest.param(machine(2, 79.18), Wish(tensor=4), "needs 4 GPUs of one kind; the most that are alike here: 2", id="few"),
        pytest.param(machine(4, 79.18), Wish(tensor=2, pipeline=4), "needs 8 GPUs of one kind", id="too few for both"),
        pytest.param(
            machine(64, 79.18), Wish(pipeline=65), "65 pipeline stages are more than the model's 64 layers", id="layers"
        ),
        pytest.param(machine(1, 79.18), Wish(sessions=65), "65 sessions are more than the 64", id="more than the engine takes"),
        pytest.param(
            machine(2, 79.18), Wish(sessions=4, context=131_072, variant="bf16"), "needs about", id="a context for each of four"
        ),
        pytest.param(machine(1, 79.18), Wish(memory_share=0.1), "can give 7.9 GiB", id="a small share"),
    ],
)
def test_what_was_asked_for_and_cannot_be_is_refused_with_the_reason(inventory: Inventory, wish: Wish, reason: str) -> None:
    outcome = planner.plan(OPENHANDS, inventory, ENGINES, wish)
    assert isinstance(outcome, DoesNotFit)
    assert all(reason in each.reason for each in outcome.rejections if each.variant == "bf16")


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        pytest.param(Wish(tensor=2), "9 attention heads", id="heads that do not divide"),
        pytest.param(Wish(tensor=3), "there is none here", id="several GPUs, where there is none"),
        pytest.param(Wish(kv_dtype="fp8"), "an FP8 KV cache is planned on GPUs only", id="an FP8 cache"),
    ],
)
def test_on_a_cpu_what_is_for_gpus_is_refused(wish: Wish, reason: str) -> None:
    outcome = planner.plan(SMOLLM, machine(ram=16), ENGINES, wish)
    assert isinstance(outcome, DoesNotFit)
    assert reason in outcome.rejections[0].reason


def test_an_fp8_cache_needs_a_gpu_that_has_kernels_for_it() -> None:
    outcome = planner.plan(SMOLLM, machine(1, 14.6, compute=(7, 5)), ENGINES, Wish(kv_dtype="fp8"))
    assert isinstance(outcome, DoesNotFit)
    assert "needs compute capability 8.0" in outcome.rejections[0].reason


def test_quantised_weights_are_for_gpus() -> None:
    eight = replace(SMOLLM, variants=(replace(SMOLLM.variants[0], name="fp8", precision="fp8"),))
    outcome = planner.plan(eight, machine(ram=16), ENGINES)
    assert isinstance(outcome, DoesNotFit)
    assert "quantised weights (fp8) are served on GPUs only" in outcome.rejections[0].reason


sizes = st.floats(min_value=4, max_value=192, allow_nan=False)
machines = st.builds(machine, st.integers(1, 8), sizes, held=st.floats(0, 4), compute=st.sampled_from([(7, 5), (8, 0), (9, 0)]))


@given(machines)
def test_a_plan_never_claims_more_than_is_free(inventory: Inventory) -> None:
    outcome = planner.plan(OPENHANDS, inventory, ENGINES)
    if isinstance(outcome, Plan):
        memory = outcome.memory
        assert all(memory.claim <= gpu.free for gpu in outcome.gpus)
        assert memory.weights + memory.overhead + memory.kv <= memory.claim
        assert outcome.context <= memory.kv_tokens
    else:
        assert all(each.reason for each in outcome.rejections)


@given(st.integers(1, 4), sizes, st.floats(min_value=0, max_value=64))
def test_more_memory_never_gives_a_worse_plan(count: int, gib: float, more: float) -> None:
    def quality(inventory: Inventory) -> tuple[int, int]:
        outcome = planner.plan(OPENHANDS, inventory, ENGINES)
        if isinstance(outcome, DoesNotFit):
            return (-len(OPENHANDS.variants), 0)
        return (-[variant.name for variant in OPENHANDS.variants].index(outcome.variant.name), outcome.context)

    assert quality(machine(count, gib)) <= quality(machine(count, gib + more))


def test_what_our_own_server_holds_is_free_for_its_successor() -> None:
    holder = GpuProcess(4242, "python", 40 * GIB)
    gpu = Gpu(0, "GPU-0", "A100", int(79.25 * GIB), int(39 * GIB), (8, 0), (holder,))
    inventory = replace(machine(), gpus=(gpu,))
    assert planned(inventory.without({4242})).variant.name == "fp8"
    assert planned(inventory).variant.name == "mxfp4"


@pytest.mark.parametrize(
    ("inventory", "reason"),
    [
        pytest.param(machine(1, 2.0, ram=16), "needs about", id="a GPU that is too small"),
        pytest.param(machine(1, 16.0, compute=(7, 0), ram=16), "needs compute capability 7.5; GPU has 7.0", id="too old"),
    ],
)
def test_a_small_model_runs_on_the_cpu_where_no_gpu_will_do(inventory: Inventory, reason: str) -> None:
    plan = planner.plan(SMOLLM, inventory, ENGINES)
    assert isinstance(plan, Plan)
    assert (plan.gpus, plan.build) == ((), "cpu")
    assert any(reason in note for note in plan.notes)


@pytest.mark.parametrize(
    ("gib", "variant", "build"),
    [
        pytest.param(64.0, "fp8", "cuda", id="8 bits on a GPU before 16 on the CPU"),
        pytest.param(31.0, "mxfp4", "cuda", id="4 bits too"),
        pytest.param(8.0, "bf16", "cpu", id="the CPU where no variant fits a GPU"),
    ],
)
def test_the_cpu_comes_after_every_variant_on_the_gpus(gib: float, variant: str, build: str) -> None:
    anywhere = replace(OPENHANDS, runs_on=frozenset({"cpu", "cuda"}))
    plan = planner.plan(anywhere, machine(1, gib, ram=256), ENGINES)
    assert isinstance(plan, Plan)
    assert (plan.variant.name, plan.build) == (variant, build)


def test_no_cpu_stands_in_for_several_gpus() -> None:
    outcome = planner.plan(SMOLLM, machine(2, 2.0, ram=16), ENGINES, Wish(pipeline=2))
    assert isinstance(outcome, DoesNotFit)
    assert "needs about" in outcome.rejections[0].reason


wishes = st.builds(
    Wish,
    context=st.none() | st.integers(1, 140_000),
    variant=st.none() | st.sampled_from(["bf16", "fp8", "mxfp4"]),
    tensor=st.none() | st.integers(1, 8),
    pipeline=st.none() | st.integers(1, 8),
    memory_share=st.none() | st.floats(0.05, 1),
    kv_dtype=st.none() | st.just("fp8"),
    sessions=st.none() | st.integers(1, 70),
)


@given(machines, wishes)
def test_whatever_is_asked_for_a_plan_keeps_to_it_and_to_what_is_free(inventory: Inventory, wish: Wish) -> None:
    outcome = planner.plan(OPENHANDS, inventory, ENGINES, wish)
    if isinstance(outcome, DoesNotFit):
        assert outcome.rejections
        assert all(each.reason for each in outcome.rejections)
        return
    plan, memory = outcome, outcome.memory
    assert all(memory.claim <= gpu.free for gpu in plan.gpus)
    assert memory.weights + memory.overhead + memory.kv <= memory.claim
    assert plan.context * (wish.sessions or 1) <= memory.kv_tokens
    assert len({gpu.uuid for gpu in plan.gpus}) == plan.tensor * plan.pipeline
    assert plan.profile.architecture.heads % plan.tensor == 0
    asked = (wish.context, wish.variant, wish.tensor, wish.pipeline, wish.kv_dtype)
    given_back = (plan.context, plan.variant.name, plan.tensor, plan.pipeline, plan.kv_dtype)
    assert all(want in {None, got} for want, got in zip(asked, given_back, strict=True))
    if wish.memory_share:
        assert all(memory.claim <= wish.memory_share * gpu.total for gpu in plan.gpus)


def context_of(inventory: Inventory, wish: Wish) -> int:
    outcome = planner.plan(OPENHANDS, inventory, ENGINES, wish)
    return outcome.context if isinstance(outcome, Plan) else 0


# For one variant: another one may stand first once it fits.
of_one_variant = st.builds(replace, wishes, variant=st.sampled_from(["bf16", "fp8", "mxfp4"]))


@given(st.integers(1, 8), sizes, st.floats(0, 3), st.floats(0, 60), of_one_variant)
def test_more_free_memory_never_gives_less_context(count: int, gib: float, held: float, more: float, wish: Wish) -> None:
    fuller, freer = machine(count, gib, held=min(gib, held + more)), machine(count, gib, held=held)
    assert context_of(fuller, wish) <= context_of(freer, wish)


@given(machines, of_one_variant, st.floats(0.05, 1), st.floats(0.05, 1))
def test_a_larger_share_never_gives_less_context(inventory: Inventory, wish: Wish, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert context_of(inventory, replace(wish, memory_share=low)) <= context_of(inventory, replace(wish, memory_share=high))


@given(machines, of_one_variant, st.integers(1, 64), st.integers(1, 64))
def test_more_sessions_never_give_more_context(inventory: Inventory, wish: Wish, one: int, other: int) -> None:
    few, many = sorted((one, other))
    assert context_of(inventory, replace(wish, sessions=many)) <= context_of(inventory, replace(wish, sessions=few))


@given(machines, of_one_variant)
def test_an_fp8_cache_never_gives_less_context(inventory: Inventory, wish: Wish) -> None:
    if not inventory.gpus or inventory.gpus[0].compute >= (8, 0):
        assert context_of(inventory, replace(wish, kv_dtype=None)) <= context_of(inventory, replace(wish, kv_dtype="fp8"))


CONFIGS = json.loads((Path(__file__).parent / "measurements" / "configs.json").read_text())


@pytest.mark.parametrize(
    ("model", "kind", "inventory"),
    [
        pytest.param("Qwen/Qwen3-30B-A3B-Instruct-2507", "plain", machine(1, 79.18, compute=(9, 0)), id="experts"),
        pytest.param("google/gemma-4-31B-it", "sliding", machine(2, 79.18, compute=(9, 0)), id="sliding windows"),
        pytest.param("openai/gpt-oss-120b", "sliding", machine(8, 79.18, compute=(9, 0)), id="windows and experts"),
        pytest.param("Qwen/Qwen3.5-27B", "hybrid", machine(1, 79.18, compute=(9, 0)), id="linear attention"),
        pytest.param("deepseek-ai/DeepSeek-R1-0528", "latent", machine(8, 275, compute=(10, 0)), id="latents"),
    ],
)
def test_every_kind_of_attention_gets_the_window_that_its_own_cache_carries(
    model: str, kind: str, inventory: Inventory
) -> None:
    architecture = read(CONFIGS[model]["config"], where=model)
    profile = replace(OPENHANDS, architecture=architecture, yarn_factor=1.0, variants=OPENHANDS.variants[:1])
    plan = planner.plan(profile, inventory, ENGINES, Wish(sessions=2))
    assert isinstance(plan, Plan), plan
    assert architecture.kind == kind
    engine, gpu = ENGINES["vllm"], plan.gpus[0]
    needed = engine.kv_bytes(architecture, gpu, plan.context, 2, tensor=plan.tensor, kv_dtype=plan.kv_dtype)
    assert needed <= plan.memory.kv
    assert plan.memory.weights + plan.memory.overhead + plan.memory.kv <= plan.memory.claim <= gpu.free
    more = engine.kv_bytes(architecture, gpu, plan.context + fitting.STEP, 2, tensor=plan.tensor, kv_dtype=plan.kv_dtype)
    assert plan.context == architecture.context or more > plan.memory.claim - plan.memory.weights - plan.memory.overhead


def test_mixed_layers_are_not_planned_on_a_cpu() -> None:
    profile = replace(SMOLLM, architecture=read(CONFIGS["google/gemma-4-31B-it"]["config"], where="gemma"))
    refused = planner.plan(profile, machine(ram=64), ENGINES)
    assert isinstance(refused, DoesNotFit)
    assert refused.rejections[0].reason == "sliding attention is planned on GPUs only"


@pytest.mark.parametrize(
    ("model", "tensor", "pipeline", "inventory"),
    [
        pytest.param("google/gemma-4-31B-it", 1, 2, machine(2, 79.18, compute=(9, 0)), id="windows"),
        pytest.param("google/gemma-4-31B-it", 1, 3, machine(3, 44.4, compute=(8, 9)), id="windows, on three cards"),
        pytest.param("Qwen/Qwen3.5-27B", 1, 4, machine(4, 23.58), id="states"),
        pytest.param(
            "deepseek-ai/DeepSeek-R1-0528", 8, 2, machine(16, 139.8, compute=(9, 0)), id="latents, dense layers first"
        ),
        pytest.param("Qwen/Qwen3-235B-A22B-FP8", 4, 2, machine(8, 79.18, compute=(9, 0)), id="experts"),
    ],
)
def test_each_stage_has_room_for_what_it_holds(model: str, tensor: int, pipeline: int, inventory: Inventory) -> None:
    architecture = read(CONFIGS[model]["config"], where=model)
    profile = replace(OPENHANDS, architecture=architecture, yarn_factor=1.0, variants=OPENHANDS.variants[:1])
    plan = planner.plan(profile, inventory, ENGINES, Wish(tensor=tensor, pipeline=pipeline))
    assert isinstance(plan, Plan), plan
    engine, gpu = ENGINES["vllm"], plan.gpus[0]
    loaded = architecture.quantisation or plan.variant.precision
    stages = engine.stages(architecture.layers, pipeline)
    assert [stage.first for stage in stages] == [0, *(stage.end for stage in stages[:-1])]
    for stage in stages:
        weights = memory.weights(architecture, loaded, tensor, stage=stage)
        kv = engine.kv_bytes(architecture, gpu, plan.context, 1, tensor=tensor, kv_dtype=plan.kv_dtype, stage=stage)
        assert weights + plan.memory.overhead + kv <= plan.memory.claim


def test_an_unknown_kind_of_model_is_planned_by_the_generic_rule_and_told_so() -> None:
    config = {**CONFIGS["Qwen/Qwen3-0.6B"]["config"], "model_type": "newest"}
    profile = replace(SMOLLM, architecture=read(config, where="newest"))
    plan = planner.plan(profile, machine(1, 24), ENGINES)
    assert isinstance(plan, Plan)
    assert any("generic rule" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("inventory", "sessions", "limit"),
    [
        pytest.param(machine(ram=64), 9, 8, id="on a CPU"),
        pytest.param(machine(2, 79.25), 65, 64, id="on GPUs"),
    ],
)
def test_no_more_sessions_are_planned_than_the_engine_takes_there(inventory: Inventory, sessions: int, limit: int) -> None:
    refused = planner.plan(SMOLLM, inventory, ENGINES, Wish(sessions=sessions))
    assert isinstance(refused, DoesNotFit)
    assert refused.rejections[0].reason == f"{sessions} sessions are more than the {limit} that the engine takes at once"
    assert isinstance(planner.plan(SMOLLM, inventory, ENGINES, Wish(sessions=limit)), Plan)


# -- how it is served --

DRAFTING = PROFILES["qwen3.6-35b-a3b"]
NO_HEADS = PROFILES["qwen3.5-122b-a10b"]


def hopper(count: int, gib: float = 79.18) -> Inventory:
    return machine(count, gib, compute=(9, 0), ram=512)


@pytest.mark.parametrize(
    ("profile", "inventory", "wish", "note"),
    [
        pytest.param(DRAFTING, hopper(2), Wish(), None, id="where its profile says so"),
        pytest.param(DRAFTING, hopper(2), Wish(speculative=False), "", id="not where nobody wants it, which needs no words"),
        pytest.param(OPENHANDS, hopper(2), Wish(), "", id="nor where its profile says nothing"),
        pytest.param(DRAFTING, hopper(2), Wish(tensor=1, pipeline=2), "it is not planned in a pipeline", id="in stages"),
        pytest.param(
            DRAFTING,
            hopper(1),
            Wish(variant="bf16"),
            "with its draft heads there is room for 1.2 sessions of 131,072 tokens",
            id="where they would take the working context from one of two sessions",
        ),
        pytest.param(DRAFTING, hopper(1), Wish(variant="bf16", speculative=True), None, id="but where a person wants them"),
        pytest.param(
            NO_HEADS,
            machine(2, 79.18, compute=(10, 0)),
            Wish(variant="nvfp4"),
            "the repository of nvfp4 has no draft heads",
            id="a repository that leaves them out",
        ),
    ],
)
def test_a_models_own_heads_draft(profile: Profile, inventory: Inventory, wish: Wish, note: str | None) -> None:
    plan = planner.plan(profile, inventory, ENGINES, replace(wish, engine="vllm"))
    assert isinstance(plan, Plan)
    assert plan.manner.speculative == (profile.speculative if note is None else None)
    assert [each for each in plan.notes if "speculative" in each] == ([f"no speculative decoding: {note}"] if note else [])


def test_draft_heads_are_counted() -> None:
    plain, drafting = (
        planner.plan(DRAFTING, hopper(2), ENGINES, Wish(engine="vllm", variant="bf16", tensor=2, speculative=wanted))
        for wanted in (False, True)
    )
    assert isinstance(plain, Plan)
    assert isinstance(drafting, Plan)
    heads = sum(part.elements for part in DRAFTING.architecture.parts if part.draft)
    # In 16 bits, on two ranks; a router and the projection into one hidden vector cannot split.
    assert drafting.memory.weights - plain.memory.weights == pytest.approx(
        heads * 2 / 2 + (524_288 + 8_388_608) * 2 / 2, rel=0.001
    )
    assert drafting.memory.overhead > plain.memory.overhead
    assert drafting.sessions < plain.sessions


@pytest.mark.parametrize(
    ("profile", "inventory", "wish", "reason"),
    [
        pytest.param(OPENHANDS, hopper(2), Wish(speculative=True), "its profile tells of no draft heads", id="no heads"),
        pytest.param(DRAFTING, hopper(2), Wish(speculative=True, tensor=1, pipeline=2), "in a pipeline", id="stages"),
        pytest.param(SMOLLM, machine(ram=16), Wish(speculative=True), "planned on GPUs only", id="draft heads on a CPU"),
        pytest.param(SMOLLM, machine(ram=16), Wish(can_sleep=True), "there is none here", id="sleep on a CPU"),
        pytest.param(
            OPENHANDS,
            machine(2, 79.25, ram=16),
            Wish(can_sleep=True, variant="bf16"),
            "which has 32.0",
            id="sleep without memory",
        ),
        pytest.param(
            SMOLLM,
            replace(machine(), gpus=(replace(machine(1, 119.6).gpus[0], unified=True),)),
            Wish(can_sleep=True),
            "this GPU's memory is the host's",
            id="sleep where there is one memory for all",
        ),
    ],
)
def test_a_manner_that_cannot_be_is_refused_with_the_reason(
    profile: Profile, inventory: Inventory, wish: Wish, reason: str
) -> None:
    outcome = planner.plan(profile, inventory, ENGINES, wish)
    assert isinstance(outcome, DoesNotFit)
    assert all(reason in each.reason for each in outcome.rejections if each.variant == outcome.rejections[0].variant)


def test_what_a_sleeping_server_keeps_of_the_hosts_memory_is_told() -> None:
    plan = planned(machine(2, 79.25, ram=256), Wish(can_sleep=True))
    # 32,763,876,352 parameters in 16 bits (https://huggingface.co/Qwen/Qwen2.5-32B), and the few that both ranks hold.
    assert "asleep it keeps its weights in 61.0 GiB of the host's memory" in plan.notes


@pytest.mark.parametrize(
    ("wish", "sequences"),
    [
        pytest.param(Wish(), 8, id="eight at least"),
        pytest.param(Wish(sessions=5), 16, id="twice the sessions, and a power of two"),
        pytest.param(Wish(context=1_024), 64, id="no more than it counts its memory for"),
    ],
)
def test_an_engine_takes_not_many_more_sequences_than_sessions(wish: Wish, sequences: int) -> None:
    assert planned(machine(2, 79.25), wish).manner.sequences == sequences


# -- what earlier starts took --


def setup(plan: Plan) -> Setup:
    layout = Layout(plan.gpus, plan.tensor, plan.pipeline)
    device = device_of(plan.gpus[0])
    return setup_of(
        plan.profile,
        plan.variant,
        ENGINES[plan.engine],
        layout,
        device=device,
        kv_dtype=plan.kv_dtype,
        version="0.32.0",
        manner=plan.manner,
    )


def started(plan: Plan, *, kv: int, weights: int = 0) -> Start:
    """A start by a plan, after which the engine had so much KV cache left; `weights` more bytes were loaded than planned."""
    memory = plan.memory
    loaded = memory.weights + weights
    took = Measured(weights=loaded, kv=kv, overhead=max(1, memory.claim - loaded - kv))
    return Start(setup(plan), "2026-11-22", plan.context, memory, took)


def again(inventory: Inventory, *starts: Start, wish: Wish | None = None) -> Plan | DoesNotFit:
    return planner.plan(OPENHANDS, inventory, ENGINES, wish, starts)


@pytest.mark.parametrize(
    ("gib", "more"),
    [pytest.param(-4, False, id="less was left than planned"), pytest.param(4, True, id="more was left than planned")],
)
def test_a_later_plan_goes_by_what_the_start_took_and_says_so(gib: int, *, more: bool) -> None:
    first = planned(machine(1, 79.18), Wish(variant="fp8"))
    second = again(machine(1, 79.18), started(first, kv=first.memory.kv + gib * GIB), wish=Wish(variant="fp8"))
    assert isinstance(second, Plan)
    assert (second.memory.kv > first.memory.kv) == more
    assert second.memory.modelled == first.memory.modelled
    assert "weights and overhead as measured here on 2026-11-22" in second.notes
    assert not any("measured" in note for note in first.notes)


@pytest.mark.parametrize(
    ("inventory", "wish"),
    [
        pytest.param(machine(1, 44.4), Wish(variant="fp8"), id="on another GPU"),
        pytest.param(machine(2, 79.18), Wish(variant="fp8", tensor=2), id="on two of them"),
        pytest.param(machine(1, 79.18), Wish(variant="mxfp4"), id="in another precision"),
        pytest.param(machine(1, 79.18), Wish(variant="fp8", kv_dtype="fp8"), id="with another KV cache"),
    ],
)
def test_weights_are_those_of_that_very_setup_alone(inventory: Inventory, wish: Wish) -> None:
    first = planned(machine(1, 79.18), Wish(variant="fp8"))
    second = again(inventory, started(first, kv=first.memory.kv, weights=GIB), wish=wish)
    assert isinstance(second, Plan)
    assert second.memory.weights == second.memory.modelled.weights
    assert not any("weights" in note for note in second.notes if "measured" in note)


frees = st.floats(20, 79)
setups = st.builds(
    lambda variant, tensor: setup_of(
        OPENHANDS,
        variant,
        ENGINES["vllm"],
        Layout((), tensor, 1),
        device="GPU, 79 GiB",
        kv_dtype="bf16",
        version="0.32.0",
        manner=Manner(sequences=8),
    ),
    st.sampled_from(OPENHANDS.variants),
    st.sampled_from([1, 2]),
)
others = st.builds(
    replace, st.just(setup(planned(machine(1, 79.18), Wish(variant="fp8")))), model=st.sampled_from(["a", "b", "c"])
)
told = st.none() | st.floats(0.1, 70)
records = st.lists(
    st.builds(
        start,
        setups | others,
        claim=st.floats(20, 73),
        weights=told,
        overhead=told,
        kv=told,
        peak=told,
        planned_kv=st.floats(0.1, 60),
        modelled=st.floats(0.5, 8),
    ),
    max_size=8,
)


@given(st.integers(1, 2), frees, records, of_one_variant)
def test_whatever_starts_took_a_plan_claims_no_more_than_is_free(
    count: int, free: float, starts: list[Start], wish: Wish
) -> None:
    outcome = again(machine(count, 79.18, held=79.18 - free), *starts, wish=wish)
    if isinstance(outcome, Plan):
        memory = outcome.memory
        assert all(memory.claim <= gpu.free for gpu in outcome.gpus)
        assert memory.weights + memory.overhead + memory.kv <= memory.claim
        assert min(memory.weights, memory.kv) > 0 <= memory.overhead
        assert outcome.context * (wish.sessions or 1) <= memory.kv_tokens
    else:
        assert all(each.reason for each in outcome.rejections)


@given(st.integers(1, 2), frees, st.floats(0, 40), records, of_one_variant)
def test_whatever_starts_took_more_free_memory_never_gives_less_context(
    count: int, free: float, more: float, starts: list[Start], wish: Wish
) -> None:
    fuller, freer = (machine(count, 79.18, held=79.18 - each) for each in (free, min(79.18, free + more)))
    contexts = [
        outcome.context if isinstance(outcome, Plan) else 0
        for outcome in (again(each, *starts, wish=wish) for each in (fuller, freer))
    ]
    assert contexts[0] <= contexts[1]


@given(frees, st.sampled_from(["bf16", "fp8", "mxfp4"]), st.floats(0, 8))
def test_what_started_is_planned_again(free: float, variant: str, more: float) -> None:
    """Else a bare `up` would refuse the very server that runs."""
    inventory = machine(1, 79.18, held=79.18 - free)
    first = planner.plan(OPENHANDS, inventory, ENGINES, Wish(variant=variant))
    if isinstance(first, Plan):
        one_sequence = first.context * first.memory.kv // first.memory.kv_tokens
        # The engine takes more than planned, but starts: it has room for one sequence.
        left = max(one_sequence, first.memory.kv - int(more * GIB))
        same = again(inventory, started(first, kv=left), wish=Wish(variant=variant, context=first.context))
        assert isinstance(same, Plan), same


# -- the build that serves --


CUDA13 = {("vllm", "cuda"): Release("0.32.0", "2.13.0", (13, 0), ("sm_75", "sm_80", "sm_90"))}


@pytest.mark.parametrize(
    ("inventory", "reason"),
    [
        pytest.param(
            replace(machine(2, 79.25), driver="550.54.15"),
            "vllm 0.32.0 needs NVIDIA driver 580 or newer for CUDA 13.0; this machine has 550.54.15: install NVIDIA driver 580 "
            "or newer; or `launcher engines install vllm --version 0.19.1`, the last for CUDA 12",
            id="the driver is too old, and what would run is told",
        ),
        pytest.param(
            replace(machine(2, 79.25, compute=(12, 0)), driver="580.65.06"),
            "PyTorch 2.13.0 has no code for GPU, of compute capability 12.0",
            id="the environment that is chosen has no code for the GPU",
        ),
    ],
)
def test_what_the_engines_build_cannot_run_on_is_refused_before_anything_is_fetched(inventory: Inventory, reason: str) -> None:
    outcome = planner.plan(OPENHANDS, inventory, ENGINES, Wish(engine="vllm"), releases=CUDA13)
    assert isinstance(outcome, DoesNotFit)
    assert {each.reason for each in outcome.rejections} == {reason}
    # A small model goes to the CPU instead, and says why.
    small = planner.plan(SMOLLM, inventory, ENGINES, Wish(engine="vllm"), releases=CUDA13)
    assert isinstance(small, Plan)
    assert small.gpus == ()
    assert reason in small.notes[0]


def test_a_driver_that_is_new_enough_and_one_that_does_not_tell_change_nothing() -> None:
    first, *others = (
        planner.plan(OPENHANDS, replace(machine(2, 79.25), driver=driver), ENGINES, releases=CUDA13)
        for driver in ("580.65.06", "595.10", "")
    )
    assert isinstance(first, Plan)
    assert others == [first, first]


# docs.vllm.ai, "Parallelism and Scaling": tensor parallel over the GPUs of a node, pipeline parallel over the nodes.
@pytest.mark.parametrize(
    ("model", "on", "wish", "layout"),
    [
        pytest.param("deepseek-v3.1", "4x(8xH100-80GB)", Wish(variant="fp8"), (2, 8, 2), id="DeepSeek in FP8: two of four"),
        pytest.param("kimi-k2.6", "4x(8xH100-80GB)", Wish(), (2, 8, 2), id="Kimi in INT4: the same"),
        pytest.param("kimi-k2.6", "8x(4xH100-80GB)", Wish(), (3, 4, 3), id="machines of four: three of them"),
        pytest.param("kimi-k2.6", "4x(8xH200)", Wish(), (1, 8, 1), id="where one machine holds it, one is used"),
        pytest.param("kimi-k2.6", "4x(8xH100-80GB)", Wish(pipeline=4), (2, 4, 4), id="four stages: two on each of two"),
        pytest.param("kimi-k2.6", "4x(8xH100-80GB)", Wish(tensor=4), (2, 4, 4), id="four GPUs to a layer: two stages on each"),
        pytest.param("deepseek-v3.1", "4x(8xH100-80GB)", Wish(), (1, 8, 1), id="one machine comes before more bits"),
    ],
)
def test_machines_stand_one_after_another_where_none_holds_the_model_alone(
    model: str, on: str, wish: Wish, layout: tuple[int, int, int]
) -> None:
    plan = planner.plan(PROFILES[model], inventory_on(on), ENGINES, wish)
    assert isinstance(plan, Plan), plan
    assert (plan.nodes, plan.tensor, plan.pipeline) == layout
    # Each group that shares a layer is of one machine, and all machines have as many.
    groups = [plan.gpus[first : first + plan.tensor] for first in range(0, len(plan.gpus), plan.tensor)]
    assert all(len({gpu.node for gpu in group}) == 1 for group in groups)
    assert len({sum(gpu.node == node for gpu in plan.gpus) for node in range(plan.nodes)}) == 1
    assert any("no single machine" in note for note in plan.notes) is (plan.nodes > 1)
    # One of them is refused as a machine alone is.
    alone = planner.plan(PROFILES[model], inventory_on(on[3:-1]), ENGINES, wish)
    assert isinstance(alone, Plan) is (plan.nodes == 1)


def test_several_machines_give_all_the_context_that_they_carry() -> None:
    plan = planner.plan(PROFILES["deepseek-v3.1"], inventory_on("2x(8xH100-80GB)"), ENGINES, Wish(variant="fp8"))
    assert isinstance(plan, Plan)
    assert plan.context == PROFILES["deepseek-v3.1"].context_max


@pytest.mark.parametrize(
    ("on", "wish", "reason"),
    [
        pytest.param("2x(8xH100-80GB)", Wish(tensor=16), "are of one machine, and none here has 16", id="tensor across"),
        pytest.param("2x(8xH100-80GB)", Wish(tensor=8, pipeline=3), "needs 24 GPUs of one kind", id="more than there are"),
        pytest.param("2x(4xL40S)", Wish(), "8 x NVIDIA L40S can give", id="too little on all of them"),
    ],
)
def test_what_no_machines_together_can_do_is_refused_with_the_reason(on: str, wish: Wish, reason: str) -> None:
    outcome = planner.plan(PROFILES["kimi-k2.6"], inventory_on(on), ENGINES, wish)
    assert isinstance(outcome, DoesNotFit)
    assert reason in outcome.missing.reason
