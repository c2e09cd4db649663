"""SGLang for real on a machine without a GPU, beside vLLM: from `up` to an answer, to `down`, and up again."""

import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import openai
import pytest

from tests.real.conftest import Machine
from tests.real.test_a_day import QUESTION, handle_of, keys_of, left_over, process_is_killed, serve_is_killed, written

pytestmark = pytest.mark.real

SHARED = Path("/dev/shm")  # noqa: S108 - where the kernel has it


def shared_memory(pids: Iterable[int]) -> set[Path]:
    """The files there that these processes have mapped: others' engines may run beside."""
    rows = [row for pid in pids for row in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    return {Path(row.split(maxsplit=5)[5].removesuffix(" (deleted)")) for row in rows if f" {SHARED}/" in row}


@pytest.fixture(scope="module")
def up(machine: Machine) -> dict[str, Any]:
    """Its environment is made here; weights that are there already are taken as they are."""
    told: dict[str, Any] = machine.json("up", "--engine", "sglang", "--no-wire")
    return told


def test_up_proves_the_model(up: dict[str, Any]) -> None:
    assert (up["model"], up["engine"], up["context"]) == ("smollm2-135m", "sglang", 8192)
    assert "Paris" in up["proof"]["text"]


def test_no_key_is_seen_anywhere(machine: Machine, up: dict[str, Any]) -> None:
    processes = subprocess.run(["/bin/ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert "sglang_start.py" in processes
    assert "server_args=" in written(machine)
    environments = [Path(f"/proc/{pid}/environ").read_bytes().decode() for pid in left_over(handle_of(machine))]
    for key in keys_of(machine, up):
        assert not [text for text in (processes, written(machine), *environments) if key in text]


def test_every_process_of_the_engine_carries_the_servers_id(machine: Machine, up: dict[str, Any]) -> None:
    handle = handle_of(machine)
    token = f"LAUNCHER_SERVER_ID={handle.server_id}".encode()
    mine = [pid for pid in left_over(handle) if token in Path(f"/proc/{pid}/environ").read_bytes()]
    assert up["engine"] == "sglang"
    assert len(mine) >= 3, "HTTP server, scheduler and detokenizer"


def test_a_client_is_answered_with_the_key_and_not_without(up: dict[str, Any]) -> None:
    client = openai.OpenAI(base_url=up["base_url"], api_key=Path(up["key_file"]).read_text().strip())
    answer = client.chat.completions.create(model=up["model"], messages=QUESTION, temperature=0, max_tokens=24)
    assert "Paris" in (answer.choices[0].message.content or "")
    # Such a request called a C++ compiler on SGLang's side, and ended the server where there was none.
    more = client.chat.completions.create(
        model=up["model"], messages=QUESTION, max_tokens=4, extra_body={"repetition_penalty": 1.1}
    )
    assert more.choices[0].message.content
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=up["base_url"], api_key="sk-wrong", max_retries=0).models.list()


@pytest.mark.usefixtures("up")
def test_its_environment_passes_its_own_check(machine: Machine) -> None:
    # `import sglang` alone fails there: the check must ask for what the build has.
    machine.run("engines", "check", "sglang-0.5.23-cpu")


def test_ps_says_which_engine_it_is(machine: Machine, up: dict[str, Any]) -> None:
    row = next(each for each in machine.json("ps") if each["name"] == up["model"])
    assert (row["engine"], row["state"], row["context"]) == ("sglang", "ready", 8192)


@pytest.mark.usefixtures("up")
def test_serve_is_killed_and_the_model_answers_on_and_is_found_again(machine: Machine) -> None:
    serve_is_killed(machine)


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize(
    "title", ["sglang::scheduler", "sglang::detokenizer", ""], ids=["the scheduler", "the detokenizer", "the API server"]
)
def test_one_process_is_killed_and_the_model_answers_again_and_nothing_is_left(machine: Machine, title: str) -> None:
    process_is_killed(machine, title)


def test_down_leaves_nothing_behind(machine: Machine, up: dict[str, Any]) -> None:
    handle = handle_of(machine)
    processes = left_over(handle)
    assert len(processes) >= 3
    shared = shared_memory(processes)
    assert any(path.exists() for path in shared)
    machine.run("down", up["model"])
    assert left_over(handle) == {}
    assert not [path for path in shared if path.exists()]


@pytest.mark.usefixtures("up")
def test_a_second_up_makes_nothing_again(machine: Machine) -> None:
    weights = machine.home / "weights" / "smollm2-135m-fp16" / "model.safetensors"
    made = weights.stat().st_mtime_ns
    again = machine.json("up", "--engine", "sglang", "--no-wire")
    assert "Paris" in again["proof"]["text"]
    assert not again["already"]
    assert again["seconds"]["environment"] + again["seconds"]["weights"] < 5
    assert weights.stat().st_mtime_ns == made


def test_the_engines_swap_while_a_client_asks_and_no_answer_is_missed(machine: Machine, up: dict[str, Any]) -> None:
    weights = machine.home / "weights" / "smollm2-135m-fp16" / "model.safetensors"
    made = weights.stat().st_mtime_ns
    with Asking(up) as asking:
        there = machine.json("swap", "vllm")
        back = machine.json("swap", "sglang")
    assert asking.faults == []
    assert len(asking.answers) >= 4
    assert all("Paris" in answer for answer in asking.answers)
    assert [(told["from"]["engine"], told["to"]["engine"]) for told in (there, back)] == [
        ("sglang", "vllm"),
        ("vllm", "sglang"),
    ]
    assert [(told["failed"], told["rolled_back"], told["to"]["context"]) for told in (there, back)] == [(0, False, 8192)] * 2
    assert weights.stat().st_mtime_ns == made
    there_are = {path.name for path in (machine.home / "environments").iterdir() if path.is_dir()}
    assert there_are == {"sglang-0.5.23-cpu", "vllm-0.32.0-cpu"}
    assert [(row["engine"], row["state"]) for row in machine.json("ps") if row["name"] == up["model"]] == [("sglang", "ready")]
    machine.run("down")


class Asking:
    """A client that asks without pause while the block runs, plainly and with a stream by turns; it never tries again."""

    def __init__(self, up: dict[str, Any]) -> None:
        key = Path(up["key_file"]).read_text().strip()
        self._client = openai.OpenAI(base_url=up["base_url"], api_key=key, max_retries=0, timeout=300)
        self._model = up["model"]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.answers: list[str] = []
        self.faults: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.is_set():
            try:
                self.answers.append(self._plain() if len(self.answers) % 2 else self._streamed())
            except openai.OpenAIError as fault:
                self.faults.append(repr(fault))

    def _plain(self) -> str:
        answer = self._client.chat.completions.create(model=self._model, messages=QUESTION, temperature=0, max_tokens=24)
        return answer.choices[0].message.content or ""

    def _streamed(self) -> str:
        pieces = self._client.chat.completions.create(
            model=self._model, messages=QUESTION, temperature=0, max_tokens=24, stream=True
        )
        return "".join(choice.delta.content or "" for piece in pieces for choice in piece.choices)
