"""scripts/gpu_check.py: its decisions as tables, and as people run it with a stand-in for the driver and for the engine."""

import datetime as dt
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from launcher import environment
from launcher.derive import Facts, derive
from launcher.engines.registry import ENGINES
from launcher.environment import Environment
from launcher.errors import LauncherError
from launcher.gpu import GIB, Cpu, Gpu, Health, Inventory, Ram
from launcher.profile_weights import LocalWeights
from launcher.release import Release
from tests.fake_nvml import RTX_4090, Scenario, fake_driver
from tests.models_for_tests import tiny_folder

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "gpu_check.py"
CHECK: dict[str, Any] = runpy.run_path(str(SCRIPT))
PUBLISHED = json.loads((ROOT / "tests" / "measurements" / "configs.json").read_text())
FOUND = Environment("vllm-0.32.0-cuda", Path("/e"), Path("/e/bin/python"), "vllm", "cuda", Release("0.32.0", "2.13.0", (13, 0)))
MACHINE = Inventory((), Cpu("a processor", 16, "x86_64"), Ram(64 * GIB, 60 * GIB))


def test_the_model_that_is_made_has_the_shape_of_a_published_one() -> None:
    llama = PUBLISHED["meta-llama/Llama-3.2-1B-Instruct"]
    config = CHECK["config_of"](CHECK["shape_of"]("16x2048x128256"))
    for key in ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "model_type"):
        assert config[key] == llama["config"][key]
    tensors = CHECK["tensors_of"](config)
    assert sum(rows * (rest[0] if rest else 1) for rows, *rest in tensors.values()) == llama["total_parameters"]


@pytest.mark.parametrize("shape", ["16x2048x128256", "8x512x32000", "1x256x1024"])
def test_the_launcher_counts_it_as_it_is_made(shape: str) -> None:
    config = CHECK["config_of"](CHECK["shape_of"](shape))
    made = sum(rows * (rest[0] if rest else 1) for rows, *rest in CHECK["tensors_of"](config).values())
    texts = {"config.json": json.dumps(config)}
    facts = Facts(LocalWeights(Path("/m")), texts, {"model.safetensors": 2 * made}, dt.date(2026, 11, 23))
    # Weights of norms are no part of a plan's memory worth counting: one in a thousand.
    assert derive(facts).architecture.parameters == pytest.approx(made, rel=1e-3)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("2048", id="one number"),
        pytest.param("0x2048x128256", id="no layers"),
        pytest.param("16x2000x128256", id="a size that four heads of 64 do not divide"),
        pytest.param("16x2048x100", id="too few words"),
    ],
)
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(LauncherError, match="is no shape of a model"):
        CHECK["shape_of"](text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        pytest.param("kill,nvml", ("nvml", "kill"), id="in the order in which they are done"),
        pytest.param("plan, plan", ("plan",), id="once"),
    ],
)
def test_parts_are_named(text: str, parts: tuple[str, ...]) -> None:
    assert CHECK["parts_of"](text) == parts


def test_a_part_that_there_is_not_is_refused() -> None:
    with pytest.raises(LauncherError, match="no part 'swim'"):
        CHECK["parts_of"]("plan,swim")


# Starts of a model of 50 million parameters on two shared cores, 2026-11-23: the lines that begin something, and the seconds of
# their own stamps since the start.
VLLM = (
    (31, "(APIServer pid=1) INFO 11-23 02:23:23 [model.py:733] Resolved architecture: LlamaForCausalLM"),
    (31, "(APIServer pid=1) INFO 11-23 02:23:23 [model.py:2152] Using max model len 32768"),
    (45, "(EngineCore pid=2) INFO 11-23 02:23:37 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='/m'"),
    (59, "(Worker pid=3) INFO 11-23 02:23:51 [parallel_state.py:2350] rank 0 in world size 1 is assigned as DP rank 0"),
    (59, "(Worker pid=3) INFO 11-23 02:23:51 [cpu_model_runner.py:68] Starting to load model /m..."),
    (63, "(EngineCore pid=2) INFO 11-23 02:23:55 [kv_cache_utils.py:2327] CPU KV cache size: 65,664 tokens"),
    (66, "(APIServer pid=1) INFO 11-23 02:23:58 [entry.py:140] Starting vLLM server on http://127.0.0.1:8600"),
)
SGLANG = (
    (8, "[2026-11-23 02:21:58] server_args={'model_path': '/m'}"),
    (18, "[2026-11-23 02:22:08] Init parallel begin."),
    (19, "[2026-11-23 02:22:09] Load weight begin. avail mem=18.27 GB"),
    (
        20,
        "[2026-11-23 02:22:10] Load weight end. elapsed=0.40 s, type=LlamaForCausalLM, avail mem=18.18 GB, mem usage=0.09 GB.",
    ),
    (
        21,
        "[2026-11-23 02:22:11] KV Cache is allocated. dtype: torch.bfloat16, #tokens: 65536, K size: 0.13 GB, V size: 0.13 GB",
    ),
    (21, "[2026-11-23 02:22:11] INFO:     Uvicorn running on http://127.0.0.1:8600 (Press CTRL+C to quit)"),
)


@pytest.mark.parametrize(
    ("engine", "log", "ready", "phases"),
    [
        pytest.param(
            "vllm",
            VLLM,
            67,
            {
                "importing": 31,
                "read the model's configuration": 14,
                "starting the engine core": 14,
                "starting the workers": 0,
                "loading the weights": 4,
                "KV cache is ready; warming up": 3,
                "opening the address": 1,
                "first answer": 2,
                "all": 69,
            },
            id="vLLM",
        ),
        pytest.param(
            "sglang",
            SGLANG,
            25,
            {
                "importing": 8,
                "read the settings; starting the scheduler": 10,
                "starting the workers": 1,
                "loading the weights": 1,
                "making the KV cache": 1,
                "KV cache is ready; warming up": 0,
                "the address is open; generating for the first time": 4,
                "first answer": 2,
                "all": 27,
            },
            id="SGLang",
        ),
    ],
)
def test_a_start_is_told_by_phases(
    engine: str, log: Sequence[tuple[float, str]], ready: float, phases: dict[str, float]
) -> None:
    moments = [0, 0, *(seconds for seconds, line in log if ENGINES[engine].phase(line)), ready, ready + 2]
    progress = CHECK["Phases"](iter(moments).__next__)
    # As launching.launch does.
    progress.phase("engine")
    progress.update("importing")
    for _, line in log:
        if phase := ENGINES[engine].phase(line):
            progress.update(phase.words)
    progress.phase("proof")
    progress.update("asking: What is the capital of France?")
    told = dict(progress.spans())
    assert told | {"all": sum(told.values())} == phases


def figure(*words: Any) -> Any:
    return CHECK["Figure"](*words)


def row(part: str, **more: Any) -> Any:
    return CHECK["Row"](part, FOUND.name, "tiny bf16", "", **more)


@pytest.mark.parametrize(
    ("made", "lines"),
    [
        pytest.param(
            row("plan", figures=(figure("weights", 2 * GIB, "bytes", 3 * GIB), figure("KV cache", None, "tokens", 4096))),
            ["## Plan against measured", "| weights | 3.00 GiB | 2.00 GiB | +50.0 % |", "| KV cache | 4,096 tokens | - |  |"],
            id="planned and measured side by side, a dash where nothing told",
        ),
        pytest.param(
            row("start", figures=(figure("importing", 12.34), figure("all", 1234.5))),
            ["## Starts", "| importing | 12.3 s |", "| all | 1,234.5 s |"],
            id="seconds",
        ),
        pytest.param(
            row("kill", figures=(figure("processes", 3, ""), figure("the same answer as before", "no", ""))),
            ["| processes | 3 |", "| the same answer as before | no |"],
            id="counts and words",
        ),
        pytest.param(
            row("sleep", seconds=4.0, failure="/sleep?level=1 answered 404: Not Found"),
            ["## Sleep and wake", "**Failed** after 4.0 s: /sleep?level=1 answered 404: Not Found"],
            id="a failure, with its reason",
        ),
        pytest.param(
            row("plan", figures=(figure("held", None, "bytes"), figure("context", 8192, "tokens", 8192))),
            ["|---|---|---|---|\n| context | 8,192 tokens | 8,192 tokens | +0.0 % |"],
            id="what was neither planned nor told is not shown",
        ),
        pytest.param(
            row("start", skipped="it does not fit"), ["Left out: it does not fit."], id="what was left out, with its reason"
        ),
    ],
)
def test_the_page_tells_each_step(made: Any, lines: list[str]) -> None:
    text = CHECK["page"](CHECK["Report"]("2026-11-23", MACHINE, (), (FOUND,), (made,)))
    assert [line for line in lines if f"\n{line}\n" not in text] == []
    assert "\n### vllm-0.32.0-cuda, tiny bf16\n" in text


GPU = Gpu(0, "GPU-0", "NVIDIA H100 80GB HBM3", 80 * GIB, 79 * GIB, (9, 0))
WELL = Health(0, memory_clock=2619, memory_clock_max=2619, persistent=True)
WORN = Health(0, memory_clock=810, memory_clock_max=2619, slowed=("too hot",), uncorrected=3, remap_pending=True)


@pytest.mark.parametrize(
    ("inventory", "health", "lines"),
    [
        pytest.param(
            MACHINE,
            (),
            ["**There is no NVIDIA GPU here.** All figures are of builds for CPUs: they tell nothing of a GPU."],
            id="without a GPU it says so",
        ),
        pytest.param(
            Inventory((GPU,), MACHINE.cpu, MACHINE.ram, driver="580.95.05", cuda="13.0"),
            (WELL,),
            [
                "Driver 580.95.05, CUDA up to 13.0.",
                "| 0 | NVIDIA H100 80GB HBM3 | 9.0 | 80.00 | 79.00 |",
                "- card 0: memory at 2619 of 2619 MHz, 0 uncorrected memory errors, persistence mode on",
            ],
            id="a card that is well",
        ),
        pytest.param(
            Inventory((GPU,), MACHINE.cpu, MACHINE.ram, driver="580.95.05"),
            (WORN,),
            [
                "Driver 580.95.05, CUDA up to unknown.",
                "- card 0: memory at 810 of 2619 MHz, slowed: too hot, 3 uncorrected memory errors, rows wait to be remapped",
            ],
            id="a card that is not",
        ),
    ],
)
def test_the_page_tells_the_machine(inventory: Inventory, health: tuple[Health, ...], lines: list[str]) -> None:
    text = CHECK["page"](CHECK["Report"]("2026-11-23", inventory, health, (FOUND,)))
    assert set(lines) <= set(text.splitlines())


def refused() -> Sequence[Any]:
    raise LauncherError("no such model", hint="name another")


def broken() -> Sequence[Any]:
    message = "one\ntwo"
    raise ValueError(message)


def slow() -> Sequence[Any]:
    time.sleep(30)
    return []


@pytest.mark.parametrize(
    ("step", "failure", "skipped"),
    [
        pytest.param(refused, "no such model; name another", "", id="a fault is told with its hint"),
        pytest.param(broken, "ValueError: one two", "", id="an error of our own is told in one line"),
        pytest.param(slow, "it took longer than 1 s", "", id="a step has a limit"),
        pytest.param(lambda: "there is no GPU", "", "there is no GPU", id="a step may be left out"),
        pytest.param(list, "", "", id="a step may go well"),
    ],
)
def test_a_step_that_fails_is_a_row(step: Any, failure: str, skipped: str, tmp_path: Path) -> None:
    bench = CHECK["Bench"](None, tmp_path, 0.6, CHECK["Report"]("2026-11-23", MACHINE, (), (FOUND,)))
    assert bench.attempt("plan", FOUND, "tiny bf16", "", step) is not bool(failure or skipped)
    written = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert [(each["failure"], each["skipped"]) for each in written] == [(failure, skipped)]


# As `python -I -m vllm...` starts the stub engine, and as `python -I -c` the question for CUDA's own figures is answered.
INTERPRETER = """#!/bin/sh
case "$2" in
  -c) echo "[24300000000, 25300000000]" ;;
  *) shift 3; exec "{python}" "{stub}" "$@" --children 1 ;;
esac
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A LAUNCHER_HOME with an environment for GPUs, whose engine is the stub."""
    folder = tmp_path / "home" / "environments" / "vllm-0.32.0-cuda"
    python = environment.own_python(folder)
    python.parent.mkdir(parents=True)
    python.write_text(INTERPRETER.format(python=sys.executable, stub=ROOT / "tests" / "stub_engine.py"))
    python.chmod(0o700)
    there = Environment(folder.name, folder, python, "vllm", "cuda", Release("0.32.0", "2.13.0+cu130", (13, 0), ("sm_89",)))
    (folder / environment.MARKER).write_text(environment.marker(there))
    return tmp_path / "home"


def run(home: Path, *words: object, env: dict[str, str]) -> tuple[int, dict[str, Any], str]:
    out = home.parent / "out"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--out", out, *map(str, words)],
        env={**os.environ, "LAUNCHER_HOME": str(home), **env},
        capture_output=True,
        text=True,
        check=False,
    )
    report = out / "report.json"
    return done.returncode, json.loads(report.read_text()) if report.exists() else {}, done.stderr


def test_every_part_is_a_step_of_the_report(home: Path, tmp_path: Path) -> None:
    model = tiny_folder(tmp_path / "tiny")
    code, report, _ = run(home, "--model", model, env=fake_driver(tmp_path / "driver", Scenario(RTX_4090)))
    rows = {(each["part"], each["how"]): each for each in report["rows"]}
    told = {key: {figure["name"]: figure for figure in each["figures"]} for key, each in rows.items()}
    assert report["machine"]["gpus"][0]["name"] == RTX_4090.name
    assert told["nvml", ""]["GPU 0 total"]["measured"] == 25_300_000_000
    assert told["start", "caches empty"]["all"]["measured"] > 0
    # What the stub engine prints of its KV cache, whatever the plan.
    assert told["plan", ""]["KV tokens"]["measured"] == 46_592
    assert told["kill", ""]["processes"]["measured"] == 2
    assert told["kill", ""]["alive 5 s after KILL for their leader"]["measured"] == 1
    assert [each["failure"] for (part, _), each in rows.items() if part == "sleep"] == ["", ""]
    assert code == 0
    # Nothing of the home is touched.
    assert [each.name for each in home.iterdir()] == ["environments"]


def test_parts_can_be_made_alone(home: Path, tmp_path: Path) -> None:
    code, report, _ = run(home, "--parts", "nvml", env=fake_driver(tmp_path / "driver", Scenario(RTX_4090)))
    assert code == 0
    assert [each["part"] for each in report["rows"]] == ["nvml"]


def test_without_a_gpu_a_build_for_gpus_is_left_out(home: Path, tmp_path: Path) -> None:
    code, report, _ = run(home, env=fake_driver(tmp_path / "driver", None))
    assert code == 0
    assert [(each["part"], each["skipped"]) for each in report["rows"]] == [
        ("start", "its build is for GPUs, and there is none here")
    ]


def test_without_an_engine_it_says_what_to_do(tmp_path: Path) -> None:
    code, report, said = run(tmp_path / "nowhere", env={})
    assert (code, report) == (1, {})
    assert said.splitlines()[0].startswith("error: no engine is installed")


def test_a_check_that_is_ended_leaves_no_engine(home: Path, tmp_path: Path) -> None:
    model = tiny_folder(tmp_path / "tiny")
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, SCRIPT, "--out", out, "--model", model, "--parts", "kill"],
        env={**os.environ, "LAUNCHER_HOME": str(home), **fake_driver(tmp_path / "driver", Scenario(RTX_4090))},
        stderr=subprocess.PIPE,
        text=True,
    ) as check:
        assert check.stderr
        # The step in which the leader is dead and its orphan is watched.
        assert any(line.startswith("kill: ") for line in check.stderr)
        time.sleep(1)
        check.send_signal(signal.SIGTERM)
        said = check.stderr.read()
    assert check.returncode == 130
    assert "interrupted" in said
    assert [each["part"] for each in json.loads((out / "report.json").read_text())["rows"]] == ["models", "start"]
    assert [pid for pid in Path("/proc").glob("[0-9]*") if str(out).encode() in _variables(pid)] == []


def _variables(process: Path) -> bytes:
    """Its environment, in which an engine's caches are those of the check."""
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""
