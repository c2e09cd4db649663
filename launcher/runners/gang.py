"""Run by a Python that has Ray: one server on a cluster, from its place to its end. Knows nothing of the launcher.

    python gang.py look ADDRESS
    python gang.py run ADDRESS NODES CPUS GPUS SECONDS FOLDER

`look` prints the cluster's nodes as JSON. `run` asks Ray for a place, one bundle a node, for SECONDS at most, and tells it in
FOLDER/placed; it takes its orders from the pipe FOLDER/orders: for each node what to execute and with which variables. From
then on it prints what all of them print, and ends as the first of them does, with all of it: the processes of an engine that
lost one rank cannot go on, since their collectives do not heal. TERM ends everything everywhere.

Actors are owned by this process, so that nothing on the cluster outlives it: Ray ends them, and on each node a guard that was
told apart from all others ends what the engine had started, by the id that it carries in its environment.
"""

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

SERVER_ID = "LAUNCHER_SERVER_ID"
_LOOK = 0.5
# How long a node may say nothing before it is given up (seconds), and whoever placed us before we leave again.
_SILENT, _ORDERS = 20.0, 300.0
_GRACE, _SOON, _KILL = 15.0, 2.0, 10.0
# Bytes of output that a node keeps for us.
_KEPT = 4 << 20
# What is meant for Ray's workers, and not for an engine.
_RAYS = ("RAY_", "PYTHON", "VIRTUAL_ENV", "LAUNCHER_", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")

# Ends when its input does: TERM to every process with the id, KILL after the grace. It leaves its parent, so that whoever
# ends Ray's worker with its children does not end it.
_GUARD = f"""
import os, signal, sys, time
if os.fork():
    os._exit(0)
os.setsid()
sign = b"{SERVER_ID}=" + sys.argv[1].encode()

def found():
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{{name}}/environ", "rb") as file:
                    if sign in file.read().split(b"\\0"):
                        yield int(name)
            except OSError:
                pass

def end(number, seconds):
    deadline = time.monotonic() + seconds
    told = set()
    while left := set(found()):
        for pid in left - told:
            try:
                os.kill(pid, number)
            except OSError:
                pass
        told |= left
        if time.monotonic() > deadline:
            return
        time.sleep(0.1)

word = sys.stdin.buffer.read()
end(signal.SIGTERM, float(word or {_SOON}))
end(signal.SIGKILL, {_KILL})
"""


class Rank:
    """An actor: the part of an engine that runs on one node."""

    def __init__(self, cpus: int) -> None:
        # On GPUs an engine decides for itself; on CPUs it would take all cores of a host of which Ray gave it some.
        self._threads = {"OMP_NUM_THREADS": str(cpus)} if cpus else {}
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._printed = bytearray()
        self._lock = threading.Lock()

    def where(self) -> dict[str, Any]:
        """The address of its node, and two ports of it that are free now."""
        address = ray.util.get_node_ip_address()
        taken = [socket.create_server((address, 0)) for _ in range(2)]
        ports = [each.getsockname()[1] for each in taken]
        for each in taken:
            each.close()
        return {"host": address, "ports": ports}

    def start(self, argv: list[str], env: dict[str, str]) -> str:
        """Execute this; what keeps it from being executed, "" if nothing does."""
        missing = [word for word in (argv[0], env.pop("LAUNCHER_WEIGHTS", "/")) if not Path(word).exists()]
        if missing:
            return f"it has no {missing[0]}"
        words = [sys.executable, "-I", "-c", _GUARD, env[SERVER_ID]]
        pipe = subprocess.PIPE
        self._guard = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env={})
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_RAYS)}
        gpus = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, ray.get_gpu_ids()))} if ray.get_gpu_ids() else {}
        try:
            self._process = subprocess.Popen(
                argv,
                env={**kept, **self._threads, **_interface(ray.util.get_node_ip_address()), **env, **gpus},
                stdin=subprocess.DEVNULL,
                stdout=pipe,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return f"it cannot execute {argv[0]}: {error.strerror}"
        threading.Thread(target=self._read, daemon=True).start()
        return ""

    def _read(self) -> None:
        output = self._process.stdout if self._process else None
        while output and (piece := os.read(output.fileno(), 1 << 16)):
            with self._lock:
                self._printed += piece
                del self._printed[:-_KEPT]

    def look(self) -> tuple[int | None, bytes]:
        """How its first process ended, None while it runs; and the lines that it printed since the last look."""
        code = self._process.poll() if self._process else None
        with self._lock:
            end = len(self._printed) if code is not None else self._printed.rfind(b"\n") + 1
            lines = bytes(self._printed[:end])
            del self._printed[:end]
        return code, lines

    def stop(self, grace: float) -> None:
        """End all that came of it here."""
        guard, self._guard = self._guard, None
        if guard and guard.stdin and guard.stdout:
            guard.stdin.write(b"%f" % grace)
            guard.stdin.close()
            guard.stdout.read()
            guard.wait()
        if self._process:
            self._process.wait()


def _interface(address: str) -> dict[str, str]:
    """What collectives go over: left alone, they take what the host's name leads to, which may be loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            try:
                # SIOCGIFADDR (netdevice(7)): the address stands behind the name and the port.
                found = fcntl.ioctl(asked.fileno(), 0x8915, struct.pack("256s", name.encode()[:15]))[20:24]
            except OSError:
                continue
            if socket.inet_ntoa(found) == address:
                return dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), name)
    return {}


def main() -> int:
    """Do what the words say; the exit code."""
    what, address, *rest = sys.argv[1:]
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address=address, namespace="launcher", log_to_driver=False, logging_level="ERROR", configure_logging=False)
    if what == "look":
        sys.stdout.write(json.dumps(look()) + "\n")
        return 0
    nodes, cpus, gpus = int(rest[0]), float(rest[1]), int(rest[2])
    return Gang(nodes=nodes, cpus=cpus, gpus=gpus, folder=Path(rest[4])).run(seconds=float(rest[3]))


def look() -> list[dict[str, Any]]:
    """The nodes that are there: what Ray counts of each, and what a launcher that is installed there tells of its GPUs."""
    nodes = []
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        counted = node["Resources"]
        kinds = [name.partition(":")[2] for name in counted if name.startswith("accelerator_type:")]
        nodes.append(
            {
                "id": node["NodeID"],
                "address": node["NodeManagerAddress"],
                "cpus": int(counted.get("CPU", 0)),
                "gpus": int(counted.get("GPU", 0)),
                "memory": int(counted.get("memory", 0)),
                "kind": kinds[0] if kinds else "",
                "told": None,
            }
        )
    told = ray.remote(_told).options(num_cpus=0)
    asked = {each["id"]: told.options(scheduling_strategy=_on(each["id"])).remote() for each in nodes if each["gpus"]}
    for each in nodes:
        if each["id"] in asked:
            each["told"] = ray.get(asked[each["id"]], timeout=60)
    return nodes


def _on(node: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node_id=node, soft=False)


def _told() -> Any:
    """What the launcher of that node reads of NVML; None where it is not installed."""
    words = [sys.executable, "-m", "launcher", "gpus", "--json"]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    try:
        return json.loads(done.stdout) if done.returncode == 0 else None
    except ValueError:
        return None


class Gang:
    """A server's ranks, one a node."""

    def __init__(self, *, nodes: int, cpus: float, gpus: int, folder: Path) -> None:
        self._nodes, self._cpus, self._gpus, self._folder = nodes, cpus, gpus, folder
        self._ranks: list[Any] = []
        self._hosts: list[str] = []
        self._ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self._ended.set())

    def run(self, *, seconds: float) -> int:
        """From the place to the end."""
        bundle = {"CPU": self._cpus, **({"GPU": self._gpus} if self._gpus else {})}
        # Within one node a bundle is one place anyway; ranks of several are to be on nodes of their own.
        group = placement_group([bundle] * self._nodes, strategy="STRICT_SPREAD" if self._nodes > 1 else "STRICT_PACK")
        try:
            if not group.wait(timeout_seconds=seconds):
                few = f"no {self._nodes} nodes of the cluster have" if self._nodes > 1 else "no node of the cluster has"
                self._tell("fault", {"fault": f"{few} {_words(bundle)} free now"})
                return 3
            return self._run(group)
        finally:
            self._stop()
            remove_placement_group(group)

    def _run(self, group: Any) -> int:
        for number in range(self._nodes):
            place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number)
            options = {"num_cpus": 0, "num_gpus": self._gpus, "scheduling_strategy": place}
            self._ranks.append(ray.remote(Rank).options(**options).remote(0 if self._gpus else int(self._cpus)))
        places = ray.get([each.where.remote() for each in self._ranks], timeout=120)
        self._hosts = [each["host"] for each in places]
        self._tell("placed", {"hosts": self._hosts, "ports": places[0]["ports"]})
        orders = self._orders()
        # Nobody reads there any more. Where there was no place, whoever reads why takes the folder away.
        shutil.rmtree(self._folder, ignore_errors=True)
        if orders is None:
            return 4
        log = os.open(orders["log"], os.O_WRONLY | os.O_APPEND)
        for number in (1, 2):
            os.dup2(log, number)
        told = zip(self._ranks, orders["ranks"], strict=True)
        starts = [rank.start.remote(each["argv"], each["env"]) for rank, each in told]
        for host, fault in zip(self._hosts, ray.get(starts, timeout=60), strict=True):
            if fault:
                _say(f"ERROR node {host} cannot run it: {fault}")
                return 5
        return self._follow()

    def _orders(self) -> Any:
        """What to execute on each node, in one line; None if nobody says so, or says that it is not to be."""
        descriptor = os.open(self._folder / "orders", os.O_RDONLY | os.O_NONBLOCK)
        deadline, told = time.monotonic() + _ORDERS, b""
        while not told.endswith(b"\n") and time.monotonic() < deadline and not self._ended.is_set():
            if select.select([descriptor], [], [], _LOOK)[0]:
                piece = os.read(descriptor, 1 << 16)
                told += piece
                if not piece:
                    time.sleep(_LOOK / 10)
        os.close(descriptor)
        return json.loads(told) if told.endswith(b"\n") else None

    def _follow(self) -> int:
        """Print what all print until one of them ends; how it did."""
        while not self._ended.wait(_LOOK):
            seen = [rank.look.remote() for rank in self._ranks]
            for number, (each, host) in enumerate(zip(seen, self._hosts, strict=True)):
                try:
                    code, lines = ray.get(each, timeout=_SILENT)
                except ray.exceptions.RayError as fault:
                    _say(f"ERROR node {host} of rank {number} is lost: {type(fault).__name__}")
                    return 6
                sys.stdout.buffer.write(lines)
                sys.stdout.buffer.flush()
                if code is not None:
                    _say(f"rank {number} on node {host} ended with code {code}")
                    return code if code > 0 else 1
        return 0

    def _stop(self) -> None:
        """End all ranks that still can be told; the guards of the others have done it."""
        stops = [each.stop.remote(_GRACE if self._ended.is_set() else _SOON) for each in self._ranks]
        ray.wait(stops, num_returns=len(stops), timeout=_GRACE + _KILL + 5) if stops else None

    def _tell(self, name: str, what: dict[str, Any]) -> None:
        part = self._folder / f"{name}.part"
        part.write_text(json.dumps(what))
        part.rename(self._folder / name)


def _words(bundle: dict[str, float]) -> str:
    return " and ".join(f"{count:g} {name}{'s' if count > 1 else ''}" for name, count in bundle.items())


def _say(text: str) -> None:
    sys.stdout.write(f"launcher: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
