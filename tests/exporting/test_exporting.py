"""Every form of an export, judged by the schema or the program that will read it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher import catalogue, keys, words
from launcher.commands import export, plan
from launcher.engines.registry import ENGINES
from launcher.environments import LOCKS
from launcher.errors import LauncherError
from launcher.exporting.registry import EXPORTERS
from launcher.gpu import Inventory
from launcher.machines import inventory_on
from launcher.plan import Plan
from launcher.server import ServerSpec
from launcher.world import World
from tests.machines_for_tests import machine
from tests.world import little_world

BASH = shutil.which("bash") or "bash"
# Looked for in every text; each is a secret by where it stands.
SECRETS = {"VLLM_API_KEY": "key-of-an-engine", "HF_TOKEN": "hf_token", "HTTPS_PROXY": "http://ada:pass-word@proxy:3128"}
HIDDEN = ("key-of-an-engine", "hf_token", "pass-word")

CODER = ServerSpec(model="qwen3-coder-30b-a3b")
# Few bits and draft heads, a stretched window, options with characters that shells, compose and Kubernetes read as their own.
ODD = ServerSpec(model="qwen3-coder-30b-a3b", engine="vllm", engine_args=("--chat-template={{ $(HOME) ${USER} 'x' }}",))
KIMI = ServerSpec(model="kimi-k2.6")
SERVED = [
    pytest.param(CODER, "2xA100-80GB", id="two GPUs"),
    pytest.param(replace(CODER, engine="sglang"), "2xA100-80GB", id="another engine"),
    pytest.param(ODD, "2xA100-80GB", id="an option full of dollars and quotes"),
    pytest.param(ServerSpec(model="openhands-lm-32b"), "RTX-5090", id="weights that are quantised while they load"),
    pytest.param(ServerSpec(model="deepseek-v3.1"), "8xH200", id="eight GPUs"),
    pytest.param(ServerSpec(model="qwen3-4b", can_sleep=True), "RTX-4090", id="one that can sleep"),
]
OVER_MACHINES = [
    pytest.param(KIMI, "2x(8xH100-80GB)", id="two machines"),
    pytest.param(replace(KIMI, engine="sglang"), "4x(8xH100-80GB)", id="two of four, and another engine"),
]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The shipped profiles, the real engines, and a person with secrets."""
    made = replace(little_world(tmp_path), profiles=(catalogue.shipped(),), engines=ENGINES)
    keys.ensure(made.home.make().key)
    return replace(made, env={**made.env, **SECRETS, "HF_HOME": "/srv/hub"})


def exported(world: World, form: str, spec: ServerSpec, on: str | Inventory, base_url: str | None = None) -> str:
    inventory = inventory_on(on) if isinstance(on, str) else on
    return export.run(world, spec, inventory, EXPORTERS[form], base_url=base_url).content


def planned(world: World, spec: ServerSpec, on: str) -> Plan:
    outcome = plan.run(world, spec, inventory_on(on)).outcome
    assert isinstance(outcome, Plan)
    return outcome


def documents(text: str) -> list[Any]:
    return list(yaml.safe_load_all(text))


@pytest.mark.parametrize("form", EXPORTERS)
@pytest.mark.parametrize(("spec", "on"), [*SERVED[:1], *SERVED[2:3]])
def test_no_secret_stands_in_any_form(world: World, form: str, spec: ServerSpec, on: str) -> None:
    text = exported(world, form, spec, on)
    assert not [secret for secret in (*HIDDEN, keys.read(world.home.key)) if str(secret) in text]
    # What is no secret is passed on: it is not left out with them.
    assert ("HF_HOME=/srv/hub" in text) is (form == "systemd")


@pytest.mark.parametrize("engine", ENGINES)
def test_an_image_is_of_the_very_version_that_the_locks_have(engine: str) -> None:
    locked = {path.stem.split("-")[1] for path in LOCKS.glob(f"{engine}-*-cuda-*.txt")}
    assert {ENGINES[engine].IMAGE.name.rpartition(":v")[2]} == locked


# -- compose --


def checked_by_compose(text: str) -> dict[str, Any]:
    """What the compose specification's parser (crate compose_spec) reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydantic's about this package's own names
        from compose_spec import PyCompose

        read: dict[str, Any] = PyCompose.from_yaml(text).to_dict()
    return read


@pytest.mark.parametrize(("spec", "on"), SERVED)
def test_compose_reads_what_was_planned(world: World, spec: ServerSpec, on: str) -> None:
    text = exported(world, "compose", spec, on)
    (service,) = checked_by_compose(text)["services"].values()
    made = planned(world, spec, on)
    assert service["image"] == ENGINES[made.engine].IMAGE.name
    told = documents(text)[0]["services"][made.profile.name.replace(".", "-")]
    command = [word.replace("$$", "$") for word in (*told["entrypoint"], *told["command"])]
    assert command[command.index("--served-model-name") + 1] == made.profile.name
    assert str(made.context) in command
    assert set(made.args) <= set(command)
    assert told["ports"] == ["127.0.0.1:8000:8000"]
    (device,) = told["deploy"]["resources"]["reservations"]["devices"]
    assert device["count"] == len(made.gpus)
    # Whatever Compose would put in its place is doubled.
    assert not re.search(r"(?<!\$)\$(?!\$)", " ".join((*told["entrypoint"], *told["command"])).replace("$$", ""))


def test_on_its_own_machine_the_very_gpus_are_reserved(world: World) -> None:
    told = documents(exported(world, "compose", ServerSpec(model="qwen3-4b", gpus=(1,)), machine(2, 79.18)))[0]
    (device,) = told["services"]["qwen3-4b"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "device_ids": ["GPU-GPU-1"], "capabilities": ["gpu"]}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param("shm_size:", "shm_sice:", id="a key that there is not"),
        pytest.param("127.0.0.1:8000:8000", "127.0.0.1:eight:8000", id="a port that is none"),
        pytest.param("start_period: ", "start_period: soon ", id="a time that is none"),
    ],
)
def test_composes_parser_would_find_it(world: World, right: str, wrong: str) -> None:
    text = exported(world, "compose", CODER, "2xA100-80GB")
    assert right in text
    with pytest.raises(ValueError, match=r".+"):
        checked_by_compose(text.replace(right, wrong))


# -- Kubernetes --


def checked_by_kubernetes(document: Mapping[str, Any]) -> None:
    """Strictly: a key that the newest schema lacks is a fault (package kubernetes-validate)."""
    import kubernetes_validate

    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize(("spec", "on"), SERVED)
def test_kubernetes_takes_all_that_is_in_it(world: World, spec: ServerSpec, on: str) -> None:
    read = documents(exported(world, "kubernetes", spec, on))
    assert [each["kind"] for each in read] == ["PersistentVolumeClaim", "Deployment", "Service"]
    for each in read:
        checked_by_kubernetes(each)
    made = planned(world, spec, on)
    (container,) = read[1]["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": len(made.gpus)}
    assert set(made.args) <= {word.replace("$$(", "$(") for word in container["command"]}
    assert not any(re.search(r"(?<!\$)\$\(", word) for word in container["command"])
    labels = read[1]["spec"]["template"]["metadata"]["labels"]
    assert read[2]["spec"]["selector"] == labels == read[1]["spec"]["selector"]["matchLabels"]
    # The first look that may end it comes after the time for the slowest download.
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 1800 + made.memory.weights * len(made.gpus) / (50 << 20)
    keyed = {each["name"]: each["valueFrom"]["secretKeyRef"]["key"] for each in container["env"] if "valueFrom" in each}
    assert keyed == {ENGINES[made.engine].IMAGE.key: "api-key", "HF_TOKEN": "hf-token"}


def test_kubernetes_schema_would_find_a_wrong_key(world: World) -> None:
    import kubernetes_validate

    deployment = documents(exported(world, "kubernetes", CODER, "2xA100-80GB"))[1]
    deployment["spec"]["strategie"] = deployment["spec"].pop("strategy")
    with pytest.raises(kubernetes_validate.ValidationError):
        checked_by_kubernetes(deployment)


# The controller's own schema (leaderworkerset.x-k8s.io_leaderworkersets.yaml) is in no package: its few keys are as in
# lws.sigs.k8s.io, "API reference", and its pods are judged by Kubernetes' schema.
@pytest.mark.parametrize(("spec", "on"), OVER_MACHINES)
def test_a_set_of_pods_serves_over_machines(world: World, spec: ServerSpec, on: str) -> None:
    claim, workload, service = documents(exported(world, "kubernetes", spec, on))
    checked_by_kubernetes(claim)
    checked_by_kubernetes(service)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert (workload["apiVersion"], workload["kind"]) == ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")
    told = workload["spec"]["leaderWorkerTemplate"]
    assert told.keys() == {"size", "restartPolicy", "leaderTemplate", "workerTemplate"}
    made = planned(world, spec, on)
    assert told["size"] == made.nodes
    for role in ("leaderTemplate", "workerTemplate"):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **told[role]}
        pod["metadata"] = {"name": "x", **told[role].get("metadata", {})}
        checked_by_kubernetes(pod)
        (container,) = told[role]["spec"]["containers"]
        assert container["resources"]["limits"] == {"nvidia.com/gpu": made.tensor}
        command = container["command"]
        assert command[command.index("--nnodes") + 1] == str(made.nodes)
        rank = command[command.index("--node-rank") + 1]
        assert rank == ("0" if role == "leaderTemplate" else "$(LWS_WORKER_INDEX)")
        assert any("$(LWS_LEADER_ADDRESS)" in word for word in command)
    # Only the leader answers.
    assert service["spec"]["selector"] == told["leaderTemplate"]["metadata"]["labels"]
    assert "metadata" not in told["workerTemplate"]


# -- systemd --


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze (package systemd) is not installed here")
@pytest.mark.parametrize(("spec", "on"), SERVED)
def test_systemd_finds_nothing_wrong_with_a_unit(world: World, tmp_path: Path, spec: ServerSpec, on: str) -> None:
    file = tmp_path / "model-launcher.service"
    file.write_text(exported(world, "systemd", spec, on))
    run = ["systemd-analyze", "verify", "--user", "--man=no", str(file)]
    done = subprocess.run(
        run, env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize(("spec", "on"), SERVED)
def test_what_a_unit_asks_for_is_the_same_plan(world: World, spec: ServerSpec, on: str) -> None:
    text = exported(world, "systemd", spec, on)
    (line,) = [line for line in text.splitlines() if line.startswith("ExecStartPost=")]
    assert [each for each in text.splitlines() if each.startswith("ExecStart=")] == [
        f"{line.split(' ')[0]} -P -m launcher serve".replace("Post", "")
    ]
    # systemd.service(5): `$$` is a dollar, systemd.unit(5): `%%` is a percent sign; its quotes are a shell's otherwise.
    typed = [word.replace("$$", "$").replace("%%", "%") for word in shlex.split(line.partition("=")[2])]
    told = words.parse(typed[4:])
    assert (told.verb, told.no_wire, told.yes) == ("up", True, True)
    again = ServerSpec(
        model=told.model,
        engine=told.engine,
        variant=told.variant,
        context=told.context,
        tensor=told.tensor,
        pipeline=told.pipeline,
        can_sleep=told.can_sleep,
        engine_args=tuple(told.engine_arg),
    )
    first, second = planned(world, spec, on), planned(world, again, on)
    assert replace(second, notes=(), others=()) == replace(first, notes=(), others=())


# -- env and LiteLLM --


@pytest.mark.parametrize(
    ("base_url", "address", "key"),
    [
        pytest.param(None, "http://127.0.0.1:8400/v1", None, id="this machine's own address, with its key's file"),
        pytest.param("http://gpu-box:8000/v1", "http://gpu-box:8000/v1", "typed", id="elsewhere: the key is the person's"),
    ],
)
def test_a_shell_reads_the_lines(world: World, base_url: str | None, address: str, key: str | None) -> None:
    lines = exported(world, "env", CODER, "2xA100-80GB", base_url)
    script = f"set -eu\n{lines}\nexec env"
    done = subprocess.run(
        [BASH, "-c", script],
        env={"LLM_API_KEY": "typed", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("LLM_"))
    assert (seen["LLM_BASE_URL"], seen["LLM_API_KEY"]) == (address, key or keys.read(world.home.key))
    assert seen["LLM_MODEL"] == "openai/qwen3-coder-30b-a3b"


def test_litellms_proxy_is_told_of_the_model_and_of_no_key(world: World) -> None:
    read = documents(exported(world, "litellm", CODER, "2xA100-80GB", "http://gpu-box:8000/v1"))[0]
    (model,) = read["model_list"]
    assert model["litellm_params"]["api_base"] == "http://gpu-box:8000/v1"
    assert model["litellm_params"]["api_key"] == "os.environ/LLM_API_KEY"
    assert read["general_settings"] == {"master_key": "os.environ/LITELLM_MASTER_KEY"}


@pytest.mark.parametrize("base_url", [None, "http://gpu-box:8000/v1"])
def test_the_line_for_litellms_keys_is_one_that_a_shell_reads(world: World, base_url: str | None) -> None:
    text = exported(world, "litellm", CODER, "2xA100-80GB", base_url)
    (line,) = [line.partition(": ")[2] for line in text.splitlines() if "export LLM_API_KEY=" in line]
    names = "printf '%s|' $(env | sed -n 's/^\\(LLM_API_KEY\\|LITELLM_MASTER_KEY\\)=.*/\\1/p' | sort)"
    path = {"PATH": os.environ["PATH"]}
    done = subprocess.run([BASH, "-euc", f"{line}; {names}"], env=path, capture_output=True, text=True, check=True)
    assert done.stdout == "LITELLM_MASTER_KEY|LLM_API_KEY|"


# -- several replicas --


def test_kubernetes_replaces_replicas_one_by_one_and_their_weights_are_read_by_all(world: World) -> None:
    text = exported(world, "kubernetes", replace(CODER, replicas=3), "2xA100-80GB")
    claim, deployment, _ = documents(text)
    checked_by_kubernetes(deployment)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert deployment["spec"]["replicas"] == 3
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert "shares connections out by chance" in text
    workload = documents(exported(world, "kubernetes", replace(KIMI, replicas=2), "2x(8xH100-80GB)"))[1]
    assert (workload["kind"], workload["spec"]["replicas"]) == ("LeaderWorkerSet", 2)


def test_ray_and_a_unit_are_told_how_many_replicas(world: World) -> None:
    several = replace(CODER, replicas=3)
    read = documents(exported(world, "ray", several, "2xA100-80GB"))[0]
    (told,) = read["applications"][0]["args"]["llm_configs"]
    assert told["deployment_config"] == {"num_replicas": 3}
    assert '"--replicas" "3"' in exported(world, "systemd", several, "2xA100-80GB")
    assert "--replicas" not in exported(world, "systemd", CODER, "2xA100-80GB")


# -- Ray and SkyPilot: their own classes read these in tests/real --


def test_ray_gets_the_engines_options_as_keywords(world: World) -> None:
    read = documents(exported(world, "ray", ServerSpec(model="glm-4.5-air", speculative=True), "4xH200"))[0]
    (told,) = read["applications"][0]["args"]["llm_configs"]
    assert told["model_loading_config"]["model_source"] == "zai-org/GLM-4.5-Air"
    assert told["accelerator_type"] == "H200"
    given = told["engine_kwargs"]
    assert given["tensor_parallel_size"] == planned(world, ServerSpec(model="glm-4.5-air", speculative=True), "4xH200").tensor
    assert given["speculative_config"]["num_speculative_tokens"] > 0
    assert given["enable_auto_tool_choice"] is True
    assert not given.keys() & {"host", "port", "served_model_name", "model"}


@pytest.mark.parametrize(
    ("spec", "on", "accelerators", "nodes"),
    [
        pytest.param(CODER, "2xA100-80GB", "A100-80GB:2", None, id="the size of a card is part of its name"),
        pytest.param(CODER, "4xL40S", "L40S:4", None, id="a card of one size"),
        pytest.param(ServerSpec(model="qwen3-4b"), "RTX-4090", "RTX4090:1", None, id="a card for players"),
        pytest.param(KIMI, "2x(8xH100-80GB)", "H100:8", 2, id="two machines"),
    ],
)
def test_skypilot_rents_the_plans_gpus(world: World, spec: ServerSpec, on: str, accelerators: str, nodes: int | None) -> None:
    read = documents(exported(world, "skypilot", spec, on))[0]
    assert (read["resources"]["accelerators"], read.get("num_nodes")) == (accelerators, nodes)
    assert read["secrets"] == {"VLLM_API_KEY": None}
    # As a shell would run it: the engine's words are what they were.
    program = 'vllm() { printf "%s\\n" "$@"; exit; }\n' + re.sub(r"(exec )?env (\w+=\S+ )+", "", read["run"])
    for rank in range(nodes or 1):
        env = {"SKYPILOT_NODE_RANK": str(rank), "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "PATH": os.environ["PATH"]}
        ran = subprocess.run([BASH, "-euc", program], env=env, capture_output=True, text=True, check=True).stdout
        said = ran.splitlines()
        assert said[0] == "serve"
        if nodes:
            assert [said[said.index(word) + 1] for word in ("--node-rank", "--master-addr")] == [str(rank), "10.0.0.1"]


# -- what cannot be exported --


@pytest.mark.parametrize(
    ("form", "spec", "on", "hint"),
    [
        pytest.param("compose", ServerSpec(model="smollm2-135m"), machine(), "this plan has none", id="a CPU has no image"),
        pytest.param(
            "kubernetes", ServerSpec(model="smollm2-135m"), "T4", "these lie elsewhere", id="weights out of a package"
        ),
        pytest.param("compose", KIMI, "2x(8xH100-80GB)", "on one machine", id="compose over machines"),
        pytest.param("compose", replace(CODER, replicas=2), "4xA100-80GB", "export systemd", id="compose with replicas"),
        pytest.param("skypilot", replace(CODER, replicas=2), "4xA100-80GB", "one server", id="a task with replicas"),
        pytest.param("systemd", KIMI, "2x(8xH100-80GB)", "a unit is one machine's", id="a unit over machines"),
        pytest.param("ray", replace(CODER, engine="sglang"), "2xA100-80GB", "--engine vllm", id="Ray knows one engine"),
        pytest.param("skypilot", ServerSpec(model="qwen3-4b"), "GB10", "SkyPilot knows no", id="a card that nobody rents out"),
    ],
)
def test_what_a_form_cannot_say_is_refused(world: World, form: str, spec: ServerSpec, on: str | Inventory, hint: str) -> None:
    with pytest.raises(LauncherError) as refused:
        exported(world, form, spec, on)
    assert hint in (refused.value.hint or "")


def test_what_does_not_fit_is_refused_as_up_refuses_it(world: World) -> None:
    with pytest.raises(LauncherError, match=r"kimi-k2\.6 cannot run here"):
        exported(world, "compose", KIMI, "RTX-4090")


def test_the_plan_is_told_beside_the_text(world: World) -> None:
    result = export.run(world, CODER, inventory_on("2xA100-80GB"), EXPORTERS["compose"])
    told = json.loads(json.dumps(result.json()))
    assert (told["form"], told["plan"]["tensor"]) == ("compose", 2)
    assert told["text"] == result.content
