"""SGLang 0.5.23: PyPI's build for CUDA, and the same without the GPU's packages for CPUs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from launcher import memory
from launcher.architecture import Architecture
from launcher.command import Beneath, Command
from launcher.engines import sglang_faults, sglang_log, sglang_memory, vllm_layouts, yarn
from launcher.engines.base import Budget, Call, Container, Image, Site, Sleep
from launcher.engines.sglang_memory import Setting
from launcher.gpu import GIB, Gpu, Inventory
from launcher.layers import Stage
from launcher.phases import Phase
from launcher.plan import Plan
from launcher.profile import CPU, CUDA
from launcher.quantisation import Quantisation
from launcher.starts import Measured

NAME = "sglang"
VERSION = "0.5.23"
# As vLLM's: one build of PyTorch for CPUs serves both.
PYTHON: Mapping[str, str] = MappingProxyType({CPU: "3.11", CUDA: "3.12"})
PROGRAM = "sglang.srt.entrypoints.http_server"
# gguf and accelerate: what conversion.py needs beside the engine.
REQUIREMENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(dict.fromkeys((CPU, CUDA), ("sglang", "gguf", "accelerate")))
# There is no package for CPUs: its own on a CPU torch, without what only GPUs have a use for. That leaves a fifth of the disk
# and half of the start; sglang_start.py stands in for what it imports of these all the same.
_NOT_ON_CPU = (
    *("torchvision", "torchaudio", "torchcodec", "triton", "flash-attn-4", "flashinfer-python", "humming-kernels"),
    *("nvidia-cutlass-dsl", "nvidia-mathdx", "nvshmem4py-cu13", "cuda-python", "quack-kernels", "sgl-deep-ep"),
    *("sgl-deep-gemm", "sgl-flash-mla", "sglang-kernel", "tilelang", "torch-memory-saver", "timm"),
)
OVERRIDES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {CPU: ("torch==2.13.0+cpu", *(f"{name} ; sys_platform == 'never'" for name in _NOT_ON_CPU)), CUDA: ()}
)
# By what its package pins: up to 0.5.10.post1 torch 2.9.1 and CUDA 12.8, from 0.5.11 on torch 2.11.0 and CUDA 13.0.
LAST_FOR_CUDA: Mapping[int, str] = MappingProxyType({12: "0.5.10.post1"})
# On a CPU `import sglang` asks for triton at once, for which only sglang_start.py stands in.
IMPORTS: Mapping[str, tuple[str, ...]] = MappingProxyType({CPU: ("torch", "transformers"), CUDA: ("torch", "sglang", PROGRAM)})
# srt/environ.py; srt/layers/deep_gemm_wrapper/compile_utils.py; the compilers' as for vLLM.
CACHES: Mapping[str, str] = MappingProxyType(
    {
        "SGLANG_CACHE_DIR": "sglang",
        "SGLANG_DG_CACHE_DIR": "deep_gemm",
        "TORCHINDUCTOR_CACHE_DIR": "inductor",
        "TRITON_CACHE_DIR": "triton",
        "FLASHINFER_WORKSPACE_BASE": "flashinfer",
        "TILELANG_CACHE_DIR": "tilelang",
        "TVM_FFI_CACHE_DIR": "tvm_ffi",
        "CUDA_CACHE_PATH": "cuda",
    }
)
# Docker Hub's, tagged by release (docs.sglang.io, "Install SGLang": using Docker).
IMAGE = Image(f"lmsysorg/sglang:v{VERSION}", key="SGLANG_API_KEY")
# 503 until a first generation has worked (http_server.py, health_generate).
READY_PATH = "/health"
FAULTS = sglang_faults.FAULTS
SIGNS = sglang_faults.SIGNS
stages = sglang_memory.stages
# The binaries of sglang-kernel 0.4.10 begin with Ampere, though the server itself asks for 7.5 alone (load_model_utils.py).
COMPUTE = (8, 0)
# Tokens in a page: 1, or up to 128 for some attention backends (arg_groups/overrides.py): the plan's are whole in any.
PAGE = 128
SEQUENCES: Mapping[str, int] = MappingProxyType({CUDA: 64, CPU: 8})
# Models whose own heads it makes a draft model of (configs/model_config.py, _config_draft_model), by the decoder's model_type.
DRAFTING = frozenset(
    {
        "deepseek_v3", "deepseek_v32", "deepseek_v4", "ernie4_5_moe", "exaone_moe", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa",
        "longcat_flash", "mimo", "mimo_v2_flash", "nemotron_h", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text",
        "qwen3_next", "step3p5",
    }
)  # fmt: skip
# What the plan says, what its memory is counted by, and what would open another door than the one that is proven; each with
# its other names (arg_groups/fields).
DECIDED = frozenset(
    {
        "--admin-api-key", "--api-key", "--base-gpu-id", "--chunked-prefill-size", "--config", "--context-length",
        "--cuda-graph-max-bs-decode", "--data-parallel-size", "--dcp-size", "--decode-context-parallel-size", "--device",
        "--dist-init-addr", "--dp", "--dp-size", "--enable-memory-saver", "--enable-weights-cpu-backup", "--host",
        "--json-model-override-args", "--kv-cache-dtype", "--mamba-full-memory-ratio", "--max-mamba-cache-size",
        "--max-running-requests", "--max-total-tokens", "--mem-fraction-static", "--model", "--model-path", "--nccl-init-addr",
        "--nnodes", "--node-rank", "--page-size", "--pipeline-parallel-size", "--port", "--pp", "--pp-size", "--quantization",
        "--reasoning-parser", "--served-model-name", "--speculative-algorithm", "--speculative-draft-model",
        "--speculative-draft-model-path", "--speculative-eagle-topk", "--speculative-num-draft-tokens",
        "--speculative-num-steps", "--ssl-ca-certs", "--ssl-certfile", "--ssl-keyfile", "--swa-full-tokens-ratio",
        "--tensor-parallel-size", "--tool-call-parser", "--tp", "--tp-size", "--trust-remote-code",
    }
)  # fmt: skip
# What puts it to sleep asks for the key (http_server.py, AuthLevel.ADMIN_OPTIONAL).
AWAKE_NOTE = ""
# entrypoints/http_server.py; with --enable-weights-cpu-backup, as it is started, the weights stay in the host's memory.
SLEEPS: Mapping[int, Sleep] = {
    1: Sleep(down=(Call("/release_memory_occupation", {}),), up=(Call("/resume_memory_occupation", {}),))
}

# In its image: it has an option for the key alone, which everybody on the machine could read, and logs its settings. Children,
# which serve nothing, are sent none (as sglang_start.py does, which the image does not have).
CONTAINED = """\
import os, sys
from sglang.srt.entrypoints.http_server import launch_server
from sglang.srt.server_args import prepare_server_args
class Secret(str):
    __slots__ = ()
    __repr__ = lambda self: "'****'"
    __copy__ = lambda self: self
    __deepcopy__ = lambda self, _: self
    __reduce__ = lambda self: (str, (os.urandom(32).hex(),))
settings = prepare_server_args(sys.argv[1:])
settings.api_key = Secret(os.environ.pop("SGLANG_API_KEY"))
launch_server(settings)
"""
START = Path(__file__).with_name("sglang_start.py")
# What its scheduler and detokenizer import while multiprocessing starts them; on a CPU also all models, which it imports to
# find its own (on a GPU they would ask for the device). The variable is new with each start (srt/entrypoints/engine.py), and
# read by the weights' offloader alone.
_BENEATH = (str(START), "sglang.srt.managers.scheduler", "sglang.srt.managers.detokenizer_manager")
_LATE = ("SGLANG_RUN_ID",)
BENEATH: Mapping[str, Beneath] = MappingProxyType(
    {CPU: Beneath((*_BENEATH, "sglang.srt.models.registry"), late=_LATE), CUDA: Beneath(_BENEATH, late=_LATE)}
)
# What a CUDA context takes before SGLang looks at the free memory (published starts: 0.4 GiB), with some slack.
CONTEXT_MARGIN = 3 * GIB // 4
# HTTP server, scheduler and detokenizer on a CPU: 1.6 GiB together after the start of SmolLM2 (weights and KV cache apart).
CPU_PROCESSES = 2 * GIB
# What stays free for the system and the agent beside it.
CPU_RESERVE = GIB // 2
# --mem-fraction-static on a CPU, where the pool's tokens are given: the plan leaves the rest free.
CPU_SHARE = 0.98
CPU_PREFILL = 2_048
# Where the nodes of one server meet: SGLang's own examples use it (docs.sglang.io, "Multi-Node Deployment").
NODES_PORT = 20_000
_ENV: Mapping[str, str] = MappingProxyType({"DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"})


def gpu_budget(
    architecture: Architecture,
    gpu: Gpu,
    *,
    weights: int,
    tensor: int,
    share: float | None = None,  # noqa: ARG001 - it is given all that is free; the planner takes no more of that
    speculated: int = 0,  # noqa: ARG001 - its reserve does not ask whether a draft head is captured too
) -> Budget:
    """KV = what is free, minus weights, what loading takes, and what SGLang itself would keep for activations and CUDA graphs.

    Its states are allocated before graphs are captured, and take their share of what those will need: that is counted twice.
    """
    graphs = _graphs(architecture, gpu, tensor) if architecture.kind == "hybrid" else 0
    loading = sglang_memory.loaded(0, unified=gpu.unified)
    overhead = _outside(tensor) + loading + _reserve(architecture, gpu, tensor) + graphs
    return Budget(claim=gpu.free, overhead=overhead, kv=gpu.free - weights - overhead)


def kv_tokens(
    architecture: Architecture,
    gpu: Gpu | None,  # noqa: ARG001 - a pool holds the same on every card
    kv: int,
    context: int,  # noqa: ARG001 - and in sequences of any length
    *,
    tensor: int,
    kv_dtype: str,
    stage: Stage | None = None,
    speculated: int = 0,
) -> int:
    """Tokens that `kv` bytes on each rank hold, in whole pages."""
    setting = _setting(tensor, kv_dtype, stage, drafts=architecture.drafts if speculated else 0)
    return sglang_memory.tokens(architecture, sglang_memory.kv_pool(architecture, kv, setting), setting)


def kv_bytes(
    architecture: Architecture,
    gpu: Gpu | None,  # noqa: ARG001 - the same
    context: int,
    sequences: float,
    *,
    tensor: int,
    kv_dtype: str,
    stage: Stage | None = None,
    speculated: int = 0,
) -> int:
    """Bytes on each rank for so many sequences of `context` tokens, the states' share included."""
    setting = _setting(tensor, kv_dtype, stage, drafts=architecture.drafts if speculated else 0)
    size = sglang_memory.kv_bytes(architecture, context, sequences, setting)
    if architecture.kind != "hybrid":
        return size
    states = sglang_memory.states(architecture, math.ceil(sequences), speculated, setting) if speculated else 0
    return math.ceil(max(size, states / setting.state_ratio) * (1 + setting.state_ratio)) + 1


def layout_fault(architecture: Architecture, loaded: Quantisation, *, tensor: int, pipeline: int) -> str | None:
    """Why SGLang would not start this layout; None if it would.

    Its layers were vLLM's, and divide alike (distributed/utils.py, `divide`; layers/linear.py; layers/quantization/fp8.py).
    """
    return vllm_layouts.fault(architecture, loaded, tensor=tensor, pipeline=pipeline)


def draft_fault(architecture: Architecture, *, pipeline: int) -> str | None:
    """Why SGLang would not draft with this model's own heads; None if it would.

    In a pipeline it does so for prefill alone (arg_groups/validation_hook.py, check_pipeline_parallel_compat).
    """
    if architecture.model_type not in DRAFTING:
        return f"SGLang {VERSION} has no draft model for {architecture.model_type}"
    return "SGLang refuses it in a pipeline" if pipeline > 1 else None


def cpu_budget(inventory: Inventory, *, weights: int) -> Budget:
    """An explicitly sized KV pool in what the processes and the weights leave of the host's memory."""
    claim = inventory.ram.available - CPU_RESERVE
    overhead = CPU_PROCESSES + int(inventory.ram.available * (1 - CPU_SHARE))
    return Budget(claim=claim, overhead=overhead, kv=claim - weights - overhead)


def command(plan: Plan, site: Site) -> Command:
    """Start the server through a script of ours, which takes the key out of its environment."""
    argv = [
        *(str(site.python), "-I", str(START)),
        *("--model-path", str(site.weights), "--served-model-name", plan.profile.name),
        *("--host", site.host, "--port", str(site.port)),
        *_options(plan),
    ]
    # The weights are a folder by now: nothing is left to ask the hub for.
    env = {**_ENV, "HF_HUB_OFFLINE": "1"}
    if plan.gpus:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in plan.gpus)
    else:
        # A build for CPUs has no GPU to look for; torch.compile would need a C++ compiler, at a user's first request.
        env |= {"CUDA_VISIBLE_DEVICES": "", "TORCHDYNAMO_DISABLE": "1"}
    secrets = {"LAUNCHER_API_KEY": site.api_key}
    imports = (str(START), PROGRAM)
    return Command(argv=tuple(argv), env=env, secrets=secrets, imports=imports, beneath=BENEATH[CUDA if plan.gpus else CPU])


def ranks(plan: Plan, site: Site, hosts: Sequence[str], port: int) -> tuple[Command, ...]:
    """Every node starts the same server; all but the first only say that they are well (entrypoints/engine.py)."""
    made = []
    for rank, host in enumerate(hosts):
        one = command(plan, replace(site, host=host))
        nodes = ("--nnodes", str(len(hosts)), "--node-rank", str(rank), "--dist-init-addr", f"{hosts[0]}:{port}")
        made.append(replace(one, argv=(*one.argv, *nodes)))
    return tuple(made)


def contained(plan: Plan, container: Container) -> Command:
    """The server in its image; of several nodes the first answers, and the others find it at --dist-init-addr."""
    argv = [
        *("python3", "-c", CONTAINED, "--model-path", container.model, "--served-model-name", plan.profile.name),
        *(("--revision", container.revision) if container.revision else ()),
        *("--host", "0.0.0.0", "--port", str(container.port)),  # noqa: S104 - a container's own
        *(("--nnodes", str(container.nodes), "--node-rank", container.rank) if container.nodes > 1 else ()),
        *(("--dist-init-addr", f"{container.leader}:{NODES_PORT}") if container.nodes > 1 else ()),
        *_options(plan),
    ]
    offline = {"HF_HUB_OFFLINE": "1"} if container.model.startswith("/") else {}
    return Command(argv=tuple(argv), env={**_ENV, **offline})


def phase(line: str) -> Phase | None:
    """What a line of the log tells of the start's phase."""
    return sglang_log.phase(line)


def measured(log: Sequence[str]) -> Measured:
    """What the lines of a start's log tell of its memory."""
    return sglang_log.measured(log)


def _setting(tensor: int, kv_dtype: str, stage: Stage | None, *, drafts: int) -> Setting:
    return Setting(tensor=tensor, kv_dtype=kv_dtype, page=PAGE, stage=stage, drafts=drafts)


def _outside(tensor: int) -> int:
    """What is gone before SGLang looks at the free memory: its CUDA context, and NCCL in a group."""
    return max(CONTEXT_MARGIN, memory.outside_torch(tensor))


def _reserve(architecture: Architecture, gpu: Gpu, tensor: int) -> int:
    """Bytes for activations and CUDA graphs, as SGLang reserves them where it sizes its pool before they are captured."""
    latent = architecture.kind == "latent"
    share = sglang_memory.static_share(gpu.total, tensor=tensor, latent=latent, vision=architecture.vision, post_capture=False)
    return math.ceil(gpu.total * (1 - share))


def _graphs(architecture: Architecture, gpu: Gpu, tensor: int) -> int:
    """Of that, what is taken by the time that the pool is sized, where it is sized after the capture."""
    return max(0, _reserve(architecture, gpu, tensor) - _slack(gpu, tensor))


def _slack(gpu: Gpu, tensor: int) -> int:
    """What SGLang leaves free in any case (post_capture)."""
    return math.ceil(gpu.total * (1 - sglang_memory.static_share(gpu.total, tensor=tensor)))


def _options(plan: Plan) -> list[str]:
    """What it is told of the plan wherever it runs."""
    return [
        *("--context-length", str(plan.context)),
        # Without it SGLang takes what it finds, and serves a context that its pool does not hold.
        *("--max-total-tokens", str(plan.memory.kv_tokens)),
        # As vLLM's default (config/model.py): a server that is started again answers as before.
        *("--random-seed", "0"),
        *(_gpu_options(plan) if plan.gpus else _cpu_options(plan)),
        *yarn.overrides(plan, "--json-model-override-args"),
        *_parser_options(plan),
        *_draft_options(plan),
        # Without the second the weights would be gone after a sleep (model_runner_components/load_model_utils.py).
        *(("--enable-memory-saver", "--enable-weights-cpu-backup") if plan.manner.can_sleep else ()),
        *plan.args,
    ]


def _gpu_options(plan: Plan) -> list[str]:
    """What SGLang is told on GPUs.

    Batches beyond the largest graph would need memory of their own (kv_pool_runtime.py, eager_decode_gap): both are one number,
    a small one where the cache holds few sessions anyway, since each size takes time to capture.
    """
    tightest = min(plan.gpus, key=lambda gpu: gpu.free)
    prefill, _ = sglang_memory.batch_defaults(tightest.total, plan.tensor)
    sequences = plan.manner.sequences
    return [
        *("--device", "cuda", "--mem-fraction-static", f"{_share(plan, tightest):.3f}"),
        *("--tensor-parallel-size", str(plan.tensor)),
        *("--chunked-prefill-size", str(prefill)),
        *("--max-running-requests", str(sequences), "--cuda-graph-max-bs-decode", str(sequences)),
        *(("--pipeline-parallel-size", str(plan.pipeline)) if plan.pipeline > 1 else ()),
        *(("--kv-cache-dtype", "fp8_e4m3") if plan.kv_dtype == "fp8" else ()),
    ]


def _share(plan: Plan, gpu: Gpu) -> float:
    """The share of what is free at its start that SGLang may give to weights, KV cache and, if captured first, graphs.

    In thousandths, rounded up: the tokens are given, and a share that is a little too small would hold fewer.
    """
    free = gpu.free - _outside(plan.tensor)
    loaded = sglang_memory.loaded(plan.memory.weights, unified=gpu.unified)
    static = min(
        loaded + plan.memory.kv + _graphs(plan.profile.architecture, gpu, plan.tensor), free - _slack(gpu, plan.tensor)
    )
    return math.ceil(static / free * 1000) / 1000


def _cpu_options(plan: Plan) -> list[str]:
    return [
        *("--device", "cpu", "--attention-backend", "torch_native", "--mem-fraction-static", str(CPU_SHARE)),
        *("--chunked-prefill-size", str(CPU_PREFILL), "--max-running-requests", str(plan.manner.sequences)),
    ]


def _parser_options(plan: Plan) -> list[str]:
    tools, reasoning = plan.profile.tool_parser.get(NAME), plan.profile.reasoning_parser.get(NAME)
    return [
        *(("--tool-call-parser", tools) if tools else ()),
        *(("--reasoning-parser", reasoning) if reasoning else ()),
    ]


def _draft_options(plan: Plan) -> list[str]:
    """EAGLE is its word for a model's own heads too: it reads them from the model's folder (arg_groups/speculative_hook.py).

    One token a step is drafted, and verified with the one before it: with one branch, one more than steps.
    """
    drafts = plan.manner.speculative
    if drafts is None:
        return []
    return [
        *("--speculative-algorithm", "EAGLE", "--speculative-num-steps", str(drafts.tokens)),
        *("--speculative-eagle-topk", "1", "--speculative-num-draft-tokens", str(drafts.tokens + 1)),
    ]
