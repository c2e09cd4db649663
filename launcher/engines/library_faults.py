"""What the libraries under both engines print as they fail: PyTorch, CUDA, NCCL, compilers, Transformers, safetensors, the hub.

Read off starts that were made wrong on purpose (tests/samples), off raise statements, and, for GPUs, off public reports.
"""

from dataclasses import replace

from launcher import docker_faults
from launcher.engines.base import Fault

# PyTorch's allocator; CUDA's runtime and its driver; NCCL's last error; cuBLAS' workspace.
OUT_OF_MEMORY = (
    r"CUDA out of memory|torch\.OutOfMemoryError|CUDA (?:driver )?error: out of memory|Cuda failure '?out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED"
)
FETCH_AGAIN = "free what was fetched with `launcher clean weights`, and `launcher up` fetches it again"
WEIGHTS_DAMAGED = Fault(
    "weights-damaged",
    r"SafetensorError: (?:Error while deserializing header|InvalidHeader|HeaderToo|MetadataIncompleteBuffer|I/O error)"
    r"|PytorchStreamReader failed",
    "a weights file is damaged, cut off, or only a Git LFS pointer",
    f"{FETCH_AGAIN}; in a folder of your own, `git lfs pull` may do",
)
CONFIG_DAMAGED = Fault(
    "config-damaged",
    r"It looks like the config file at '?.+ is not a valid JSON file",
    "a JSON file of the model is damaged",
    FETCH_AGAIN,
)
CRASHED = Fault(
    "crashed",
    r"^Fatal Python error: (.+)",
    "a process of the engine crashed ({0})",
    "it is started again; if it comes back, take another version of the engine (`launcher engines install`)",
    retry="again",
)
GPU_MEMORY_AT_LOAD = Fault(
    "gpu-memory-load",
    OUT_OF_MEMORY,
    "the GPU's memory does not hold the model's weights",
    "take a smaller variant (--variant) or more GPUs (--tensor), or free the GPU: {holders}",
)

# transformers/utils/hub.py and dynamic_module_utils.py; transformers/models/auto; safetensors; huggingface_hub/errors.py.
_MODEL = (
    Fault(
        "remote-code",
        r"contains custom code which must be executed|requires you to execute the (?:configuration|modeling|tokenizer) file"
        r"|`--trust-remote-code` flag",
        "the model needs code out of its own repository",
        "the launcher runs no such code: take a model that the engine knows by itself (`launcher models` lists some)",
    ),
    Fault(
        "gated",
        r"You are trying to access a gated repo|GatedRepoError|Access to model \S+ is restricted",
        "the model's repository asks for consent first",
        "agree to its terms on its page, set HF_TOKEN to a token of that account, and run `launcher up` again",
    ),
    Fault(
        "architecture",
        r"model type `([^`]+)` but Transformers does not recognize",
        "this version of the engine does not know models of type {0}",
        "take a newer version (`launcher engines install`), or the other engine with --engine",
    ),
    Fault(
        "tokenizer",
        r"Couldn't instantiate the backend tokenizer|Can't load tokenizer for",
        "the model's tokenizer files are missing or damaged",
        f"{FETCH_AGAIN}; a folder of your own needs tokenizer.json",
    ),
    CONFIG_DAMAGED,
    # Said before it, but without the file's name.
    replace(CONFIG_DAMAGED, pattern=r"json\.decoder\.JSONDecodeError"),
    Fault(
        "config-missing",
        r"Invalid repository ID or local directory specified|Unrecognized model in "
        r"|does not appear to have a file named config",
        "the model's folder has no config.json that names its type",
        f"give the folder that holds config.json; else {FETCH_AGAIN}",
    ),
    Fault(
        "model-missing",
        r"HFValidationError: Repo id must be in the form|is not a local folder and is not a valid model identifier",
        "the model's folder does not exist",
        "run `launcher up` again: it fetches what is missing; a folder of your own must be there",
    ),
    Fault(
        "offline",
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|We couldn't connect to '[^']+' to load the files"
        r"|Cannot find an appropriate cached snapshot folder",
        "the model is not on this machine, and the hub was not asked or did not answer",
        "run `launcher up` without --offline; `launcher doctor` shows whether the hub answers",
    ),
    WEIGHTS_DAMAGED,
    Fault(
        "weights-missing",
        r"Cannot find any model weights with|weights were not initialized from checkpoint|No such file or directory: '[^']+"
        r"\.safetensors'",
        "weights of the model are missing",
        FETCH_AGAIN,
    ),
    Fault(
        "weights-mismatch",
        r"start \(\d+\) \+ length \(\d+\) exceeds dimension size|Tried to load weights of size|size mismatch for ",
        "the weights are not those of this config.json",
        f"{FETCH_AGAIN}; in a folder of your own both must be of one model",
    ),
)

# vllm/config/model.py and sglang/srt/configs/model_config.py have these from one origin; Triton's and PTX' for a type that a
# GPU has no instructions for.
_QUANTISATION = (
    Fault(
        "quantisation-gpu",
        r"(?:quantization method \S+(?: \+ \S+)?|Quantization scheme) is not supported for the current GPU"
        r"|type fp8e4nv not supported in this architecture|static_scaled_fp8_quant\(\) expected at most 0",
        "this device cannot compute with the weights' precision",
        "take another one with --variant; `launcher models show` lists what there is",
    ),
    Fault(
        "dtype-gpu",
        r"Bfloat16 is only supported on GPUs with compute capability",
        "this GPU has no bfloat16",
        "give --engine with --engine-arg=--dtype=half",
    ),
    Fault(
        "quantisation",
        r"Quantization method specified in the model config|Unknown quantization method: \S+ Must be"
        r"|Cannot find the config file for|torch\.\w+ is not supported for quantization method",
        "the weights are not quantised in the way that was asked for, or in one that the engine does not know",
        "take another variant with --variant; `launcher models show` lists what there is",
    ),
)

# torch/cuda/__init__.py and c10/cuda; vllm/config/device.py; NVIDIA's error texts (CUDA runtime API, cudaError).
_GPU = (
    Fault(
        "driver",
        r"NVIDIA driver on your system is too old|CUDA driver version is insufficient|forward compatibility was attempted on",
        "the NVIDIA driver is too old for this build of the engine",
        "install a newer driver; `launcher engines check` says which, or which version of the engine would do",
    ),
    Fault(
        "kernel-image",
        r"no kernel image is available|SGLang only supports sm75|ptxas fatal.*(?:gpu-name|sm_\d+)"
        r"|is not compatible with the current PyTorch installation",
        "this build of the engine has no code for this GPU",
        "take another version of the engine or another GPU; `launcher engines check` tells which GPUs each has code for",
    ),
    Fault(
        "no-gpu",
        r"Failed to infer device type|No CUDA GPUs are available|Found no NVIDIA driver on your system"
        r"|libcuda\.so\.1: cannot open shared object",
        "the engine finds no GPU",
        "`launcher doctor` tells what is wrong with the driver; in a container, give it the GPUs",
    ),
    Fault(
        "gpu-fault",
        r"CUDA error: (an illegal memory access|device-side assert|unspecified launch failure|misaligned address|"
        r"an illegal instruction)",
        "a computation failed on the GPU ({0})",
        "it is started again; if it comes back, take another version of the engine (`launcher engines install`)",
        retry="again",
    ),
)

# torch/csrc/distributed/c10d/NCCLUtils.cpp; vllm and sglang, distributed/device_communicators/pynccl_wrapper.py; nccl's
# misc/shmutils.cc.
_GROUP = (
    Fault(
        "shared-memory",
        r"Insufficient space in /dev/shm|Error while creating shared memory segment"
        r"|No space left on device: '/(?:dev/shm/|psm_)"
        r"|insufficient shared memory \(shm\)|unable to (?:open|write to|mmap) .*shared memory|Bus error|exit code: -7\b",
        "the machine's shared memory (/dev/shm) is too small",
        "make it larger: in a container give it 8 GiB of shm, or the host's IPC",
    ),
    Fault(
        "nccl-timeout",
        r"Watchdog caught collective operation timeout|NCCL watchdog thread terminated",
        "the GPUs of a group stopped answering each other",
        "start it with NCCL_P2P_DISABLE=1 in the environment: slower, but without the direct way between GPUs",
    ),
    Fault(
        "nccl",
        r"NCCL error|ncclSystemError|ncclUnhandledCudaError|ncclInternalError|DistBackendError",
        "the GPUs of a group cannot talk to each other (NCCL)",
        "start it with NCCL_P2P_DISABLE=1 in the environment, or on one GPU with --tensor 1; NCCL_DEBUG=INFO tells more",
    ),
)

# triton/runtime/build.py; torch/_inductor/cpp_builder.py; flashinfer/jit; deep_gemm's jit/compiler.hpp.
_COMPILERS = (
    Fault(
        "deep-gemm",
        r"jit/compiler\.hpp|NVCC compilation failed|NVCC version should be",
        "DeepGEMM found no compiler for its kernels (nvcc), or too old a one",
        "install a CUDA toolkit as new as the engine's CUDA and set CUDA_HOME, or start it with VLLM_USE_DEEP_GEMM=0 (vLLM) or "
        "SGLANG_ENABLE_JIT_DEEPGEMM=0 (SGLang) in the environment",
    ),
    Fault(
        "nvcc",
        r"nvcc: (?:command )?not found|Could not find nvcc|Could not find CUDA installation|Ninja build failed"
        r"|Error building extension|No such file or directory: '[^']*nvcc'|CUDA_HOME environment variable is not set",
        "a compiler for CUDA is missing (nvcc): FlashInfer makes its kernels as it starts",
        "install a CUDA toolkit as new as the engine's CUDA and set CUDA_HOME, or start vLLM with "
        "VLLM_USE_FLASHINFER_SAMPLER=0 in the environment",
    ),
    Fault(
        "compiler",
        r"Failed to find C compiler|InvalidCxxCompiler|No working C\+\+ compiler found",
        "a C compiler is missing: the engine makes kernels as it starts",
        "install one (build-essential on Debian and Ubuntu)",
    ),
)

_HOST = (
    Fault(
        "port",
        r"(?i)\[Errno 98\]|address already in use|EADDRINUSE",
        "the port was taken by another program",
        "move to another one with --port, or stop that program",
        retry="again",
    ),
    Fault(
        "disk-full",
        r"No space left on device",
        "the disk is full",
        "`launcher clean` shows what takes room and frees it",
    ),
    Fault(
        "host-memory",
        r"not enough memory: you tried to allocate|can't allocate memory: you tried|Cannot allocate memory|std::bad_alloc"
        r"|^MemoryError|MemoryError: Unable to allocate|unable to mmap \d+ bytes",
        "the machine has less free memory than the engine needs",
        "free memory, or start with a smaller --context or --variant",
    ),
)

# argparse; importlib.
_COMMAND = (
    Fault(
        "option",
        r"error: unrecognized arguments: (.+)",
        "this version of the engine does not know {0}",
        "take it out of --engine-arg or of the profile's args (`launcher models show`), or take a version that knows it",
    ),
    Fault(
        "option-value",
        r"error: argument (--[\w-]+)\S*: (?:invalid|expected)",
        "the engine does not take this value of {0}",
        "mend it in --engine-arg or in the profile's args (`launcher models show`)",
    ),
    Fault(
        "package",
        r"(?:ModuleNotFoundError|ImportError): .*?No module named '?([\w.]+)",
        "the engine's environment lacks {0}",
        "remove it with `launcher engines remove`; the next `launcher up` makes it anew",
    ),
)

FAULTS: tuple[Fault, ...] = (
    *(*_GPU, *_MODEL, *_QUANTISATION, *_COMPILERS, *_GROUP, *_HOST, *_COMMAND),
    *docker_faults.FAULTS,
)
