"""A little world: a home of its own, the stub engine instead of vLLM, everything else real."""

import re
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from launcher import catalogue, lock, model_facts, store
from launcher.architecture import Architecture
from launcher.command import Command
from launcher.engines import vllm
from launcher.engines.base import Budget, Container, Fault, Image, Site, Sleep
from launcher.gpu import GIB, Gpu, GpuProcess, Inventory
from launcher.home import Home
from launcher.hosting import Host
from launcher.layers import Stage
from launcher.lifecycle import Policy
from launcher.phases import Phase
from launcher.plan import Plan
from launcher.prepared import Prepared
from launcher.progress import Progress
from launcher.quantisation import Quantisation
from launcher.runners import local
from launcher.server import Server
from launcher.starts import Measured
from launcher.world import World
from tests import stub_engine
from tests.machines_for_tests import machine

STUB = Path(stub_engine.__file__)


@dataclass
class StubEngine:
    """An Engine whose command is tests/stub_engine.py; `flags` are its faults by model, `""` for all others."""

    flags: dict[str, tuple[str, ...]] = field(default_factory=dict)
    NAME: str = "vllm"
    VERSION: str = "0"
    PYTHON: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({"cpu": "3", "cuda": "3"}))
    REQUIREMENTS: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: MappingProxyType({"cpu": ("tiny",), "cuda": ()})
    )
    OVERRIDES: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    LAST_FOR_CUDA: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({12: "0.1"}))
    IMPORTS: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({"cpu": ("torch",), "cuda": ()}))
    CACHES: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({"STUB_CACHE": "stub"}))
    IMAGE: Image = vllm.IMAGE
    READY_PATH: str = "/health"
    SEQUENCES: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({"cpu": 8, "cuda": 8}))
    COMPUTE: tuple[int, int] = (7, 5)
    FAULTS: tuple[Fault, ...] = vllm.FAULTS
    SIGNS: str = vllm.SIGNS
    DECIDED: frozenset[str] = vllm.DECIDED
    AWAKE_NOTE: str = vllm.AWAKE_NOTE
    SLEEPS: Mapping[int, Sleep] = field(default_factory=lambda: vllm.SLEEPS)

    def gpu_budget(
        self,
        architecture: Architecture,
        gpu: Gpu,
        *,
        weights: int,
        tensor: int,
        share: float | None = None,
        speculated: int = 0,
    ) -> Budget:
        return vllm.gpu_budget(architecture, gpu, weights=weights, tensor=tensor, share=share, speculated=speculated)

    def kv_tokens(
        self,
        architecture: Architecture,
        gpu: Gpu | None,
        kv: int,
        context: int,
        *,
        tensor: int,
        kv_dtype: str,
        stage: Stage | None = None,
        speculated: int = 0,
    ) -> int:
        return vllm.kv_tokens(
            architecture, gpu, kv, context, tensor=tensor, kv_dtype=kv_dtype, stage=stage, speculated=speculated
        )

    def kv_bytes(
        self,
        architecture: Architecture,
        gpu: Gpu | None,
        context: int,
        sequences: float,
        *,
        tensor: int,
        kv_dtype: str,
        stage: Stage | None = None,
        speculated: int = 0,
    ) -> int:
        return vllm.kv_bytes(
            architecture, gpu, context, sequences, tensor=tensor, kv_dtype=kv_dtype, stage=stage, speculated=speculated
        )

    def stages(self, layers: int, pipeline: int) -> tuple[Stage, ...]:
        return vllm.stages(layers, pipeline)

    def layout_fault(self, architecture: Architecture, loaded: Quantisation, *, tensor: int, pipeline: int) -> str | None:
        return vllm.layout_fault(architecture, loaded, tensor=tensor, pipeline=pipeline)

    def draft_fault(self, architecture: Architecture, *, pipeline: int) -> str | None:
        return vllm.draft_fault(architecture, pipeline=pipeline)

    def cpu_budget(self, inventory: Inventory, *, weights: int) -> Budget:
        return Budget(claim=inventory.ram.available, overhead=GIB // 4, kv=inventory.ram.available - weights - GIB // 4)

    def command(self, plan: Plan, site: Site) -> Command:
        flags = self.flags.get(plan.profile.name, self.flags.get("", ()))
        argv = (str(site.python), str(STUB), "--host", site.host, "--port", str(site.port), "--model", plan.profile.name)
        sleeps = ("--enable-sleep-mode",) if plan.manner.can_sleep else ()
        words = (*argv, "--max-model-len", str(plan.context), *sleeps, *flags, *plan.manner.extra)
        env = {"VLLM_SERVER_DEV_MODE": "1"} if plan.manner.can_sleep else {}
        return Command(words, env=env, secrets={"VLLM_API_KEY": site.api_key})

    def ranks(self, plan: Plan, site: Site, hosts: Sequence[str], port: int) -> tuple[Command, ...]:
        raise NotImplementedError(f"the stub runs on one node, not on {hosts} ({plan}, {site}, {port})")

    def contained(self, plan: Plan, container: Container) -> Command:
        return vllm.contained(plan, container)

    def phase(self, line: str) -> Phase | None:
        return vllm.phase(line)

    def measured(self, log: Sequence[str]) -> Measured:
        return vllm.measured(log)


@dataclass
class Told:
    """A Progress that remembers what it was told."""

    phases: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    updates: list[tuple[str, int, float | None]] = field(default_factory=list)

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def say(self, text: str) -> None:
        self.said.append(text)

    def update(self, text: str, done: int = 0, total: int = 0, *, left: float | None = None) -> None:
        self.updates.append((text, done if total else -1, left))

    def beside(self, name: str) -> AbstractContextManager[Progress]:
        self.phases.append(name)
        return nullcontext(self)

    def part(self, name: str) -> AbstractContextManager[Progress]:
        self.parts.append(name)
        return nullcontext(self)


def profiles(folder: Path, *names: str, context: int = 8192) -> tuple[Path]:
    """The folder of profiles, alike but for their names; `context` is their window."""
    folder.mkdir(exist_ok=True)
    text = (catalogue.shipped() / "smollm2-135m.toml").read_text()
    for name in names:
        (folder / f"{name}.toml").write_text(
            re.sub(r"max_position_embeddings = \d+", f"max_position_embeddings = {context}", text)
        )
    return (folder,)


def little_world(
    root: Path, *, models: tuple[str, ...] = ("tiny",), context: int = 8192, engine: StubEngine | None = None
) -> World:
    """A world under `root`. Everything in it is real but the engine, which answers one sentence."""
    for folder in ("home", "here", "weights"):
        (root / folder).mkdir(exist_ok=True)
    prepared = Prepared(
        environment=Path(sys.prefix),
        python=Path(sys.executable),
        weights=root / "weights",
        caches=root / "launcher" / "caches",
        version="0",
    )

    def prepare(_: Plan, progress: Progress) -> Prepared:
        progress.phase("environment")
        progress.phase("weights")
        return prepared

    return World(
        home=Home(root / "launcher"),
        env={},
        user_home=root / "home",
        cwd=root / "here",
        profiles=profiles(root / "profiles", *models, context=context),
        engines={"vllm": engine or StubEngine()},
        inventory=lambda: machine(ram=16),
        releases=dict,
        facts=lambda weights: model_facts.read(weights, home=Home(root / "launcher"), progress=Told(), env={}),
        recipe=lambda repo: f"nobody has one for {repo}",
        expect=lambda _: prepared,
        prepare=prepare,
        attend=attend,
        runner=local,
        progress=Told(),
    )


# As patient as tests are; the delays are long, so that no test sees a second start that it did not wait for.
POLICY = Policy(first_delay=0.3, attempts=3, idle=0.5, patience=1.0, host=0.3, drain=2.0)
_SUPERVISORS: dict[Path, tuple[Host, threading.Thread, threading.Event]] = {}


def ended(world: World) -> None:
    """Wait until its supervisor has seen that nothing is wanted any more."""
    if kept := _SUPERVISORS.get(world.home.root):
        kept[1].join()


def attend(world: World, policy: Policy = POLICY) -> None:
    """A supervisor in a thread of this process, which goes on until nothing is wanted; it sees the caller's world."""
    kept = _SUPERVISORS.get(world.home.root)
    if kept and kept[1].is_alive():
        kept[0].world = world
        return
    host = Host(world, policy=policy)

    def serve() -> None:
        # As `launcher serve` does, so that it is known that one is at work.
        with lock.acquire(world.home.serving, "launcher serve --background", waiting=lambda _: None, timeout=None):
            host.run(over.is_set)

    over = threading.Event()
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    _SUPERVISORS[world.home.root] = (host, thread, over)


def unattend(folder: Path) -> None:
    """Let the supervisors of the worlds under a folder end, which is about to go."""
    for root in [root for root in _SUPERVISORS if root.is_relative_to(folder)]:
        _, thread, over = _SUPERVISORS.pop(root)
        over.set()
        thread.join(30)
        assert not thread.is_alive(), f"the supervisor of {root} goes on"


def running(world: World) -> list[Server]:
    """The servers that have processes."""
    return [server for server in store.look(world.home)[0] if server.handle and local.processes(server.handle)]


def roomy(root: Path, *, engine: StubEngine | None = None) -> World:
    """A world with room for one of its two models: a GPU of 24 GiB, of which each server takes nearly all while it is awake."""
    made = little_world(root, models=("tiny", "other"), engine=engine)
    gpu = machine(1, 24.0).gpus[0]

    def inventory() -> Inventory:
        awake = [server for server in running(made) if server.state not in {"asleep", "held"}]
        pids = [pid for server in awake if server.handle for pid in local.processes(server.handle)]
        held = tuple(GpuProcess(pid, "engine", int(23.9 * GIB) // len(pids)) for pid in pids)
        return replace(machine(ram=16), gpus=(replace(gpu, free=gpu.total - sum(each.used for each in held), processes=held),))

    return replace(made, inventory=inventory)


def with_engine(world: World, engine: StubEngine) -> World:
    """The world with another engine; who is at work for it sees that before anything new is wished."""
    made = replace(world, engines={"vllm": engine})
    if kept := _SUPERVISORS.get(world.home.root):
        kept[0].world = made
    return made
