"""The whole path on a machine without a GPU: real vLLM, real weights, real clients. In the order of a user's day."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from launcher import background, history, ports, store
from launcher.engines import vllm
from launcher.environments import build_for, installed_size
from launcher.home import Home
from launcher.runners import local, spares
from launcher.runners.base import Handle
from launcher.server import Server
from tests.real.conftest import Machine

pytestmark = pytest.mark.real

BEFORE = b"""# the owner's own file\r
[core]\r
workspace_base = "./w"\r
\r
[llm]\r
model = "anthropic/claude"\r
api_key = "sk-ant-x"\r
"""
QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def config(machine: Machine) -> Path:
    path = machine.here / "config.toml"
    path.write_bytes(BEFORE)
    return path


@pytest.fixture(scope="module")
def up(machine: Machine, config: Path) -> dict[str, Any]:
    """`launcher up` on the bare machine: the environment and the weights are made here."""
    told: dict[str, Any] = machine.json("up", "--yes", "--config-file", str(config))
    return told


def handle_of(machine: Machine) -> Handle:
    handle = seen(machine).handle
    assert handle is not None
    return handle


def seen(machine: Machine) -> Server:
    """Its record, as it is now: a look costs less than a `ps`."""
    return next(each for each in store.seen(Home(machine.home)) if each.name == "smollm2-135m")


def row_of(machine: Machine) -> dict[str, Any]:
    """What `ps` says of the model; empty before its first start."""
    return next((row for row in machine.json("ps") if row["name"] == "smollm2-135m"), {})


def left_over(handle: Handle) -> dict[int, str]:
    """Every process that shows one of the three signs of the server; looked for here without the launcher's own code."""
    found = {}
    for process in psutil.process_iter():
        try:
            environ = Path(f"/proc/{process.pid}/environ").read_bytes()
            maps = Path(f"/proc/{process.pid}/maps").read_text()
            session = os.getsid(process.pid)
        except OSError:
            continue
        if handle.server_id.encode() in environ or session == handle.pid or str(handle.environment) in maps:
            found[process.pid] = process.name()
    return found


def asked(base_url: str, key: Path) -> str:
    """What the model answers there."""
    client = openai.OpenAI(base_url=base_url, api_key=key.read_text().strip(), max_retries=0)
    answer = client.chat.completions.create(model="smollm2-135m", messages=QUESTION, temperature=0, max_tokens=24)
    return answer.choices[0].message.content or ""


def serve_is_killed(machine: Machine) -> None:
    """Its engine answers on without it; the next one finds it as it is, starts nothing, and listens at the same address."""
    home, before, address = Home(machine.home), handle_of(machine), row_of(machine)["base_url"]
    serving = background.at_work(home)
    assert serving
    os.kill(serving.pid, signal.SIGKILL)
    awaited(lambda: not psutil.pid_exists(serving.pid) or psutil.Process(serving.pid).status() == psutil.STATUS_ZOMBIE)
    assert "Paris" in asked(seen(machine).base_url, home.engine_key("smollm2-135m"))
    assert machine.json("up", "--no-wire")["already"]
    assert "Paris" in asked(address, home.key)
    again = background.at_work(home)
    assert again
    assert again.pid != serving.pid
    assert (handle_of(machine), seen(machine).restarts) == (before, 0)


def process_is_killed(machine: Machine, title: str) -> None:
    """Kill the server's process of this title, or its first one: all of it is replaced, and the address stays."""
    home, before, address = Home(machine.home), handle_of(machine), row_of(machine)["base_url"]
    waiting = spare_processes(home)
    old = {psutil.Process(pid) for pid in left_over(before) if pid not in waiting}
    titled = [process.pid for process in old if title and title in " ".join(process.cmdline())]
    os.kill(titled[0] if title else before.pid, signal.SIGKILL)
    awaited(lambda: (now := seen(machine)).state == "ready" and now.handle != before)
    assert row_of(machine)["base_url"] == address
    assert "Paris" in asked(address, home.key)
    assert len(old) >= 3
    assert [process for process in old if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    now = handle_of(machine)
    awaited(lambda: not set(left_over(now)) - set(local.processes(now)) - spare_processes(home))


def spare_processes(home: Home) -> set[int]:
    spare = spares.kept(home)
    return set(local.processes(spare.handle)) if spare else set()


def awaited(happened: Callable[[], bool], seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_up_proves_the_model(up: dict[str, Any]) -> None:
    assert (up["model"], up["engine"], up["context"]) == ("smollm2-135m", "vllm", 8192)
    assert "Paris" in up["proof"]["text"]
    assert up["proof"]["seconds"] > 0
    assert {"environment", "weights", "engine", "proof", "wiring"} <= up["seconds"].keys()


def test_the_config_is_wired_and_nothing_else_in_it_is_changed(up: dict[str, Any], config: Path) -> None:
    assert up["wired"] == [str(config)]
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    text = config.read_bytes()
    assert text.startswith(BEFORE[: BEFORE.index(b"[llm]")])
    section = tomllib.loads(text.decode())["llm"]
    assert set(section) >= {"model", "base_url", "api_key", "max_input_tokens", "max_output_tokens", "native_tool_calling"}
    assert section["model"] == "openai/smollm2-135m"


def test_a_client_finds_the_model_by_what_the_config_says(up: dict[str, Any], config: Path) -> None:
    section = tomllib.loads(config.read_text())["llm"]
    client = openai.OpenAI(base_url=section["base_url"], api_key=section["api_key"])
    answer = client.chat.completions.create(
        model=section["model"].removeprefix("openai/"), messages=QUESTION, temperature=0, max_tokens=24
    )
    assert "Paris" in (answer.choices[0].message.content or "")
    assert up["base_url"] == section["base_url"]


def test_litellm_reaches_it_as_openhands_does(machine: Machine, up: dict[str, Any], config: Path) -> None:
    code = (
        "import json, sys, litellm; told = json.load(sys.stdin);"
        "answer = litellm.completion(model=told['model'], base_url=told['base_url'], api_key=told['api_key'], temperature=0,"
        " max_tokens=24, messages=[{'role': 'user', 'content': 'What is the capital of France?'}]);"
        "print(answer.choices[0].message.content)"
    )
    section = tomllib.loads(config.read_text())["llm"]
    env = {**machine.env, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    words = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(words, input=json.dumps(section), env=env, capture_output=True, text=True, check=False)
    assert "Paris" in done.stdout, done.stderr
    assert up["agent_model"] == section["model"]


def test_openhands_own_llm_loads_the_variables_and_gets_an_answer(
    machine: Machine,
    up: dict[str, Any],
    openhands_sdk: Path,
) -> None:
    file = machine.here / "llm.env"
    assert up["model"] in machine.run("llm", "list")
    machine.run("llm", "env", up["model"], "--file", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    variables = dict(line.split("=", 1) for line in file.read_text().splitlines())
    code = (
        "from openhands.sdk import LLM, Message, TextContent; llm = LLM.load_from_env();"
        "asked = TextContent(text='What is the capital of France?');"
        "answer = llm.completion(messages=[Message(role='user', content=[asked])]);"
        "print('SAID', llm.num_retries, answer.message.content[0].text)"
    )
    # Its window of 8,192 tokens is under the 16,384 that OpenHands loads unless it is told to.
    more = {"ALLOW_SHORT_CONTEXT_WINDOWS": "true", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    env = {**machine.env, **variables, **more}
    words = [str(openhands_sdk), "-W", "ignore", "-c", code]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, cwd=machine.here)
    assert "SAID 4 " in done.stdout, done.stderr
    assert "Paris" in done.stdout


def test_the_model_is_asked_all_that_its_configuration_claims(machine: Machine, up: dict[str, Any]) -> None:
    checks = {each["name"]: each for each in machine.json("llm", "test", up["model"])["checks"]}
    assert {name: checks[name]["state"] for name in ("completion", "streaming", "vision", "window")} == {
        "completion": "pass",
        "streaming": "pass",
        "vision": "skip",
        "window": "pass",
    }
    # SmolLM2 is too small to call well: what it does is told, and is no fault.
    assert checks["tool call"]["state"] in {"pass", "warn"}
    assert up["tool_call"]["verdict"] in {"parsed", "text", "broken", "refused"}


def test_what_the_start_took_is_on_record_and_the_next_plan_says_so(machine: Machine, up: dict[str, Any]) -> None:
    printed = re.findall(r"KV cache size: ([\d,]+) tokens", Path(up["log"]).read_text(errors="replace"))
    (start,) = history.read(Home(machine.home))
    assert start.measured.kv_tokens == int(printed[-1].replace(",", "")) == start.planned.kv_tokens
    assert (start.setup.model, start.setup.version, start.context) == ("smollm2-135m", "0.32.0", 8192)
    # Three processes with PyTorch in each, and a quarter of a GiB of weights.
    assert start.measured.peak
    assert 2**30 < start.measured.peak < 4 * 2**30
    assert stat.S_IMODE(Home(machine.home).starts.stat().st_mode) == 0o600
    (note,) = [note for note in machine.json("plan", "smollm2-135m")["notes"] if start.on in note]
    assert note.startswith((f"a start here on {start.on} took ", "overhead as measured here"))


def test_without_the_key_nothing_is_answered(up: dict[str, Any]) -> None:
    client = openai.OpenAI(base_url=up["base_url"], api_key="sk-wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="smollm2-135m", messages=QUESTION)


def keys_of(machine: Machine, up: dict[str, Any]) -> tuple[str, str]:
    """The agents' key, and the one of the engine that the gateway has."""
    files = (Path(up["key_file"]), Home(machine.home).engine_key(up["model"]))
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    agents, engines = (file.read_text().strip() for file in files)
    assert agents != engines
    return agents, engines


def written(machine: Machine) -> str:
    """All logs and all of the state."""
    home = Home(machine.home)
    files = [file for folder in (home.logs, home.state) for file in folder.rglob("*") if file.is_file()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files if file.suffix == ".log"} == {0o600}
    return "".join(file.read_text(errors="replace") for file in files)


def test_no_key_is_seen_anywhere(machine: Machine, up: dict[str, Any]) -> None:
    processes = subprocess.run(["/bin/ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert "vllm.entrypoints" in processes
    told = [machine.run(*verb, "--json") for verb in (["ps"], ["wires"], ["plan"], ["up", "--dry-run"])]
    for key in keys_of(machine, up):
        assert not [text for text in (processes, written(machine), *told) if key in text]


def test_every_process_of_the_engine_carries_the_servers_id(machine: Machine, up: dict[str, Any]) -> None:
    handle = handle_of(machine)
    mine = [pid for pid in left_over(handle) if f"LAUNCHER_SERVER_ID={handle.server_id}" in _environ(pid)]
    assert up["model"] == "smollm2-135m"
    assert len(mine) >= 3, "API server, engine core and worker"


def _environ(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")


def test_ps_and_wires_and_chat_see_it(machine: Machine, up: dict[str, Any]) -> None:
    row = row_of(machine)
    assert (row["engine"], row["state"], row["context"]) == ("vllm", "ready", 8192)
    assert row["base_url"] == up["base_url"]
    assert [each["target"] for each in machine.json("wires") if each["wired"]] == ["openhands-toml"]
    assert "Paris" in machine.json("chat", stdin="What is the capital of France?")["text"]
    assert any("KV cache size" in line for line in machine.json("logs", "smollm2-135m")["lines"])


def test_its_environment_is_known_proven_and_not_removed(machine: Machine, up: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in machine.json("engines")}
    mine = rows[f"vllm-{vllm.VERSION}-cpu"]
    assert (mine["serves"], mine["taken"], mine["stale"], mine["broken"]) == ([up["model"]], True, False, "")
    assert mine["torch"].endswith("+cpu")
    # A disk is checked against the lock's first line: what it takes once all is byte-compiled, which imports do bit by bit.
    shipped = installed_size(build_for(vllm, "cpu").lock)
    assert 0.8 * shipped < mine["size"] < 1.05 * shipped
    checked = machine.json("engines", "check", mine["name"])
    assert (checked["works"], checked["version"]) == (True, vllm.VERSION)
    refused = machine.json("engines", "remove", mine["name"], code=1)
    assert refused["error"]["message"] == f"{mine['name']} serves {up['model']}"
    assert (machine.home / "caches" / mine["name"] / "vllm").is_dir()


def test_a_second_up_says_that_it_is_up(machine: Machine, up: dict[str, Any]) -> None:
    again = machine.json("up")
    assert again["already"]
    assert again["base_url"] == up["base_url"]
    assert "Paris" in again["proof"]["text"]


@pytest.mark.usefixtures("up")
def test_serve_is_killed_and_the_model_answers_on_and_is_found_again(machine: Machine) -> None:
    serve_is_killed(machine)


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize(
    "title", ["VLLM::Worker", "VLLM::EngineCore", ""], ids=["the worker", "the engine core", "the API server"]
)
def test_one_process_is_killed_and_the_model_answers_again_and_nothing_is_left(machine: Machine, title: str) -> None:
    # API server, engine core and worker.
    awaited(lambda: len(spare_processes(Home(machine.home))) == 3)
    spare, waiting = spares.kept(Home(machine.home)), spare_processes(Home(machine.home))
    process_is_killed(machine, title)
    assert spare
    assert handle_of(machine).pid == spare.handle.pid, "the spare became the server"
    # One that is not as the new process has to be (variables, affinity) is not used: then that one starts as ever.
    assert waiting & set(local.processes(handle_of(machine))), "and its interpreters processes of it"


@pytest.mark.usefixtures("up")
def test_a_stream_ends_with_an_error_as_its_engine_is_killed_and_who_asks_then_is_answered_by_the_next(
    machine: Machine,
) -> None:
    home, before, address = Home(machine.home), handle_of(machine), row_of(machine)["base_url"]
    client = openai.OpenAI(base_url=address, api_key=home.key.read_text().strip(), max_retries=0)
    stream = client.chat.completions.create(
        model="smollm2-135m", messages=QUESTION, stream=True, max_tokens=4096, extra_body={"ignore_eos": True}
    )
    pieces = [next(stream).choices[0].delta.content for _ in range(8)]
    os.kill(before.pid, signal.SIGKILL)
    with ThreadPoolExecutor(2) as others:
        waiting = [others.submit(asked, address, home.key) for _ in range(2)]
        # What OpenAI's own client makes of the last event.
        with pytest.raises(openai.APIError, match="the engine ended in the middle of its answer"):
            pieces += [event.choices[0].delta.content for event in stream]
        assert len("".join(filter(None, pieces))) > 0
        assert all("Paris" in each.result(timeout=600) for each in waiting)
    awaited(lambda: seen(machine).state == "ready")
    assert handle_of(machine) != before

    def logged() -> list[str]:
        return [line.split()[6] for line in (home.logs / "access.log").read_text().splitlines()[-3:]]

    # The log is written a moment after the answers.
    awaited(lambda: sorted(logged()) == ["200", "200", "502"], 10.0)


@pytest.mark.usefixtures("up")
def test_down_leaves_nothing_behind(machine: Machine) -> None:
    handle = handle_of(machine)
    port = int(row_of(machine)["base_url"].split(":")[2].split("/")[0])
    assert machine.json("down") == {"stopped": ["smollm2-135m"]}
    assert left_over(handle) == {}
    assert ports.is_free(port)
    assert row_of(machine)["state"] == "stopped"
    assert store.wanted(Home(machine.home)) == ()


@pytest.mark.usefixtures("up")
def test_unwire_gives_the_very_bytes_back(machine: Machine, config: Path) -> None:
    machine.run("unwire")
    assert config.read_bytes() == BEFORE
    assert {each["wired"] for each in machine.json("wires")} == {False}


@pytest.mark.usefixtures("up")
def test_an_interrupt_in_the_middle_of_a_start_leaves_nothing(machine: Machine) -> None:
    with machine.start("up", "--no-wire", stderr=subprocess.DEVNULL) as process:
        while row_of(machine).get("state") != "starting":
            assert process.poll() is None
        time.sleep(8)  # into the engine core
        handle = handle_of(machine)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert left_over(handle) == {}
    assert row_of(machine)["state"] == "stopped"


@pytest.mark.usefixtures("up")
def test_in_the_foreground_an_interrupt_ends_the_model(machine: Machine) -> None:
    with machine.start(
        "up", "--no-wire", "--foreground", "--json", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        while row_of(machine).get("state") != "ready":
            assert process.poll() is None
            time.sleep(1)
        handle = handle_of(machine)
        time.sleep(2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Paris" in json.loads(out)["proof"]["text"]
    assert left_over(handle) == {}
