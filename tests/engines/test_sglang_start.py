"""The start script in a made-up environment: a real interpreter, and packages that stand for SGLang's."""

import copy
import json
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.diagnosis import diagnose
from launcher.engines import sglang
from launcher.engines.sglang_start import Secret, on_cpu

KEY = "sk-local-secret"
# What of SGLang the script touches. The server tells what it sees, and what a child of multiprocessing sees.
PACKAGES = {
    "transformers/utils.py": """
import importlib.util
found = []
def _known(name):
    def known():
        found.append(importlib.util.find_spec(name) is not None)
        return found[-1]
    return known
is_torchvision_available = is_torchvision_v2_available = _known("torchvision")
is_triton_available = _known("triton")
""",
    "sglang/srt/utils.py": """
import os
def kill_process_tree(pid, include_parent=True):
    if include_parent:
        os._exit(9)
""",
    "sglang/srt/server_args.py": """
import argparse
def prepare_server_args(argv):
    parser = argparse.ArgumentParser()
    parser.add_argument("--device")
    parser.add_argument("--context-length", type=int)
    parser.add_argument("--pool", type=int, default=8192)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    return parser.parse_args(argv)
""",
    "sglang/srt/entrypoints/http_server.py": """
import json, multiprocessing, os, pathlib, sys, types
def absent():
    import torchvision.transforms as T
    import triton
    import triton.language as tl
    from triton.runtime.jit import JITFunction
    from vllm._custom_ops import rotary_embedding
    @triton.jit
    def kernel(x: tl.constexpr): return x + 1
    @triton.autotune(configs=[triton.Config({"a": 1}, num_warps=4)])
    def tuned(x): return x
    class Own(JITFunction):
        def __init__(self, a): self.a = a
    return [kernel(1), tuned(2), Own(3).a, T.InterpolationMode.NEAREST]
def seen(settings):
    environ = pathlib.Path("/proc/self/environ").read_text()
    argv = pathlib.Path("/proc/self/cmdline").read_text()
    return {"pid": os.getpid(), "environ": environ, "argv": argv, "stdin": os.read(0, 9).decode(), "key": str(settings.api_key)}
def child(settings, queue):
    queue.put({**seen(settings), "absent": absent()})
def launch_server(settings, execute_warmup_func):
    print(f"server_args={vars(settings)}", flush=True)
    global state
    state = types.SimpleNamespace(scheduler_info={"max_total_num_tokens": settings.pool})
    told = {"warm": execute_warmup_func(settings), **seen(settings)}
    if settings.device == "cpu":
        from transformers.utils import found
        told |= {"absent": absent(), "found_before": found}
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        process = context.Process(target=child, args=(settings, queue))
        process.start()
        told["child"] = queue.get()
        process.join()
    print(json.dumps(told), flush=True)
def get_global_state(): return state
def _execute_server_warmup(settings): return True
""",
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter whose environment has nothing but those packages."""
    place = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    packages = next(place.glob("lib/*/site-packages"))
    for name, text in PACKAGES.items():
        file = packages / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return place / "bin" / "python"


def start(python: Path, *options: str, key: str | None = KEY) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.defpath, **({"LAUNCHER_API_KEY": key} if key else {})}
    argv = [str(python), "-I", str(sglang.START), "--context-length", "8192", *options]
    return subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_the_key_reaches_the_server_and_nothing_that_others_read(python: Path) -> None:
    done = start(python, "--device", "cuda")
    seen = told(done)
    assert seen["key"] == KEY
    assert KEY not in seen["environ"] + seen["argv"]
    assert KEY not in done.stdout.splitlines()[0]
    assert "'api_key': '****'" in done.stdout
    assert (seen["stdin"], seen["warm"]) == ("", True)


def test_the_process_stays_the_one_that_was_started(python: Path) -> None:
    env = {"LAUNCHER_API_KEY": KEY, "LAUNCHER_SERVER_ID": "token"}
    argv = [str(python), "-I", str(sglang.START), "--context-length", "8192", "--device", "cuda"]
    with subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        out, _ = process.communicate()
    seen = json.loads(out.splitlines()[-1])
    assert seen["pid"] == process.pid
    assert "LAUNCHER_SERVER_ID=token" in seen["environ"].split("\0")


def test_children_serve_nothing_and_are_not_told_the_key(python: Path) -> None:
    child = told(start(python, "--device", "cpu"))["child"]
    assert KEY not in json.dumps(child)
    assert len(child["key"]) > len(KEY), "one that opens nothing"


def test_without_a_key_there_is_none(python: Path) -> None:
    assert told(start(python, "--device", "cuda", key=None))["key"] == "None"


def test_on_a_cpu_what_is_absent_can_be_imported_and_others_are_not_misled(python: Path) -> None:
    seen = told(start(python, "--device", "cpu"))
    assert seen["absent"] == [2, 2, 3, "InterpolationMode.NEAREST"] == seen["child"]["absent"]
    assert seen["found_before"] == [False, False, False]


def test_a_pool_that_holds_no_whole_sequence_ends_the_server(python: Path) -> None:
    done = start(python, "--device", "cuda", "--pool", "4096")
    assert done.returncode == 9
    assert "the KV pool holds 4096 tokens, the context is 8192" in done.stderr


def test_an_address_that_is_taken_ends_the_server_at_once(python: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = start(python, "--device", "cuda", "--port", str(other.getsockname()[1]))
    assert done.returncode == 1
    assert diagnose(done.stderr.splitlines(), sglang.FAULTS).fault == "port"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param(["--device", "cpu", "--port", "1"], True, id="a CPU"),
        pytest.param(["--device", "cuda"], False, id="GPUs"),
        pytest.param(["--served-model-name", "cpu", "--device"], False, id="only a name"),
        pytest.param([], False, id="no option at all"),
    ],
)
def test_the_device_tells_the_build(options: list[str], expected: bool) -> None:  # noqa: FBT001 - a table's column
    assert on_cpu(options) is expected


def test_a_secret_is_itself_where_it_is_used_and_not_where_it_is_shown() -> None:
    secret = Secret(KEY)
    assert f"Bearer {secret}" == f"Bearer {KEY}"
    assert KEY not in f"{ {'api_key': secret} }"
    assert copy.deepcopy({"api_key": secret})["api_key"] == KEY == copy.copy(secret)
    assert pickle.loads(pickle.dumps(secret)) != KEY  # noqa: S301 - our own words
