"""What SGLang 0.5.23 prints as it fails (paths within sglang/srt). `{0}` is a pattern's first group."""

from dataclasses import replace

from launcher.engines import library_faults
from launcher.engines.base import Fault
from launcher.engines.library_faults import CRASHED, GPU_MEMORY_AT_LOAD, OUT_OF_MEMORY

# utils/common.py, configure_logger: "[2026-11-23 03:52:41 TP0] ".
SIGNS = (
    r"^\[\d{4}-\d\d-\d\d [\d:]{8}(?: [A-Z]+\d+)*\] |/sglang/\w+|/sglang_start\.py"
    r"|^sglang serve: error:|^launch_server\.py: error:"
)

# sglang_start.py says the first. mem_cache/kv_cache_configurator.py; model_executor/pool_configurator.py;
# distributed/bootstrap.py, where an environment variable makes a mere warning of the last.
_KV = (
    Fault(
        "kv-context",
        r"the KV pool holds (\d+) tokens, the context is \d+",
        "the KV pool does not hold one sequence of this context",
        "start with --context {0}",
        retry="fits",
    ),
    Fault(
        "kv-nothing",
        r"Loaded weights leave no GPU memory for the KV cache|Not enough memory\. Please try to increase --mem-fraction-static"
        r"|leaves no room for the full KV pool",
        "no memory is left for the KV cache",
        "take a smaller variant (--variant) or more GPUs (--tensor), or free the GPU: {holders}",
    ),
    Fault(
        "gpu-memory-taken",
        r"RuntimeError: The memory capacity is unbalanced",
        "another program holds memory of some of the GPUs",
        "free them ({holders}), or leave them out with --gpus",
        retry="again",
    ),
)

# Told apart by the function that was at work: managers/scheduler.py, event_loop_...; model_executor/runner, capture.
_GPU_MEMORY = (
    Fault(
        "gpu-memory-graphs",
        rf"Capture cuda graph failed: .*(?:{OUT_OF_MEMORY})",
        "the GPU ran out of memory while CUDA graphs were captured",
        "start with a smaller --memory-share, or with fewer --sessions; {holders}",
    ),
    Fault(
        "gpu-memory-serving",
        OUT_OF_MEMORY,
        "the GPU ran out of memory while it served",
        "start with a smaller --memory-share, which leaves more beside the KV cache; {holders}",
        after=r"in (?:run_)?event_loop\w*|in dispatch_event_loop",
        retry="again",
    ),
    Fault(
        "gpu-memory-pool",
        OUT_OF_MEMORY,
        "the GPU's memory holds the weights, but not the KV cache that was planned",
        "start with a smaller --memory-share or --context, or free the GPU: {holders}",
        after=r"in (?:alloc_memory_pool|init_memory_pools?|_create_buffers)\b",
    ),
    GPU_MEMORY_AT_LOAD,
)

TENSOR = Fault(
    "tensor",
    r"AssertionError: \d+ is not divisible by \d+|must be divisible by tensor parallel size",
    "the model cannot be shared out over so many GPUs",
    "give another number with --tensor, or none: `launcher plan` knows which would do",
)
# configs/model_config.py; distributed/utils.py, ensure_divisibility; model_loader/utils.py; server_args' choices.
_SETTINGS = (
    Fault(
        "context",
        r"User-specified context_length \(\d+\) is greater than the derived context_length \((\d+)\)",
        "the context is longer than the model's own",
        "start with --context {0} or less",
    ),
    TENSOR,
    # layers/linear.py cuts the weights of key-value heads as if they could be shared out.
    replace(TENSOR, pattern=r"start \(\d+\) \+ length \(\d+\) exceeds dimension size", after=r"^\[\S+ \S+ (?:\S+ )*TP\d+\]"),
    Fault(
        "architecture",
        r"Model architectures (\[.+?\]) are not supported|Cannot find model module\. ('.+?') is not a registered model",
        "this version of the engine does not know the model ({0})",
        "take a newer version (`launcher engines install`), or the other engine with --engine",
    ),
    Fault(
        "tool-parser",
        r"argument --tool-call-parser: invalid choice: '([^']+)'",
        "the engine knows no tool parser {0}",
        "mend tool_parser in the profile (`launcher models show`)",
    ),
    Fault(
        "reasoning-parser",
        r"argument --reasoning-parser: invalid choice: '([^']+)'",
        "the engine knows no reasoning parser {0}",
        "mend reasoning_parser in the profile (`launcher models show`)",
    ),
)

# mem_cache/allocation.py; model_executor/runner; utils/watchdog.py; entrypoints/engine.py, _scheduler_died_error; and what it
# says before NCCL begins (distributed/bootstrap.py).
_ENDS = (
    Fault(
        "kv-full",
        r"(?:Prefill|Decode) out of memory\. Try to lower your batch size",
        "the KV pool ran full while it served",
        "start with a smaller --context or fewer --sessions; another version of the engine may count better",
        retry="again",
    ),
    Fault(
        "graphs",
        r"Capture cuda graph failed: (.+)",
        "CUDA graphs could not be captured",
        "take another version of the engine (`launcher engines install`), or the other engine with --engine",
    ),
    Fault(
        "step-silent",
        r"\w+ watchdog timeout \(",
        "one step of the engine took longer than its watchdog waits",
        "start it with NCCL_P2P_DISABLE=1 in the environment if it runs on several GPUs; NCCL_DEBUG=INFO tells more",
        retry="again",
    ),
    Fault(
        "killed",
        r"died during initialization \(exit code: -9\)|crashed with exit code -9\b",
        "a process of the engine was killed: by the kernel, if the machine's memory ran out, or by a person",
        "`dmesg` shows whether it was the kernel; if so, free memory or start with a smaller --context",
        retry="again",
    ),
    CRASHED,
    replace(
        CRASHED,
        pattern=r"died during initialization \(exit code: -(\d+)\)|crashed with exit code -(\d+)",
        cause="a process of the engine crashed (signal {0})",
    ),
    Fault(
        "nccl-hang",
        r"Init (?:torch distributed|parallel) begin|sglang is using nccl==",
        "the GPUs of a group do not answer each other (NCCL)",
        "start it with NCCL_P2P_DISABLE=1 in the environment: slower, but without the direct way between GPUs",
        stalls=True,
    ),
)

FAULTS: tuple[Fault, ...] = (*_KV, *_GPU_MEMORY, *_SETTINGS, *library_faults.FAULTS, *_ENDS)
