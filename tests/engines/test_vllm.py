import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import catalogue, planner
from launcher.engines import vllm
from launcher.engines.base import Site
from launcher.engines.registry import ENGINES
from launcher.gpu import GIB, Inventory
from launcher.plan import Plan, Wish
from tests.machines_for_tests import machine

PROFILES = catalogue.load_all([catalogue.shipped()])
SITE = Site(
    python=Path("/env/bin/python"), weights=Path("/weights/model"), host="127.0.0.1", port=8400, api_key="sk-local-secret"
)


def planned(name: str, inventory: Inventory, wish: Wish | None = None) -> Plan:
    outcome = planner.plan(PROFILES[name], inventory, ENGINES, wish)
    assert isinstance(outcome, Plan), outcome
    return outcome


def options(plan: Plan) -> dict[str, str]:
    """The command's options by name; a switch has no text."""
    words = vllm.command(plan, SITE).argv[3:]
    return {
        word: "" if after.startswith("--") else after
        for word, after in zip(words, (*words[1:], "--"), strict=True)
        if word.startswith("--")
    }


def test_on_a_cpu_the_kv_cache_is_sized_explicitly() -> None:
    plan = planned("smollm2-135m", machine(ram=16))
    assert vllm.command(plan, SITE).argv[:4] == ("/env/bin/python", "-I", "-m", vllm.PROGRAM)
    assert options(plan) == {
        "--model": "/weights/model",
        "--served-model-name": "smollm2-135m",
        "--host": "127.0.0.1",
        "--port": "8400",
        "--max-model-len": "8192",
        "--kv-cache-memory-bytes": str(16_512 * 23_040),
        "--max-num-seqs": "8",
        "--enforce-eager": "",
        "--dtype": "float16",
    }
    assert vllm.command(plan, SITE).env["VLLM_TARGET_DEVICE"] == "cpu"


def test_on_gpus_the_claim_becomes_a_share_of_the_total() -> None:
    plan = planned("openhands-lm-32b", machine(2, 79.25))
    told = options(plan)
    assert told["--tensor-parallel-size"] == "2"
    assert told["--gpu-memory-utilization"] == "0.920"
    assert told["--tool-call-parser"] == "hermes"
    assert vllm.command(plan, SITE).env["CUDA_VISIBLE_DEVICES"] == "GPU-GPU-0,GPU-GPU-1"


@pytest.mark.parametrize(
    ("wish", "tensor", "pipeline", "kv_dtype"),
    [
        pytest.param(Wish(tensor=2), "2", None, None, id="a group that shares each layer"),
        pytest.param(Wish(pipeline=3), "1", "3", None, id="three stages, one after another"),
        pytest.param(Wish(tensor=2, pipeline=2), "2", "2", None, id="both"),
        pytest.param(Wish(tensor=1, pipeline=1, kv_dtype="fp8"), "1", None, "fp8", id="a KV cache in 8 bits"),
        pytest.param(Wish(tensor=1, pipeline=1, kv_dtype=None), "1", None, None, id="the KV cache as the engine has it"),
    ],
)
def test_the_layout_and_the_kv_cache_are_told(wish: Wish, tensor: str, pipeline: str | None, kv_dtype: str | None) -> None:
    told = options(planned("openhands-lm-32b", machine(4, 79.25), wish))
    assert told["--tensor-parallel-size"] == tensor
    assert told.get("--pipeline-parallel-size") == pipeline
    assert told.get("--kv-cache-dtype") == kv_dtype


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        pytest.param(Wish(), {"method": "mtp", "num_speculative_tokens": 3}, id="as its profile says"),
        pytest.param(Wish(speculative=False), None, id="not where nobody wants it"),
        pytest.param(Wish(pipeline=2, tensor=1), None, id="nor in a pipeline"),
    ],
)
def test_the_models_own_heads_draft(wish: Wish, expected: dict[str, object] | None) -> None:
    told = options(planned("qwen3.6-27b", machine(2, 79.18, compute=(9, 0)), replace(wish, engine="vllm")))
    assert json.loads(told.get("--speculative-config", "null")) == expected


def test_a_server_that_can_sleep_is_told_so_and_so_are_people() -> None:
    plan = planned("openhands-lm-32b", machine(2, 79.25, ram=256), Wish(can_sleep=True))
    assert "--enable-sleep-mode" in options(plan)
    assert vllm.command(plan, SITE).env["VLLM_SERVER_DEV_MODE"] == "1"
    assert vllm.AWAKE_NOTE in plan.notes
    awake = planned("openhands-lm-32b", machine(2, 79.25))
    assert "VLLM_SERVER_DEV_MODE" not in vllm.command(awake, SITE).env
    assert vllm.AWAKE_NOTE not in awake.notes


def test_a_persons_own_options_come_last() -> None:
    plan = planned("openhands-lm-32b", machine(2, 79.25), Wish(variant="fp8", extra=("--seed=7", "--dtype", "half")))
    assert vllm.command(plan, SITE).argv[-3:] == ("--seed=7", "--dtype", "half")


def test_as_many_sequences_are_taken_at_once_as_are_planned() -> None:
    plan = planned("openhands-lm-32b", machine(2, 79.25))
    told = [options(replace(plan, manner=replace(plan.manner, sequences=each)))["--max-num-seqs"] for each in (8, 64)]
    assert told == ["8", "64"]


@pytest.mark.parametrize("held", [0.0, 0.6, 3.0, 11.7, 20.0, 31.3])
def test_the_share_never_asks_for_more_than_is_free(held: float) -> None:
    plan = planned("smollm2-135m", machine(1, 44.4, held=held))
    share = float(options(plan)["--gpu-memory-utilization"])
    gpu = plan.gpus[0]
    assert plan.memory.claim <= share * gpu.total + 1
    assert share * gpu.total <= gpu.free - vllm.CONTEXT_MARGIN


def test_a_small_model_does_not_take_the_whole_card() -> None:
    plan = planned("smollm2-135m", machine(1, 79.18))
    assert plan.memory.claim < 14 * GIB
    assert float(options(plan)["--gpu-memory-utilization"]) < 0.2


@pytest.mark.parametrize(
    ("context", "factor"),
    [pytest.param(32_768, None, id="not within the native window"), pytest.param(131_072, 4.0, id="beyond it")],
)
def test_yarn_is_asked_for_only_where_it_is_needed(context: int, factor: float | None) -> None:
    told = options(planned("openhands-lm-32b", machine(2, 79.25), Wish(context=context)))
    overrides = json.loads(told.get("--hf-overrides", "{}"))
    rope = overrides.get("rope_parameters", {})
    assert overrides.get("max_position_embeddings") == (131_072 if factor else None)
    assert rope.get("factor") == factor
    assert rope.get("original_max_position_embeddings", 32_768) == 32_768


@pytest.mark.parametrize(
    ("variant", "quantization"),
    [("bf16", None), ("fp8", "fp8_per_tensor"), ("mxfp4", "mxfp4")],
)
def test_a_variants_own_options_pass_through(variant: str, quantization: str | None) -> None:
    told = options(planned("openhands-lm-32b", machine(2, 79.25), Wish(variant=variant)))
    assert told.get("--quantization") == quantization


def test_the_key_is_in_no_argument_and_in_no_text() -> None:
    command = vllm.command(planned("smollm2-135m", machine(ram=16)), SITE)
    assert SITE.api_key not in command.shell()
    assert SITE.api_key not in repr(command)
    assert SITE.api_key not in " ".join(command.argv)
    assert command.secrets == {"VLLM_API_KEY": SITE.api_key}
    assert "VLLM_API_KEY=****" in command.shell()


def test_telemetry_is_off() -> None:
    env = vllm.command(planned("smollm2-135m", machine(ram=16)), SITE).env
    assert (env["VLLM_NO_USAGE_STATS"], env["DO_NOT_TRACK"], env["HF_HUB_DISABLE_TELEMETRY"]) == ("1", "1", "1")


def test_a_busy_card_gives_a_smaller_share() -> None:
    idle, busy = machine(1, 79.18), machine(1, 79.18, held=10)
    architecture = PROFILES["openhands-lm-32b"].architecture
    budgets = [vllm.gpu_budget(architecture, each.gpus[0], weights=0, tensor=1) for each in (idle, busy)]
    assert budgets[0].claim > budgets[1].claim
    assert budgets[1].claim <= busy.gpus[0].free


@pytest.mark.parametrize(
    ("share", "option"),
    [
        pytest.param(None, "0.920", id="vLLM's own"),
        pytest.param(0.95, "0.950", id="more than that"),
        pytest.param(0.8, "0.800", id="less"),
    ],
)
def test_the_share_that_was_asked_for_is_given(share: float | None, option: str) -> None:
    plan = planned("openhands-lm-32b", machine(1, 79.18), Wish(memory_share=share))
    assert options(plan)["--gpu-memory-utilization"] == option


def test_a_cache_of_two_sequences_holds_them() -> None:
    gpu = machine(1, 79.18).gpus[0]
    architecture = PROFILES["openhands-lm-32b"].architecture
    kv = vllm.kv_bytes(architecture, gpu, 32_768, 2, tensor=1, kv_dtype="bf16")
    # And the block of 16 tokens that the pool holds back: without it the server would not start (kv_cache_utils.py).
    assert kv == (2 * 32_768 + 16) * 262_144
    assert vllm.kv_tokens(architecture, gpu, kv, 32_768, tensor=1, kv_dtype="bf16") == 2 * 32_768 + 16


def test_a_full_card_has_a_budget_below_zero() -> None:
    gpu = replace(machine(1, 24).gpus[0], free=0)
    budget = vllm.gpu_budget(PROFILES["smollm2-135m"].architecture, gpu, weights=1, tensor=1)
    assert budget.claim == 0
    assert budget.kv < 0


def test_on_several_nodes_the_first_serves_and_the_others_work_for_it() -> None:
    plan = replace(planned("smollm2-135m", machine(ram=16)), tensor=3)
    hosts = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
    first, *others = vllm.ranks(plan, replace(SITE, host=hosts[0]), hosts, 29_501)
    alone = vllm.command(plan, replace(SITE, host=hosts[0]))
    where = ("--nnodes", "3", "--node-rank", "0", "--master-addr", "10.0.0.1", "--master-port", "29501")
    assert first.argv == ("/env/bin/python", "-I", str(vllm.START), "serve", "/weights/model", *alone.argv[6:], *where)
    assert options(plan)["--tensor-parallel-size"] == "3"
    for rank, (host, other) in enumerate(zip(hosts[1:], others, strict=True), 1):
        text = " ".join(other.argv)
        assert f"--host {host} " in text
        assert text.endswith(f"--node-rank {rank} --master-addr 10.0.0.1 --master-port 29501 --headless")
        assert (other.env["VLLM_HOST_IP"], other.env["VLLM_CPU_OMP_THREADS_BIND"]) == (host, "nobind")
        assert (other.secrets, SITE.api_key in text) == (alone.secrets, False)


def test_stages_on_several_nodes_of_gpus_are_told_as_one_pipeline() -> None:
    plan = planned("openhands-lm-32b", machine(4, 79.25), Wish(tensor=2, pipeline=2))
    ranks = vllm.ranks(plan, replace(SITE, host="a"), ("a", "b"), 29_501)
    assert all("--tensor-parallel-size 2" in " ".join(each.argv) for each in ranks)
    assert all("--pipeline-parallel-size 2" in " ".join(each.argv) for each in ranks)
    assert "VLLM_CPU_OMP_THREADS_BIND" not in ranks[0].env
