"""A supervisor and its servers: real processes of the stub engine, harmed as engines are."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from launcher import ports, processes, store
from launcher.command import Command
from launcher.commands import down, ps, swap, up
from launcher.commands.swap import SwapRequest
from launcher.commands.up import UpRequest
from launcher.engines.base import Site
from launcher.errors import LauncherError
from launcher.gpu import GIB, GpuProcess, Inventory
from launcher.launching import end
from launcher.plan import Plan
from launcher.runners import local
from launcher.server import Server, ServerSpec, Wanted
from launcher.supervisor import Supervisor
from launcher.world import World
from tests.machines_for_tests import machine
from tests.ports_for_tests import own_port
from tests.world import POLICY, StubEngine, ended, little_world

CORES = ("--children", "1", "--workers", "1")


@pytest.fixture
def port() -> int:
    return own_port()


def awaited(happened: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def started(world: World, port: int) -> Server:
    """The server of a model that `up` started, proven."""
    up.run(world, UpRequest(spec=ServerSpec(model="tiny"), port=port, spare=False))
    return seen(world)


def seen(world: World) -> Server:
    server = store.find(world.home, "tiny")
    assert server
    return server


def pid_of(server: Server) -> int:
    assert server.handle
    return server.handle.pid


def is_new(world: World, old: Server) -> bool:
    now = seen(world)
    return now.state == "ready" and now.handle is not None and now.handle != old.handle


@dataclass
class Apart:
    """Supervisors in processes of their own, one after another, as the one that `up` starts in the background."""

    root: Path
    flags: tuple[str, ...] = ()
    process: "subprocess.Popen[bytes] | None" = None
    begun: int = 0

    def attend(self, _: World) -> None:
        if self.process is None or self.process.poll() is not None:
            words = [sys.executable, "-m", "tests.serving_alone", str(self.root), *self.flags]
            self.process = subprocess.Popen(words, cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL)
            self.begun += 1

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Apart]:
    made = Apart(tmp_path, CORES)
    yield made
    down.run(world_of(made), None)
    assert made.process
    made.process.wait(30)


def world_of(apart: Apart) -> World:
    return replace(little_world(apart.root, models=("tiny", "other")), attend=apart.attend)


def test_a_supervisor_that_is_killed_is_followed_by_one_that_adopts_what_runs(apart: Apart, port: int) -> None:
    world = world_of(apart)
    server = started(world, port)
    members = local.processes(server.handle) if server.handle else ()
    apart.kill()
    assert local.processes(server.handle or pytest.fail("no handle")) == members
    assert up.run(world, UpRequest(spec=ServerSpec(model="tiny"), port=port)).already
    assert apart.begun == 2
    # The second one looks after it as the first one did.
    os.kill(pid_of(server), signal.SIGKILL)
    awaited(lambda: is_new(world, server))
    assert seen(world).restarts == 1
    assert all(not processes.lives(pid, started) for pid, started in server.members)


def test_a_supervisor_that_is_killed_in_the_middle_of_a_start_is_followed_by_one_that_goes_on(apart: Apart, port: int) -> None:
    apart.flags = (*CORES, "--pace", "weights=2")
    world = world_of(apart)
    request = UpRequest(spec=ServerSpec(model="tiny"), port=port, spare=False)

    def harm() -> None:
        awaited(lambda: bool(store.find(world.home, "tiny") and seen(world).phase.startswith("loading")))
        apart.kill()

    with Beside(harm):
        up.run(world, request)
    assert (apart.begun, seen(world).restarts, seen(world).state) == (2, 0, "ready")
    assert len([line for line in seen(world).log.read_text().splitlines() if "Starting vLLM server" in line]) == 1


def test_a_supervisor_that_is_killed_in_the_middle_of_a_swap_is_followed_by_one_that_goes_on(apart: Apart, port: int) -> None:
    apart.flags = (*CORES, "--pace", "weights=1")
    world = world_of(apart)
    world = replace(world, engines={name: StubEngine(NAME=name) for name in ("vllm", "sglang")})
    up.run(world, UpRequest(spec=ServerSpec("tiny", engine="vllm"), port=port, spare=False))

    def harm() -> None:
        awaited(lambda: any(each.engine == "sglang" and each.phase.startswith("loading") for each in store.look(world.home)[0]))
        apart.kill()

    with Beside(harm):
        result = swap.run(world, SwapRequest("sglang"))
    assert (apart.begun, result.kind, result.exit_code) == (2, "beside", 0)
    awaited(lambda: [(each.engine, each.state) for each in store.look(world.home)[0]] == [("sglang", "ready")])


class Beside:
    """Something that is done in a thread while the block runs."""

    def __init__(self, act: Callable[[], None]) -> None:
        import threading

        self.thread = threading.Thread(target=act)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.thread.join()


@pytest.mark.parametrize("whom", ["leader", "core", "worker"])
def test_whichever_process_is_killed_it_answers_again_and_nothing_is_left(tmp_path: Path, port: int, whom: str) -> None:
    world = little_world(tmp_path, engine=StubEngine(flags={"": CORES}))
    server = started(world, port)
    leader, core, worker = (pid for pid, _ in sorted(server.members))
    os.kill({"leader": leader, "core": core, "worker": worker}[whom], signal.SIGKILL)
    awaited(lambda: is_new(world, server))
    assert all(not processes.lives(pid, started) for pid, started in server.members)
    assert len(seen(world).members) == 3
    down.run(world, None)
    ended(world)
    assert ports.holder(port) is None


def test_an_engine_that_says_it_is_well_and_generates_nothing_is_started_anew(tmp_path: Path, port: int) -> None:
    control = tmp_path / "control"
    world = little_world(tmp_path, engine=StubEngine(flags={"": ("--control", str(control))}))
    server = started(world, port)
    with control.open("a") as file:
        file.write("mute\n")
    awaited(lambda: is_new(world, server) or seen(world).state == "waiting")
    awaited((tmp_path / "control.done").exists)
    control.unlink()
    awaited(lambda: is_new(world, server))
    assert seen(world).restarts >= 1
    down.run(world, None)


@dataclass
class Robbed(StubEngine):
    """An engine whose first start finds that another one, with another key, has come to its port before it."""

    robber: "subprocess.Popen[bytes] | None" = None
    port: int = 0
    other: int = 0

    def command(self, plan: Plan, site: Site) -> Command:
        made = super().command(plan, site)
        if self.robber is not None:
            return super().command(plan, replace(site, port=self.other)) if site.port == self.port else made
        self.port, self.other = site.port, own_port()
        env = {**os.environ, "VLLM_API_KEY": "sk-of-somebody-else"}
        self.robber = subprocess.Popen(made.argv, env=env, stdout=subprocess.DEVNULL)
        return super().command(plan, replace(site, port=self.other))


def test_an_engine_whose_port_somebody_else_has_taken_is_started_on_another_one(tmp_path: Path, port: int) -> None:
    engine = Robbed()
    world = little_world(tmp_path, engine=engine)
    server = started(world, port)
    assert engine.robber
    assert (server.state, engine.robber.poll()) == ("ready", None)
    engine.robber.kill()
    engine.robber.wait()
    down.run(world, None)


def test_an_idle_server_is_asked_now_and_then_and_left_alone(tmp_path: Path, port: int) -> None:
    world = little_world(tmp_path)
    server = started(world, port)

    def asked() -> int:
        return sum("/v1/chat/completions" in line for line in server.log.read_text().splitlines())

    before = asked()
    awaited(lambda: asked() > before + 1)
    assert pid_of(seen(world)) == pid_of(server)
    down.run(world, None)


def test_nothing_is_started_while_the_hosts_memory_would_not_hold_it(tmp_path: Path, port: int) -> None:
    room = [16.0]
    world = replace(little_world(tmp_path), inventory=lambda: machine(ram=room[0]))
    server = started(world, port)
    room[0] = 0.5
    os.kill(pid_of(server), signal.SIGKILL)
    awaited(lambda: seen(world).state == "waiting" and "cannot run here" in seen(world).detail)
    assert seen(world).restarts == 1
    assert "starts again in" in ps.run(world).rows[0].words
    room[0] = 16.0
    awaited(lambda: is_new(world, server))
    down.run(world, None)


# As vLLM 0.32 says it: tests/samples/vllm/kv-context.log.
TOO_LONG = (
    "ValueError: To serve at least one request with the model's max seq len (8192), (0.18 GiB KV cache is needed, which is"
    " larger than the available KV cache memory (0.11 GiB). Based on the available memory, the estimated maximum model length"
    " is 5000."
)


class Tight(StubEngine):
    """An engine whose memory holds less than was planned."""

    def command(self, plan: Plan, site: Site) -> Command:
        told = super().command(plan, site)
        return replace(told, argv=(*told.argv, "--die", TOO_LONG)) if plan.context > 5000 else told


def test_a_window_that_does_not_fit_is_tried_once_with_what_fits_and_that_is_told(tmp_path: Path, port: int) -> None:
    world = little_world(tmp_path, engine=Tight())
    result = up.run(world, UpRequest(spec=ServerSpec(model="tiny"), port=port, spare=False))
    assert result.endpoint.context == seen(world).context == 4096
    assert any(note.startswith("4,096 tokens of context instead of 8,192: ") for note in result.notes)
    # The next start does not try the larger one again.
    server = seen(world)
    os.kill(pid_of(server), signal.SIGKILL)
    awaited(lambda: is_new(world, server))
    assert (seen(world).context, seen(world).restarts) == (4096, 1)
    assert up.run(world, UpRequest(spec=ServerSpec(model=""), port=port)).already
    down.run(world, None)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        pytest.param(signal.SIGKILL, "the engine was killed", id="killed by somebody"),
        pytest.param(signal.SIGSEGV, "the engine was ended by signal 11", id="crashed"),
    ],
)
def test_how_an_engine_ended_is_told_where_its_log_does_not(tmp_path: Path, port: int, number: int, told: str) -> None:
    world = little_world(tmp_path)
    server = started(world, port)
    os.kill(pid_of(server), number)
    awaited(lambda: seen(world).state == "waiting")
    assert seen(world).detail.startswith(f"vllm ended: {told}")
    down.run(world, None)


def test_a_low_disk_or_memory_is_told_while_it_is_so(tmp_path: Path, port: int) -> None:
    room = [16.0]
    whole = machine(ram=16)

    def inventory() -> Inventory:
        return replace(whole, ram=replace(whole.ram, available=int(room[0] * GIB)))

    world = replace(little_world(tmp_path), inventory=inventory)
    started(world, port)
    room[0] = 0.2
    awaited(lambda: "of the host's memory" in ps.run(world).rows[0].words)
    assert seen(world).state == "ready"
    room[0] = 16.0
    awaited(lambda: ps.run(world).rows[0].words == "")
    down.run(world, None)


def test_two_homes_that_serve_the_same_model_never_meet(tmp_path: Path, port: int) -> None:
    worlds = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        worlds.append(little_world(tmp_path / name, engine=StubEngine(flags={"": CORES})))
    one, two = worlds
    first, second = started(one, port), started(two, port + 1)
    os.kill(pid_of(first), signal.SIGKILL)
    awaited(lambda: is_new(one, first))
    assert all(processes.lives(pid, begun) for pid, begun in second.members)
    down.run(one, None)
    assert all(processes.lives(pid, begun) for pid, begun in second.members)
    assert (seen(two).state, seen(two).restarts) == ("ready", 0)
    down.run(two, None)


def test_one_that_is_told_to_end_ends_its_servers_and_the_next_one_brings_them_back(tmp_path: Path, port: int) -> None:
    world = little_world(tmp_path, engine=StubEngine(flags={"": CORES}))
    server = started(world, port)
    down.run(world, None)
    ended(world)
    other = replace(world, attend=lambda _: None)
    want = replace(store_want(world, server), ask="again")
    store.want(world.home, want)
    supervisor = Supervisor(other, policy=POLICY)
    supervisor.run(lambda: seen(world).state == "ready", stay=True)
    pids = [pid for pid, _ in seen(world).members]
    supervisor.close()
    assert (seen(world).state, seen(world).handle) == ("stopped", None)
    assert not any(processes.start_time(pid) and processes.look(pid, tmp_path) for pid in pids)
    assert [each.name for each in store.wanted(world.home)] == ["tiny"]
    again = Supervisor(other, policy=POLICY)
    again.run(lambda: seen(world).state == "ready", stay=True)
    again.close()
    store.unwant(world.home, "tiny")


def store_want(world: World, server: Server) -> Wanted:
    """A wish for what ran, as `up` wrote it."""
    return Wanted(server.spec, "ask", server.planned, world.expect(None), {}, spare=False)  # type: ignore[arg-type]


def test_a_fault_of_ours_in_one_start_is_told_and_ends_nothing(tmp_path: Path, port: int) -> None:
    def broken() -> Inventory:
        if "tiny" in [want.name for want in store.wishes(world.home)[0]]:
            raise ZeroDivisionError
        return machine(ram=16)

    world = replace(little_world(tmp_path), inventory=broken)
    with pytest.raises(LauncherError, match="a fault of the launcher: ZeroDivisionError") as caught:
        up.run(world, UpRequest(spec=ServerSpec(model="tiny"), port=port))
    assert str(world.home.serve_log) in caught.value.hint


def test_a_wish_that_cannot_be_read_ends_nothing(tmp_path: Path, port: int) -> None:
    world = little_world(tmp_path)
    server = started(world, port)
    path = world.home.state / "wanted" / "tiny.json"
    kept = path.read_text()
    path.write_text("{")
    time.sleep(1.0)
    assert processes.lives(pid_of(server), server.handle.started if server.handle else 0.0)
    path.write_text(kept)
    down.run(world, None)


@dataclass
class Card:
    """A GPU whose memory comes back some looks after its holder is gone."""

    holder: tuple[int, ...]
    late: int
    tells: bool
    looks: int = 0
    free: list[float] = field(default_factory=list)

    def inventory(self) -> Inventory:
        gone = not any(processes.start_time(pid) and processes.look(pid, Path("/")) for pid in self.holder)
        self.looks += gone
        free = 20 * GIB if self.looks > self.late else 2 * GIB
        self.free.append(free)
        whole = machine(1, 24.0)
        held = () if gone else (GpuProcess(self.holder[0], "engine", 18 * GIB if self.tells else 0),)
        return replace(whole, gpus=(replace(whole.gpus[0], free=free, processes=held),))


@pytest.mark.parametrize("tells", [pytest.param(True, id="as the driver tells"), pytest.param(False, id="as it was planned")])
def test_the_memory_of_the_gpu_is_waited_for_before_an_end_is_one(tmp_path: Path, port: int, *, tells: bool) -> None:
    world = little_world(tmp_path)
    server = replace(started(world, port), gpus=(0,), claim=18 * GIB)
    card = Card(tuple(pid for pid, _ in server.members), late=3, tells=tells)
    assert end(replace(world, inventory=card.inventory), server) == ""
    assert (card.looks, card.free[-1]) == (4, 20 * GIB)
    store.unwant(world.home, "tiny")
    down.run(world, None)
