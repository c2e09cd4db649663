import pytest

from launcher.engines.vllm_log import measured, phase
from launcher.gpu import GIB
from launcher.phases import COMPILE, GRAPHS, IMPORTS, KV, READY, WARMUP, WEIGHTS, Phase
from launcher.starts import Measured


def size(gib: float) -> int:
    return round(gib * GIB)


# A published start of vLLM with an 8B model on an A100 (15.0 GiB of weights, 460,496 tokens), in the words of 0.32
# (v1/worker/gpu_worker.py); what nvidia-smi showed is no line of the log.
ALONE = """\
(EngineCore pid=326) INFO 10-06 17:00:10 [default_loader.py:484] Loading weights took 0.87 seconds
(EngineCore pid=326) INFO 10-06 17:00:11 [model_runner.py:407] Model loading took 15.0 GiB memory and 5.420225 seconds
(EngineCore pid=326) INFO 10-06 17:00:33 [gpu_worker.py:692] Available KV cache memory: 56.21 GiB
(EngineCore pid=326) INFO 10-06 17:00:33 [kv_cache_utils.py:2464] GPU KV cache size: 460,496 tokens, Maximum concurrency for \
131,072 tokens per request: 3.51x
(EngineCore pid=326) INFO 10-06 17:00:41 [gpu_worker.py:955] Free memory on device (78.84/79.25 GiB) on startup. Desired GPU \
memory utilization is (0.92, 72.91 GiB). Actual usage is 15.26 GiB for consumed memory (weights + non-torch), 1.44 GiB for \
peak activation, and 0.23 GiB for CUDAGraph memory. Replace gpu_memory_utilization config with `--kv-cache-memory=59965833216` \
(55.85 GiB) to fit into requested memory, or `--kv-cache-memory=66333057024` (61.78 GiB) to fully utilize gpu memory. Current \
kv cache memory in use is 56.21 GiB."""

# Two stages hold different parts (Llama 3.1 8B over four stages loaded 4.26 and 3.75 GiB a GPU: h182 of
# tests/measurements/starts.jsonl), and each worker tells its own share.
STAGES = """\
(Worker_PP0 pid=7) INFO 11-22 23:00:11 [model_runner.py:425] Model loading took 4.26 GiB memory and 5.4 seconds
(Worker_PP1 pid=8) INFO 11-22 23:00:11 [model_runner.py:425] Model loading took 3.75 GiB memory and 5.4 seconds
(Worker_PP0 pid=7) INFO 11-22 23:00:41 [gpu_worker.py:1034] Free memory on device (78.57/79.18 GiB) on startup. Desired GPU \
memory utilization is (0.92, 72.85 GiB). Actual usage is 4.58 GiB for consumed memory (weights + non-torch), 1.05 GiB for peak \
activation, and 0.2 GiB for CUDAGraph memory. Current kv cache memory in use is 67.22 GiB.
(Worker_PP1 pid=8) INFO 11-22 23:00:41 [gpu_worker.py:1034] Free memory on device (78.57/79.18 GiB) on startup. Desired GPU \
memory utilization is (0.92, 72.85 GiB). Actual usage is 4.07 GiB for consumed memory (weights + non-torch), 1.05 GiB for peak \
activation, and 0.2 GiB for CUDAGraph memory. Current kv cache memory in use is 67.73 GiB."""

# vLLM 0.32 on a CPU, with SmolLM2 135M.
ON_CPU = """\
(Worker pid=9086) INFO 11-22 22:50:48 [weight_utils.py:1108] Filesystem type for checkpoints: EXT4. Checkpoint size: 0.25 GiB. \
Available RAM: 21.67 GiB.
(Worker pid=9086) INFO 11-22 22:50:50 [cpu_worker.py:260] Explicitly set (0.35/14.84) GiB for KV cache on node 0.
(EngineCore pid=9052) INFO 11-22 22:50:50 [kv_cache_utils.py:2327] CPU KV cache size: 16,384 tokens, Maximum concurrency for \
8,192 tokens per request: 2.00x
(APIServer pid=12613) INFO 11-22 22:55:52 [loggers.py:335] Engine 000: Running: 0 reqs, CPU KV cache usage: 0.0%"""


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        pytest.param(
            ALONE,
            Measured(weights=size(15.0), kv=size(56.21), kv_tokens=460_496, overhead=size(72.91) - size(56.21) - size(15.0)),
            id="one GPU: the overhead is what its share holds beside weights and KV cache",
        ),
        pytest.param(
            STAGES,
            Measured(weights=size(4.26), kv=size(67.22), overhead=size(72.85) - size(67.22) - size(4.26)),
            id="several workers: the fullest decides",
        ),
        pytest.param(ON_CPU, Measured(kv_tokens=16_384), id="a CPU: the tokens are told"),
        pytest.param("", Measured(), id="nothing is told"),
        pytest.param(
            "\n".join(ALONE.splitlines()[:4]),
            Measured(weights=size(15.0), kv_tokens=460_496),
            id="a KV cache of a size that was given: nothing is profiled",
        ),
    ],
)
def test_what_vllm_prints_of_its_memory(log: str, expected: Measured) -> None:
    assert measured(log.splitlines()) == expected


LOADING = "Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:05<00:05,  5.10s/it]"
CAPTURING = "Capturing CUDA graphs (decode, FULL):  34%|███▍      | 12/35 [00:00<00:01, 17.02it/s]"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(
            "(APIServer pid=9) INFO 11-23 03:50:07 [model.py:733] Resolved architecture: LlamaForCausalLM",
            Phase(IMPORTS, "read the model's configuration"),
            id="the configuration is read",
        ),
        pytest.param(
            "(EngineCore pid=9) INFO 11-23 03:50:25 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: m",
            Phase(IMPORTS, "starting the engine core"),
            id="the core starts",
        ),
        pytest.param(
            "(Worker pid=9) INFO 11-23 03:50:42 [parallel_state.py:2350] rank 0 in world size 1 is assigned as DP rank 0",
            Phase(IMPORTS, "starting the workers"),
            id="the workers start",
        ),
        pytest.param(
            "(Worker pid=9) INFO 11-23 03:50:43 [cpu_model_runner.py:68] Starting to load model /m...",
            Phase(WEIGHTS, "loading the weights"),
            id="weights on a CPU",
        ),
        pytest.param(
            "(EngineCore pid=9) INFO 11-23 03:50:43 [model_runner.py:392] Loading model from scratch...",
            Phase(WEIGHTS, "loading the weights"),
            id="weights, in the newer runner",
        ),
        pytest.param(LOADING, Phase(WEIGHTS, "loading the weights", 0.5), id="a file of two"),
        pytest.param(LOADING.replace("safetensors", "pt"), Phase(WEIGHTS, "loading the weights", 0.5), id="PyTorch's files"),
        pytest.param(
            LOADING.replace("Loading safetensors checkpoint", "Multi-thread loading"),
            Phase(WEIGHTS, "loading the weights", 0.5),
            id="several files at once",
        ),
        pytest.param(
            "(Worker pid=9) INFO 11-23 03:50:45 [default_loader.py:501] Loading weights took 1.33 seconds",
            None,
            id="that they are loaded begins nothing",
        ),
        pytest.param(
            "(Worker_TP0 pid=9) INFO 11-23 09:00:46 [monitor.py:40] [eagle_head] Starting torch.compile",
            Phase(COMPILE, "compiling"),
            id="torch.compile",
        ),
        pytest.param(
            "(Worker_TP0 pid=9) INFO 11-23 09:00:54 [backends.py:398] Compiling a graph for compile range (1, 2) takes 2 s",
            Phase(COMPILE, "compiling"),
            id="a graph is compiled",
        ),
        pytest.param(
            "(Worker_TP0 pid=9) INFO 11-23 09:00:54 [backends.py:292] Directly load the compiled graph(s) for compile range",
            Phase(COMPILE, "loading what was compiled"),
            id="or it was before",
        ),
        pytest.param(
            "(Worker_TP0 pid=9) INFO 11-23 09:01:24 [monitor.py:62] torch.compile took 36.10 s in total",
            Phase(COMPILE, "measuring a pass"),
            id="the pass that is measured",
        ),
        pytest.param(
            "(Worker pid=9) INFO 11-23 09:01:28 [gpu_worker.py:759] Available KV cache memory: 56.21 GiB",
            Phase(KV, "making the KV cache"),
            id="what is left for KV",
        ),
        pytest.param(
            "(Worker pid=9) INFO 11-23 03:50:48 [cpu_worker.py:260] Explicitly set (0.35/23.54) GiB for KV cache on node 0.",
            Phase(KV, "making the KV cache"),
            id="what a CPU was told",
        ),
        pytest.param(
            "(EngineCore pid=9) INFO 11-22 21:50:53 [kv_cache_utils.py:2327] GPU KV cache size: 23,296 tokens, Maximum",
            Phase(KV, "KV cache is ready; warming up"),
            id="the tokens of the KV cache",
        ),
        pytest.param(
            "(Worker pid=9) INFO 11-23 09:01:30 [kernel_warmup.py:176] JIT kernel warmup starting.",
            Phase(GRAPHS, "warming up kernels"),
            id="kernels",
        ),
        pytest.param(
            "DeepGEMM warmup:  50%|█████     | 8/16 [00:01<00:01,  6.2it/s]",
            Phase(GRAPHS, "warming up kernels", 0.5),
            id="kernels, with a bar",
        ),
        pytest.param(CAPTURING, Phase(GRAPHS, "capturing CUDA graphs", 0.34), id="graphs"),
        pytest.param(
            CAPTURING.replace("CUDA", "decode CUDA"), Phase(GRAPHS, "capturing CUDA graphs", 0.34), id="a draft's graphs"
        ),
        pytest.param(
            "(EngineCore pid=9) INFO 11-23 03:50:50 [core.py:402] init engine (profile, create kv cache, warmup model) took",
            Phase(WARMUP, "preparing the server"),
            id="the core is there",
        ),
        pytest.param(
            "(APIServer pid=9) INFO 11-22 21:50:56 [entry.py:140] Starting vLLM server on http://127.0.0.1:8477",
            Phase(WARMUP, "opening the address"),
            id="the address",
        ),
        pytest.param("INFO:     Application startup complete.", Phase(READY, "ready"), id="ready"),
        pytest.param("INFO:     Started server process [23030]", None, id="most lines tell nothing"),
    ],
)
def test_a_line_of_vllm_tells_the_phase(line: str, expected: Phase | None) -> None:
    assert phase(line) == expected
