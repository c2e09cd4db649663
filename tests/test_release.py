from pathlib import Path

import pytest

from launcher import cuda, release
from launcher.environments import LOCKS
from launcher.release import Release

SINCE_TURING = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")


@pytest.mark.parametrize(
    ("locked", "expected"),
    [
        pytest.param("six==1.0 \\\n", Release("1.0"), id="nothing of PyTorch"),
        pytest.param("torch==2.13.0+cpu \\\n    --hash=x\n", Release("1.0", "2.13.0+cpu"), id="a CPU build"),
        pytest.param(
            "nvidia-cuda-runtime==13.0.96 \\\ntorch==2.13.0 \\\n", Release("1.0", "2.13.0", (13, 0), SINCE_TURING), id="CUDA 13"
        ),
        pytest.param(
            "nvidia-cuda-runtime-cu12==12.8.90 \\\ntorch==2.10.0 \\\n",
            Release("1.0", "2.10.0", (12, 8), ("sm_70", *SINCE_TURING)),
            id="CUDA 12 by the package's name",
        ),
        pytest.param(
            "nvidia-cuda-runtime==13.7.1 \\\ntorch==2.99.0 \\\n",
            Release("1.0", "2.99.0", (13, 7)),
            id="a CUDA that is not known",
        ),
        pytest.param("torch==2.13.0 ; python_version < '4' \\\n", Release("1.0", "2.13.0"), id="a marker is not its version"),
        pytest.param("nvidia-cuda-runtime-api==13.0.1 \\\n", Release("1.0"), id="a package that is only called alike"),
    ],
)
def test_a_lock_tells_what_it_installs(locked: str, expected: Release) -> None:
    assert release.read("1.0", locked, cuda.ARCHS["x86_64"]) == expected


@pytest.mark.parametrize("path", sorted(LOCKS.glob("*-cuda-*.txt")), ids=lambda path: path.stem)
def test_every_cuda_lock_that_ships_is_understood_whole(path: Path) -> None:
    arch = path.stem.split("-", 3)[3]
    read = release.read("1", path.read_text(), cuda.ARCHS[arch])
    assert read.torch
    assert read.cuda
    assert read.cuda[0] in cuda.DRIVERS
    assert read.archs
