"""A real Ray cluster of three nodes on one machine, and vLLM for CPUs on it: replicas, and one server over all three."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import openai
import psutil
import pytest

from tests.ports_for_tests import own_port
from tests.real.conftest import Machine
from tests.real.test_a_day import QUESTION

pytestmark = pytest.mark.real

NAME = "smollm2-135m"
# What Ray is told that a node has: a replica takes a whole one, and three ranks on two cores would wait for one another.
CPUS = 1
# Who asks, and how long each waits before it asks again: engines that start need the same cores.
SESSIONS, PAUSE = 3, 1.0


def ip(*words: str, check: bool = True) -> str:
    """What `ip` prints; raises where it fails."""
    program = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or "ip"
    return subprocess.run([program, *words], check=check, capture_output=True, text=True).stdout


@dataclass
class Cluster:
    """Nodes in network namespaces, on a bridge that this machine has an address of; the head is here and computes nothing."""

    ray: Path
    folder: Path

    def __post_init__(self) -> None:
        self.head: subprocess.Popen[bytes] | None = None
        self.nodes: dict[int, subprocess.Popen[bytes]] = {}
        self.tag = f"l{os.getpid() % 100_000}"
        self.net = f"10.{os.getpid() % 100 + 100}.{os.getpid() // 100 % 250}"
        self.port = own_port()

    @property
    def address(self) -> str:
        return f"{self.net}.1:{self.port}"

    def host(self, node: int) -> str:
        return f"{self.net}.{10 + node}"

    def __enter__(self) -> Self:
        try:
            ip("link", "add", self.tag, "type", "bridge")
            ip("address", "add", f"{self.net}.1/24", "dev", self.tag)
            ip("link", "set", self.tag, "up")
            for node in (1, 2, 3):
                self._namespace(node)
        except (OSError, subprocess.CalledProcessError) as fault:
            self._take_down()
            pytest.skip(f"three nodes need network namespaces, and none can be made here: {fault}")
        words = ("--head", f"--port={self.port}", "--num-cpus=0", "--include-dashboard=false")
        self.head = self._start((), f"{self.net}.1", *words, f"--temp-dir={self.folder / 'r'}")
        awaited(lambda: b"Ray runtime started" in self._printed(f"{self.net}.1"), 60)
        for node in (1, 2, 3):
            self.begin(node)
        return self

    def __exit__(self, *_: object) -> None:
        for node in (1, 2, 3):
            self.kill(node)
        if self.head:
            self.head.terminate()
            self.head.wait(timeout=60)
        self._take_down()

    def begin(self, node: int) -> None:
        """Start Ray on a node."""
        within = ("ip", "netns", "exec", f"{self.tag}n{node}")
        # Two that start at once on a small machine may be too late for Ray.
        for _ in range(3):
            (self.folder / f"{self.host(node)}.log").unlink(missing_ok=True)
            started = self._start(within, self.host(node), f"--address={self.address}", f"--num-cpus={CPUS}")
            self.nodes[node] = started
            if self._came_up(started, self.host(node)):
                return
        raise AssertionError(self._printed(self.host(node)))

    def _came_up(self, started: "subprocess.Popen[bytes]", host: str) -> bool:
        awaited(lambda: started.poll() is not None or b"Ray runtime started" in self._printed(host), 90)
        return started.poll() is None

    def kill(self, node: int) -> None:
        """As if it had lost its power: no process of it ends in order."""
        while pids := self.pids(node):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        if started := self.nodes.pop(node, None):
            started.wait()

    def pids(self, node: int) -> list[int]:
        """The processes of a node that live."""
        listed = map(int, ip("netns", "pids", f"{self.tag}n{node}").split())
        return [pid for pid in listed if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]

    def _namespace(self, node: int) -> None:
        name, link = f"{self.tag}n{node}", f"{self.tag}v{node}"
        ip("netns", "add", name)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", link, "master", self.tag, "up")
        ip("-n", name, "address", "add", f"{self.host(node)}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")

    def _take_down(self) -> None:
        for node in (1, 2, 3):
            ip("netns", "delete", f"{self.tag}n{node}", check=False)
        ip("link", "delete", self.tag, check=False)

    def _start(self, within: tuple[str, ...], host: str, *words: str) -> "subprocess.Popen[bytes]":
        options = (f"--node-ip-address={host}", "--object-store-memory=80000000", "--disable-usage-stats")
        program = self.ray.with_name("ray")
        with (self.folder / f"{host}.log").open("wb") as log:
            return subprocess.Popen(
                [*within, str(program), "start", "--block", *options, *words],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )

    def _printed(self, host: str) -> bytes:
        return (self.folder / f"{host}.log").read_bytes()


def awaited(happened: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture(scope="module")
def cluster(ray: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(ray, tmp_path_factory.mktemp("ray")) as made:
        yield made


@pytest.fixture(scope="module")
def launcher(machine: Machine, ray: Path) -> Iterator[Machine]:
    """The launcher's machine, with the cluster's `ray` on its PATH."""
    made = replace(machine, programs=ray.parent)
    yield made
    made.run("down")


@dataclass
class Asking:
    """Several sessions that ask all the time; what was not answered."""

    base_url: str
    key: str

    def __post_init__(self) -> None:
        self.answers = 0
        self.faults: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(SESSIONS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        client = openai.OpenAI(base_url=self.base_url, api_key=self.key, max_retries=0, timeout=120)
        words = f"Session {number}: {QUESTION[0]['content']}"
        while not self._over.wait(PAUSE):
            try:
                client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": words}], max_tokens=4)
                self.answers += 1
            except openai.OpenAIError as fault:
                self.faults.append(str(fault))


def servers(launcher: Machine) -> dict[str, dict[str, Any]]:
    """The records, by their name."""
    found = (launcher.home / "state" / "seen").glob(f"{NAME}*.json")
    return {path.stem: json.loads(path.read_text()) for path in found}


def host_of(server: dict[str, Any]) -> str:
    return str(server["base_url"].split("/")[2].partition(":")[0])


def engines_on(cluster: Cluster, node: int) -> list[str]:
    """The ids that processes of engines carry on a node."""
    found = []
    for pid in cluster.pids(node):
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        found += [each.decode() for each in variables if each.startswith(b"LAUNCHER_SERVER_ID=")]
    return found


def answer(up: dict[str, Any]) -> str:
    client = openai.OpenAI(base_url=up["base_url"], api_key=Path(up["key_file"]).read_text().strip(), max_retries=0)
    told = client.chat.completions.create(model=NAME, messages=QUESTION, temperature=0, max_tokens=24)
    return told.choices[0].message.content or ""


def test_a_node_of_two_replicas_is_killed_and_no_request_fails(launcher: Machine, cluster: Cluster) -> None:
    words = ("--on-cluster", cluster.address, "--replicas", "2", "--context", "4096", "--no-wire", "--no-proof")
    up = launcher.json("up", NAME, "--port", str(own_port()), *words)
    assert "Paris" in up["proof"]["text"]
    before = {key: host_of(each) for key, each in servers(launcher).items()}
    assert sorted(before) == [NAME, f"{NAME}~2"]
    assert len(set(before.values())) == 2
    with Asking(up["base_url"], Path(up["key_file"]).read_text().strip()) as asking:
        awaited(lambda: asking.answers > 8, 60)
        lost = next(node for node in (1, 2, 3) if cluster.host(node) == before[NAME])
        cluster.kill(lost)
        awaited(lambda: servers(launcher)[NAME]["state"] != "ready", 60)
        awaited(lambda: servers(launcher)[NAME]["state"] == "ready", 240)
    assert asking.faults == []
    after = {key: host_of(each) for key, each in servers(launcher).items()}
    assert after[f"{NAME}~2"] == before[f"{NAME}~2"], "the other one went on"
    assert after[NAME] not in before.values(), "Ray found the node that was free"
    launcher.run("down")
    assert [engines_on(cluster, node) for node in (1, 2, 3)] == [[], [], []]
    cluster.begin(lost)


def test_one_server_over_three_nodes_comes_back_with_a_node_that_was_killed(launcher: Machine, cluster: Cluster) -> None:
    words = ("--on-cluster", cluster.address, "--nodes", "3", "--context", "4096", "--no-wire", "--no-proof")
    up = launcher.json("up", NAME, *words)
    assert "Paris" in up["proof"]["text"]
    assert [len(set(engines_on(cluster, node))) for node in (1, 2, 3)] == [1, 1, 1]
    assert "world_size=3" in Path(up["log"]).read_text()
    (server,) = (each for each in servers(launcher).values() if each["state"] == "ready")
    lost = next(node for node in (1, 2, 3) if cluster.host(node) != host_of(server))
    cluster.kill(lost)
    awaited(lambda: servers(launcher)[NAME]["state"] == "waiting", 60)
    assert [engines_on(cluster, node) for node in (1, 2, 3)] == [[], [], []], "the other ranks ended with it"
    cluster.begin(lost)
    # It is asked for as long as the node is away, and begun anew with all its ranks.
    awaited(lambda: servers(launcher)[NAME]["state"] == "ready", 240)
    assert "Paris" in answer(up)


def test_what_stood_for_a_server_is_killed_and_nothing_of_it_stays(launcher: Machine, cluster: Cluster) -> None:
    (server,) = (each for each in servers(launcher).values() if each["state"] == "ready")
    os.kill(server["handle"]["pid"], signal.SIGKILL)
    old = f"LAUNCHER_SERVER_ID={server['handle']['server_id']}"
    awaited(lambda: not [each for node in (1, 2, 3) for each in engines_on(cluster, node) if each.startswith(old)], 60)
    launcher.run("down")
    assert [engines_on(cluster, node) for node in (1, 2, 3)] == [[], [], []]
