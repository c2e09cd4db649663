"""Engines in images: the words for docker, and servers in the containers of one that stands in for it."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from launcher import catalogue, environments, planner, processes, store
from launcher.commands import doctor, down, up
from launcher.commands.up import UpRequest
from launcher.engines.base import Site
from launcher.engines.registry import ENGINES
from launcher.environment import Environment, own_python
from launcher.errors import LauncherError
from launcher.finding import Finding
from launcher.gpu import GIB, GpuProcess, Inventory
from launcher.home import Home
from launcher.plan import Plan, Wish
from launcher.prepared import Prepared
from launcher.progress import Progress
from launcher.release import Release
from launcher.runners import local
from launcher.runners.base import Handle
from launcher.runners.docker import DROPPED, Box, Docker, command, read_by
from launcher.server import Server, ServerSpec, Wanted
from launcher.serving import as_planned, plan_now
from launcher.supervisor import Supervisor
from launcher.world import World
from tests.docker_for_tests import REFERENCE, SIZE, TAG, OwnDocker
from tests.machines_for_tests import machine
from tests.ports_for_tests import own_port
from tests.world import POLICY, ended, little_world

PROFILES = catalogue.load_all([catalogue.shipped()])
WEIGHTS = Path("/hub/models--org--coder/snapshots/0f")
SITE = Site(python=Path("/none"), weights=WEIGHTS, host="127.0.0.1", port=12_345, api_key="sk-of-nobody")
BOX = Box(REFERENCE, "unix:///run/docker.sock", Home(Path("/home/u/launcher")), "vllm-0.32.0-image", "5c1f")
MIG = "MIG-8a1e25ce-7c4f-5b1e-9d2c-0a1b2c3d4e5f"
SLICE = replace(machine(1, 79.25), gpus=(replace(machine(1, 79.25).gpus[0], uuid=MIG),))


def planned(engine: str, inventory: Inventory, model: str = "openhands-lm-32b", *, can_sleep: bool = False) -> Plan:
    outcome = planner.plan(PROFILES[model], inventory, ENGINES, Wish(engine=engine, can_sleep=can_sleep))
    assert isinstance(outcome, Plan), outcome
    return outcome


def following(words: tuple[str, ...], option: str) -> list[str]:
    """What stands behind each such option."""
    return [after for word, after in pairwise(words) if word == option]


def split(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What docker is told, and what the engine is."""
    place = words.index(BOX.image)
    return words[:place], words[place + 1 :]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("inventory", "gpus"),
    [
        pytest.param(machine(1, 79.25), '"device=GPU-GPU-0"', id="one GPU"),
        pytest.param(machine(2, 79.25), '"device=GPU-GPU-0,GPU-GPU-1"', id="two GPUs, in quotes for docker's CSV"),
        pytest.param(SLICE, f'"device={MIG}"', id="a slice of one"),
    ],
)
def test_a_container_sees_the_plans_gpus_and_a_port_of_loopback(engine: str, inventory: Inventory, gpus: str) -> None:
    plan = planned(engine, inventory)
    made = command(ENGINES[engine], plan, SITE, BOX, reads=(WEIGHTS,))
    told, inside = split(made.argv)
    assert told[:4] == ("docker", "--host", BOX.daemon, "run")
    assert {"--rm", "--init"} <= set(told)
    assert following(told, "--pull") == ["never"]
    assert following(told, "--gpus") == [gpus]
    assert following(told, "--publish") == ["127.0.0.1:12345:12345"]
    assert following(told, "--name") == ["launcher-5c1f"]
    assert following(told, "--label") == ["launcher.home=/home/u/launcher", "launcher.server=5c1f"]
    assert following(told, "--log-driver") == ["none"]
    assert following(told, "--security-opt") == ["no-new-privileges"]
    assert following(told, "--cap-drop") == list(DROPPED)
    assert not {"--privileged", "--network", "--ipc", "--user"} & set(told)
    # Inside, it is the plan as every other form of it tells it.
    assert following(inside, "--host") == ["0.0.0.0"]  # noqa: S104 - of a container's own network
    assert following(inside, "--tensor-parallel-size") == [str(plan.tensor)]
    assert str(WEIGHTS) in inside


@pytest.mark.parametrize(("engine", "key"), [("vllm", "VLLM_API_KEY"), ("sglang", "SGLANG_API_KEY")])
def test_the_key_is_in_no_word_and_the_hub_is_not_asked(engine: str, key: str) -> None:
    made = command(ENGINES[engine], planned(engine, machine(1, 79.25)), SITE, BOX, reads=(WEIGHTS,))
    assert not [word for word in made.argv if SITE.api_key in word]
    assert made.secrets == {key: SITE.api_key}
    told = following(split(made.argv)[0], "--env")
    assert {key, "LAUNCHER_SERVER_ID", "HF_HUB_OFFLINE=1", "TRITON_CACHE_DIR=/caches/triton"} <= set(told)
    assert not [each for each in told if each.startswith("CUDA_VISIBLE_DEVICES")]


@pytest.mark.parametrize(
    ("engine", "word"),
    [
        pytest.param("vllm", "--enable-sleep-mode", id="vLLM, whose development endpoints put it to sleep"),
        pytest.param("sglang", "--enable-memory-saver", id="SGLang"),
    ],
)
def test_one_that_can_sleep_can_do_so_in_an_image(engine: str, word: str) -> None:
    made = command(ENGINES[engine], planned(engine, machine(1, 79.25), can_sleep=True), SITE, BOX, reads=(WEIGHTS,))
    told, inside = split(made.argv)
    assert word in inside
    assert ("VLLM_SERVER_DEV_MODE=1" in following(told, "--env")) is (engine == "vllm")


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        pytest.param("/w/one", "type=bind,src=/w/one,dst=/w/one,readonly", id="a plain folder"),
        pytest.param("/w/a,b", 'type=bind,"src=/w/a,b","dst=/w/a,b",readonly', id="a comma is no end of a field"),
        pytest.param('/w/"x"', 'type=bind,"src=/w/""x""","dst=/w/""x""",readonly', id="nor is a quotation mark"),
    ],
)
def test_weights_are_mounted_read_only_where_they_lie(path: str, mount: str) -> None:
    made = command(ENGINES["vllm"], planned("vllm", machine(1, 79.25)), SITE, BOX, reads=(Path(path),))
    first, caches = following(made.argv, "--mount")
    assert first == mount
    # Of the home, so that two homes do not share one; of docker's own, since root writes there.
    assert caches == f"type=volume,src={BOX.volume},dst=/caches"
    assert BOX.volume != replace(BOX, home=Home(Path("/other"))).volume


def hub_cache(root: Path) -> tuple[Path, set[Path]]:
    """As the hub's client makes it."""
    repo = root / "models--org--tiny"
    snapshot = repo / "snapshots" / "0f"
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    (repo / "blobs" / "ab12").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/ab12")
    return snapshot, {snapshot, repo / "blobs"}


def linked_twice(root: Path) -> tuple[Path, set[Path]]:
    """A cache whose blobs are links to another disk."""
    snapshot, needed = hub_cache(root)
    (root / "disk").mkdir()
    blob = snapshot.parents[1] / "blobs" / "ab12"
    blob.rename(root / "disk" / "ab12")
    blob.symlink_to(root / "disk" / "ab12")
    return snapshot, needed | {root / "disk"}


def plain(root: Path) -> tuple[Path, set[Path]]:
    (root / "model" / "sub").mkdir(parents=True)
    (root / "model" / "sub" / "w.safetensors").write_text("")
    (root / "model" / "config.json").symlink_to("sub/w.safetensors")
    return root / "model", {root / "model"}


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(hub_cache, id="a snapshot of the hub's cache and its blobs"),
        pytest.param(linked_twice, id="where links lead on to"),
        pytest.param(plain, id="a folder with all in it"),
    ],
)
def test_what_links_lead_to_is_mounted_too(made: Callable[[Path], tuple[Path, set[Path]]], tmp_path: Path) -> None:
    weights, needed = made(tmp_path)
    assert set(read_by(weights)) == needed


# -- life and death --


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnDocker]:
    made = OwnDocker.make(tmp_path / "docker")
    yield made
    made.clear()


@pytest.fixture
def world(tmp_path: Path, own: OwnDocker) -> Iterator[World]:
    """A machine with one GPU, whose vLLM is an image; the GPU's memory is held by whom docker calls a container's."""
    base = little_world(tmp_path)
    place = base.home.make().environments / "vllm-0-image"
    there = Environment(
        place.name, place, own_python(place), "vllm", "cuda", Release("0"), made=1.0, size=SIZE, image=REFERENCE, tag=TAG
    )
    environments.adopt(base.home, replace(there, daemon=own.daemon))
    store.choose(base.home, "vllm-cuda", place.name)
    prepared = Prepared(
        place, there.python, tmp_path / "weights", base.home.caches, version="0", image=REFERENCE, daemon=own.daemon
    )

    def prepare(_: Plan, progress: Progress) -> Prepared:
        progress.phase("environment")
        return prepared

    runner = Docker(own.env)
    gpu = machine(1, 24.0).gpus[0]

    def inventory() -> Inventory:
        handles = [server.handle for server in store.look(base.home)[0] if server.handle]
        pids = [pid for handle in handles for pid in set(runner.processes(handle)) - set(local.processes(handle))]
        held = tuple(GpuProcess(pid, "VLLM::EngineCore", int(20 * GIB) // len(pids)) for pid in pids)
        return replace(machine(ram=16), gpus=(replace(gpu, free=gpu.free - sum(each.used for each in held), processes=held),))

    made = replace(base, env=own.env, runner=runner, expect=lambda _: prepared, prepare=prepare, inventory=inventory)
    yield made
    own.heals()
    down.run(made, None)
    ended(made)
    assert own.containers() == set()


def started(world: World) -> Server:
    up.run(world, UpRequest(spec=ServerSpec(model="tiny"), port=own_port()))
    return seen(world)


def seen(world: World) -> Server:
    server = store.find(world.home, "tiny")
    assert server
    assert server.handle
    return server


def handle_of(server: Server) -> Handle:
    assert server.handle
    return server.handle


def awaited(happened: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_new(world: World, old: Server) -> bool:
    found = store.find(world.home, "tiny")
    return found is not None and found.state == "ready" and found.handle != old.handle


def test_a_server_in_an_image_is_one_as_any_other(world: World, own: OwnDocker) -> None:
    server = started(world)
    handle = handle_of(server)
    assert (handle.container, handle.daemon) == (f"launcher-{handle.server_id}", own.daemon)
    assert own.containers() == {handle.container}
    # Docker alone knows what runs there, and what holds the GPU's memory is known as ours.
    inside = set(world.runner.processes(handle)) - set(local.processes(handle))
    assert len(inside) == len(("an engine", "its worker"))
    assert {each.pid for gpu in world.inventory().gpus for each in gpu.processes} == inside
    assert {pid for pid, _ in server.members} >= inside
    # A container's shared memory is its own: an inode of it may be somebody else's here.
    assert server.shared == ()
    assert "Application startup complete" in server.log.read_text()
    assert not world.home.spares.exists()
    down.run(world, None)
    ended(world)
    assert own.containers() == set()
    assert not any(processes.lives(pid, started) for pid, started in server.members)


def test_a_program_of_dockers_that_is_killed_leaves_no_container_and_another_is_started(world: World, own: OwnDocker) -> None:
    server = started(world)
    os.kill(handle_of(server).pid, signal.SIGKILL)
    # What it ran goes on, as under docker itself.
    assert own.containers() == {handle_of(server).container}
    awaited(lambda: is_new(world, server))
    assert own.containers() == {handle_of(seen(world)).container}
    assert seen(world).restarts == 1
    assert not any(processes.lives(pid, started) for pid, started in server.members)


def test_an_engine_that_ends_in_its_container_is_started_anew(world: World, own: OwnDocker) -> None:
    server = started(world)
    os.kill(own.first(handle_of(server).container), signal.SIGKILL)
    awaited(lambda: is_new(world, server))
    # Docker's program ends with 137 for it, as a shell would.
    assert own.containers() == {handle_of(seen(world)).container}


def supervised(world: World, until: Callable[[], bool]) -> Supervisor:
    """A supervisor that is at work until then; what it started goes on."""
    made, deadline = Supervisor(world, policy=POLICY), time.monotonic() + 30
    made.run(lambda: until() or time.monotonic() > deadline, stay=True)
    assert until()
    return made


def test_a_new_supervisor_adopts_what_runs_and_ends_what_is_left_of_a_start(world: World, own: OwnDocker) -> None:
    plan, prepared = plan_now(world, ServerSpec("tiny")), world.expect(None)  # type: ignore[arg-type]  # it looks at none
    env = dict(own.env)
    store.want(world.home, Wanted(ServerSpec("tiny"), "one", as_planned(ServerSpec("tiny"), plan), prepared, env, spare=False))
    supervised(world, lambda: (found := store.find(world.home, "tiny")) is not None and found.state == "ready")
    server, begun = seen(world), time.monotonic()
    supervised(world, lambda: time.monotonic() > begun + 3 * POLICY.idle)
    assert handle_of(seen(world)) == handle_of(server)
    # As one was killed between the record of a start and docker's program: what has the name is found without a pid.
    os.kill(handle_of(server).pid, signal.SIGKILL)
    store.see(world.home, replace(server, state="starting", handle=replace(handle_of(server), pid=0, started=0.0)))
    last = supervised(world, lambda: is_new(world, server))
    assert own.containers() == {handle_of(seen(world)).container} != {handle_of(server).container}
    last.close()
    assert own.containers() == set()


def test_what_docker_cannot_end_is_not_taken_for_ended(world: World, own: OwnDocker) -> None:
    server = started(world)
    own.fails("ps", "Cannot connect to the Docker daemon at unix:///run/docker.sock. Is the docker daemon running?\n")
    with pytest.raises(LauncherError, match="docker's daemon does not run"):
        world.runner.stop(handle_of(server), grace=1)
    own.heals()
    awaited(lambda: is_new(world, server))


def test_processes_of_a_docker_that_hangs_are_not_waited_for(world: World, own: OwnDocker) -> None:
    server = started(world)
    own.fails("top", seconds=60)
    began = time.monotonic()
    assert world.runner.processes(handle_of(server)) == local.processes(handle_of(server)) != ()
    assert time.monotonic() - began < 10
    own.heals()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(
            'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].\n',
            "docker knows no NVIDIA runtime",
            id="no runtime for GPUs",
        ),
        pytest.param(
            'docker: Error response from daemon: invalid mount config for type "bind": bind source path does not exist: /w.\n'
            "\nRun 'docker run --help' for more information\n",
            "docker did not start the container: invalid mount config",
            id="what nobody foresaw",
        ),
    ],
)
def test_a_container_that_docker_does_not_start_is_told_with_its_cause(
    world: World, own: OwnDocker, text: str, told: str
) -> None:
    own.fails("run", text, code=125)
    with pytest.raises(LauncherError, match=f"vllm did not start: {told}") as fault:
        up.run(world, UpRequest(spec=ServerSpec(model="tiny"), port=own_port()))
    assert "the whole log" in fault.value.hint


def test_an_image_that_is_gone_is_told_and_not_fetched_unasked(world: World, own: OwnDocker) -> None:
    own.keep("images", {})
    with pytest.raises(LauncherError, match=f"docker does not have the image {REFERENCE}") as fault:
        up.run(world, UpRequest(spec=ServerSpec(model="tiny"), port=own_port()))
    assert "launcher engines check" in fault.value.hint
    assert own.said("pull") == []


def test_without_docker_a_start_says_so(world: World, tmp_path: Path) -> None:
    bare = replace(world, env={"PATH": str(tmp_path / "nowhere")})
    with pytest.raises(LauncherError, match="there is no `docker` on the PATH"):
        up.run(bare, UpRequest(spec=ServerSpec(model="tiny"), port=own_port()))


def test_the_doctor_tells_of_docker_and_of_what_no_server_has_any_more(world: World, own: OwnDocker, tmp_path: Path) -> None:
    def told() -> list[Finding]:
        return [each for each in doctor.run(world).findings if each.title in {"docker", "orphans"}]

    server = started(world)
    assert [(each.level, each.detail) for each in told()] == [
        ("pass", "docker 28.3.2 has vllm-0-image"),
        ("pass", "no process is left of a server that ended"),
    ]
    box = Box(REFERENCE, own.daemon, world.home, "vllm-0-image", "forgotten")
    plan, log = plan_now(world, ServerSpec("tiny"), [server]), world.home.logs / "forgotten.log"
    words = command(world.engines["vllm"], plan, replace(SITE, port=own_port()), box, reads=(tmp_path,))
    started_too = world.runner.start(words, log=log, server_id="forgotten", environment=tmp_path, inherited=own.env)
    awaited(lambda: box.name in own.containers())
    os.kill(started_too.pid, signal.SIGKILL)
    assert [(each.detail, each.remedy) for each in told() if each.level == "warn"] == [
        ("left of servers that ended: 1 container", f"docker rm --force {box.name}")
    ]
    world.runner.stop(replace(started_too, container=box.name, daemon=own.daemon), grace=1)
    assert own.containers() == {handle_of(server).container}
