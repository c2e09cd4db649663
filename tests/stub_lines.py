"""What the stub engine prints as it starts: the lines of vLLM 0.32 and SGLang 0.5.23, in the order of their phases."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

# As vLLM 0.32 told it of 1 GiB on a CPU.
KV_TOKENS = 46_592
PHASES = ("imports", "weights", "compile", "kv", "graphs", "warmup", "ready")


class Line(NamedTuple):
    """Of a phase, by a process, from a place of its source; a bar, and what uvicorn prints, is by none.

    A line that is only printed on GPUs, or only on CPUs, says so.
    """

    phase: str
    by: str
    place: str
    text: str
    only: str = ""


# As it starts on a CPU, and from its source what a GPU adds (compilation/monitor.py and backends.py; v1/worker).
VLLM = (
    Line("imports", "APIServer", "api_utils.py:286", "vLLM API server version 0.32.0, model {model}"),
    Line("imports", "APIServer", "model.py:733", "Resolved architecture: LlamaForCausalLM"),
    Line("imports", "APIServer", "model.py:2152", "Using max model len {context}"),
    Line("imports", "EngineCore", "core.py:133", "Initializing a V1 LLM engine (v0.32.0) with config: model='{model}'"),
    Line("weights", "Worker", "gpu_model_runner.py:5039", "Starting to load model {model}..."),
    Line("weights", "", "\n", "Loading safetensors checkpoint shards"),
    Line("weights", "Worker", "default_loader.py:501", "Loading weights took 1.33 seconds"),
    Line("compile", "Worker", "monitor.py:40", "Starting torch.compile", "cuda"),
    Line("compile", "Worker", "backends.py:1166", "Dynamo bytecode transform time: 4.01 s", "cuda"),
    Line("compile", "Worker", "backends.py:398", "Compiling a graph for compile range (1, 2048) takes 11.20 s", "cuda"),
    Line("compile", "Worker", "monitor.py:62", "torch.compile took 15.60 s in total", "cuda"),
    Line("kv", "Worker", "gpu_worker.py:759", "Available KV cache memory: 56.21 GiB", "cuda"),
    Line("kv", "EngineCore", "kv_cache_utils.py:2327", "{DEVICE} KV cache size: {tokens:,} tokens, {sequences}"),
    Line("graphs", "Worker", "kernel_warmup.py:176", "JIT kernel warmup starting.", "cuda"),
    Line("graphs", "", "", "Capturing CUDA graphs (decode, FULL)", "cuda"),
    Line("graphs", "Worker", "gpu_model_runner.py:6581", "Graph capturing finished in 3 secs, took 0.23 GiB", "cuda"),
    Line("warmup", "EngineCore", "core.py:402", "init engine (profile, create kv cache, warmup model) took 1.57 s"),
    Line("warmup", "APIServer", "entry.py:140", "Starting vLLM server on http://{host}:{port}"),
)
# The same of SGLang (model_executor, mem_cache, managers/scheduler.py).
SGLANG = (
    Line("imports", "sglang", "", "server_args={{'model_path': '{model}', 'context_length': {context}}}"),
    Line("imports", "sglang", "", "Init parallel begin."),
    Line("weights", "sglang", "", "Load weight begin. avail mem=20.55 GB"),
    Line("weights", "", "", "Multi-thread loading shards"),
    Line("weights", "sglang", "", "Load weight end. elapsed=2.33 s, type=LlamaForCausalLM, mem usage=0.08 GB."),
    Line("kv", "sglang", "", "KV Cache is allocated. #tokens: {tokens}, KV size: 1.00 GB"),
    Line("kv", "sglang", "", "Memory pool end. avail mem=19.47 GB"),
    Line("graphs", "sglang", "", "Capture target decode CUDA graph begin. backend=full, avail mem=19.47 GB", "cuda"),
    Line("graphs", "", "", "Capturing batches (bs=1 avail_mem=19.30 GB)", "cuda"),
    Line("graphs", "sglang", "", "Capture target decode CUDA graph end. elapsed=3.12 s, mem usage=0.23 GB.", "cuda"),
    Line("warmup", "sglang", "", "max_total_num_tokens={tokens}, chunked_prefill_size=2048, context_len={context}"),
)  # fmt: skip
LINES = {"vllm": VLLM, "sglang": SGLANG}


def tell_start(
    engine: str,
    device: str,
    words: Mapping[str, object],
    pids: Mapping[str, int],
    *,
    shards: int,
    reached: Callable[[str], float],
) -> None:
    """Print a start up to its last phase; `reached` is told of each phase as it begins, and says how many seconds it takes."""
    lines = [line for line in LINES[engine] if line.only in {"", device}]
    barred = {line.phase for line in lines if not line.by}
    seconds = 0.0
    for before, line in pairwise([None, *lines]):
        assert line
        if not line.by:
            for text in bar(line.text, shards, seconds):
                say(text, end=line.place)
            say("")
            continue
        log(engine, line.by, line.text.format(**words), place=line.place, pid=pids.get(line.by))
        if before is None or before.phase != line.phase:
            seconds = reached(line.phase)
            time.sleep(0.0 if line.phase in barred else seconds)


def bar(text: str, steps: int, seconds: float) -> Iterator[str]:
    """The states of tqdm's bar, each a step's time after the one before it; that of weights has a form of its own."""
    for done in range(steps + 1):
        if done:
            time.sleep(seconds / steps)
        took = seconds * done / steps
        drawn = " Completed |" if "shards" in text else f"|{'█' * (10 * done // steps):<10}|"
        yield f"\r{text}: {done / steps:4.0%}{drawn} {done}/{steps} [00:{took:02.0f}<00:{seconds - took:02.0f},  1.33s/it]"


def log(engine: str, by: str, text: str, *, place: str = "stub.py:1", pid: int | None = None, level: str = "INFO") -> None:
    """Print a line with the prefix of its engine: vLLM's process, level, time and place; SGLang's time."""
    if engine == "vllm":
        say(f"({by} pid={pid or os.getpid()}) {level} {time.strftime('%m-%d %H:%M:%S')} [{place}] {text}")
    else:
        say(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}] {text}")


def say(text: str, *, end: str = "\n") -> None:
    """Write at once: whoever watches the log shall see it."""
    sys.stdout.write(f"{text}{end}")
    sys.stdout.flush()
