#!/usr/bin/env python3
"""Kills engines and launchers of a little world, whose engine is the stub of the tests, and checks that all comes back.

`scripts/soak stub kills [--rounds N]`: N rounds for each victim and each engine's manner. A model that answers loses its
worker, its core, its API server, its `serve`, or several of them at once. It must answer again at the same address.

`scripts/soak stub writes [--rounds N]`: while `up`, `down` or a restart is at work, the verb, `serve`, or all that runs here
is ended with KILL, at a random moment or as soon as a file is being written. Then every state file must be readable, the next
`serve` must make true what is wanted, and the next `up` must give an answer.

After each round no process that was started from here may be left, the port must be free, no half-written file of an earlier
round may lie anywhere (the next write in its folder clears it), and the agent's file must be got back byte for byte. One line
of JSON a round, a summary last; exit code 1 if anything was wrong. 5 s a round on two cores.
"""

import argparse
import http.client
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from launcher import background, history, ports, processes, store  # noqa: E402 - of this very checkout
from launcher.commands import down, serve, unwire, up  # noqa: E402
from launcher.errors import LauncherError  # noqa: E402
from launcher.prepared import Prepared  # noqa: E402
from launcher.progress import Silent  # noqa: E402
from launcher.server import Server, ServerSpec  # noqa: E402
from launcher.wiring.registry import TARGETS  # noqa: E402
from launcher.world import World  # noqa: E402
from tests.stub_engine import ANSWER  # noqa: E402
from tests.world import StubEngine, little_world  # noqa: E402

MODEL, OTHER = "tiny", "other"
CONFIG = '[core]\nworkspace_base = "./w"\n\n[llm]\nmodel = "anthropic/claude"\n'
# What the engine is like: both manners of dying, and signs that are hard to read.
HIDDEN = ("--detach", "--blank")
MANNERS = {"vllm": (), "sglang": ("--engine", "sglang"), "vllm, hidden": HIDDEN}
# So long may anything take (seconds); a start takes less than one, and the first delay after a failure is 2.
PATIENCE, LAST_BREATH = 60.0, 3.0
VICTIMS = ("worker", "core", "leader", "serve", "several")
CORES = ("VLLM::EngineCor", "sglang::schedul")
# Seconds until the harm, at most, and the share of rounds in which it does not wait for a write.
LONGEST, AT_ANY_TIME = 3.0, 0.4


class Aloud(Silent):
    """Says what stays on the screen, and that alone."""

    def say(self, text: str) -> None:
        print(text, flush=True)


def world_of(root: Path, flags: Iterable[str] = ()) -> World:
    """The world of all rounds and of all processes: what is in the folder is not made anew."""
    for folder in ("here", "environment"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    tree = ("--children", "1", "--workers", "1", "--environment", str(root / "environment"), "--pace", "weights=0.4")
    if not (root / "profiles").exists():
        little_world(root, models=(MODEL, OTHER))
    world = little_world(root, models=(), engine=StubEngine(flags={"": (*tree, *flags)}))
    prepared = Prepared(root / "environment", Path(sys.executable), root / "weights", root / "launcher" / "caches", "0")
    return replace(world, expect=lambda _: prepared, prepare=lambda *_: prepared, attend=attend, progress=Aloud())


# -- what runs in processes of their own: `act ROOT FLAGS VERB [MODEL] [CONTEXT]` --


def act(words: list[str]) -> int:
    """Be a verb of the launcher in this world."""
    # A shell's background job would not be interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    root, flags, verb, *rest = words
    world = world_of(Path(root), json.loads(flags))
    try:
        if verb == "serve":
            print(serve.run(world, stay=False).text(), flush=True)
        elif verb == "down":
            down.run(world, None)
        else:
            spec = ServerSpec(model=rest[0], context=int(rest[1]) if rest[1:] else None)
            up.run(world, up.UpRequest(spec=spec, targets=TARGETS, port=port_of(root), proof=False))
    except LauncherError as fault:
        print(f"{fault.message} ({fault.hint})", flush=True)
        return 1
    return 0


def acting(root: Path, flags: Iterable[str], *words: str) -> "subprocess.Popen[bytes]":
    """Start such a process, in a session of its own as the real one is."""
    (root / "logs").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "act", str(root), json.dumps([*flags]), *words]
    with (root / "logs" / f"{words[0]}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=root, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def attend(world: World) -> None:
    """As `background.attend` does it, with the `serve` of this world."""
    engine = world.engines["vllm"]
    flags = engine.flags[""] if isinstance(engine, StubEngine) else ()
    if background.at_work(world.home):
        return
    child = acting(world.home.root.parent, flags, "serve")
    deadline = time.monotonic() + PATIENCE
    while not background.at_work(world.home) and child.poll() is None:
        if time.monotonic() > deadline:
            raise LauncherError("serve did not come up")
        time.sleep(0.02)


def port_of(root: Path | str) -> int:
    """The port of this world, chosen once."""
    return int((Path(root) / "port").read_text())


# -- what is seen from outside, without the launcher's own ways of finding processes --


def here(root: Path) -> dict[int, str]:
    """All living processes but this one that work in this folder, name it, or have a file of it mapped."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words, maps = (path / "cmdline").read_bytes().split(b"\0"), (path / "maps").read_text()
            folder, name = (path / "cwd").readlink(), (path / "comm").read_text().strip()
        except OSError:
            continue
        ours = folder.is_relative_to(root) or f"{root}/" in maps or (b"act" in words and os.fsencode(root) in words)
        if ours and maps and int(path.name) != os.getpid():
            found[int(path.name)] = name
    return found


def engines(root: Path) -> dict[int, str]:
    """Those of them that are an engine's: they work in the folder of its log, or have its environment mapped."""
    launchers = {pid for pid in here(root) if b"act" in _words(pid)}
    return {pid: name for pid, name in here(root).items() if pid not in launchers}


def launchers(root: Path, verb: str) -> list[int]:
    """The processes that are this verb."""
    return [pid for pid in here(root) if b"act" in _words(pid) and os.fsencode(verb) in _words(pid)]


def _words(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def half_written(root: Path) -> list[str]:
    """Files that a writer left beside what it was to replace."""
    folders = (root / "launcher", root / "here", root / "home")
    return sorted(str(path.relative_to(root)) for folder in folders for path in folder.rglob(".*") if path.is_file())


def unreadable(world: World) -> list[str]:
    """What is wrong with any file of the state."""
    home, found = world.home, []
    found += [fault.message for fault in (*store.look(home)[1], *store.wishes(home)[1].values())]
    for read in (store.port, store.chosen, store.listening, store.listener):
        try:
            read(home)
        except LauncherError as fault:
            found.append(fault.message)
    lines = home.starts.read_text().splitlines() if home.starts.exists() else []
    if len(history.read(home)) < len(lines):
        found.append(f"{home.starts} has damaged lines")
    known = {"wanted", "seen", "port.json", "listening.json", "engines.json", "starts.jsonl"}
    there = {path.name for path in home.state.iterdir()} if home.state.exists() else set()
    return [*found, *(f"state/{name} is nothing known" for name in there - known if not name.startswith("."))]


def _answers(base_url: str, key: Path, model: str) -> bool:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "?"}]})
    headers = {"Authorization": f"Bearer {key.read_text().strip()}", "Content-Type": "application/json"}
    parts = urlsplit(base_url)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE / 4)) as connection:
        try:
            connection.request("POST", "/v1/chat/completions", body, headers)
            answer = connection.getresponse()
            return answer.status == http.client.OK and ANSWER in answer.read().decode()
        except (OSError, http.client.HTTPException):
            return False


class Harmed:
    """One world, the manner of its engine, and what is found to be wrong in a round."""

    def __init__(self, root: Path, manner: str, chance: random.Random) -> None:
        self.root = root
        self.half_written = half_written(root)
        self.flags = MANNERS[manner]
        self.world = world_of(root, self.flags)
        self.chance = chance
        self.faults: list[str] = []

    def wrong(self, what: str) -> None:
        """Note a fault."""
        self.faults.append(what)

    def act(self, *words: str) -> "subprocess.Popen[bytes]":
        """Start a verb."""
        return acting(self.root, self.flags, *words)

    def end(self, verb: "subprocess.Popen[bytes]", what: str, *, code: int | None = 0) -> None:
        """Wait for its end, and for this exit code if one is given."""
        try:
            ended = verb.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.wrong(f"{what} does not end")
            verb.kill()
            verb.wait()
            return
        if code is not None and ended != code:
            self.wrong(f"{what} ended with {ended}: {_last_line(self.root / 'logs' / f'{what}.log')}")

    def up(self, model: str = MODEL) -> None:
        """Serve a model; it must answer."""
        self.end(self.act("up", model), "up")
        if not self.answers(model):
            self.wrong(f"{model} does not answer after up")

    def answers(self, model: str) -> bool:
        """Whether it answers a question at the address and with the key that agents know."""
        return _answers(store.address(self.world.home), self.world.home.key, model)

    def answers_by_itself(self, server: Server) -> bool:
        """Whether its engine does, which needs no `serve`."""
        return _answers(server.base_url, self.world.home.engine_key(server.name), server.name)

    def awaited(self, happened: Callable[[], bool], what: str, *, seconds: float = PATIENCE, serving: bool = True) -> float:
        """Wait for it, and look after `serve` once a second as `up` does; the seconds that it took."""
        begun = attended = time.monotonic()
        while not happened():
            now = time.monotonic()
            if now - begun > seconds:
                self.wrong(f"not within {seconds:.0f} s: {what}")
                break
            if serving and now - attended > 1:
                # A process that a killed `serve` was about to become holds its lock for a moment more.
                attended = now
                attend(self.world)
            time.sleep(0.02)
        return time.monotonic() - begun

    def seen(self, model: str = MODEL) -> Server | None:
        """Its record."""
        return store.find(self.world.home, model)

    def is_well(self, model: str) -> bool:
        """Whether it is on record as ready, runs with all its processes, and answers."""
        server = self.seen(model)
        if not server or server.state != "ready" or not server.handle:
            return False
        return all(processes.lives(*member) for member in server.members) and self.answers(model)

    def nothing_else_runs(self) -> None:
        """Every engine process here must be one of those on record, and the address the one that was chosen."""

        def strangers() -> dict[int, str]:
            members = {pid for server in store.look(self.world.home)[0] for pid, _ in server.members}
            return {pid: name for pid, name in engines(self.root).items() if pid not in members}

        if strangers():
            self.awaited(lambda: not strangers(), f"only processes that are on record: {strangers()}")
        if store.port(self.world.home) != port_of(self.root):
            self.wrong(f"it moved to {store.address(self.world.home)}")

    def state(self) -> None:
        """Every file of the state must be readable."""
        for fault in unreadable(self.world):
            self.wrong(fault)

    def down(self) -> None:
        """Stop all: then nothing is left, the port is free, and the agent's file is the one that it was."""
        self.end(self.act("down"), "down")
        # A process that has given its lock back takes a quarter of a second to be gone, and more on a busy machine.
        left = f"nothing is left after down: {here(self.root)}"
        self.awaited(lambda: not here(self.root), left, seconds=LAST_BREATH, serving=False)
        if not ports.is_free(port_of(self.root)):
            self.wrong(f"port {port_of(self.root)} is lost: {ports.holder(port_of(self.root))}")
        unwire.run(self.world, TARGETS)
        if (self.root / "here" / "config.toml").read_text() != CONFIG:
            self.wrong("the agent's file is another one")
        self.state()
        for path in set(half_written(self.root)) & set(self.half_written):
            self.wrong(f"half written, and left by a whole round: {path}")


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


# -- kills --


def killed(each: Harmed, victim: str) -> dict[str, Any]:
    """A model that answers loses processes; it answers again."""
    each.up()
    before = each.seen()
    if before is None or before.handle is None:
        return {"victim": victim}
    time.sleep(each.chance.uniform(0.0, 1.0))
    tree = tree_of(each)
    whom = [victim] if victim != "several" else each.chance.sample([*tree], each.chance.randint(2, len(tree)))
    for name in whom:
        _kill(tree[name])
    begun = time.monotonic()
    if whom == ["serve"] and not each.answers_by_itself(before):
        each.wrong("it does not answer without serve")
    if "serve" in whom:
        attend(each.world)
    engine_hit = whom != ["serve"]

    def again() -> bool:
        now = each.seen()
        return bool(now and now.handle and (now.handle != before.handle) == engine_hit) and each.is_well(MODEL)

    each.awaited(again, f"{MODEL} answers again")
    seconds = time.monotonic() - begun
    if not engine_hit and not all(processes.lives(*member) for member in before.members):
        each.wrong("serve alone was killed, and an engine went with it")
    if len(launchers(each.root, "serve")) != 1:
        each.wrong(f"{len(launchers(each.root, 'serve'))} of serve")
    each.nothing_else_runs()
    return {"victim": victim, "killed": sorted(whom), "again": round(seconds, 2)}


def tree_of(each: Harmed) -> dict[str, int]:
    """The processes that can be killed, by what they are."""
    running = engines(each.root)
    server = each.seen()
    leader = server.handle.pid if server and server.handle else 0
    found = {"leader": leader, "serve": next(iter(launchers(each.root, "serve")), 0)}
    for pid, name in running.items():
        if name.startswith("VLLM::Worker"):
            found["worker"] = pid
        elif name.startswith(CORES):
            found["core"] = pid
    if missing := {"leader", "serve", "worker", "core"} - {name for name, pid in found.items() if pid}:
        each.wrong(f"no {', '.join(sorted(missing))} among {running}")
    return {name: pid for name, pid in found.items() if pid}


def _kill(pid: int) -> None:
    """And wait until it is gone: until then it holds its locks."""
    started = processes.start_time(pid) or 0.0
    with suppress(ProcessLookupError):
        # Its parent may have been killed just before, and have taken it along.
        os.kill(pid, signal.SIGKILL)
    while processes.lives(pid, started):
        time.sleep(0.001)


# -- writes --

# What is at work, and what runs before it.
CHANGES = {
    "the first up": ("", ("up", MODEL)),
    "up of another": (OTHER, ("up", MODEL)),
    "up anew": (MODEL, ("up", MODEL, "4096")),
    "down": (MODEL, ("down",)),
    "a restart": (MODEL, ()),
}
# Who is killed: the verb, the one in the background, both, or all that runs here, as when the power is lost.
HARMED = ("verb", "serve", "both", "everything")


def cut_off(each: Harmed) -> dict[str, Any]:
    """Something changes, and whoever does it is killed in its midst."""
    change = each.chance.choice([*CHANGES])
    before, words = CHANGES[change]
    whom = each.chance.choice([name for name in HARMED if words or name != "verb"])
    if before:
        each.up(before)
    verb = each.act(*words) if words else None
    if not words and (server := each.seen()) and server.handle:
        _kill(server.handle.pid)
    moment = awaited_moment(each)
    # At once: a look at all processes takes longer than a write.
    serving = background.at_work(each.world.home) if whom != "verb" else None
    if verb and whom != "serve":
        verb.kill()
    if serving and serving.pid:
        _kill(serving.pid)
    while whom == "everything" and (all_of_them := here(each.root)):
        for pid in all_of_them:
            _kill(pid)
    cut = len(set(half_written(each.root)) - set(each.half_written))
    each.state()
    if verb and whom == "serve":
        # Its work goes on: the one that it looks for in the background is another one now.
        each.end(verb, words[0])
    elif verb:
        verb.wait()
    told = {"change": change, "killed": whom, **moment, "cut": cut}
    return {**told, **made_true(each)}


def awaited_moment(each: Harmed) -> dict[str, Any]:
    """A random moment, or the one in which a file is being written for the n-th time from now."""
    if each.chance.random() < AT_ANY_TIME:
        after = each.chance.uniform(0.0, LONGEST)
        time.sleep(after)
        return {"after": round(after, 2)}
    number = each.chance.randint(1, 12)
    seen: set[str] = set()
    deadline = time.monotonic() + LONGEST
    while len(seen) < number and time.monotonic() < deadline:
        seen |= set(_being_written(each.root))
    return {"write": len(seen)}


def _being_written(root: Path) -> Iterator[str]:
    folders = ("launcher", "launcher/state", "launcher/state/seen", "launcher/state/wanted", "launcher/wired", "here")
    for folder in folders:
        try:
            yield from (name for name in os.listdir(root / folder) if name.startswith("."))  # noqa: PTH208 - the fastest
        except FileNotFoundError:
            continue


def made_true(each: Harmed) -> dict[str, Any]:
    """What the state says after the harm is made so by the next `serve`, without another word; then `up` works as ever."""
    begun = time.monotonic()
    wanted = [want.name for want in store.wishes(each.world.home)[0]]
    attend(each.world)
    for name in wanted:
        # One that made room is started by the question.
        each.awaited(partial(each.is_well, name), f"{name} answers, as it is wanted")
    if wanted:
        each.nothing_else_runs()
    else:
        each.awaited(lambda: not here(each.root), f"nothing runs, as nothing is wanted: {here(each.root)}")
    seconds = time.monotonic() - begun
    each.up()
    each.nothing_else_runs()
    return {"wanted": wanted, "again": round(seconds, 2)}


# -- rounds --


def plan(mode: str, rounds: int, chance: random.Random) -> Iterator[tuple[str, str]]:
    """The manner of each round's engine, and its victim."""
    if mode == "kills":
        yield from ((manner, victim) for manner in MANNERS for victim in VICTIMS for _ in range(rounds))
    else:
        yield from ((chance.choice([*MANNERS]), "") for _ in range(rounds))


def one_round(each: Harmed, victim: str) -> dict[str, Any]:
    """Harm, what comes of it, and the end of it all."""
    begun = time.monotonic()
    told: dict[str, Any] = {}
    try:
        told = killed(each, victim) if victim else cut_off(each)
    except Exception as fault:  # noqa: BLE001 - a fault of this round, and the next one is still worth its time
        each.wrong(traceback.format_exception_only(fault)[-1].strip())
    finally:
        each.down()
    return {**told, "faults": each.faults, "seconds": round(time.monotonic() - begun, 1)}


def main() -> int:
    """Run the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("kills", "writes"))
    parser.add_argument("--rounds", type=int, default=0, help="10 of each kind of kill, 200 of cut writes")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--victim", choices=VICTIMS, help="only these kills")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="soak-stub-"))
    (root / "port").write_text(str(ports.free(10_000 + os.getpid() % 9_000)))
    (root / "here").mkdir()
    (root / "here" / "config.toml").write_text(CONFIG)
    print(json.dumps({"seed": options.seed, "folder": str(root)}), flush=True)
    chance = random.Random(options.seed)  # noqa: S311 - a seed that can be run again, not a secret
    rounds = options.rounds or {"kills": 10, "writes": 200}[options.mode]
    bad = cut = 0
    seconds = defaultdict(list)
    for number, (manner, victim) in enumerate(plan(options.mode, rounds, chance)):
        if options.victim and victim != options.victim:
            continue
        told = one_round(Harmed(root, manner, chance), victim)
        print(json.dumps({"round": number, "engine": manner, **told}), flush=True)
        bad += bool(told["faults"])
        cut += bool(told.get("cut"))
        kind = told.get("victim") or f"{told.get('change')}, {told.get('killed')}"
        seconds[kind].append(told.get("again", PATIENCE))
    for kind, took in sorted(seconds.items()):
        again = {"median": round(statistics.median(took), 1), "longest": round(max(took), 1)}
        print(json.dumps({"of": kind, "rounds": len(took), "again": again}))
    print(json.dumps({"rounds": sum(map(len, seconds.values())), "bad": bad, "cut": cut}))
    if not bad:
        shutil.rmtree(root)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(act(sys.argv[2:]) if sys.argv[1:2] == ["act"] else main())
