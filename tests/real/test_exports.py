"""What `launcher export` writes, read by the very programs that it is for."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.engines import sglang, vllm
from tests import own_systemd
from tests.real.conftest import ROOT, Machine

pytestmark = pytest.mark.real

PLANS = [
    pytest.param(("qwen3-coder-30b-a3b", "--on", "2xA100-80GB"), id="two GPUs"),
    pytest.param(("glm-4.5-air", "--speculative", "--on", "4xH200"), id="with draft heads"),
    pytest.param(("kimi-k2.6", "--on", "2x(8xH100-80GB)"), id="two machines"),
]


def exported(machine: Machine, form: str, words: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    told = machine.json("export", form, *words)
    return told["text"], told["plan"]


def ran(python: Path, code: str, *words: str, home: Path) -> str:
    """What a program prints in the environment of somebody else's packages."""
    env = {"PATH": os.environ["PATH"], "HOME": str(home)}
    done = subprocess.run(
        [str(python), "-c", code, *words], cwd=home, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()[-1]


_RAY = """
import sys, yaml
from ray.serve.schema import ServeDeploySchema
read = ServeDeploySchema.model_validate(yaml.safe_load(open(sys.argv[1])))
print(read.applications[0].import_path)
"""
_SKYPILOT = """
import sys, sky
task = sky.Task.from_yaml(sys.argv[1])
(wanted,) = task.resources
print(task.num_nodes, *next(iter(wanted.accelerators.items())), *wanted.ports)
"""
_LITELLM = """
import asyncio, sys
from litellm.proxy.proxy_server import ProxyConfig
read = asyncio.run(ProxyConfig().get_config(sys.argv[1]))
from litellm import Router
print(Router(model_list=read["model_list"]).get_model_names())
"""


@pytest.mark.parametrize("words", PLANS)
def test_ray_serve_reads_its_config(machine: Machine, exports: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "serve.yaml").write_text(exported(machine, "ray", words)[0])
    assert ran(exports, _RAY, "serve.yaml", home=tmp_path) == "ray.serve.llm:build_openai_app"


@pytest.mark.parametrize("words", PLANS)
def test_skypilot_reads_its_task(machine: Machine, exports: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    text, plan = exported(machine, "skypilot", words)
    (tmp_path / "task.yaml").write_text(text)
    card = words[-1].strip("()").rpartition("x")[2].removesuffix("-80GB" if "H100" in words[-1] else "")
    nodes = plan["nodes"]
    assert ran(exports, _SKYPILOT, "task.yaml", home=tmp_path) == f"{nodes} {card} {len(plan['gpus']) // nodes} 8000"


def test_litellms_proxy_reads_its_config(machine: Machine, litellm_proxy: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(exported(machine, "litellm", ("qwen3-coder-30b-a3b", "--on", "2xA100-80GB"))[0])
    assert ran(litellm_proxy, _LITELLM, "config.yaml", home=tmp_path) == "['qwen3-coder-30b-a3b']"


@pytest.mark.skipif(bool(own_systemd.why_not()), reason=own_systemd.why_not() or "it can")
def test_a_unit_is_at_work_once_its_model_answers_and_ends_with_it(machine: Machine, tmp_path: Path) -> None:
    machine.run("pull", "smollm2-135m")
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    words = [*alone, sys.executable, "-m", "tests.real.unit_alone", "smollm2-135m"]
    env = {**machine.env, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen == {"started": ["active", "ready"], "killed": ["ready", True], "stopped": "stopped"}


_VLLM = """
import json, sys
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
make_arg_parser(parser.add_subparsers(dest="subparser").add_parser("serve"))
for words in json.loads(sys.argv[1]):
    read = parser.parse_args(words)
    validate_parsed_serve_args(read)
print(json.dumps({key: value for key, value in vars(read).items() if isinstance(value, (int, str))}))
"""
_SGLANG = """
import json, sys
sys.path.append(sys.argv[2])
import sglang_start
sglang_start.stand_in()
from sglang.srt.server_args import ServerArgs
import argparse
parser = argparse.ArgumentParser()
ServerArgs.add_cli_args(parser)
for words in json.loads(sys.argv[1]):
    read = parser.parse_args(words)
print(json.dumps({key: value for key, value in vars(read).items() if isinstance(value, (int, str))}))
"""


def commands(text: str) -> list[list[str]]:
    """The command of each kind of pod, the last node's last, as the kubelet would hand it on."""
    workload = list(yaml.safe_load_all(text))[1]["spec"]
    told = workload.get("leaderWorkerTemplate") or {"": workload["template"]}
    pods = [each["spec"] for each in told.values() if isinstance(each, dict)]
    given = {"$(LWS_WORKER_INDEX)": "1", "$(LWS_LEADER_ADDRESS)": "leader"}
    return [[_given(word, given) for word in pod["containers"][0]["command"]] for pod in pods]


def _given(word: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word.replace("$$(", "$(")


@pytest.mark.parametrize("words", PLANS)
def test_vllm_takes_the_options_of_a_pod(machine: Machine, tmp_path: Path, words: tuple[str, ...]) -> None:
    machine.run("engines", "install", "vllm", "--cpu")
    python = machine.home / "environments" / f"vllm-{vllm.VERSION}-cpu" / "bin" / "python"
    text, plan = exported(machine, "kubernetes", (*words, "--engine", "vllm"))
    typed = [each[1:] for each in commands(text)]
    read = json.loads(ran(python, _VLLM, json.dumps(typed), home=tmp_path))
    assert (read["max_model_len"], read["tensor_parallel_size"], read["pipeline_parallel_size"]) == (
        plan["context"],
        plan["tensor"],
        plan["pipeline"],
    )
    assert (read["nnodes"], read["headless"]) == (plan["nodes"], plan["nodes"] > 1)


@pytest.mark.parametrize("words", PLANS)
def test_sglang_takes_the_options_of_a_pod(machine: Machine, tmp_path: Path, words: tuple[str, ...]) -> None:
    machine.run("engines", "install", "sglang", "--cpu")
    python = machine.home / "environments" / f"sglang-{sglang.VERSION}-cpu" / "bin" / "python"
    text, plan = exported(machine, "kubernetes", (*words, "--engine", "sglang"))
    typed = [each[3:] for each in commands(text)]
    read = json.loads(ran(python, _SGLANG, json.dumps(typed), str(sglang.START.parent), home=tmp_path))
    assert (read["context_length"], read["tp_size"], read["pp_size"]) == (plan["context"], plan["tensor"], plan["pipeline"])
    assert (read["nnodes"], read["node_rank"]) == (plan["nodes"], plan["nodes"] - 1)
