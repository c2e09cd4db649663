import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from launcher import history, keys, ports, probe, store
from launcher.commands import chat, down, logs, plan, ps, unwire, up, wires
from launcher.commands.up import UpRequest
from launcher.errors import LauncherError
from launcher.gpu import GIB, GpuProcess, Inventory
from launcher.plan import Plan
from launcher.prepared import Prepared
from launcher.progress import Progress
from launcher.runners import local
from launcher.server import ServerSpec
from launcher.wiring import apply
from launcher.wiring.registry import TARGETS
from launcher.world import World
from tests.machines_for_tests import machine
from tests.models_for_tests import tiny_folder
from tests.ports_for_tests import own_port
from tests.stub_engine import ANSWER, KV_TOKENS
from tests.world import POLICY, StubEngine, Told, ended, little_world, roomy, running, with_engine


@pytest.fixture
def port() -> int:
    """A free port of this test's own: tests may run beside a real launcher."""
    return own_port()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = little_world(tmp_path, models=("tiny", "other"))
    yield made
    down.run(made, None)


def request(model: str = "tiny", *, port: int, wire: bool = False, context: int | None = None) -> UpRequest:
    return UpRequest(spec=ServerSpec(model=model, context=context), targets=TARGETS if wire else {}, port=port)


def awaited(happened: Callable[[], bool], seconds: float = 20.0) -> None:
    """Until it has happened; what never happens is a failure, not a wait without end."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def told(world: World) -> Told:
    assert isinstance(world.progress, Told)
    return world.progress


def test_up_proves_the_model_and_tells_everything_about_it(world: World, port: int) -> None:
    result = up.run(world, request(port=port, wire=True))
    told_json = json.loads(json.dumps(result.json()))
    config = world.home.openhands_config
    assert told_json["proof"]["text"] == ANSWER
    assert told_json["base_url"] == f"http://127.0.0.1:{port}/v1"
    assert (told_json["model"], told_json["engine"], told_json["context"]) == ("tiny", "vllm", 8192)
    assert told_json["wired"] == [str(config)]
    assert told_json["skipped"][0]["target"] == "openhands-profile"
    assert {"plan", "environment", "weights", "engine", "proof", "wiring"} <= told_json["seconds"].keys()
    section = tomllib.loads(config.read_text())["llm"]
    assert (
        section.items()
        >= {
            "model": "openai/tiny",
            "base_url": f"http://127.0.0.1:{port}/v1",
            "api_key": keys.read(world.home.key),
            "max_input_tokens": 5529,
            "max_output_tokens": 2048,
            "disable_vision": True,
        }.items()
    )
    assert result.exit_code == 0


def test_what_up_started_is_seen_by_the_other_verbs_and_ended_by_down(world: World, port: int) -> None:
    up.run(world, request(port=port, wire=True))
    row = ps.run(world).rows[0]
    assert (row.server.name, row.state, row.pid is not None) == ("tiny", "ready", True)
    assert [want.name for want in store.wanted(world.home)] == ["tiny"]
    assert any("Starting vLLM server" in line for line in logs.run(world, None, lines=200).lines)
    assert chat.run(chat.endpoint(world, None), "What is the capital of France?").answer == ANSWER
    wired = wires.run(world, TARGETS).json()
    assert [wire["target"] for wire in wired if wire["wired"]] == ["openhands-toml"]  # type: ignore[attr-defined]
    handle = row.server.handle
    assert handle is not None
    assert down.run(world, "tiny").stopped == ("tiny",)
    assert world.runner.processes(handle) == ()
    ended(world)
    assert ports.holder(port) is None
    assert [each.state for each in ps.run(world).rows] == ["stopped"]
    assert store.wanted(world.home) == ()


def test_up_of_what_is_up_says_so_and_starts_nothing(world: World, port: int) -> None:
    first = up.run(world, request(port=port))
    pid = ps.run(world).rows[0].pid
    for again in (request(port=port), request(model="", port=port)):
        second = up.run(world, again)
        assert (second.already, second.exit_code) == (True, 0)
    assert ps.run(world).rows[0].pid == pid
    assert not first.already


def test_a_folder_is_served_under_its_name_and_found_again_by_a_bare_up(world: World, port: int) -> None:
    tiny_folder(world.cwd / "My-Model")
    first = up.run(world, request("./My-Model", port=port))
    assert (first.endpoint.model, first.already) == ("my-model", False)
    (server,) = store.seen(world.home)
    assert (server.spec.model, server.spec.origin) == ("my-model", str(world.cwd / "My-Model"))
    elsewhere = replace(world, cwd=world.user_home)
    for again in (request("", port=port), request(f"{world.cwd}/My-Model", port=port)):
        assert up.run(elsewhere, again).already
    assert chat.run(chat.endpoint(world, "my-model"), "What is the capital of France?").answer == ANSWER
    assert [want.name for want in store.wanted(world.home)] == ["my-model"]


def test_a_bare_up_after_options_keeps_them_when_it_starts_again(world: World, port: int) -> None:
    up.run(world, request(port=port, context=4096))
    moved = up.run(world, request("", port=port + 1))
    assert (moved.already, moved.endpoint.context) == (False, 4096)
    assert store.seen(world.home)[0].spec.context == 4096


TOLD = ("--seed=7", "--dtype half")


def test_options_for_the_engine_reach_it_and_a_bare_up_keeps_them(world: World, port: int) -> None:
    asked = UpRequest(spec=ServerSpec("tiny", engine="vllm", engine_args=TOLD), port=port)
    assert up.run(world, asked).plan.args[-3:] == ("--seed=7", "--dtype", "half")
    assert up.run(world, asked).already
    moved = up.run(world, request("", port=port + 1))
    assert (moved.already, moved.plan.args[-3:]) == (False, ("--seed=7", "--dtype", "half"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param(ServerSpec("tiny", engine_args=("--seed=7",)), "--engine-arg is for one engine", id="of which engine?"),
        pytest.param(
            ServerSpec("tiny", engine="vllm", engine_args=("--max-model-len=9",)),
            "--engine-arg --max-model-len is decided by the launcher",
            id="the context",
        ),
        pytest.param(
            ServerSpec("tiny", engine="vllm", engine_args=("--hf-token=hf_1234",)),
            "--engine-arg --hf-token looks like a secret",
            id="a secret, which is not repeated",
        ),
    ],
)
def test_an_option_that_may_not_be_given_is_refused_before_anything_starts(
    world: World, port: int, spec: ServerSpec, message: str
) -> None:
    with pytest.raises(LauncherError, match=message) as caught:
        up.run(world, UpRequest(spec=spec, port=port))
    assert "hf_1234" not in f"{caught.value.message} {caught.value.hint}"
    assert ps.run(world).rows == ()


def test_another_model_runs_beside_the_one_that_runs_where_both_fit(world: World, port: int) -> None:
    first = up.run(world, request(port=port, wire=True))
    result = up.run(world, request("other", port=port, wire=True))
    assert (result.replaced, result.endpoint.base_url) == ("", first.endpoint.base_url)
    assert {row.server.name: row.state for row in ps.run(world).rows} == {"other": "ready", "tiny": "ready"}
    assert tomllib.loads(world.home.openhands_config.read_text())["llm"]["model"] == "openai/other"
    for name in ("tiny", "other"):
        assert chat.run(chat.endpoint(world, name), "What is the capital of France?").answer == ANSWER
    assert down.run(world, "tiny").stopped == ("tiny",)
    assert {row.server.name: row.state for row in ps.run(world).rows} == {"other": "ready", "tiny": "stopped"}


def test_where_there_is_no_room_the_one_that_is_needed_least_makes_it_and_comes_back_when_it_is_asked_for(
    tmp_path: Path, port: int
) -> None:
    world = roomy(tmp_path)
    up.run(world, request(port=port))
    result = up.run(world, request("other", port=port))
    assert result.replaced == "tiny"
    assert {row.server.name: row.state for row in ps.run(world).rows} == {"other": "ready", "tiny": "idle"}
    endpoint = replace(result.endpoint, model="tiny")
    assert probe.prove(endpoint).text == ANSWER
    assert {row.server.name: row.state for row in ps.run(world).rows} == {"other": "idle", "tiny": "ready"}
    down.run(world, None)


def test_a_key_that_is_added_opens_and_one_that_is_removed_shuts(world: World, port: int) -> None:
    endpoint = up.run(world, request(port=port)).endpoint
    other = replace(endpoint, api_key=keys.add(world.home, "other").text)

    def opens() -> bool:
        try:
            return probe.prove(other).text == ANSWER
        except LauncherError:
            return False

    awaited(opens)
    keys.remove(world.home, "other")
    awaited(lambda: not opens())
    assert probe.prove(endpoint).text == ANSWER


def test_a_model_that_nobody_asks_for_is_unloaded_and_loaded_for_the_next_request(world: World, port: int) -> None:
    result = up.run(world, replace(request(port=port), idle_stop=0.5))
    awaited(lambda: ps.run(world).rows[0].state == "idle")
    assert probe.prove(result.endpoint).text == ANSWER
    down.run(world, None)
    with pytest.raises(LauncherError):
        probe.prove(result.endpoint)


def test_other_options_start_the_same_model_again(world: World, port: int) -> None:
    up.run(world, request(port=port))
    result = up.run(world, request(port=port, context=4096))
    assert (result.already, result.endpoint.context) == (False, 4096)


def test_if_the_successor_fails_the_old_model_goes_on(world: World, port: int) -> None:
    up.run(world, request(port=port))
    broken = with_engine(world, StubEngine(flags={"other": ("--die", "ValueError: No available memory for the cache blocks")}))
    with pytest.raises(LauncherError, match="no memory is left for the KV cache"):
        up.run(broken, request("other", port=port))
    assert {row.server.name: row.state for row in ps.run(world).rows} == {"other": "failed", "tiny": "ready"}
    assert [want.name for want in store.wanted(world.home)] == ["tiny"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(
            ("--die", "OSError: [Errno 98] Address already in use"), "the port was taken", id="dies with a known cause"
        ),
        pytest.param(
            ("--die", "ZeroDivisionError: oh"), "stopped with an error .ZeroDivisionError: oh", id="dies of something new"
        ),
        pytest.param(("--wrong-context",), "4,096 tokens of context instead of the planned 8,192", id="serves another context"),
    ],
)
def test_a_start_that_fails_is_explained_and_leaves_nothing(
    tmp_path: Path, port: int, flags: tuple[str, ...], message: str
) -> None:
    world = little_world(tmp_path, engine=StubEngine(flags={"": flags}))
    config = tmp_path / "here" / "config.toml"
    config.write_text("[core]\n")
    with pytest.raises(LauncherError, match=message) as caught:
        up.run(world, request(port=port, wire=True))
    assert str(world.home.logs / "tiny.log") in caught.value.hint
    assert [(row.state, row.pid) for row in ps.run(world).rows] == [("failed", None)]
    ended(world)
    assert ports.holder(port) is None
    assert config.read_text() == "[core]\n"
    assert store.wanted(world.home) == ()


def test_an_interrupt_stops_what_was_started(tmp_path: Path, port: int) -> None:
    world = little_world(tmp_path, engine=StubEngine(flags={"": ("--hang", "--children", "2")}))

    def interrupt() -> None:
        awaited(lambda: bool(ps.run(world).rows and ps.run(world).rows[0].pid))
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        up.run(world, request(port=port))
    assert [(row.state, row.pid) for row in ps.run(world).rows] == [("stopped", None)]
    ended(world)
    assert ports.holder(port) is None


def test_a_port_that_a_stranger_holds_is_named_before_anything_starts(world: World, port: int) -> None:
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(LauncherError, match=f"port {port} is in use by .*pid {os.getpid()}"),
    ):
        up.run(world, request(port=port))
    assert ps.run(world).rows == ()


def test_nobody_else_gets_the_port_while_environment_and_weights_come(world: World, port: int) -> None:
    def prepare(plan: Plan, progress: Progress) -> Prepared:
        awaited(lambda: store.listening(world.home) == (port, ""))
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind((ports.LOOPBACK, port))
        return world.prepare(plan, progress)

    up.run(replace(world, prepare=prepare), request(port=port))


def test_an_up_that_comes_to_nothing_keeps_no_port(world: World, port: int) -> None:
    def prepare(_: Plan, __: Progress) -> Prepared:
        raise LauncherError("no network")

    with pytest.raises(LauncherError, match="no network"):
        up.run(replace(world, prepare=prepare), request(port=port))
    ended(world)
    assert (store.port(world.home), ports.holder(port)) == (None, None)


def test_a_stranger_who_takes_the_port_meanwhile_is_not_asked_for_our_proof(world: World, port: int) -> None:
    # One that was chosen before: another one is not taken before the new model is there.
    up.run(world, request(port=port + 1))
    with socket.socket() as stranger:

        def prepare(plan: Plan, progress: Progress) -> Prepared:
            if stranger.getsockname()[1] == 0:
                stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                stranger.bind((ports.LOOPBACK, port))
                stranger.listen()
            return world.prepare(plan, progress)

        with pytest.raises(LauncherError, match=rf"port {port} is in use by .*\(pid {os.getpid()}\)"):
            up.run(replace(world, prepare=prepare), request(port=port))
    assert store.port(world.home) == port + 1


def test_the_port_is_chosen_once_and_kept(world: World, port: int) -> None:
    up.run(world, request(port=port))
    down.run(world, None)
    again = up.run(world, replace(request(port=port), port=None))
    assert again.endpoint.base_url == f"http://127.0.0.1:{port}/v1"


def test_a_config_that_is_not_toml_is_told_before_anything_starts(world: World, port: int) -> None:
    config = world.cwd / "config.toml"
    config.write_text("[llm\n")
    with pytest.raises(LauncherError, match="not valid TOML") as caught:
        up.run(world, request(port=port, wire=True))
    assert "--no-wire" in caught.value.hint
    assert config.read_text() == "[llm\n"
    assert ps.run(world).rows == ()


def test_unwire_gives_the_very_bytes_back(world: World, port: int) -> None:
    config = world.cwd / "config.toml"
    before = b'# mine\r\n[llm]\r\nmodel = "anthropic/claude" # paid\r\n\r\n[core]\r\n'
    config.write_bytes(before)
    config.chmod(0o640)
    up.run(world, request(port=port, wire=True))
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert tomllib.loads(config.read_text())["llm"]["model"] == "openai/tiny"
    unwire.run(world, TARGETS)
    assert config.read_bytes() == before
    assert stat.S_IMODE(config.stat().st_mode) == 0o640


def test_a_model_with_a_window_for_agents_is_wired_into_the_profile_store_too(tmp_path: Path, port: int) -> None:
    world = little_world(tmp_path, context=32_768)
    try:
        result = up.run(world, request(port=port, wire=True))
        profile = tmp_path / "home" / ".openhands" / "profiles" / "tiny.json"
        assert [edit.path for edit in result.edits] == [profile, world.home.openhands_config]
        assert json.loads(profile.read_text())["max_input_tokens"] == 22_118
        assert len(result.starts) == 2
    finally:
        down.run(world, None)


def test_a_dry_run_shows_everything_and_touches_nothing(world: World, port: int) -> None:
    result = up.dry_run(world, request(port=port, wire=True))
    told_json = json.loads(json.dumps(result.json()))
    assert f"--port {port}" in told_json["plan"]["command"]
    assert "+model = " in told_json["edits"][0]["diff"]
    assert "sk-local" not in json.dumps(told_json)
    assert not world.home.root.exists()
    assert list(world.cwd.iterdir()) == list(world.user_home.iterdir()) == []


def test_a_dead_engine_is_started_again_and_a_further_up_finds_it(world: World, port: int) -> None:
    up.run(world, request(port=port))
    row = ps.run(world).rows[0]
    assert row.pid
    os.kill(row.pid, signal.SIGKILL)
    awaited(lambda: ps.run(world).rows[0].pid not in {None, row.pid} and ps.run(world).rows[0].state == "ready")
    again = ps.run(world).rows[0]
    assert (again.server.restarts, again.words) == (1, "restarted once")
    assert up.run(world, request(port=port)).already


def test_no_key_stands_where_others_can_read_it(world: World, port: int) -> None:
    up.run(world, request(port=port, wire=True))
    key = keys.read(world.home.key)
    assert key
    row = ps.run(world).rows[0]
    shown = subprocess.run(["/bin/ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert key not in shown
    assert key not in row.server.log.read_text()
    for path in world.home.root.rglob("*"):
        if path.is_file() and key in path.read_text(errors="replace"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_two_ups_at_once_end_with_one_server(world: World, port: int) -> None:
    results = []
    threads = [threading.Thread(target=lambda: results.append(up.run(world, request(port=port)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.already for result in results) == [False, True]


def test_down_interrupts_an_up_that_is_at_work(tmp_path: Path, port: int) -> None:
    world = little_world(tmp_path)
    words = [sys.executable, "-m", "tests.hanging_up", str(tmp_path), str(port)]
    with subprocess.Popen(words, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL) as process:
        awaited(lambda: bool(ps.run(world).rows and ps.run(world).rows[0].pid))
        down.run(world, None)
        assert process.wait(20) != 0
    assert [(row.state, row.pid) for row in ps.run(world).rows] == [("stopped", None)]
    assert "it is interrupted" in told(world).said[0]
    assert ports.holder(port) is None


@pytest.mark.parametrize(
    ("asked", "already"),
    [
        pytest.param(ServerSpec(model="tiny", context=8192, engine="vllm"), True, id="the same in more words"),
        pytest.param(ServerSpec(model="tiny", tensor=1, pipeline=1), True, id="the layout that it has"),
        pytest.param(ServerSpec(model="tiny", context=4096), False, id="another context"),
        pytest.param(ServerSpec(model="tiny", memory_share=0.9), False, id="a share of the memory"),
        pytest.param(ServerSpec(model="tiny", sessions=1), False, id="fewer sessions"),
        pytest.param(ServerSpec(model="tiny", speculative=False), True, id="no draft heads, of which it has none"),
        pytest.param(ServerSpec(model="tiny", engine="vllm", engine_args=TOLD), False, id="options of the engine"),
    ],
)
def test_what_is_asked_for_is_compared_with_what_runs(world: World, port: int, asked: ServerSpec, *, already: bool) -> None:
    up.run(world, request(port=port))
    assert up.run(world, UpRequest(spec=asked, port=port)).already == already


@dataclass
class Interrupted(Told):
    """A person who presses ^C when a phase begins."""

    at: str = ""

    def phase(self, name: str) -> None:
        super().phase(name)
        if name == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("phase", ["environment", "engine", "proof", "wiring"])
def test_an_interrupt_in_any_phase_leaves_nothing_of_this_up(world: World, port: int, phase: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        up.run(replace(world, progress=Interrupted(at=phase)), request(port=port, wire=True))
    assert all(row.pid is None and row.state == "stopped" for row in ps.run(world).rows)
    ended(world)
    assert ports.holder(port) is None
    assert store.wanted(world.home) == ()
    assert apply.wired(TARGETS, world.home) == ()


def test_a_port_is_kept_only_once_something_serves_on_it(world: World, port: int) -> None:
    up.run(world, request(port=port, wire=True))
    other_port = port + 1
    broken = with_engine(world, StubEngine(flags={"other": ("--die", "ValueError: oh")}))
    with pytest.raises(LauncherError, match="ValueError: oh"):
        up.run(broken, request("other", port=other_port, wire=True))
    assert store.port(world.home) == port
    awaited(lambda: store.listening(world.home) == (port, ""))
    assert chat.run(chat.endpoint(world, "tiny"), "What is the capital of France?").answer == ANSWER


def test_without_wiring_no_file_of_the_old_model_is_touched(world: World, port: int) -> None:
    up.run(world, request(port=port, wire=True))
    wired = world.home.openhands_config.read_text()
    up.run(world, request("other", port=port))
    assert world.home.openhands_config.read_text() == wired


def test_a_gpu_whose_driver_tells_no_sizes_has_room_for_the_successor(tmp_path: Path, port: int) -> None:
    """As on WSL and with MIG: what our own server holds is known from its plan."""
    gpu, made = machine(1, 24.0).gpus[0], little_world(tmp_path, models=("tiny", "other"))

    def inventory() -> Inventory:
        free = GIB if running(made) else gpu.free
        return replace(machine(ram=16), gpus=(replace(gpu, free=free, processes=(GpuProcess(1, "?", 0),)),))

    world = replace(made, inventory=inventory)
    try:
        up.run(world, request(port=port))
        assert up.run(world, request(port=port)).already
    finally:
        down.run(world, None)


def test_the_stages_of_a_pipeline_are_claimed_each_and_kept_by_a_bare_up(tmp_path: Path, port: int) -> None:
    made = little_world(tmp_path)

    def inventory() -> Inventory:
        held = dict.fromkeys(range(3), sum(server.claim for server in running(made)))
        gpus = machine(3, 24.0).gpus
        return replace(machine(ram=16), gpus=tuple(replace(gpu, free=gpu.free - held.get(gpu.index, 0)) for gpu in gpus))

    world = replace(made, inventory=inventory)
    asked = ServerSpec(model="tiny", pipeline=3, kv_dtype="fp8")
    try:
        up.run(world, UpRequest(spec=asked, port=port))
        (server,) = store.seen(world.home)
        assert (server.gpus, server.tensor, server.pipeline, server.kv_dtype) == ((0, 1, 2), 1, 3, "fp8")
        assert server.claim > 0
        for again in (ServerSpec(model=""), asked, replace(asked, tensor=1, gpus=(0, 1, 2))):
            result = up.run(world, UpRequest(spec=again, port=port))
            assert result.already
            assert (result.plan.pipeline, len(result.plan.gpus), result.plan.kv_dtype) == (3, 3, "fp8")
    finally:
        down.run(world, None)


def test_in_the_foreground_a_down_from_elsewhere_is_no_fault(world: World, port: int) -> None:
    up.run(world, request(port=port))
    faults = []

    def stay() -> None:
        try:
            up.stay(world, "tiny", lambda: None)
        except LauncherError as fault:
            faults.append(fault)

    staying = threading.Thread(target=stay)
    staying.start()
    down.run(world, None)
    staying.join(5.0)
    assert (staying.is_alive(), faults) == (False, [])


def test_in_the_foreground_it_is_told_when_a_server_is_given_up(tmp_path: Path, port: int) -> None:
    engine = StubEngine()
    world = little_world(tmp_path, engine=engine)
    up.run(world, request(port=port))
    pid = ps.run(world).rows[0].pid
    assert pid
    engine.flags[""] = ("--die", "ValueError: No available memory for the cache blocks")
    with pytest.raises(LauncherError, match=r"tiny was given up: .*no memory is left for the KV cache"):
        up.stay(world, "tiny", lambda: os.kill(pid, signal.SIGKILL))
    row = ps.run(world).rows[0]
    assert (row.state, row.server.restarts, row.pid) == ("failed", POLICY.attempts, None)
    down.run(world, None)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 1}', '{"version": 2}', '{"version": 2, "spec": []}'])
def test_a_damaged_record_is_told_and_hides_no_other(world: World, port: int, content: str) -> None:
    up.run(world, request(port=port))
    damaged = world.home.state / "seen" / "zz.json"
    damaged.write_text(content)
    with pytest.raises(LauncherError, match=r"zz\.json is damaged"):
        ps.run(world)
    with pytest.raises(LauncherError, match=r"zz\.json is damaged"):
        down.run(world, None)
    damaged.unlink()
    assert [row.state for row in ps.run(world).rows] == ["stopped"]


@pytest.mark.parametrize("content", ['{"version": 1, "port": "x"}', '{"version": 1, "port": 99999}', '{"version": 1}'])
def test_a_damaged_port_is_told(world: World, content: str) -> None:
    (world.home.root / "state").mkdir(parents=True)
    (world.home.state / "port.json").write_text(content)
    with pytest.raises(LauncherError, match="it holds no port"):
        store.port(world.home)


def test_stopping_what_was_never_started_is_a_fault(world: World) -> None:
    world.home.make()
    with pytest.raises(LauncherError, match="tiny was never started"):
        down.run(world, "tiny")


def test_a_log_is_followed_line_by_line_to_the_engines_end(world: World, port: int) -> None:
    up.run(world, request(port=port))
    log = ps.run(world).rows[0].server.log
    written = log.read_text().splitlines()
    followed = logs.follow(world, "tiny", lines=2)
    assert [next(followed), next(followed)] == written[-2:]
    with log.open("a") as file:
        file.write("half")
        file.flush()
        file.write(" a line\nand another\n")
    assert [next(followed), next(followed)] == ["half a line", "and another"]
    down.run(world, None)
    assert all("Traceback" not in line for line in followed)


def test_the_logs_of_the_last_three_starts_are_kept_for_this_user_alone(world: World, port: int) -> None:
    for context in (1024, 2048, 3072, 4096):
        up.run(world, request(port=port, context=context))
    kept = sorted(world.home.logs.glob("tiny*"))
    assert [path.name for path in kept] == ["tiny.log", "tiny.log.1", "tiny.log.2"]
    for path, context in zip(kept, (4096, 3072, 2048), strict=True):
        assert f"Using max model len {context}" in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shown = logs.run(world, None, lines=200, previous=True)
    assert (shown.path, any("model len 3072" in line for line in shown.lines)) == (kept[1], True)


def test_a_start_before_the_first_has_no_log(world: World, port: int) -> None:
    up.run(world, request(port=port))
    with pytest.raises(LauncherError, match=r"tiny has no log at .*tiny\.log\.1"):
        logs.run(world, "tiny", lines=1, previous=True)


def planned_notes(world: World) -> tuple[str, ...]:
    outcome = plan.run(world, ServerSpec(model="tiny"), machine(ram=16)).outcome
    assert isinstance(outcome, Plan)
    return outcome.notes


def test_what_a_start_took_is_on_record_and_the_next_plan_says_so(world: World, port: int) -> None:
    assert not any("a start here" in note for note in planned_notes(world))
    result = up.run(world, request(port=port))
    (start,) = history.read(world.home)
    assert (start.setup.device, start.setup.engine, start.setup.model) == ("cpu", "vllm", "tiny")
    assert (start.context, start.planned) == (8192, result.plan.memory)
    assert start.measured.kv_tokens == KV_TOKENS
    # The stub is one process of Python.
    assert start.measured.peak
    assert 2**20 < start.measured.peak < 2**30
    assert any(note.startswith(f"a start here on {start.on} took 0.") for note in planned_notes(world))
    assert up.run(world, request(port=port)).already
    assert len(history.read(world.home)) == 1


def test_a_second_start_says_how_long_it_goes_on_by_what_the_first_one_took(world: World, port: int) -> None:
    slow = with_engine(world, StubEngine(flags={"": ("--pace", "weights=1.2", "--shards", "4")}))
    up.run(slow, request(port=port))
    (start,) = history.read(world.home)
    # The log is read ten times a second.
    assert start.seconds["weights"] >= 1.0
    assert not start.ahead
    loading = [each for each in told(world).updates if each[0] == "loading the weights"]
    assert {share for _, share, _ in loading} >= {25, 50, 75}
    assert {left for _, _, left in told(world).updates} == {None}
    down.run(world, None)
    told(world).updates.clear()
    up.run(slow, request(port=port))
    lefts = [left for words, _, left in told(world).updates if words != "ready" and left is not None]
    assert lefts[0] >= start.seconds["weights"]
    # Told at each quarter of the weights, which take 1.2 s.
    assert lefts[-1] <= lefts[0] - 0.6
    assert len(history.read(world.home)) == 2


def test_a_plan_that_went_by_earlier_starts_and_failed_is_not_made_again(world: World, port: int) -> None:
    up.run(world, request(port=port))
    down.run(world, None)
    (start,) = history.read(world.home)
    history.add(world.home, replace(start, measured=replace(start.measured, weights=2**20)))
    assert any(note.startswith("weights as measured here") for note in planned_notes(world))
    broken = with_engine(world, StubEngine(flags={"": ("--die", "ValueError: No available memory for the cache blocks.")}))
    with pytest.raises(LauncherError, match="no memory is left for the KV cache"):
        up.run(broken, request(port=port))
    assert history.read(world.home) == ()
    assert any("they are forgotten" in said for said in told(world).said)


def test_a_failure_that_nothing_was_learnt_for_keeps_the_record(world: World, port: int) -> None:
    up.run(world, request(port=port))
    down.run(world, None)
    before = history.read(world.home)
    with pytest.raises(LauncherError):
        up.run(with_engine(world, StubEngine(flags={"": ("--die", "ValueError: no")})), request(port=port))
    assert history.read(world.home) == before


def test_a_record_that_cannot_be_written_is_told_and_stops_nothing(world: World, port: int) -> None:
    world.home.starts.mkdir(parents=True)
    assert up.run(world, request(port=port)).exit_code == 0
    assert any("what this start took is not on record" in said for said in told(world).said)
    assert planned_notes(world)


def test_what_a_gpu_is_held_of_is_counted_by_the_servers_own_processes(world: World, port: int) -> None:
    def inventory() -> Inventory:
        """Two GPUs: ours hold 5 GiB of one and 3 of the other, a stranger as much as one can."""
        ours = [process for server in store.seen(world.home) if server.handle for process in local.processes(server.handle)]
        stranger = GpuProcess(1, "init", 9 * GIB)
        held = [(*(GpuProcess(pid, "engine", size * GIB) for pid in ours), stranger) for size in (5, 3)]
        two = machine(2, 24, compute=(9, 0))
        return replace(two, gpus=tuple(replace(gpu, processes=held[gpu.index]) for gpu in two.gpus))

    up.run(replace(world, inventory=inventory), UpRequest(spec=ServerSpec(model="tiny", tensor=1, pipeline=2), port=port))
    (start,) = history.read(world.home)
    assert (start.setup.device, start.setup.pipeline, start.measured.peak) == ("GPU, 24 GiB", 2, 5 * GIB)
