#!/usr/bin/env python3
"""Measures what plans promise: `scripts/gpu_check [--parts nvml,plan,start,kill,sleep] [--out DIR]`; a JSON report and a page.

- nvml: what the driver says, and beside it what PyTorch sees of each card.
- start: seconds by phase of each installed engine, with empty caches and with warm ones. Made for the two that follow too.
- plan: weights, KV tokens and memory held, as planned by the rules alone and as measured after one long prompt.
- kill: the leader ended with KILL, then all of it; seconds until the driver shows the memory free again.
- sleep: seconds to give the memory up and to have it back, for each way that an engine knows.

Nothing is fetched: the environments are those of LAUNCHER_HOME, or --python's; the models those that are named, else those on
the disk, else one with random weights. Neither LAUNCHER_HOME nor what is served from there is touched. Without a GPU the
builds for CPUs do what they can, and the page says so. A step that fails, or takes too long, is a row with its reason.
`scripts/gpu_check` makes .venv first; where the launcher's packages are there already, run this file with their interpreter.
"""

import argparse
import contextlib
import http.client
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Self
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import launcher
from launcher import (
    atomic,
    catalogue,
    environments,
    host,
    launching,
    local_model,
    machines,
    nvml,
    planner,
    ports,
    probe,
    processes,
    weights,
)
from launcher.command import inheritable
from launcher.derive import derive
from launcher.endpoint import Endpoint
from launcher.engines import sglang, vllm
from launcher.engines.base import Call, Engine, Site
from launcher.engines.registry import ENGINES
from launcher.environment import Environment
from launcher.errors import LauncherError
from launcher.gpu import GIB, Health, Inventory
from launcher.home import Home
from launcher.launching import MEMORY_BACK, MEMORY_NOISE, Launch
from launcher.model_facts import read as read_facts
from launcher.plan import DoesNotFit, Memory, Plan, Wish
from launcher.prepared import Prepared
from launcher.profile import CPU, CUDA, Profile
from launcher.profile_weights import LocalWeights
from launcher.progress import Silent
from launcher.runners import local
from launcher.runners.base import Handle
from launcher.server import Server, ServerSpec, Wanted
from launcher.staging import staging
from launcher.tail import Tail

ROOT = Path(__file__).resolve().parent.parent
VERSION = 1
PARTS = ("nvml", "start", "plan", "kill", "sleep")
TITLES = {
    "nvml": "What PyTorch sees of each card",
    "models": "Models",
    "start": "Starts",
    "plan": "Plan against measured",
    "kill": "KILL, and the memory's way back",
    "sleep": "Sleep and wake",
}
# What each kind of machine makes in seconds: the first is Llama 3.2 1B's own shape.
SHAPES = {CUDA: "16x2048x128256", CPU: "8x512x32000"}
HEAD, HEADS_PER_KV, WINDOW = 64, 4, 32_768
# The number of the word that ends an answer, and how few words make a vocabulary.
END, FEWEST_WORDS = 0, 1_024
# Words of a prompt that fills the longest pass: the adapters' BATCHED_TOKENS_LARGE and, on CPUs, CPU_PREFILL.
PROMPT = {CUDA: 8_192, CPU: 2_048}
# How long orphans are watched before they are ended too.
ALONE = 5.0
LOOK = 0.05
# Not among the launcher's own ports, which begin at 8,400.
FIRST_PORT = 8_600

Value = int | float | str | None


class OverTimeError(Exception):
    """A step took longer than it may; no OSError, which waiting for a server would take for a no."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured; `unit` is s, bytes, tokens, or "" for a word or a count; None is what nothing told."""

    name: str
    measured: Value
    unit: str = "s"
    planned: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One step: what was measured, or why it failed or was left out."""

    part: str
    environment: str
    model: str
    how: str
    seconds: float = 0.0
    figures: tuple[Figure, ...] = ()
    failure: str = ""
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All of it. `on` is the day, `environments` are the installed engines that were looked at."""

    on: str
    inventory: Inventory
    health: tuple[Health, ...]
    environments: tuple[Environment, ...]
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a Llama with random weights."""

    layers: int
    hidden: int
    vocab: int

    @property
    def name(self) -> str:
        return f"random-llama-{self.layers}x{self.hidden}x{self.vocab}"


@dataclass(frozen=True, slots=True)
class Model:
    """A model on the disk: one variant of a profile."""

    profile: Profile
    variant: str
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.profile.name} {self.variant}"


@dataclass(frozen=True, slots=True)
class Sleep:
    """One way in which an engine gives its memory up; `{weights}` in a body is the model's folder."""

    how: str
    args: tuple[str, ...]
    env: Mapping[str, str]
    down: tuple[Call, ...]
    up: tuple[Call, ...]


# As the launcher itself has them sleep; and SGLang without --enable-weights-cpu-backup, which is as vLLM's level 2.
_DEV = {"VLLM_SERVER_DEV_MODE": "1"}
SLEEPS: Mapping[str, tuple[Sleep, ...]] = {
    "vllm": (
        Sleep(
            "level 1: weights kept in the host's memory",
            ("--enable-sleep-mode",),
            _DEV,
            vllm.SLEEPS[1].down,
            vllm.SLEEPS[1].up,
        ),
        Sleep(
            "level 2: weights read from disk again",
            ("--enable-sleep-mode",),
            _DEV,
            vllm.SLEEPS[2].down,
            vllm.SLEEPS[2].up,
        ),
    ),
    "sglang": (
        Sleep(
            "memory saver: weights kept in the host's memory",
            ("--enable-memory-saver", "--enable-weights-cpu-backup"),
            {},
            sglang.SLEEPS[1].down,
            sglang.SLEEPS[1].up,
        ),
        Sleep(
            "memory saver: weights read from disk again",
            ("--enable-memory-saver",),
            {},
            sglang.SLEEPS[1].down,
            (*sglang.SLEEPS[1].up, Call("/update_weights_from_disk", {"model_path": "{weights}"})),
        ),
    ),
}


def main() -> int:
    """Look, measure part by part, and keep the report up to date after each step."""
    options = _options()
    # As `cli` does: whatever ends us, an engine left behind would hold the GPU.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    out: Path = options.out.absolute()
    (out / "work").mkdir(parents=True, exist_ok=True)
    home, work = Home.find(os.environ), Home(out / "work")
    try:
        parts = parts_of(options.parts)
        shape = shape_of(options.shape) if options.shape else None
        inventory = host.inventory(os.environ)
        places = _adopted(work, options.python) if options.python else _installed(home)
    except LauncherError as fault:
        print(f"error: {fault.message}\nhint:  {fault.hint}", file=sys.stderr)
        return 1
    bench = Bench(work, out, options.limit, Report(time.strftime("%Y-%m-%d"), inventory, _health(inventory), places))
    bench.write()
    if "nvml" in parts and inventory.gpus:
        for place in (each for each in places if each.accelerator == CUDA):
            bench.attempt("nvml", place, "", "", partial(_seen_by_torch, place, inventory))
    if set(parts) - {"nvml"}:
        try:
            _measure(bench, home, options.model, shape, parts)
        except KeyboardInterrupt:
            print(f"interrupted; {out / 'report.md'} has what was done before", file=sys.stderr)
            return 130
    bad = [row for row in bench.report.rows if row.failure]
    print(f"{out / 'report.md'}: {len(bench.report.rows)} steps, {len(bad)} failed")
    return 1 if bad else 0


class Bench:
    """Where steps are made: each becomes a row of the report, which is on the disk after each."""

    def __init__(self, work: Home, out: Path, limit: float, report: Report) -> None:
        self.work = work
        self.out = out
        self.limit = limit
        self.report = report

    def attempt(self, part: str, place: Environment, model: str, how: str, step: Callable[[], Sequence[Figure] | str]) -> bool:
        """Do a step within the limit; whether it went well. A step that returns a text was left out, for that reason."""
        print(f"{part}: {' '.join(filter(None, (place.name, model, how)))}", file=sys.stderr, flush=True)
        begun, outcome, failure = time.monotonic(), None, ""
        try:
            with _limited(self.limit):
                outcome = step()
        except LauncherError as fault:
            failure = "; ".join(filter(None, (fault.message, fault.hint)))
        except OverTimeError:
            failure = f"it took longer than {self.limit:.0f} s"
        except Exception as error:  # noqa: BLE001 - the next step may work all the same, and this one is told in the report
            failure = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        seconds = round(time.monotonic() - begun, 3)
        skipped = outcome if isinstance(outcome, str) else ""
        figures = () if outcome is None or isinstance(outcome, str) else tuple(outcome)
        row = Row(part, place.name, model, how, seconds, figures, failure, skipped)
        self.report = replace(self.report, rows=(*self.report.rows, row))
        self.write()
        if failure:
            print(f"  failed: {failure}", file=sys.stderr, flush=True)
        return not failure and not skipped

    def next_home(self, name: str) -> Home:
        """A home for one start: its log and its state."""
        number = len(list((self.work.root / "starts").glob("*"))) + 1
        return Home(self.work.root / "starts" / f"{number:02}-{name}").make()

    def write(self) -> None:
        """Both files, as far as things have come."""
        atomic.write(self.out / "report.json", json.dumps(plain(self.report), indent=1) + "\n")
        atomic.write(self.out / "report.md", page(self.report))


def _measure(bench: Bench, home: Home, named: Sequence[str], shape: Shape | None, parts: Sequence[str]) -> None:
    """Every model on every engine that can run here; kills and sleeps with the first model alone."""
    has_gpus = bool(bench.report.inventory.gpus)
    usable = [place for place in bench.report.environments if has_gpus or place.accelerator == CPU]
    for place in bench.report.environments:
        if place not in usable:
            bench.attempt("start", place, "", "", lambda: "its build is for GPUs, and there is none here")
    if not usable:
        return
    models: list[Model] = []

    def find() -> Sequence[Figure]:
        models.extend(_models(bench, home, named, shape, usable[0]))
        return [Figure(model.name, sum(local_model.sizes(model.folder).values()), "bytes") for model in models]

    if not bench.attempt("models", usable[0], "", "", find):
        return
    for place in usable:
        for model in models:
            first = model is models[0]
            _plain(bench, place, model, set(parts) if first else set(parts) & {"plan"})
            if first and "sleep" in parts:
                _sleeps(bench, place, model)


def _plain(bench: Bench, place: Environment, model: Model, parts: AbstractSet[str]) -> None:
    """One start for all parts that need a plain server, and a second one with warm caches."""
    if not parts & {"start", "plan", "kill"}:
        return
    with Visit(bench, place, model) as visit:
        how = "caches empty" if visit.is_cold else "caches warm"
        if not bench.attempt("start", place, model.name, how, visit.start):
            return
        for part, step in (("plan", visit.compare), ("kill", visit.kill)):
            if part in parts:
                bench.attempt(part, place, model.name, "", step)
    if "start" in parts:
        with Visit(bench, place, model) as visit:
            bench.attempt("start", place, model.name, "again", visit.start)


def _sleeps(bench: Bench, place: Environment, model: Model) -> None:
    """A start for each way to sleep."""
    if place.accelerator != CUDA:
        bench.attempt("sleep", place, "", "", lambda: "builds for CPUs have no such mode")
        return
    for sleep in SLEEPS[place.engine]:
        with Visit(bench, place, model, sleep) as visit:
            bench.attempt("sleep", place, model.name, sleep.how, visit.sleep)


class Visit:
    """One model on one engine: a server that is started, asked, harmed and ended."""

    def __init__(self, bench: Bench, place: Environment, model: Model, sleep: Sleep | None = None) -> None:
        self.bench = bench
        self.place = place
        self.model = model
        self.sleeps = sleep
        self.caches = bench.work.caches / place.name
        self.proven: Proven | None = None
        self.memory: Memory | None = None
        self.gpus: tuple[str, ...] = ()
        self.free = 0

    @property
    def is_cold(self) -> bool:
        return not self.caches.exists()

    def start(self) -> Sequence[Figure] | str:
        """Start it, and the seconds of each phase up to the first answer."""
        plan = self._plan(self._inventory())
        if isinstance(plan, DoesNotFit):
            return f"it does not fit: {plan.missing.reason}"
        self.memory, self.gpus = plan.memory, tuple(gpu.uuid for gpu in plan.gpus)
        self.free = self._free()
        self.caches.mkdir(mode=0o700, parents=True, exist_ok=True)
        phases = Phases(time.monotonic)
        self.proven = launched(self._launch(plan), phases)
        done = phases.spans()
        return [*(Figure(*each) for each in done), Figure("all", round(sum(seconds for _, seconds in done), 1))]

    def compare(self) -> Sequence[Figure]:
        """What the rules said, and what the log and the driver say after a prompt as long as the longest pass."""
        answered = self._long_prompt()
        server, memory = self._server, self.memory
        if memory is None or server.handle is None:
            raise LauncherError("there is no plan")
        told = ENGINES[server.engine].measured(server.log.read_text(errors="replace").splitlines())
        used = memory.weights + memory.kv + memory.overhead
        held = self.free - self._free() if self.gpus else processes.resident(local.processes(server.handle))
        return [
            Figure("context", self._endpoint.context, "tokens", server.context),
            Figure("weights", told.weights, "bytes", memory.weights),
            Figure("KV cache", told.kv, "bytes", memory.kv),
            Figure("KV tokens", told.kv_tokens, "tokens", memory.kv_tokens),
            Figure("besides, with the largest pass", told.overhead, "bytes", memory.overhead),
            # Without what the engine keeps free for its passes: nothing that a plan says is its like.
            Figure("held after the start, as the engine tells", told.peak, "bytes"),
            Figure(f"held, as {'the driver' if self.gpus else 'the kernel'} tells", held, "bytes", used),
            answered,
        ]

    def kill(self) -> Sequence[Figure]:
        """KILL for the leader; after a while for what lives on; and until the driver shows as much free as before the start."""
        handle = self._handle
        pids = local.processes(handle)
        shared = processes.shared_memory(pids)
        begun = time.monotonic()
        os.kill(handle.pid, signal.SIGKILL)
        alone = _wait(begun, ALONE, lambda: not _left(handle))
        left, again = _left(handle), time.monotonic()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        gone = _wait(again, MEMORY_BACK, lambda: not _left(handle))
        memory = self._back(again if left else begun) if self.gpus else []
        segments = processes.left_behind(shared, uid=os.geteuid())
        for path in segments:
            path.unlink(missing_ok=True)
        return [
            Figure("processes", len(pids), ""),
            Figure(f"alive {ALONE:.0f} s after KILL for their leader", len(left), ""),
            Figure("all gone, seconds after it", alone)
            if alone is not None
            else Figure("gone, seconds after KILL for all", gone),
            *memory,
            Figure("segments left in /dev/shm", len(segments), ""),
        ]

    def sleep(self) -> Sequence[Figure] | str:
        """Start it with its sleep mode, send it to sleep, wake it, and ask it the same again."""
        if isinstance(started := self.start(), str) or self.sleeps is None or self.proven is None:
            return started
        awake = self._free()
        down = self._calls(self.sleeps.down)
        asleep = self._free()
        up = self._calls(self.sleeps.up)
        answer = probe.prove(self._endpoint)
        return [
            Figure("to sleep", down),
            Figure("memory given up", asleep - awake, "bytes"),
            Figure("memory held asleep", self.free - asleep, "bytes"),
            Figure("to wake", up),
            Figure("first answer then", round(answer.seconds, 3)),
            Figure("the same answer as before", "yes" if answer.text == self.proven.proof.text else "no", ""),
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it, if it was started, and wait for its memory; a fault is no reason to leave the rest out."""
        proven, self.proven = self.proven, None
        if proven and proven.server.handle:
            with contextlib.suppress(LauncherError):
                local.stop(proven.server.handle, grace=launching.GRACE)
                self._back(time.monotonic())

    def _back(self, since: float) -> list[Figure]:
        """Seconds from `since` until the driver shows as much free as before the start; at once on a CPU."""
        back = _wait(since, MEMORY_BACK, lambda: self._free() >= self.free - MEMORY_NOISE)
        short = max(0, self.free - self._free())
        return [Figure("the driver shows the memory free after", back), Figure("short of what was free before", short, "bytes")]

    @property
    def _server(self) -> Server:
        if self.proven is None:
            raise LauncherError("there is no server")
        return self.proven.server

    @property
    def _handle(self) -> Handle:
        if self._server.handle is None:
            raise LauncherError("there is no server")
        return self._server.handle

    @property
    def _endpoint(self) -> Endpoint:
        if self.proven is None:
            raise LauncherError("there is no server")
        return self.proven.endpoint

    def _inventory(self) -> Inventory:
        """The machine as the environment's build sees it."""
        now = host.inventory(os.environ)
        return now if self.place.accelerator == CUDA else replace(now, gpus=())

    def _plan(self, inventory: Inventory) -> Plan | DoesNotFit:
        """By the rules alone: what earlier starts taught is left out, since the rules are what is looked at."""
        name, profile = self.place.engine, self.model.profile
        if self.sleeps:
            profile = replace(profile, args={**profile.args, name: (*profile.args.get(name, ()), *self.sleeps.args)})
        releases = {(name, self.place.accelerator): self.place.release}
        wish = Wish(engine=name, variant=self.model.variant)
        return planner.plan(profile, inventory, {name: ENGINES[name]}, wish, releases=releases)

    def _launch(self, plan: Plan) -> Launch:
        engine, home = ENGINES[plan.engine], self.bench.next_home(self.place.name)
        site = Site(self.place.python, self.model.folder, ports.LOOPBACK, ports.free(FIRST_PORT), secrets.token_hex(16))
        spec = ServerSpec(plan.profile.name)
        ready = Prepared(self.place.path, self.place.python, self.model.folder, self.caches, self.place.release.version)
        env = {**inheritable(os.environ), **(self.sleeps.env if self.sleeps else {})}
        return Launch(
            want=Wanted(spec, "", spec, ready, env, spare=False),
            plan=plan,
            site=site,
            environment=self.place.path,
            caches=self.caches,
            version=self.place.release.version,
            engine=engine,
            home=home,
            runner=local,
        )

    def _free(self) -> int:
        """Bytes that the driver shows free on the first GPU of the plan; 0 on a CPU."""
        first = next(iter(self.gpus), "")
        return next((gpu.free for gpu in self._inventory().gpus if gpu.uuid == first), 0)

    def _long_prompt(self) -> Figure:
        words = min(PROMPT[self.place.accelerator], self._endpoint.context // 2)
        begun = time.monotonic()
        if not any(probe.stream(self._endpoint, [{"role": "user", "content": "word " * words}])):
            raise LauncherError(f"a prompt of {words} words was answered with none")
        return Figure(f"to the first word after a prompt of {words:,} words", round(time.monotonic() - begun, 3))

    def _calls(self, calls: Iterable[Call]) -> float:
        begun = time.monotonic()
        for call in calls:
            body = (
                None
                if call.body is None
                else {key: value.format(weights=self.model.folder) for key, value in call.body.items()}
            )
            _post(self._endpoint, call.path, body, timeout=self.bench.limit)
        return round(time.monotonic() - begun, 3)


@dataclass(frozen=True, slots=True)
class Proven:
    """A server that answered."""

    server: Server
    endpoint: Endpoint
    proof: probe.Proof


def launched(what: Launch, phases: "Phases") -> Proven:
    """Start, watch and ask it, as the supervisor does; whatever the reason for leaving, nothing unproven is left running."""
    announced, _ = launching.announced(what)
    phases.phase("engine")
    server = launching.begin(what, announced, None)
    handle = server.handle
    if handle is None:
        raise LauncherError("there is no server")
    try:
        lines = Tail(what.log)
        while not probe.healthy(server.base_url, what.engine.READY_PATH):
            _refuse_dead(server, handle, what.engine)
            for phase in filter(None, map(what.engine.phase, lines.new())):
                phases.update(phase.words)
            time.sleep(0.1)
        phases.phase("proof")
        answer = launching.proof(server, what.site.api_key)
    except BaseException:
        local.stop(handle, grace=launching.GRACE)
        raise
    return Proven(server, launching.endpoint(server, what.site.api_key), answer)


def _refuse_dead(server: Server, handle: Handle, engine: Engine) -> None:
    if not local.alive(handle):
        cause, hint, _ = launching.why_it_died(server, engine)
        raise LauncherError(cause, hint=hint)


class Phases(Silent):
    """A Progress that remembers when each phase of a start was first heard of."""

    # What `launch` calls the parts of its work, before and after the phases that the log tells.
    _OUTER: Mapping[str, str] = {"engine": "importing", "proof": "first answer"}

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._marks: list[tuple[float, str]] = []
        self._outer = ""

    def phase(self, name: str) -> None:
        self._outer = name
        self._marks.append((self._clock(), self._OUTER.get(name, name)))

    def update(self, text: str, done: int = 0, total: int = 0, *, left: float | None = None) -> None:  # noqa: ARG002 - the protocol's; a start counts nothing
        if self._outer == "engine":
            self._marks.append((self._clock(), text))

    def spans(self) -> list[tuple[str, float]]:
        """The phases up to now."""
        return spans(self._marks, self._clock())


def spans(marks: Sequence[tuple[float, str]], end: float) -> list[tuple[str, float]]:
    """Seconds by phase, in the order in which they began; one that several processes go through counts once, summed."""
    found: dict[str, float] = {}
    for (begun, name), (over, _) in zip(marks, [*marks[1:], (end, "")], strict=True):
        found[name] = found.get(name, 0.0) + over - begun
    return [(name, round(seconds, 1)) for name, seconds in found.items()]


def shape_of(text: str) -> Shape:
    """`16x2048x128256`: layers, hidden size, words; raises LauncherError."""
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", text)
    shape = Shape(*map(int, found.groups())) if found else None
    if shape is None or shape.hidden % (HEAD * HEADS_PER_KV) or shape.vocab < FEWEST_WORDS:
        sizes = f"HIDDEN a multiple of {HEAD * HEADS_PER_KV}, {FEWEST_WORDS} WORDS or more"
        hint = f"LAYERSxHIDDENxWORDS such as {SHAPES[CUDA]}: {sizes}"
        raise LauncherError(f"{text!r} is no shape of a model", hint=hint)
    return shape


def config_of(shape: Shape) -> dict[str, Any]:
    """The config.json of a Llama of this shape, in the proportions of Llama 3.2 1B."""
    heads = shape.hidden // HEAD
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden,
        "intermediate_size": 4 * shape.hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // HEADS_PER_KV,
        "head_dim": HEAD,
        "vocab_size": shape.vocab,
        "max_position_embeddings": WINDOW,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": END,
        "dtype": "bfloat16",
    }


def tensors_of(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors of its file and their shapes, by the names that transformers gives a LlamaForCausalLM."""
    hidden, between = config["hidden_size"], config["intermediate_size"]
    queries, keys = (config[f"num_{kind}_heads"] * config["head_dim"] for kind in ("attention", "key_value"))
    layer = {
        "input_layernorm": (hidden,),
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "post_attention_layernorm": (hidden,),
        "mlp.gate_proj": (between, hidden),
        "mlp.up_proj": (between, hidden),
        "mlp.down_proj": (hidden, between),
    }
    layers = {
        f"model.layers.{number}.{name}.weight": size
        for number in range(config["num_hidden_layers"])
        for name, size in layer.items()
    }
    return {"model.embed_tokens.weight": (config["vocab_size"], hidden), **layers, "model.norm.weight": (hidden,)}


def plain(report: Report) -> dict[str, Any]:
    """The report as JSON."""
    return {
        "version": VERSION,
        "launcher": launcher.__version__,
        "on": report.on,
        "machine": machines.to_json(report.inventory),
        "health": [asdict(each) for each in report.health],
        "environments": [
            {
                "name": each.name,
                "engine": each.engine,
                "version": each.release.version,
                "build": each.accelerator,
                "torch": each.release.torch,
                "cuda": ".".join(map(str, each.release.cuda or ())),
            }
            for each in report.environments
        ],
        "rows": [asdict(row) for row in report.rows],
    }


def page(report: Report) -> str:
    """The report for people, in markdown."""
    lines = ["# The launcher on this machine", "", *_machine(report)]
    for part, title in TITLES.items():
        rows = [row for row in report.rows if row.part == part]
        if rows:
            lines += ["", f"## {title}"]
        for row in rows:
            lines += _shown(row)
    return "\n".join(lines) + "\n"


def _machine(report: Report) -> Iterator[str]:
    machine = report.inventory
    yield f"`scripts/gpu_check`, {report.on}, launcher {launcher.__version__}."
    yield ""
    if machine.gpus:
        yield f"Driver {machine.driver}, CUDA up to {machine.cuda or 'unknown'}."
        yield ""
        yield "| GPU | | compute | GiB | free |"
        yield "|---|---|---|---|---|"
        for gpu in machine.gpus:
            compute = ".".join(map(str, gpu.compute))
            yield f"| {gpu.index} | {gpu.name} | {compute} | {gpu.total / GIB:.2f} | {gpu.free / GIB:.2f} |"
        yield ""
    else:
        yield "**There is no NVIDIA GPU here.** All figures are of builds for CPUs: they tell nothing of a GPU."
        yield ""
    for each in report.health:
        yield f"- card {each.index}: {_health_words(each)}"
    yield f"- CPU: {machine.cpu.name}, {machine.cpu.cores} cores, {machine.cpu.arch}"
    yield f"- memory: {machine.ram.available / GIB:.1f} GiB free of {machine.ram.total / GIB:.1f}"
    for place in report.environments:
        release = place.release
        yield f"- {place.name}: {place.engine} {release.version} for {place.accelerator}, PyTorch {release.torch}"


def _health_words(each: Health) -> str:
    words = [
        f"memory at {each.memory_clock} of {each.memory_clock_max} MHz{' (idle)' if each.idle else ''}",
        *(f"slowed: {reason}" for reason in each.slowed),
        f"{each.uncorrected} uncorrected memory errors",
        *(["rows wait to be remapped"] if each.remap_pending else []),
        *(["remapping failed"] if each.remap_failed else []),
        *([f"persistence mode {'on' if each.persistent else 'off'}"] if each.persistent is not None else []),
    ]
    return ", ".join(words)


def _shown(row: Row) -> Iterator[str]:
    figures = [figure for figure in row.figures if (figure.planned, figure.measured) != (None, None)]
    yield ""
    yield f"### {', '.join(filter(None, (row.environment, row.model, row.how)))}"
    yield ""
    if row.skipped:
        yield f"Left out: {row.skipped}."
    elif row.failure:
        yield f"**Failed** after {row.seconds:.1f} s: {row.failure}"
    elif any(figure.planned is not None for figure in figures):
        first = "NVML" if row.part == "nvml" else "planned"
        yield f"| | {first} | measured | off |"
        yield "|---|---|---|---|"
        for figure in figures:
            planned, measured = (_value(value, figure.unit) for value in (figure.planned, figure.measured))
            yield f"| {figure.name} | {planned} | {measured} | {_off(figure)} |"
    else:
        yield "| | |"
        yield "|---|---|"
        for figure in figures:
            yield f"| {figure.name} | {_value(figure.measured, figure.unit)} |"


def _value(value: Value, unit: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if unit == "bytes":
        return f"{value / GIB:.2f} GiB"
    return f"{value:,.1f} s" if unit == "s" else f"{value:,} {unit}".rstrip()


def _off(figure: Figure) -> str:
    """How far the measured one is from the planned one, in percent of the measured."""
    if figure.planned is None or not isinstance(figure.measured, int | float) or not figure.measured:
        return ""
    return f"{(figure.planned / figure.measured - 1) * 100:+.1f} %"


def _installed(home: Home) -> tuple[Environment, ...]:
    """The environments that can be used; raises LauncherError where there is none."""
    found = tuple(
        there for there in environments.read_all(home) if not there.broken and not there.image and there.engine in ENGINES
    )
    if not found:
        hint = "`launcher engines install vllm` makes one; --python names an interpreter that has an engine"
        raise LauncherError(f"no engine is installed in {home.root}", hint=hint)
    return found


def _adopted(work: Home, pythons: Sequence[Path]) -> tuple[Environment, ...]:
    """What other interpreters have, noted in a home of this check's own."""
    for number, python in enumerate(pythons):
        name = f"own-{number}"
        if (work.environments / name).exists():
            environments.remove(work, environments.named(work, name))
        words = [sys.executable, "-m", "launcher", "engines", "add", name, "--python", str(python.absolute())]
        env = {**os.environ, "LAUNCHER_HOME": str(work.root), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LauncherError(
                f"{python} cannot be used: {' '.join(done.stderr.split())}", hint="`launcher engines add` says the same"
            )
    return tuple(environments.named(work, f"own-{number}") for number in range(len(pythons)))


def _models(bench: Bench, home: Home, named: Sequence[str], shape: Shape | None, place: Environment) -> list[Model]:
    """The models that were named or asked for by shape; else those on the disk; else one with random weights."""
    profiles = catalogue.load_all((catalogue.shipped(), home.profiles))
    found: list[Model] = []
    for name in named or (profiles if shape is None else ()):
        if "/" in name or name.startswith((".", "~")):
            found.append(_in_folder(Path(name).expanduser().resolve()))
            continue
        there = list(_on_disk(home, catalogue.load((catalogue.shipped(), home.profiles), name)))
        if name in named and not there:
            raise LauncherError(f"{name} is not on the disk", hint=f"`launcher up {name}` fetches it")
        found += there
    if shape is None and not found:
        shape = shape_of(SHAPES[place.accelerator])
    return [*found, *([_in_folder(_made(bench, shape, place))] if shape else [])]


def _on_disk(home: Home, profile: Profile) -> Iterator[Model]:
    """The variants of a profile whose weights are whole; those made while loading share them, and are not all tried."""
    folders = set()
    for variant in profile.variants:
        folder = weights.locate(home, f"{profile.name}-{variant.name}", variant.weights)
        if folder and folder not in folders:
            folders.add(folder)
            yield Model(profile, variant.name, folder)


def _in_folder(folder: Path) -> Model:
    profile = derive(read_facts(LocalWeights(folder), home=Home(folder), progress=Silent(), env=os.environ))
    return Model(profile, profile.variants[0].name, folder)


def _made(bench: Bench, shape: Shape, place: Environment) -> Path:
    """The folder of a model with random weights, made by the environment's own packages; seconds for each GB."""
    folder = bench.work.root / "models" / shape.name
    if folder.exists():
        return folder
    folder.parent.mkdir(exist_ok=True)
    config = config_of(shape)
    told = json.dumps({"config": config, "tensors": tensors_of(config), "end": END})
    with staging(folder) as fresh:
        done = subprocess.run(
            [str(place.python), "-I", "-c", MAKE, str(fresh)],
            input=told,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2]
            raise LauncherError(f"{place.name} could not make a model: {last}", hint="name one on the disk with --model")
        fresh.replace(folder)
    return folder


def _seen_by_torch(place: Environment, inventory: Inventory) -> Sequence[Figure]:
    """Each card's memory as CUDA counts it, in a process that sees no other card, beside what NVML said before."""
    figures = []
    for gpu in inventory.gpus:
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": gpu.uuid}
        words = [str(place.python), "-I", "-c", ASK]
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LauncherError(f"PyTorch cannot use GPU {gpu.index}: {done.stderr.strip().rpartition(chr(10))[2]}")
        free, total = json.loads(done.stdout)
        figures += [
            Figure(f"GPU {gpu.index} total", total, "bytes", gpu.total),
            Figure(f"GPU {gpu.index} free, once CUDA has begun", free, "bytes", gpu.free),
        ]
    return figures


def _health(inventory: Inventory) -> tuple[Health, ...]:
    """How the cards are; nothing where they do not tell."""
    cards = sorted({gpu.index if gpu.card is None else gpu.card for gpu in inventory.gpus})
    try:
        return nvml.health(cards) if cards else ()
    except LauncherError as fault:
        print(f"health is not told: {fault.message}", file=sys.stderr)
        return ()


def _post(endpoint: Endpoint, path: str, body: Mapping[str, str] | None, *, timeout: float) -> None:
    """POST to the server of an endpoint; raises LauncherError unless it answers 200."""
    where = urlsplit(endpoint.base_url)
    headers = {"Authorization": f"Bearer {endpoint.api_key}", "Content-Type": "application/json"}
    with contextlib.closing(http.client.HTTPConnection(where.hostname or "", where.port, timeout=timeout)) as connection:
        connection.request("POST", path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read(2000).decode(errors="replace")
    if answer.status != http.client.OK:
        raise LauncherError(f"{path} answered {answer.status}: {' '.join(text.split())[:300]}")


def _wait(since: float, seconds: float, done: Callable[[], bool]) -> float | None:
    """Seconds from `since` until it is done; None if it is not within so many."""
    while not done():
        if time.monotonic() - since > seconds:
            return None
        time.sleep(LOOK)
    return round(time.monotonic() - since, 2)


def _left(handle: Handle) -> tuple[int, ...]:
    """What lives on of a server; asking for its leader first takes a killed one's exit status."""
    local.alive(handle)
    return local.processes(handle)


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise OverTimeError in what is done within after so many seconds."""

    def over(_number: int, _frame: FrameType | None) -> None:
        raise OverTimeError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def parts_of(text: str) -> tuple[str, ...]:
    """`nvml,kill`, in the order in which they are done; raises LauncherError for one that there is not."""
    named = {word.strip() for word in text.split(",")}
    if unknown := sorted(named - set(PARTS)):
        raise LauncherError(f"there is no part {unknown[0]!r}", hint=f"parts: {', '.join(PARTS)}")
    return tuple(part for part in PARTS if part in named)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="those of the above that are wanted (default: all)")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="a folder for report, logs, caches and made models")
    parser.add_argument("--model", action="append", default=[], help="a profile's name or a folder; may be repeated")
    parser.add_argument("--shape", default="", help=f"LAYERSxHIDDENxWORDS of a model to make (16 bits; {SHAPES[CUDA]}: 2.5 GB)")
    parser.add_argument(
        "--python", type=Path, action="append", default=[], help="an interpreter with an engine; may be repeated"
    )
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that one step may take (default: 600)")
    return parser.parse_args()


# Run by an engine's interpreter. The end's row of zeros has the logit 0, which is never the highest, so that the model always
# has something to say; its words are all of its numbers, and what is not one of them is the first.
MAKE = """
import json, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

folder, told = Path(sys.argv[1]), json.load(sys.stdin)
folder.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
tensors = {}
for name, size in told["tensors"].items():
    tensor = torch.empty(size, dtype=torch.bfloat16)
    tensors[name] = tensor.fill_(1.0) if len(size) == 1 else tensor.normal_(0.0, 0.02)
tensors["model.embed_tokens.weight"][told["end"]] = 0.0
save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
words = {f"w{number}": number for number in range(told["config"]["vocab_size"])}
words = {"</s>" if number == told["end"] else word: number for word, number in words.items()}
tokenizer = Tokenizer(models.WordLevel(words, unk_token=next(word for word in words if word != "</s>")))
tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")
fast.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
fast.save_pretrained(folder)
(folder / "config.json").write_text(json.dumps(told["config"], indent=1))
"""
ASK = "import json, torch; torch.zeros(1, device='cuda'); print(json.dumps(torch.cuda.mem_get_info()))"


if __name__ == "__main__":
    sys.exit(main())
