import json
from pathlib import Path

import pytest

from launcher.engines.sglang_log import measured, phase
from launcher.gpu import GIB
from launcher.phases import GRAPHS, IMPORTS, KV, READY, WARMUP, WEIGHTS, Phase
from launcher.starts import Measured

ROWS = {
    row["id"]: row
    for row in map(json.loads, (Path(__file__).parents[1] / "measurements" / "starts.jsonl").read_text().splitlines())
}
# The lines as SGLang 0.5.23 formats them (model_runner.py, memory_pool.py, kv_pool_runtime.py, scheduler.py).
BEGIN = "[2026-11-22 23:00:00{rank}] Load weight begin. avail mem={sgl_avail_before_load_gb:.2f} GB"
LOADED = (
    "[2026-11-22 23:01:00{rank}] Load weight end. elapsed=41.20 s, type=Qwen3_5ForConditionalGeneration, "
    "avail mem={sgl_avail_after_load_gb:.2f} GB, mem usage={weights_gib:.2f} GB."
)
POOL = (
    "[2026-11-22 23:01:10{rank}] KV Cache is allocated. dtype: torch.bfloat16, #tokens: {kv_tokens}, "
    "K size: {sgl_k_gb:.2f} GB, V size: {sgl_v_gb:.2f} GB"
)
POOL_END = "[2026-11-22 23:01:10{rank}] Memory pool end. avail mem={sgl_pool_end_avail_gb:.2f} GB"
END = (
    "[2026-11-22 23:02:00{rank}] max_total_num_tokens={kv_tokens}, chunked_prefill_size=8192, max_prefill_tokens=16384, "
    "max_running_requests=956, context_len=262144, available_gpu_mem={left:.2f} GB"
)
BOUND = (
    "[2026-11-22 23:01:10] KV Cache VA upper bound. dtype: torch.bfloat16, #tokens: 99999, K size: 60.00 GB, V size: 60.00 GB\n"
    "[2026-11-22 23:02:00] Post-capture KV sizing: KV cache allocated. dtype: torch.bfloat16, #tokens: 1000, "
    "KV size: 38.50 GB, avail mem=3.00 GB"
)
STATES = (
    "[2026-11-22 23:01:09 TP0] Mamba Cache is allocated. max_mamba_cache_size: 38, conv_state size: 0.03GB, "
    "ssm_state size: 2.74GB "
)
LATENT = "[2026-02-26 16:41:18 TP6] KV Cache is allocated. #tokens: 2454421, KV size: 160.63 GB"
DRAFTED = """\
[2026-09-11 23:34:13 TP0 EP0] Load weight begin. avail mem=111.47 GB
[2026-09-11 23:43:15 TP0 EP0] Load weight end. elapsed=541.76 s, type=DeepseekV4ForCausalLM, quant=fp8, avail mem=17.47 GB, \
mem usage=94.00 GB.
[2026-09-11 23:44:38 TP0 EP0] Load weight begin. avail mem=17.54 GB
[2026-09-11 23:45:53 TP0 EP0] Load weight end. elapsed=74.58 s, type=DeepseekV4ForCausalLMDSpark, quant=fp8, \
avail mem=14.74 GB, mem usage=2.80 GB.
[2026-09-11 23:46:44 TP0 EP0] Capture target verify CUDA graph end. elapsed=13.48 s, mem usage=0.58 GB, avail mem=7.62 GB.
[2026-09-11 23:46:49 TP0 EP0] max_total_num_tokens=2999808, chunked_prefill_size=1024, max_prefill_tokens=16384, \
max_running_requests=4, context_len=1048576, available_gpu_mem=7.68 GB"""


def size(gib: float) -> int:
    return round(gib * GIB)


def printed(row: str, *lines: str, rank: str = "") -> str:
    """The lines with the figures of a published start: a row of tests/measurements/starts.jsonl."""
    figures = ROWS[row]
    return "\n".join(line.format(**figures, rank=rank, left=figures["sgl_pool_end_avail_gb"] - 2) for line in lines)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        pytest.param(
            printed("h022", BEGIN, LOADED, POOL, POOL_END, END),
            Measured(weights=size(51.05), kv=size(38.88 + 38.88), kv_tokens=1_273_920, peak=size(248.6 - 47.66)),
            id="one GPU (h022)",
        ),
        pytest.param(
            "\n".join(printed("h022", BEGIN, LOADED, POOL, rank=rank) for rank in (" TP0", " TP1")),
            Measured(weights=size(51.05), kv=size(38.88 + 38.88)),
            id="two ranks are not two times as much",
        ),
        pytest.param(
            printed("h022", LOADED, rank=" TP1 EP1") + "\n" + printed("h057", LOADED, rank=" TP0 EP0"),
            Measured(weights=size(51.05)),
            id="of ranks that differ the fullest decides",
        ),
        pytest.param(
            f"{STATES}\n" + printed("h022", POOL, rank=" TP0"),
            Measured(kv=size(38.88 + 38.88 + 0.03 + 2.74)),
            id="states of constant size are beside the keys and values",
        ),
        pytest.param(BOUND, Measured(kv=size(38.5)), id="the pool that graphs left room for, not its upper bound"),
        pytest.param(LATENT, Measured(kv=size(160.63)), id="latents are told in one figure"),
        pytest.param(
            DRAFTED,
            Measured(weights=size(96.8), kv_tokens=2_999_808, peak=size(103.79)),
            id="a draft's weights count, and what was free before both",
        ),
        pytest.param("", Measured(), id="nothing is told"),
    ],
)
def test_what_sglang_prints_of_its_memory(log: str, expected: Measured) -> None:
    assert measured(log.splitlines()) == expected


LOADING = "Multi-thread loading shards:  25% Completed | 1/4 [00:05<00:15,  5.10s/it]"
CAPTURING = "Capturing batches (bs=4 avail_mem=11.60 GB):  50%|█████     | 2/4 [00:00<00:00,  2.59it/s]"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(
            "[2026-11-23 01:09:20] server_args={'model_path': '/m'}",
            Phase(IMPORTS, "read the settings; starting the scheduler"),
            id="the settings are read",
        ),
        pytest.param(
            "[2026-11-23 02:22:08 TP1] Init parallel begin.", Phase(IMPORTS, "starting the workers"), id="the workers start"
        ),
        pytest.param(
            "[2026-11-23 01:09:24] Load weight begin. avail mem=21.17 GB", Phase(WEIGHTS, "loading the weights"), id="weights"
        ),
        pytest.param(LOADING, Phase(WEIGHTS, "loading the weights", 0.25), id="a file of four"),
        pytest.param(
            LOADING.replace("Multi-thread loading", "Loading safetensors checkpoint"),
            Phase(WEIGHTS, "loading the weights", 0.25),
            id="one file after the other",
        ),
        pytest.param(
            "[2026-11-23 03:51:41] Load weight end. elapsed=2.38 s, type=LlamaForCausalLM, avail mem=17.66 GB",
            Phase(KV, "making the KV cache"),
            id="after the weights come the pools",
        ),
        pytest.param(
            "[2026-11-23 01:09:29] KV Cache is allocated. dtype: torch.float16, #tokens: 16384, K size: 0.18 GB",
            Phase(KV, "KV cache is ready; warming up"),
            id="the pool is there",
        ),
        pytest.param(
            "[2026-11-23 09:00:39 TP0] Running FlashInfer autotune with cache: /c",
            Phase(GRAPHS, "warming up kernels"),
            id="kernels",
        ),
        pytest.param(
            "[2026-11-23 09:00:44 TP0] Capture target decode CUDA graph begin. backend=full, avail mem=11.99 GB",
            Phase(GRAPHS, "capturing CUDA graphs"),
            id="graphs",
        ),
        pytest.param(CAPTURING, Phase(GRAPHS, "capturing CUDA graphs", 0.5), id="graphs, with a bar"),
        pytest.param(
            CAPTURING.replace("Capturing batches (bs", "Compiling num tokens (n"),
            Phase(GRAPHS, "compiling", 0.5),
            id="pieces of a graph are compiled",
        ),
        pytest.param(
            "[2026-11-23 03:51:44] max_total_num_tokens=16384, chunked_prefill_size=2048, context_len=8192",
            Phase(WARMUP, "preparing the server"),
            id="the scheduler is there",
        ),
        pytest.param(
            "[2026-11-23 01:09:29] INFO:     Uvicorn running on http://127.0.0.1:8555 (Press CTRL+C to quit)",
            Phase(WARMUP, "the address is open; generating for the first time"),
            id="the address",
        ),
        pytest.param("[2026-11-23 03:51:50] The server is fired up and ready to roll!", Phase(READY, "ready"), id="ready"),
        pytest.param(
            "[2026-11-23 01:09:29] INFO:     Application startup complete.", None, id="uvicorn's word comes too early"
        ),
    ],
)
def test_a_line_of_sglang_tells_the_phase(line: str, expected: Phase | None) -> None:
    assert phase(line) == expected
