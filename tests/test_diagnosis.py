"""Real logs of engines that were run wrongly, and others in the form of public reports: each is told by its own fault."""

import io
import re
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from launcher import words
from launcher.diagnosis import LINES, Circumstances, Diagnosis, Retry, diagnose
from launcher.engines.base import Fault
from launcher.engines.registry import ENGINES
from launcher.gpu import GIB, GpuProcess

FOLDER = Path(__file__).parent / "samples"
AGAIN = Retry()
# By engine and file: the fault, the beginning of the line that shows it, and what may be tried without asking.
SAMPLES: dict[str, tuple[str, str, Retry | None]] = {
    "vllm/architecture-type": ("architecture", "Error parsing config for /models/smollm2-135m: The checkpoint you are", None),
    "vllm/architecture": ("architecture", "Value error, Model architectures ['Llama9ForCausalLM'] are not supported f", None),
    "vllm/compiler-cpp": ("compiler", "torch._inductor.exc.InductorError: InvalidCxxCompiler: No working C++ compiler", None),
    "vllm/compiler": ("compiler", "RuntimeError: Failed to find C compiler. Please specify via CC environment variabl", None),
    "vllm/config-damaged": ("config-damaged", "OSError: It looks like the config file at '/models/smollm2-135m/config", None),
    "vllm/config-missing": ("config-missing", "Value error, Invalid repository ID or local directory specified: '/mod", None),
    "vllm/context": ("context", "Value error, User-specified max_model_len (200000) is greater than the derived max_m", None),
    "vllm/deep-gemm": ("deep-gemm", "RuntimeError: Assertion error (csrc/apis/../jit_kernels/impls/../../jit/compiler", None),
    "vllm/disk-full": ("disk-full", "torch._inductor.exc.InductorError: OSError: [Errno 28] No space left on device", None),
    "vllm/docker-denied": ("docker-denied", "docker: permission denied while trying to connect to the Docker daemon", None),
    "vllm/docker-down": ("docker-down", "docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock", None),
    "vllm/docker-gpus": ("docker-gpus", "docker: Error response from daemon: could not select device driver", None),
    "vllm/docker": ("docker", 'docker: Error response from daemon: invalid mount config for type "bind": bind', None),
    "vllm/driver": ("driver", "RuntimeError: The NVIDIA driver on your system is too old (found version 12080). Pleas", None),
    "vllm/dtype-gpu": ("dtype-gpu", "ValueError: Bfloat16 is only supported on GPUs with compute capability of at lea", None),
    "vllm/gated": ("gated", "huggingface_hub.errors.GatedRepoError: 403 Client Error.", None),
    "vllm/gpu-memory-changed": ("gpu-memory-changed", "AssertionError: Error in memory profiling. Initial free memor", AGAIN),
    "vllm/gpu-memory-graphs": ("gpu-memory-graphs", "torch.AcceleratorError: CUDA error: out of memory", None),
    "vllm/gpu-memory-load": ("gpu-memory-load", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 896.00", None),
    "vllm/gpu-memory-profile": ("gpu-memory-profile", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate ", None),
    "vllm/gpu-memory-serving": ("gpu-memory-serving", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", AGAIN),
    "vllm/gpu-memory-taken": ("gpu-memory-taken", "ValueError: Free memory on device cuda:0 (31.44/47.38 GiB) on sta", AGAIN),
    "vllm/group-silent": ("group-silent", "TimeoutError: RPC call to execute_model timed out.", AGAIN),
    "vllm/host-memory-killed": ("", "W1123 04:07:55.059000 362 torch/_library/triton.py:53] Triton not available, fin", None),
    "vllm/host-memory-share": ("host-memory-taken", "ValueError: Available memory on node 0 (21.5/23.54 GiB) on start", None),
    "vllm/host-memory-taken": ("host-memory-taken", "ValueError: Available memory on node 0 (18.36/23.54 GiB) on kv c", None),
    "vllm/host-memory": ("host-memory", "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAlloca", None),
    "vllm/image-program": ("image-program", "docker: Error response from daemon: failed to create task for container", None),
    "vllm/kernel-image": ("kernel-image", "torch.AcceleratorError: CUDA error: no kernel image is available for execu", None),
    "vllm/killed": ("killed", "Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down executor.", AGAIN),
    "vllm/kv-context-old": ("kv-context", "ValueError: The model's max seq len (32768) is larger than the maxi", Retry(7168)),
    "vllm/kv-context": ("kv-context", "ValueError: To serve at least one request with the model's max seq len", Retry(45056)),
    "vllm/kv-nothing": ("kv-nothing", "ValueError: No available memory for the cache blocks. Try increasing `gpu_memo", None),
    "vllm/model-missing": ("model-missing", "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'r", None),
    "vllm/nccl-hang": ("nccl-hang", "vLLM is using nccl==2.28.9", None),
    "vllm/nccl": ("nccl", "RuntimeError: NCCL error: unhandled cuda error (run with NCCL_DEBUG=INFO for details)", None),
    "vllm/no-gpu": ("no-gpu", "RuntimeError: Failed to infer device type, please set the environment variable `VLLM_L", None),
    "vllm/nvcc-ninja": ("nvcc", "RuntimeError: Ninja build failed. Ninja output:", None),
    "vllm/nvcc": ("nvcc", "RuntimeError: Could not find nvcc and default cuda_home='/usr/local/cuda' doesn't exist", None),
    "vllm/offline": ("offline", "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached sn", None),
    "vllm/option-value": ("option-value", "api_server.py: error: argument --dtype: invalid choice: 'float8' (choose f", None),
    "vllm/option": ("option", "api_server.py: error: unrecognized arguments: --no-such-flag", None),
    "vllm/port-docker": ("port", "docker: Error response from daemon: driver failed programming external conne", AGAIN),
    "vllm/port": ("port", "OSError: [Errno 98] Address already in use", AGAIN),
    "vllm/process-lost-core": ("process-lost", "[shutdown] MPClient: engine core exited unexpectedly; starting clean", AGAIN),
    "vllm/process-lost": ("process-lost", "Worker proc VllmWorker-0 died unexpectedly (exit code: None), shutting do", AGAIN),
    "vllm/quantisation-capability": ("quantisation-gpu", "ValueError: The quantization method modelopt_fp4 is not sup", None),
    "vllm/quantisation-config": ("quantisation", "Value error, Cannot find the config file for awq [type=value_error,", None),
    "vllm/quantisation-gpu": ("quantisation-gpu", "RuntimeError: _C::static_scaled_fp8_quant() expected at most 0 arg", None),
    "vllm/quantisation-triton": ("quantisation-gpu", "ValueError('type fp8e4nv not supported in this architecture. Th", None),
    "vllm/quantisation": ("quantisation", "Value error, Unknown quantization method: quip9. Must be one of ['awq', 'a", None),
    "vllm/reasoning-parser": ("reasoning-parser", "KeyError: \"Reasoning parser 'nope' not found. Available parsers: c", None),
    "vllm/remote-code": ("remote-code", "Error parsing config for /models/smollm2-135m: The repository /models/smollm", None),
    "vllm/shared-memory-nccl": ("shared-memory", "Error while creating shared memory segment /dev/shm/nccl-EoOvZr (si", None),
    "vllm/shared-memory": ("shared-memory", "RuntimeError: Insufficient space in /dev/shm for shared-memory allocatio", None),
    "vllm/slow-start": ("slow-start", "TimeoutError: Timed out waiting for engine core processes to start. This is of", None),
    "vllm/tensor": ("tensor", "Value error, Total number of attention heads (9) must be divisible by tensor parallel ", None),
    "vllm/tokenizer": ("tokenizer", "ValueError: Couldn't instantiate the backend tokenizer from one of:", None),
    "vllm/tool-parser": ("tool-parser", "KeyError: 'invalid tool call parser: nope (chose from { apertus,cohere_comma", None),
    "vllm/weights-damaged": ("weights-damaged", "safetensors._safetensors_rust.SafetensorError: Error while deseriali", None),
    "vllm/weights-incomplete": ("weights-missing", "ValueError: Following weights were not initialized from checkpoin", None),
    "vllm/weights-mismatch": ("weights-mismatch", "RuntimeError: start (0) + length (1600) exceeds dimension size (15", None),
    "vllm/weights-missing": ("weights-missing", "RuntimeError: Cannot find any model weights with `/models/smollm2-13", None),
    "vllm/weights-pointer": ("weights-damaged", "MemoryError", None),
    "sglang/architecture-type": ("architecture", "ValueError: The checkpoint you are trying to load has model type `l", None),
    "sglang/architecture": ("architecture", "ValueError: Cannot find model module. 'Llama9ForCausalLM' is not a regis", None),
    "sglang/compiler": ("compiler", "RuntimeError: Failed to find C compiler. Please specify via CC environment varia", None),
    "sglang/config-damaged": ("config-damaged", "OSError: It looks like the config file at '/models/smollm2-135m/conf", None),
    "sglang/config-missing": ("config-missing", "ValueError: Unrecognized model in /models/smollm2-135m. Should have ", None),
    "sglang/context": ("context", "ValueError: Warning: User-specified context_length (200000) is greater than the de", None),
    "sglang/crashed": ("crashed", "Fatal Python error: Segmentation fault", AGAIN),
    "sglang/deep-gemm": ("deep-gemm", "RuntimeError: Assertion error (csrc/apis/../jit_kernels/impls/../../jit/compil", None),
    "sglang/docker-nvidia": ("docker-nvidia", "nvidia-container-cli: initialization error: driver rpc error", None),
    "sglang/driver": ("driver", "RuntimeError: The NVIDIA driver on your system is too old (found version 12040). Ple", None),
    "sglang/gated": ("gated", "Access to model meta-llama/Llama-3.1-8B-Instruct is restricted and you are not in the ", None),
    "sglang/gpu-fault": ("gpu-fault", "torch.AcceleratorError: CUDA error: an illegal memory access was encountered", AGAIN),
    "sglang/gpu-memory-graphs": ("gpu-memory-graphs", "Exception: Capture cuda graph failed: CUDA out of memory. Trie", None),
    "sglang/gpu-memory-load": ("gpu-memory-load", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 224.", None),
    "sglang/gpu-memory-pool": ("gpu-memory-pool", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 512.", None),
    "sglang/gpu-memory-serving": ("gpu-memory-serving", "torch.OutOfMemoryError: CUDA out of memory. Tried to alloca", AGAIN),
    "sglang/gpu-memory-taken": ("gpu-memory-taken", "RuntimeError: The memory capacity is unbalanced. Some GPUs may ", AGAIN),
    "sglang/graphs": ("graphs", "Exception: Capture cuda graph failed: invalid argument", None),
    "sglang/host-memory-killed": ("", "Using default HuggingFace chat template with detected content format: string", None),
    "sglang/image-gone": ("image-gone", "docker: Error response from daemon: No such image: lmsysorg/sglang@sha256", None),
    "sglang/kernel-image": ("kernel-image", "RuntimeError: RMSNorm failed with error code no kernel image is availabl", None),
    "sglang/killed-start": ("killed", "RuntimeError: Rank 0 scheduler died during initialization (exit code: -9). If", AGAIN),
    "sglang/killed": ("killed", "Subprocess scheduler_0 (pid=3125) crashed with exit code -9. Triggering SIGQUIT for", AGAIN),
    "sglang/kv-context": ("kv-context", "the KV pool holds 4096 tokens, the context is 8192", Retry(3072)),
    "sglang/kv-full": ("kv-full", "RuntimeError: Prefill out of memory. Try to lower your batch size.", AGAIN),
    "sglang/kv-nothing": ("kv-nothing", "ValueError: Loaded weights leave no GPU memory for the KV cache under --mem-", None),
    "sglang/model-missing": ("model-missing", "huggingface_hub.errors.HFValidationError: Repo id must be in the form ", None),
    "sglang/nccl-hang": ("nccl-hang", "sglang is using nccl==2.28.9", None),
    "sglang/nccl-timeout": ("nccl-timeout", "[E1120 09:14:31.184 ProcessGroupNCCL.cpp:629] [Rank 1] Watchdog caught c", None),
    "sglang/nvcc": ("nvcc", "RuntimeError: Ninja build failed. Ninja output:", None),
    "sglang/offline": ("offline", "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find the requested files in", None),
    "sglang/option-value": ("option-value", "sglang serve: error: argument --dtype: invalid choice: 'float8' (choose ", None),
    "sglang/option": ("option", "sglang serve: error: unrecognized arguments: --no-such-flag", None),
    "sglang/package": ("package", "ModuleNotFoundError: No module named 'triton'", None),
    "sglang/port": ("port", "OSError: [Errno 98] Address already in use", AGAIN),
    "sglang/quantisation-config": ("quantisation", "ValueError: Cannot find the config file for awq", None),
    "sglang/quantisation-dtype": ("quantisation", "ValueError: torch.bfloat16 is not supported for quantization metho", None),
    "sglang/quantisation-gpu": ("quantisation-gpu", "ValueError('type fp8e4nv not supported in this architecture. The", None),
    "sglang/quantisation": ("quantisation", "ValueError: Unknown quantization method: quip9. Must be one of ['fp8', '", None),
    "sglang/reasoning-parser": ("reasoning-parser", "sglang serve: error: argument --reasoning-parser: invalid choice", None),
    "sglang/remote-code": ("remote-code", "ValueError: The repository /models/smollm2-135m contains custom code which", None),
    "sglang/shared-memory-nccl": ("shared-memory", "Error while creating shared memory segment /dev/shm/nccl-lNPZ0f (", None),
    "sglang/step-silent": ("step-silent", "Scheduler watchdog timeout (self.watchdog_timeout=300, self.soft=False)", AGAIN),
    "sglang/tensor-assertion": ("tensor", "AssertionError: 9 is not divisible by 2", None),
    "sglang/tensor": ("tensor", "RuntimeError: start (128) + length (128) exceeds dimension size (192).", None),
    "sglang/tokenizer": ("tokenizer", "ValueError: Couldn't instantiate the backend tokenizer from one of:", None),
    "sglang/tool-parser": ("tool-parser", "sglang serve: error: argument --tool-call-parser: invalid choice: 'nope' (", None),
    "sglang/unforeseen": ("", "RuntimeError: Resource temporarily unavailable", None),
    "sglang/weights-damaged": ("weights-damaged", "safetensors._safetensors_rust.SafetensorError: Error while deseria", None),
    "sglang/weights-missing": ("weights-missing", "RuntimeError: Cannot find any model weights with `/models/smollm2-", None),
    "sglang/weights-pointer": ("weights-damaged", "safetensors._safetensors_rust.SafetensorError: Error while deseria", None),
}
REAL = [name for name in SAMPLES if (FOLDER / f"{name}.log").read_text().startswith("# real: ")]
ALL_FAULTS = [pytest.param(fault, id=f"{name}: {fault.name}") for name, engine in ENGINES.items() for fault in engine.FAULTS]
# What names no way to do it is for a person to look into.
REMEDIES = {fault.remedy for engine in ENGINES.values() for fault in engine.FAULTS}


def sample(name: str) -> list[str]:
    """The log in a sample; its first line says where it comes from."""
    return (FOLDER / f"{name}.log").read_text().splitlines()[1:]


def engine_of(name: str) -> str:
    return name.partition("/")[0]


def found_in(name: str, beside: Circumstances | None = None) -> Diagnosis:
    return diagnose(sample(name), ENGINES[engine_of(name)].FAULTS, beside)


@pytest.mark.parametrize(
    ("name", "fault", "evidence", "retry"),
    [pytest.param(name, *row, id=f"{name} is told as {row[0] or 'nothing known'}") for name, row in SAMPLES.items()],
)
def test_a_sample_is_told_by_its_own_fault(name: str, fault: str, evidence: str, retry: Retry | None) -> None:
    found = found_in(name)
    assert (found.fault, found.retry) == (fault, retry)
    assert found.evidence.startswith(evidence)
    assert any(found.evidence in line for line in sample(name))
    assert not re.search(r"[{}]", found.remedy)
    assert bool(found.remedy) == bool(fault)


def test_every_sample_is_in_the_table_and_says_where_it_comes_from() -> None:
    files = {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in FOLDER.glob("*/*.log")}
    assert set(files) == set(SAMPLES)
    for path in files.values():
        first = path.read_text().splitlines()[0]
        assert re.match(r"# real: (vLLM|SGLang) [\d.]+ on a machine without a GPU; .+|# form: https://github\.com/\S+$", first)


@pytest.mark.parametrize("engine", ENGINES)
def test_at_least_six_causes_of_each_engine_are_shown_by_real_logs(engine: str) -> None:
    assert len({SAMPLES[name][0] for name in REAL if name.startswith(f"{engine}/")} - {""}) >= 6


def test_every_fault_has_a_sample() -> None:
    assert {fault.name for engine in ENGINES.values() for fault in engine.FAULTS} == {row[0] for row in SAMPLES.values()} - {""}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_fault_of_an_engine_alone_has_a_sample_of_it(engine: str) -> None:
    others = {fault for name, other in ENGINES.items() if name != engine for fault in other.FAULTS}
    alone = {fault.name for fault in ENGINES[engine].FAULTS if fault not in others}
    assert alone <= {row[0] for name, row in SAMPLES.items() if name.startswith(f"{engine}/")}


@pytest.mark.parametrize("name", [name for name, row in SAMPLES.items() if row[0]])
def test_without_its_fault_a_sample_is_told_otherwise(name: str) -> None:
    found = found_in(name)
    others = [fault for fault in ENGINES[engine_of(name)].FAULTS if fault.name != found.fault]
    assert diagnose(sample(name), others).cause != found.cause


@pytest.mark.parametrize("fault", ALL_FAULTS)
def test_a_remedy_names_verbs_and_options_that_exist(fault: Fault) -> None:
    for verb in re.findall(r"`launcher ([a-z ]+)`", fault.remedy):
        assert exists(verb.split()), f"there is no `launcher {verb}`"
    known = set(re.findall(r"--[a-z][a-z-]*", help_of("up")))
    assert set(re.findall(r"(?<![=\w])--[a-z][a-z-]*", fault.remedy)) <= known
    for option in re.findall(r"--engine-arg=(--[a-z-]+)", fault.remedy):
        assert not any(option in engine.DECIDED for engine in ENGINES.values())


def test_remedies_name_many_verbs_and_options() -> None:
    assert sum("`launcher " in remedy for remedy in REMEDIES) > 10
    assert sum("--" in remedy for remedy in REMEDIES) > 10


def exists(verb: Sequence[str]) -> bool:
    """Whether these words are a verb, or a verb and its first argument, of the command line."""
    try:
        words.parser().parse_args(verb)
    except words.UsageError as error:
        return "invalid choice" not in str(error) and "unrecognized" not in str(error)
    return True


def help_of(verb: str) -> str:
    told = io.StringIO()
    with redirect_stdout(told), pytest.raises(SystemExit):
        words.parser().parse_args([verb, "--help"])
    return told.getvalue()


# The numbers that a remedy takes over from the log, with two percent and the rest to a whole 1,024 less.
@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        pytest.param("vllm/kv-context", "start with --context 45056", id="46,464 tokens would fit"),
        pytest.param("vllm/kv-context-old", "start with --context 7168", id="7,344 would fit, in the words of an old version"),
        pytest.param("sglang/kv-context", "start with --context 3072", id="4,096 are in SGLang's pool"),
        pytest.param("vllm/context", "start with --context 8192 or less", id="8,192 are all that the model has"),
        pytest.param("sglang/context", "start with --context 8192 or less", id="the same, in SGLang's words"),
    ],
)
def test_a_remedy_names_the_context_that_fits(name: str, remedy: str) -> None:
    assert found_in(name).remedy == remedy


def test_a_context_of_less_than_1024_tokens_is_named_but_not_tried() -> None:
    found = diagnose(["the KV pool holds 900 tokens, the context is 8192"], ENGINES["sglang"].FAULTS)
    assert (found.remedy, found.retry) == ("start with --context 900", None)


TRAINING = GpuProcess(77, "python", 21 * GIB)
UNTOLD = GpuProcess(5, "Xorg", 0)


@pytest.mark.parametrize(
    ("holders", "words"),
    [
        pytest.param((), "`launcher gpus` shows who holds it", id="nobody was asked for"),
        pytest.param((TRAINING,), "held by python (pid 77, 21.0 GiB)", id="one program"),
        pytest.param(
            (TRAINING, UNTOLD), "held by python (pid 77, 21.0 GiB), Xorg (pid 5)", id="one of which the driver tells no size"
        ),
    ],
)
@pytest.mark.parametrize(
    "name", ["vllm/gpu-memory-taken", "vllm/gpu-memory-load", "sglang/gpu-memory-taken", "sglang/kv-nothing"]
)
def test_who_holds_the_memory_is_named(name: str, holders: tuple[GpuProcess, ...], words: str) -> None:
    assert words in found_in(name, Circumstances(holders=holders)).remedy


SILENT = Circumstances(silence=900.0, phase="loading the weights")


@pytest.mark.parametrize(
    ("name", "beside", "fault", "cause", "retry"),
    [
        pytest.param(
            *("vllm/host-memory-killed", Circumstances(exit_code=-9, oom_kills=1), "host-memory-killed"),
            *("the machine's memory ran out: the kernel killed a process of the engine", None),
            id="the kernel's count explains a log without an error",
        ),
        pytest.param(
            *("sglang/host-memory-killed", Circumstances(exit_code=-9, oom_kills=2), "host-memory-killed"),
            *("the machine's memory ran out: the kernel killed 2 processes of the engine", None),
            id="and one of SGLang's",
        ),
        pytest.param(
            *("vllm/killed", Circumstances(exit_code=0, oom_kills=1), "host-memory-killed"),
            *("the machine's memory ran out: the kernel killed a process of the engine", None),
            id="it is surer than a worker's end by signal 9",
        ),
        pytest.param(
            *("vllm/host-memory-killed", Circumstances(exit_code=-9), "killed"),
            *("the engine was killed: by the kernel, if the machine's memory ran out, or by a person", AGAIN),
            id="signal 9 without that count may have been anybody",
        ),
        pytest.param(
            *("sglang/host-memory-killed", Circumstances(exit_code=137), "killed"),
            *("the engine was killed: by the kernel, if the machine's memory ran out, or by a person", AGAIN),
            id="137 is a shell's word for it",
        ),
        pytest.param(
            *("sglang/weights-damaged", Circumstances(exit_code=-9), "weights-damaged"),
            *("a weights file is damaged, cut off, or only a Git LFS pointer", None),
            id="SGLang ends itself by signal 9: its log tells more",
        ),
        pytest.param(
            *("vllm/host-memory-killed", Circumstances(exit_code=-11), "crashed", "the engine was ended by signal 11", AGAIN),
            id="another signal",
        ),
        pytest.param(
            *("vllm/host-memory-killed", Circumstances(exit_code=1), "", "the engine ended without naming an error", None),
            id="an exit code tells nothing",
        ),
        pytest.param(
            *("vllm/host-memory-killed", SILENT, "silence"),
            *("the engine said nothing for 15 minutes while it was at: loading the weights", None),
            id="a start that hangs",
        ),
        pytest.param(
            *("vllm/host-memory", SILENT, "host-memory", "the machine has less free memory than the engine needs", None),
            id="a start that failed and does not end",
        ),
        pytest.param(
            *("vllm/nccl-hang", SILENT, "nccl-hang", "the GPUs of a group do not answer each other (NCCL)", None),
            id="a start that hangs where GPUs begin to talk to each other",
        ),
    ],
)
def test_what_was_seen_beside_the_log_counts(
    name: str, beside: Circumstances, fault: str, cause: str, retry: Retry | None
) -> None:
    found = found_in(name, beside)
    assert (found.fault, found.cause, found.retry) == (fault, cause, retry)
    assert any(found.evidence in line for line in sample(name))


LAST = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
WORKER = "(Worker pid=3) ERROR 11-22 21:50:44 [multiproc_executor.py:953] "
CORE = "(EngineCore pid=2) ERROR 11-22 21:50:45 [core.py:1510] "
JSON_ERROR = "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)"
TRACEBACK = "Traceback (most recent call last):"


@pytest.mark.parametrize(
    ("log", "cause", "evidence"),
    [
        pytest.param(
            [f"{WORKER}ZeroDivisionError: no such thing", LAST],
            "the engine stopped with an error",
            "ZeroDivisionError: no such thing",
            id="an error that nobody foresaw is shown as it is",
        ),
        pytest.param(
            [
                *(f"{WORKER}WorkerProc failed to start.", f"{WORKER}{TRACEBACK}", f"{WORKER}  File 'x.py', line 1, in load"),
                *("Process EngineCore:", f"{WORKER}    raise Odd", f"{WORKER}OddError: the root"),
                *(f"{CORE}EngineCore failed to start.", f"{CORE}{TRACEBACK}", f"{CORE}  File 'y.py', line 2, in __init__"),
                *(f"{CORE}LaterError: what came of it", LAST),
            ],
            "the engine stopped with an error",
            "OddError: the root",
            id="the first error of the worker, not what came of it",
        ),
        pytest.param(
            [
                *(TRACEBACK, "  File 'parser.py', line 1, in parse", JSON_ERROR, *["INFO:     200 OK"] * 60),
                *(
                    f"{CORE}EngineCore encountered a fatal error.",
                    f"{CORE}{TRACEBACK}",
                    f"{CORE}  File 'x.py', line 1, in step",
                ),
                f"{CORE}OddError: the end",
            ],
            "the engine stopped with an error",
            "OddError: the end",
            id="an error that it survived is no cause",
        ),
        pytest.param(
            [f"{CORE}x", "pydantic_core.ValidationError: 1 validation error for ModelConfig", "  Value error, too odd"],
            "the engine stopped with an error",
            "Value error, too odd",
            id="what pydantic says of a value",
        ),
        pytest.param(
            ["vllm-1  | \x1b[1;36m(EngineCore pid=9)\x1b[0;0m OSError: [Errno 98] Address already in use"],
            "the port was taken by another program",
            "OSError: [Errno 98] Address already in use",
            id="a log with colours, out of compose",
        ),
        pytest.param(
            ["(APIServer pid=9) INFO 11-22 21:50:45 [log.py:1] prompt: why is the address already in use?"],
            "the engine ended without naming an error",
            "prompt: why is the address already in use?",
            id="what a user asks is no cause",
        ),
        pytest.param(
            [
                "INFO:     Application startup complete.",
                "(Worker pid=3) No available shared memory broadcast block found in 60 s",
            ],
            "the engine ended without naming an error",
            "No available shared memory broadcast block found in 60 s",
            id="once it serves it may be silent",
        ),
        pytest.param(
            ["hello", "Segmentation fault"], "the engine ended without naming an error", "Segmentation fault", id="no error"
        ),
        pytest.param([], "the engine ended without naming an error", "", id="no log"),
    ],
)
def test_what_nobody_foresaw_is_shown_as_it_is(log: list[str], cause: str, evidence: str) -> None:
    found = diagnose(log, ENGINES["vllm"].FAULTS)
    assert (found.cause, found.evidence) == (cause, evidence)


def test_of_a_long_log_the_end_is_read() -> None:
    log = ["OSError: [Errno 98] Address already in use", *["INFO:     200 OK"] * LINES]
    assert diagnose(log, ENGINES["vllm"].FAULTS).fault == ""
