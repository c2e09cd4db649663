import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import catalogue, planner
from launcher.engines import sglang, sglang_memory
from launcher.engines.base import Site
from launcher.engines.registry import ENGINES
from launcher.gpu import GIB, Inventory
from launcher.plan import DoesNotFit, Plan, Wish
from launcher.profile import Profile
from tests.engines.test_sglang_memory import STARTS
from tests.machines_for_tests import machine
from tests.test_architecture import of

PROFILES = catalogue.load_all([catalogue.shipped()])
SITE = Site(
    python=Path("/env/bin/python"), weights=Path("/weights/model"), host="127.0.0.1", port=8400, api_key="sk-local-secret"
)


def planned(profile: str | Profile, inventory: Inventory, wish: Wish | None = None) -> Plan:
    found = PROFILES[profile] if isinstance(profile, str) else profile
    outcome = planner.plan(found, inventory, ENGINES, replace(wish or Wish(), engine="sglang"))
    assert isinstance(outcome, Plan), outcome
    return outcome


def options(plan: Plan) -> dict[str, str]:
    """The command's options by name; a switch has no text."""
    words = sglang.command(plan, SITE).argv[3:]
    return {
        word: "" if after.startswith("--") else after
        for word, after in zip(words, (*words[1:], "--"), strict=True)
        if word.startswith("--")
    }


def test_on_a_cpu_the_pool_is_sized_explicitly() -> None:
    plan = planned("smollm2-135m", machine(ram=16))
    command = sglang.command(plan, SITE)
    assert command.argv[:3] == ("/env/bin/python", "-I", str(sglang.START))
    assert options(plan) == {
        "--model-path": "/weights/model",
        "--served-model-name": "smollm2-135m",
        "--host": "127.0.0.1",
        "--port": "8400",
        "--context-length": "8192",
        "--max-total-tokens": "16384",
        "--random-seed": "0",
        "--device": "cpu",
        "--attention-backend": "torch_native",
        "--mem-fraction-static": "0.98",
        "--chunked-prefill-size": "2048",
        "--max-running-requests": "8",
        "--dtype": "float16",
    }
    assert (command.env["CUDA_VISIBLE_DEVICES"], command.env["TORCHDYNAMO_DISABLE"]) == ("", "1")


@pytest.mark.parametrize("ram", [4.0, 8.0, 16.0, 64.0, 512.0])
def test_on_a_cpu_the_share_holds_what_is_planned(ram: float) -> None:
    plan = planned("smollm2-135m", machine(ram=ram))
    free = int(ram * GIB) - sglang.CPU_PROCESSES
    assert sglang_memory.pool(free, plan.memory.weights, sglang.CPU_SHARE) >= plan.memory.kv


def test_on_gpus_all_that_the_plan_says_is_said() -> None:
    plan = planned("openhands-lm-32b", machine(4, 79.25), Wish(tensor=2, pipeline=2, kv_dtype="fp8"))
    told = options(plan)
    assert (told["--tensor-parallel-size"], told["--pipeline-parallel-size"]) == ("2", "2")
    assert (told["--kv-cache-dtype"], told["--device"]) == ("fp8_e4m3", "cuda")
    assert told["--max-total-tokens"] == str(plan.memory.kv_tokens)
    assert told["--tool-call-parser"] == "hermes"
    # The size that SGLang takes on such a card by itself (arg_groups/memory_hook.py).
    assert told["--chunked-prefill-size"] == "8192"
    assert "TORCHDYNAMO_DISABLE" not in sglang.command(plan, SITE).env


@pytest.mark.parametrize("sequences", ["8", "32", "64"])
def test_graphs_are_captured_for_as_many_requests_as_are_taken(sequences: str) -> None:
    plan = planned("openhands-lm-32b", machine(2, 79.25))
    told = options(replace(plan, manner=replace(plan.manner, sequences=int(sequences))))
    assert (told["--cuda-graph-max-bs-decode"], told["--max-running-requests"]) == (sequences, sequences)


DRAFTED = {
    "--speculative-algorithm": "EAGLE",
    "--speculative-num-steps": "3",
    "--speculative-eagle-topk": "1",
    "--speculative-num-draft-tokens": "4",
}


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        pytest.param(Wish(), DRAFTED, id="as its profile says"),
        pytest.param(Wish(speculative=False), {}, id="not where nobody wants it"),
        pytest.param(Wish(pipeline=2, tensor=1), {}, id="nor in a pipeline"),
    ],
)
def test_the_models_own_heads_draft(wish: Wish, expected: dict[str, str]) -> None:
    told = options(planned("qwen3.6-27b", machine(2, 79.18, compute=(9, 0)), wish))
    assert {name: told[name] for name in DRAFTED if name in told} == expected


def test_a_server_that_can_sleep_keeps_its_weights() -> None:
    told = options(planned("openhands-lm-32b", machine(2, 79.25, ram=256), Wish(can_sleep=True)))
    assert {"--enable-memory-saver", "--enable-weights-cpu-backup"} <= told.keys()


def test_states_of_drafts_need_room_of_their_own() -> None:
    model, gpu = PROFILES["qwen3.6-27b"].architecture, machine(1, 79.18).gpus[0]
    plain, drafted = (sglang.kv_bytes(model, gpu, 1_024, 1, tensor=1, kv_dtype="bf16", speculated=tokens) for tokens in (0, 3))
    # 48 layers of 48 states of 128 by 128 in 32 bits, and 10,240 by 3 of a convolution's in 16 (models/qwen3_5.py). Slots: five
    # for the sequence, four that are verified, and once more of one and of four, which is padding.
    states = 48 * (48 * 128 * 128 * 4 + 10_240 * 3 * 2) * (5 + 4 + 1 + 4)
    assert drafted == pytest.approx(states / 0.9 * 1.9, rel=0.001)
    assert plain < drafted / 10


GPUS = [
    pytest.param("smollm2-135m", machine(1, 14.6, compute=(8, 0)), Wish(), id="a small card"),
    pytest.param("openhands-lm-32b", machine(1, 79.25), Wish(), id="a large one"),
    pytest.param("openhands-lm-32b", machine(2, 79.25, held=8), Wish(), id="two busy ones"),
    pytest.param("openhands-lm-32b", machine(4, 44.4), Wish(tensor=2, pipeline=2), id="two by two"),
    pytest.param("openhands-lm-32b", machine(8, 23.6), Wish(), id="eight"),
    pytest.param("smollm2-135m", machine(1, 79.25), Wish(memory_share=0.2), id="a fifth of one"),
]


@pytest.mark.parametrize(("name", "inventory", "wish"), GPUS)
def test_the_share_holds_what_is_planned_before_graphs_are_captured_and_after(
    name: str, inventory: Inventory, wish: Wish
) -> None:
    plan = planned(name, inventory, wish)
    gpu = min(plan.gpus, key=lambda each: each.free)
    free = gpu.free - sglang.CONTEXT_MARGIN
    share = float(options(plan)["--mem-fraction-static"])
    left = sglang_memory.pool(free, plan.memory.weights, share)
    assert left >= plan.memory.kv
    # What SGLang keeps for activations in any case (memory_hook.py): 1.5 GiB, and an eighth of one for each rank.
    assert free - plan.memory.weights - plan.memory.kv >= 1_536 * sglang_memory.MIB
    # Sized after the capture, the pool loses what the graphs took of the rest: a GiB at least may be theirs.
    assert left - plan.memory.kv >= GIB
    assert plan.memory.claim <= gpu.free


@pytest.mark.parametrize("identity", ["h082"])
def test_the_reserve_is_no_smaller_than_that_of_a_start_that_worked(identity: str) -> None:
    # An L40S that was started with a share of 0.85: 6.01 GiB were left beside weights and KV cache.
    row = STARTS[identity]
    gpu = machine(1, 44.4, held=0).gpus[0]
    weights = round((row["sgl_avail_before_load_gb"] - row["sgl_avail_after_load_gb"]) * GIB)
    budget = sglang.gpu_budget(of(row["model"], intermediate_size=8_960), gpu, weights=weights, tensor=1)
    assert 0.8 * row["sgl_kv_gb"] < budget.kv / GIB < 1.05 * row["sgl_kv_gb"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("google/gemma-4-31B-it", id="windows"),
        pytest.param("deepseek-ai/DeepSeek-R1-0528", id="latents"),
        pytest.param("Qwen/Qwen3.5-27B", id="states"),
    ],
)
def test_bytes_for_sequences_are_what_holds_them(name: str) -> None:
    gpu, model = machine(1, 79.25).gpus[0], of(name)
    kv = sglang.kv_bytes(model, gpu, 32_768, 2, tensor=1, kv_dtype="bf16")
    held = sglang.kv_tokens(model, gpu, kv, 32_768, tensor=1, kv_dtype="bf16")
    assert 2 * 32_768 <= held < 2 * 32_768 + 2 * sglang.PAGE


def test_a_full_card_has_a_budget_below_zero() -> None:
    gpu = replace(machine(1, 24).gpus[0], free=0)
    budget = sglang.gpu_budget(PROFILES["smollm2-135m"].architecture, gpu, weights=1, tensor=1)
    assert budget.claim == 0
    assert budget.kv < 0


def test_a_window_beyond_the_native_one_is_stretched() -> None:
    plan = planned("openhands-lm-32b", machine(8, 79.25), Wish(context=131_072))
    told = json.loads(options(plan)["--json-model-override-args"])
    assert told["max_position_embeddings"] == 131_072
    assert told["rope_parameters"]["rope_type"] == "yarn"
    assert told["rope_parameters"]["factor"] * told["rope_parameters"]["original_max_position_embeddings"] == 131_072
    assert "--json-model-override-args" not in options(planned("openhands-lm-32b", machine(2, 79.25), Wish(context=32_768)))


def test_an_older_card_than_its_kernels_gets_the_other_engine() -> None:
    turing = machine(1, 14.6, compute=(7, 5))
    refused = planner.plan(PROFILES["smollm2-135m"], turing, ENGINES, Wish(engine="sglang"))
    assert isinstance(refused, Plan), "on the CPU"
    assert "needs compute capability 8.0; GPU has 7.5" in refused.notes[0]
    either = planner.plan(PROFILES["smollm2-135m"], turing, ENGINES)
    assert isinstance(either, Plan)
    assert (either.engine, either.build) == ("vllm", "cuda")


def test_where_both_engines_will_do_the_first_is_taken() -> None:
    for inventory in (machine(2, 79.25), machine(ram=16)):
        outcome = planner.plan(PROFILES["smollm2-135m"], inventory, ENGINES)
        assert isinstance(outcome, Plan)
        assert outcome.engine == "vllm" == next(iter(ENGINES))


def test_each_variant_says_of_each_engine_why_it_lost() -> None:
    refused = planner.plan(PROFILES["openhands-lm-32b"], machine(1, 14.6, compute=(7, 5)), ENGINES)
    assert isinstance(refused, DoesNotFit)
    assert [(each.variant, each.engine) for each in refused.rejections] == [
        (variant, engine) for variant in ("bf16", "fp8", "mxfp4") for engine in ENGINES
    ]
    assert (refused.missing.variant, refused.missing.engine) == ("mxfp4", "vllm")


def test_the_key_is_in_no_argument_and_in_no_text() -> None:
    command = sglang.command(planned("smollm2-135m", machine(ram=16)), SITE)
    assert SITE.api_key not in command.shell()
    assert SITE.api_key not in repr(command)
    assert SITE.api_key not in " ".join(command.argv)
    assert command.secrets == {"LAUNCHER_API_KEY": SITE.api_key}
    assert "LAUNCHER_API_KEY=****" in command.shell()


def test_devices_are_named_by_what_cannot_move() -> None:
    plan = planned("openhands-lm-32b", machine(2, 79.25))
    assert sglang.command(plan, SITE).env["CUDA_VISIBLE_DEVICES"] == "GPU-GPU-0,GPU-GPU-1"


def test_nothing_is_told_to_anybody() -> None:
    env = sglang.command(planned("smollm2-135m", machine(ram=16)), SITE).env
    assert (env["DO_NOT_TRACK"], env["HF_HUB_DISABLE_TELEMETRY"], env["HF_HUB_OFFLINE"]) == ("1", "1", "1")


def test_on_several_nodes_each_starts_the_same_and_knows_its_place() -> None:
    plan = planned("openhands-lm-32b", machine(4, 79.25), Wish(tensor=2, pipeline=2))
    hosts = ("10.0.0.1", "10.0.0.2")
    for rank, (host, each) in enumerate(zip(hosts, sglang.ranks(plan, SITE, hosts, 20_000), strict=True)):
        alone = sglang.command(plan, replace(SITE, host=host))
        # server_args.py: --nnodes, --node-rank, --dist-init-addr (<host>:<port>).
        where = ("--nnodes", "2", "--node-rank", str(rank), "--dist-init-addr", "10.0.0.1:20000")
        assert each == replace(alone, argv=(*alone.argv, *where))
        assert "--pipeline-parallel-size" in each.argv
