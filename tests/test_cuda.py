import pytest

from launcher import cuda, words
from launcher.cuda import has_code
from launcher.engines import vllm
from launcher.engines.base import Engine
from launcher.engines.registry import ENGINES
from launcher.release import Release
from tests.machines_for_tests import machine

CUDA13 = Release("0.32.0", "2.13.0", (13, 0), cuda.ARCHS["x86_64"][13, 0])
CUDA12 = Release("0.19.1", "2.10.0", (12, 8), cuda.ARCHS["x86_64"][12, 8])
CUDA126 = Release("0.8.0", "2.6.0", (12, 6), cuda.ARCHS["x86_64"][12, 6])


@pytest.mark.parametrize(
    ("archs", "compute", "runs"),
    [
        pytest.param(("sm_80",), (8, 0), True, id="code for this very GPU"),
        pytest.param(("sm_80",), (8, 9), True, id="a higher minor version runs it: L40S on Ampere's"),
        pytest.param(("sm_120",), (12, 1), True, id="GB10 on the RTX 5090's"),
        pytest.param(("sm_86",), (8, 0), False, id="a lower minor version does not"),
        pytest.param(("sm_80",), (9, 0), False, id="another major version does not"),
        pytest.param(("sm_75",), (7, 0), False, id="V100 is before Turing"),
        pytest.param(("sm_100",), (10, 3), True, id="B300 on B200's"),
        pytest.param(("sm_90a",), (9, 0), True, id="code for one GPU alone, on it"),
        pytest.param(("sm_100a",), (10, 3), False, id="code for one GPU alone, on its sister"),
        pytest.param(("sm_100f",), (10, 3), True, id="code for a family, on its later member"),
        pytest.param(("sm_100f",), (12, 0), False, id="code for a family, on another one"),
        pytest.param(("compute_80",), (12, 0), True, id="PTX is translated for whatever came later"),
        pytest.param(("compute_90",), (8, 0), False, id="PTX is not translated backwards"),
        pytest.param(("compute_90a",), (10, 0), False, id="PTX for one GPU alone stays there"),
        pytest.param(("sm_75", "sm_90"), (9, 0), True, id="one of them is enough"),
        pytest.param(("gfx90a",), (9, 0), False, id="another maker's"),
    ],
)
def test_which_gpus_run_code_for_which_architectures(archs: tuple[str, ...], compute: tuple[int, int], *, runs: bool) -> None:
    assert has_code(archs, compute) is runs


@pytest.mark.parametrize(
    ("release", "driver", "expected"),
    [
        pytest.param(CUDA13, "580.65.06", None, id="the first driver for CUDA 13"),
        pytest.param(CUDA13, "590.44.01", None, id="a newer one"),
        pytest.param(
            CUDA13, "575.57.08", "needs NVIDIA driver 580 or newer for CUDA 13.0; this machine has 575.57.08", id="old"
        ),
        pytest.param(CUDA12, "535.183.01", None, id="CUDA 12.8 on the driver of 12.2: one major version is compatible"),
        pytest.param(
            CUDA12, "470.256.02", "needs NVIDIA driver 525 or newer for CUDA 12.8; this machine has 470.256.02", id="11"
        ),
        pytest.param(CUDA13, "", None, id="a driver that does not tell is not held against it"),
        pytest.param(Release("1", "2.13.0+cpu"), "470.1", None, id="a CPU build needs none"),
    ],
)
def test_which_drivers_run_which_cuda(release: Release, driver: str, expected: str | None) -> None:
    assert cuda.driver_fault(release, driver) == expected


@pytest.mark.parametrize(
    ("release", "driver", "compute", "reason", "remedy"),
    [
        pytest.param(
            CUDA13,
            "550.54.15",
            (8, 0),
            "needs NVIDIA driver 580",
            "install NVIDIA driver 580 or newer; or `launcher engines install vllm --version 0.19.1`, the last for CUDA 12",
            id="an older engine runs on the driver that is there",
        ),
        pytest.param(
            CUDA13,
            "470.82.01",
            (8, 0),
            "needs NVIDIA driver 580",
            "install NVIDIA driver 580 or newer",
            id="nothing runs on it",
        ),
        pytest.param(
            CUDA13,
            "580.95.05",
            (7, 0),
            "PyTorch 2.13.0 has no code for GPU, of compute capability 7.0",
            "`launcher engines install vllm --version 0.19.1`, the last for CUDA 12",
            id="an older engine has code for the GPU that is there",
        ),
        pytest.param(
            CUDA13, "580.95.05", (3, 7), "compute capability 3.7", "serve on another GPU, or on the CPU", id="too old for all"
        ),
        pytest.param(
            CUDA126,
            "580.95.05",
            (12, 0),
            "PyTorch 2.6.0 has no code for GPU, of compute capability 12.0",
            "`launcher engines install vllm` makes this launcher's version, which may be newer",
            id="an old engine on a new GPU",
        ),
    ],
)
def test_a_no_says_what_would_work(release: Release, driver: str, compute: tuple[int, int], reason: str, remedy: str) -> None:
    gpus = machine(1, 24, compute=compute).gpus
    refused = cuda.refusal("vllm", release, driver, gpus, vllm.LAST_FOR_CUDA)
    assert refused is not None
    assert reason in refused.reason
    assert refused.remedy == remedy


@pytest.mark.parametrize("compute", [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1)])
def test_what_the_launcher_ships_runs_on_every_gpu_since_turing(compute: tuple[int, int]) -> None:
    assert compute >= vllm.COMPUTE
    assert cuda.refusal("vllm", CUDA13, "580.65.06", machine(1, 24, compute=compute).gpus, vllm.LAST_FOR_CUDA) is None


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES.keys())
def test_every_older_cuda_that_is_recommended_has_a_known_driver_and_known_architectures(engine: Engine) -> None:
    assert engine.LAST_FOR_CUDA
    for major, version in engine.LAST_FOR_CUDA.items():
        assert version != engine.VERSION
        assert major in cuda.DRIVERS
        assert any(known[0] == major for known in cuda.ARCHS["x86_64"])
        # The hint that names it must be one that can be typed.
        assert words.parser().parse_args(["engines", "install", engine.NAME, "--version", version]).version == version
