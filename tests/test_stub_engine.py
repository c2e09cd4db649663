"""The stub engine, which many tests and the soak rely on, does what it says of itself."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from launcher.engines.registry import ENGINES
from launcher.phases import COMPILE, ORDER
from launcher.tail import Tail
from launcher.watch import Watch
from tests.ports_for_tests import own_port
from tests.stub_engine import ANSWER, Fault, fault

STUB = Path(__file__).with_name("stub_engine.py")
KEY = "secret"
TREE = ("--children", "1", "--workers", "1")
QUESTION = {"model": "tiny", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                       "required": ["city", "days"]},
    },
}  # fmt: skip
SGLANG = ("--model-path", "/models/tiny", "--served-model-name", "tiny")


@dataclass
class Running:
    """A stub engine that was started, and what it printed so far."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path
    control: Path

    def ask(self, path: str, body: dict[str, Any] | None = None, *, key: str = KEY, timeout: float = 10.0) -> tuple[int, str]:
        """Status and text; a status of 0 where nothing comes in time."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", content, headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 - loopback
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def chat(self, *, timeout: float = 10.0, **more: Any) -> tuple[int, str]:
        return self.ask("/v1/chat/completions", {**QUESTION, **more}, timeout=timeout)

    def order(self, line: str) -> None:
        with self.control.open("a") as control:
            control.write(f"{line}\n")
        told, done = len(self.control.read_text().splitlines()), self.control.with_name("control.done")
        awaited(lambda: self.process.poll() is not None or (done.exists() and done.read_text() == f"{told}\n"))


@contextmanager
def running(folder: Path, *options: str, env: dict[str, str] | None = None) -> Iterator[Running]:
    """A stub engine that has printed that it is ready, or ended."""
    log, control, port = folder / "log", folder / "control", own_port()
    argv = [sys.executable, str(STUB), "--port", str(port), "--model", "tiny", "--control", str(control), *options]
    variables = {**os.environ, "VLLM_API_KEY": KEY, **(env or {})}
    with (
        log.open("wb") as out,
        subprocess.Popen(argv, env=variables, stdout=out, stderr=out, start_new_session=True) as process,
    ):
        children: list[psutil.Process] = []
        try:
            awaited(lambda: process.poll() is not None or "startup complete" in log.read_text())
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            yield Running(process, port, log, control)
        finally:
            process.kill()
            for child in children:
                if child.is_running():
                    child.kill()


def awaited(happened: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def living(processes: list[psutil.Process]) -> list[str]:
    return [each.name() for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(
    ("options", "env", "path", "key", "status", "told"),
    [
        pytest.param((), {}, "/health", "", 200, "", id="vLLM's health needs no key"),
        pytest.param((), {}, "/v1/models", "", 401, "Unauthorized", id="vLLM's models need one"),
        pytest.param((), {}, "/v1/models", KEY, 200, '"max_model_len": 8192', id="vLLM's models tell the context"),
        pytest.param((), {}, "/metrics", "", 200, 'vllm:num_requests_running{model_name="tiny"} 0', id="vLLM's metrics"),
        pytest.param((), {}, "/is_sleeping", "", 404, "Not Found", id="vLLM's sleep is not there for everybody"),
        pytest.param(
            (), {"VLLM_SERVER_DEV_MODE": "1"}, "/is_sleeping", "", 200, "false", id="in development mode it is, without a key"
        ),
        pytest.param(SGLANG, {}, "/health_generate", "", 200, "", id="SGLang's health needs no key"),
        pytest.param(SGLANG, {}, "/model_info", "", 401, "Unauthorized", id="SGLang's other paths need one"),
        pytest.param(SGLANG, {}, "/get_model_info", KEY, 200, '"model_path": "tiny"', id="SGLang's model"),
        pytest.param(SGLANG, {}, "/server_info", KEY, 200, '"max_total_num_tokens": 46592', id="SGLang's pool"),
        pytest.param(SGLANG, {}, "/v1/models", KEY, 200, '"owned_by": "sglang"', id="SGLang's models"),
        pytest.param(SGLANG, {}, "/sleep", KEY, 404, "Not Found", id="vLLM's paths are not SGLang's"),
    ],
)
def test_each_engine_has_its_own_paths(
    tmp_path: Path, options: tuple[str, ...], env: dict[str, str], path: str, key: str, status: int, told: str
) -> None:
    with running(tmp_path, *options, env=env) as stub:
        got = stub.ask(path, key=key)
    assert got[0] == status
    assert told in got[1]


@pytest.mark.parametrize("options", [pytest.param((), id="vLLM"), pytest.param(SGLANG, id="SGLang")])
def test_the_sentence_comes_whole_streamed_cut_and_as_a_call(tmp_path: Path, options: tuple[str, ...]) -> None:
    with running(tmp_path, *options) as stub:
        whole = json.loads(stub.chat()[1])
        cut = json.loads(stub.chat(max_tokens=2)[1])
        streamed = stub.chat(stream=True, stream_options={"include_usage": True})[1]
        called = json.loads(stub.chat(tools=[TOOL])[1])
        answered = json.loads(stub.chat(tools=[TOOL], messages=[{"role": "tool", "content": "sunny"}])[1])
        text = json.loads(stub.ask("/v1/completions", {"model": "tiny", "prompt": "The capital of France"})[1])
    assert whole["choices"][0]["message"]["content"] == ANSWER
    assert whole["usage"] == {"prompt_tokens": 6, "completion_tokens": 6, "total_tokens": 12}
    assert (cut["choices"][0]["message"]["content"], cut["choices"][0]["finish_reason"]) == ("The capital", "length")
    *events, done, end = [line.removeprefix("data: ") for line in streamed.split("\n\n")]
    assert (done, end) == ("[DONE]", "")
    deltas = [json.loads(event) for event in events]
    assert "".join(each["choices"][0]["delta"].get("content") or "" for each in deltas[:-1]) == ANSWER
    assert deltas[-1]["usage"]["completion_tokens"] == 6
    (call,) = called["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Paris", "days": 1}'}
    assert called["choices"][0]["finish_reason"] == "tool_calls"
    assert answered["choices"][0]["message"]["content"] == ANSWER
    assert text["choices"][0]["text"] == ANSWER


@pytest.mark.parametrize(
    ("options", "env", "down", "up"),
    [
        pytest.param(("--enable-sleep-mode",), {"VLLM_SERVER_DEV_MODE": "1"}, "/sleep?level=1", "/wake_up", id="vLLM"),
        pytest.param(
            (*SGLANG, "--enable-memory-saver"), {}, "/release_memory_occupation", "/resume_memory_occupation", id="SGLang"
        ),
    ],
)
def test_asleep_it_generates_nothing(tmp_path: Path, options: tuple[str, ...], env: dict[str, str], down: str, up: str) -> None:
    with running(tmp_path, *options, env=env) as stub:
        assert stub.ask(down, {})[0] == 200
        assert stub.chat(timeout=0.5)[0] == 0
        assert stub.ask(up, {})[0] == 200
        assert stub.chat()[0] == 200


@pytest.mark.parametrize(
    ("order", "health", "chat"),
    [
        pytest.param("mute", 200, 0, id="mute: healthy, and generates nothing"),
        pytest.param("hang", 0, 0, id="hung: says nothing at all"),
        pytest.param("refuse", 200, 500, id="refusing: healthy, and every generation is an error"),
        pytest.param("signal STOP core", 200, 0, id="a frozen core: vLLM is healthy all the same"),
        pytest.param("signal STOP worker", 200, 0, id="a frozen worker"),
        pytest.param("signal KILL core", 503, 500, id="a killed core: vLLM knows at once"),
        pytest.param("signal KILL worker", 503, 500, id="a killed worker takes its core along"),
        pytest.param("slow 0.2", 200, 0, id="slow: no answer in the time that is given"),
        pytest.param("well", 200, 200, id="well"),
    ],
)
def test_a_fault_while_it_runs(tmp_path: Path, order: str, health: int, chat: int) -> None:
    with running(tmp_path, *TREE) as stub:
        stub.order(order)
        awaited(lambda: stub.ask("/health", timeout=0.7)[0] == health)
        assert stub.chat(timeout=0.7)[0] == chat


@pytest.mark.parametrize(
    ("options", "order", "code"),
    [
        pytest.param((), "exit 7", 7, id="an exit code"),
        pytest.param((), "signal KILL", -signal.SIGKILL, id="a signal"),
        pytest.param((), "signal SEGV", -signal.SIGSEGV, id="a fault of memory"),
        pytest.param(SGLANG, "signal KILL core", -signal.SIGKILL, id="SGLang ends with its scheduler"),
    ],
)
def test_it_ends_as_it_is_told_to(tmp_path: Path, options: tuple[str, ...], order: str, code: int) -> None:
    with running(tmp_path, *TREE, *options) as stub:
        assert stub.chat()[0] == 200
        stub.order(order)
        assert stub.process.wait(10) == code


@pytest.mark.parametrize(
    ("options", "left"),
    [
        pytest.param((), ["VLLM::EngineCor", "VLLM::Worker"], id="vLLM's core and worker live on"),
        pytest.param(SGLANG, [], id="SGLang's processes die with it"),
    ],
)
def test_what_a_killed_leader_leaves(tmp_path: Path, options: tuple[str, ...], left: list[str]) -> None:
    with running(tmp_path, *TREE, *options) as stub:
        children = psutil.Process(stub.process.pid).children(recursive=True)
        assert len(children) == 2
        stub.process.kill()
        stub.process.wait()
        time.sleep(0.2)
        assert living(children) == left


@pytest.mark.parametrize("phase", ["imports", "weights", "compile", "kv", "graphs", "warmup", "ready"])
@pytest.mark.parametrize("options", [pytest.param((), id="vLLM"), pytest.param(SGLANG, id="SGLang")])
def test_it_dies_in_the_phase_that_was_named(tmp_path: Path, options: tuple[str, ...], phase: str) -> None:
    sample = tmp_path / "sample"
    sample.write_text("torch.OutOfMemoryError: CUDA out of memory.\n")
    faults = ("--fault", f"{phase}: log {sample}", "--fault", f"{phase}: exit 1")
    with running(tmp_path, "--cuda", *options, *faults) as stub:
        if phase == "compile" and options:
            assert stub.chat()[0] == 200  # SGLang compiles nothing by itself
        else:
            assert stub.process.wait(10) == 1
            assert stub.log.read_text().endswith("torch.OutOfMemoryError: CUDA out of memory.\n")


def test_it_dies_after_so_many_requests(tmp_path: Path) -> None:
    with running(tmp_path, "--fault", "3 requests: signal KILL") as stub:
        assert [stub.chat()[0] for _ in range(3)] == [200, 200, 0]
        assert stub.process.wait(10) == -signal.SIGKILL


def test_it_holds_the_memory_that_it_is_told_to_eat_and_gives_it_back(tmp_path: Path) -> None:
    held = []
    with running(tmp_path) as stub:
        for order in ("eat 200000000", "well"):
            stub.order(order)
            held.append(psutil.Process(stub.process.pid).memory_info().rss)
    assert held[0] > 200_000_000 > held[1]


def test_a_signal_mutes_it_and_the_next_one_heals_it(tmp_path: Path) -> None:
    with running(tmp_path) as stub:
        for status in (0, 200):
            stub.process.send_signal(signal.SIGUSR1)
            time.sleep(0.2)
            assert stub.chat(timeout=0.5)[0] == status


def test_a_start_takes_the_time_that_it_is_given(tmp_path: Path) -> None:
    begun = time.monotonic()
    with running(tmp_path, "--pace", "weights=0.4", "--pace", "kv=0.3", "--shards", "4") as stub:
        assert time.monotonic() - begun >= 0.7
        bars = [line for line in stub.log.read_text().splitlines() if "checkpoint shards" in line]
    assert [bar.split(":")[1].split()[0] for bar in bars] == ["0%", "25%", "50%", "75%", "100%"]


@pytest.mark.parametrize(
    ("engine", "left_out"),
    [
        pytest.param("vllm", set(), id="vLLM"),
        pytest.param("sglang", {COMPILE}, id="SGLang, which compiles as it captures graphs"),
    ],
)
def test_its_log_is_read_as_the_engines_own(tmp_path: Path, engine: str, left_out: set[str]) -> None:
    with running(tmp_path, "--engine", engine, "--cuda") as stub:
        assert stub.chat()[0] == 200
    watch = Watch.begun(0)
    for at, line in enumerate(Tail(stub.log).new(), 1):
        watch = watch.fed(ENGINES[engine].phase(line), at)
    assert [name for name, _ in watch.reached] == [name for name in ORDER if name not in left_out]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("mute", Fault("mute"), id="at once"),
        pytest.param("weights: exit 3", Fault("exit 3", "weights"), id="at a phase"),
        pytest.param("5 requests: signal KILL worker", Fault("signal KILL worker", "requests", 5), id="after requests"),
        pytest.param("0.5 seconds: eat 1000", Fault("eat 1000", "seconds", 0.5), id="after seconds"),
    ],
)
def test_a_fault_in_words(text: str, expected: Fault) -> None:
    assert fault(text) == expected


@pytest.mark.parametrize("text", ["3 moons: exit 1", "sometime: exit 1"])
def test_a_fault_at_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"moons|sometime|unpack"):
        fault(text)
