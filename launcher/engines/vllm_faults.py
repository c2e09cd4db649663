"""What vLLM 0.32 prints as it fails (paths within vllm). `{0}` is a pattern's first group."""

from dataclasses import replace

from launcher.engines import library_faults
from launcher.engines.base import Fault
from launcher.engines.library_faults import CRASHED, GPU_MEMORY_AT_LOAD, OUT_OF_MEMORY, WEIGHTS_DAMAGED

# logger.py: "(EngineCore pid=7) ERROR 11-23 03:56:13 [core.py:1510] "; older ones name no process.
SIGNS = (
    r"\((?:APIServer|EngineCore|Worker|VllmWorker)\b.*? pid=\d+\)|(?:INFO|WARNING|ERROR) \d\d-\d\d [\d:]{8} \[\w+\.py:\d+\]"
    r"|/vllm/\w+|^api_server\.py: error:|^vllm serve: error:"
)

# v1/core/kv_cache_utils.py, _check_enough_kv_cache_memory; the second form is that of versions before 0.9.
_KV = (
    Fault(
        "kv-context",
        r"To serve at least one request with the model's max seq len.*estimated maximum model length is (\d+)"
        r"|max seq len \(\d+\) is larger than the maximum number of tokens that can be stored in KV cache \((\d+)\)",
        "the KV cache does not hold one sequence of this context",
        "start with --context {0}",
        retry="fits",
    ),
    Fault(
        "kv-nothing",
        r"To serve at least one request with the model's max seq len|No available memory for the cache blocks",
        "no memory is left for the KV cache",
        "take a smaller variant (--variant) or more GPUs (--tensor), or free the GPU: {holders}",
    ),
)

# v1/worker/utils.py, request_memory; v1/worker/gpu_worker.py, determine_available_memory; v1/worker/cpu_worker.py.
_CLAIM = (
    Fault(
        "gpu-memory-taken",
        r"Free memory on device.*(?:is less than desired|is less than the engine's budget)",
        "less of the GPU's memory is free than the engine was to take",
        "free the GPU ({holders}), or start with a smaller --memory-share",
        retry="again",
    ),
    Fault(
        "gpu-memory-changed",
        r"Error in memory profiling",
        "another program gave memory of the GPU back while the engine measured it",
        "run the command again: {holders}",
        retry="again",
    ),
    Fault(
        "host-memory-taken",
        r"Available memory on node \d+ .* is less than (?:requested memory for kv|desired CPU memory utilization)",
        "the machine has less free memory than the KV cache needs",
        "free memory, or start with a smaller --context",
    ),
)

# Told apart by the function that was at work: v1/engine/core.py, run_busy_loop; v1/worker/gpu_model_runner.py and
# v1/worker/gpu/model_runner.py, capture_model and profile_run; gpu_worker.py, compile_or_warm_up_model, which is asked for
# before serving: it calls the same functions.
_GPU_MEMORY = (
    Fault(
        "gpu-memory-graphs",
        OUT_OF_MEMORY,
        "the GPU ran out of memory while CUDA graphs were captured or kernels warmed up",
        "start with a smaller --memory-share, or with fewer --sessions; {holders}",
        after=r"in (?:capture_model|compile_or_warm_up_model|_warmup_and_capture|_capture_cudagraphs)\b",
    ),
    Fault(
        "gpu-memory-profile",
        OUT_OF_MEMORY,
        "the GPU's memory holds the weights, but not the largest batch beside them",
        "take a smaller variant (--variant) or more GPUs (--tensor), or free the GPU: {holders}",
        after=r"in (?:profile_run|determine_available_memory)\b",
    ),
    Fault(
        "gpu-memory-serving",
        OUT_OF_MEMORY,
        "the GPU ran out of memory while it served",
        "start with a smaller --memory-share, which leaves more beside the KV cache; {holders}",
        after=r"in (?:run_busy_loop|execute_model|sample_tokens)\b",
        retry="again",
    ),
    GPU_MEMORY_AT_LOAD,
)

# config/model.py; transformers_utils/config.py; model_executor/models/registry.py; tool_parsers and reasoning.
_SETTINGS = (
    Fault(
        "context",
        r"User-specified max_model_len \((\d+)\) is greater than the derived max_model_len \(\w+=(\d+)",
        "the context is longer than the model's own",
        "start with --context {1} or less",
    ),
    Fault(
        "tensor",
        r"Total number of (?:attention|kv) heads \(\d+\) must be divisible by tensor parallel size"
        r"|AssertionError: \d+ is not divisible by \d+",
        "the model cannot be shared out over so many GPUs",
        "give another number with --tensor, or none: `launcher plan` knows which would do",
    ),
    Fault(
        "architecture",
        r"Model architectures? (\[.+?\]) (?:are not supported|failed to be inspected)",
        "this version of the engine does not know the model ({0})",
        "take a newer version (`launcher engines install`), or the other engine with --engine",
    ),
    Fault(
        "tool-parser",
        r"invalid tool call parser: (\S+)",
        "the engine knows no tool parser {0}",
        "mend tool_parser in the profile (`launcher models show`)",
    ),
    Fault(
        "reasoning-parser",
        r"[Rr]easoning parser '?(\S+?)'? not found|invalid reasoning parser: (\S+)",
        "the engine knows no reasoning parser {0}",
        "mend reasoning_parser in the profile (`launcher models show`)",
    ),
    # transformers_utils/utils.py reads as many bytes of a header as the file's first eight say.
    replace(WEIGHTS_DAMAGED, pattern=r"^MemoryError", after=r"in parse_safetensors_file_metadata"),
)

# v1/executor/multiproc_executor.py, monitor_workers and execute_model; v1/engine/core_client.py; v1/engine/utils.py;
# distributed/device_communicators/pynccl.py and shm_broadcast.py, which says it of an idle server too.
_ENDS = (
    Fault(
        "slow-start",
        r"Timed out waiting for engine core processes to start",
        "the weights were not loaded in the time that vLLM gives itself",
        "start it with VLLM_ENGINE_READY_TIMEOUT_S=3600 in the environment",
    ),
    Fault(
        "group-silent",
        r"TimeoutError: RPC call to (\w+) timed out",
        "a worker of the engine stopped answering",
        "start it with NCCL_P2P_DISABLE=1 in the environment if it runs on several GPUs; NCCL_DEBUG=INFO tells more",
        retry="again",
    ),
    Fault(
        "killed",
        r"died unexpectedly \(exit code: -9\)|Failed core proc\(s\): \{.*: -9\}",
        "a process of the engine was killed: by the kernel, if the machine's memory ran out, or by a person",
        "`dmesg` shows whether it was the kernel; if so, free memory or start with a smaller --context",
        retry="again",
    ),
    CRASHED,
    # The exit code is None where it was asked for too early.
    Fault(
        "process-lost",
        r"died unexpectedly \(exit code: (?:None|-?\d+)\)|engine core exited unexpectedly|Failed core proc\(s\): \{'.*: -\d+\}",
        "a process of the engine ended without a word: it crashed, or was killed by the kernel (if memory ran out) or a person",
        "`dmesg` shows whether it was the kernel; if so, free memory or start with a smaller --context",
        retry="again",
    ),
    Fault(
        "nccl-hang",
        r"vLLM is using nccl==|No available shared memory broadcast block found",
        "the GPUs of a group do not answer each other (NCCL)",
        "start it with NCCL_P2P_DISABLE=1 in the environment: slower, but without the direct way between GPUs",
        stalls=True,
    ),
)

# Its own words for what Transformers finds come after Transformers': those name the reason.
FAULTS: tuple[Fault, ...] = (*_KV, *_CLAIM, *_GPU_MEMORY, *_SETTINGS, *library_faults.FAULTS, *_ENDS)
