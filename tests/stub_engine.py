"""An engine without a model: speaks vLLM's or SGLang's HTTP, prints its log, and fails as it is told to.

    python tests/stub_engine.py --host 127.0.0.1 --port 8400 --model NAME --max-model-len 8192 [options]
    python tests/stub_engine.py --host 127.0.0.1 --port 8400 --model-path NAME --context-length 8192 [options]

The key comes from VLLM_API_KEY or LAUNCHER_API_KEY. Options of the engines that it does not know are ignored. It is ready in
a tenth of a second, unless it is told to take its time.

A fault is what happens (`mute`), or when and what (`weights: exit 1`). When: a phase (imports, weights, compile, kv, graphs,
warmup, ready), `N requests` for generation, `N seconds` after the start; else at once. What:

    exit CODE               end, and its cores with it
    signal NAME [WHOM]      KILL, STOP, CONT, ... to itself, or to its `core` or `worker`
    log FILE                print the lines of a file
    mute                    be healthy and generate nothing
    hang                    accept connections and say nothing at all
    refuse                  answer generation with an error
    slow SECONDS            for each token
    eat BYTES               hold so much memory, 4 GiB at most
    well                    take back mute, hang, refuse, slow and eat

Faults are given with --fault, or, while it runs, as lines that are added to the file --control; how many were taken stands
in a file beside it, FILE.done. The signal USR1 makes it mute and well by turns.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

# Started as a file, it finds the other parts beside it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.stub_core import Core
from tests.stub_http import ANSWER, Server, Serving, State
from tests.stub_lines import KV_TOKENS, PHASES, log, say, tell_start

__all__ = ["ANSWER", "KV_TOKENS"]

MOST_EATEN = 4 << 30
# v1/engine and entrypoints/launchers/launcher.py: vLLM's API server looks for its core's death so often (seconds).
WATCHDOG = 5.0


@dataclass(frozen=True)
class Fault:
    """What happens, and when: a phase, or a number of `requests` or `seconds`; "" for at once."""

    what: str
    when: str = ""
    number: float = 0.0


@dataclass(frozen=True)
class Options:
    serving: Serving
    device: str
    die: str | None
    die_after: float
    never_ready: bool
    pace: Mapping[str, float]
    shards: int
    children: int
    child_flags: tuple[str, ...]
    survive: bool
    faults: tuple[Fault, ...]
    control: Path | None


def parse(argv: Sequence[str], env: Mapping[str, str]) -> Options:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--engine", choices=("vllm", "sglang"), help="whose manner (default: by the option for the model)")
    parser.add_argument("--cuda", action="store_true", help="print what a start on GPUs prints")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", default="stub")
    parser.add_argument("--model-path")
    parser.add_argument("--served-model-name")
    parser.add_argument("--max-model-len", "--context-length", dest="context", type=int, default=8192)
    parser.add_argument("--enable-sleep-mode", "--enable-memory-saver", dest="can_sleep", action="store_true")
    parser.add_argument("--die", metavar="TEXT", help="print the text as log lines and exit with 1")
    parser.add_argument("--die-after", type=float, default=0.0, metavar="SECONDS", help="die only then, ready or not")
    parser.add_argument("--hang", action="store_true", help="never become healthy")
    parser.add_argument("--mute", action="store_true", help="be healthy, and never answer a completion")
    parser.add_argument("--wrong-context", action="store_true", help="report half of the context that was asked for")
    parser.add_argument("--slow-start", type=float, default=0.0, metavar="SECONDS", help="load the model for that long")
    parser.add_argument("--pace", action="append", default=[], metavar="PHASE=SECONDS", help="how long a phase takes")
    parser.add_argument("--shards", type=int, default=1, metavar="N", help="files of weights, steps of its bars")
    parser.add_argument("--children", type=int, default=0, metavar="N", help="processes that live on when this one is killed")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes of each of these, which end with it")
    parser.add_argument("--survive", action="store_true", help="live on without its children")
    parser.add_argument("--stubborn", action="store_true", help="children ignore TERM")
    parser.add_argument("--blank", action="store_true", help="children wipe their environment")
    parser.add_argument("--detach", action="store_true", help="children are in sessions of their own")
    parser.add_argument("--environment", metavar="DIR", help="children map a file from there")
    parser.add_argument("--fault", action="append", default=[], metavar="[WHEN: ]WHAT", help="see above")
    parser.add_argument("--control", type=Path, metavar="FILE", help="where more faults are told")
    known, _others = parser.parse_known_args(argv)
    engine = known.engine or ("sglang" if known.model_path else "vllm")
    serving = Serving(
        engine=engine,
        host=known.host,
        port=known.port,
        model=known.served_model_name or known.model_path or known.model,
        context=known.context // 2 if known.wrong_context else known.context,
        api_key=env.get("VLLM_API_KEY") or env.get("LAUNCHER_API_KEY"),
        can_sleep=known.can_sleep,
        development=env.get("VLLM_SERVER_DEV_MODE") == "1",
    )
    flags = [flag for flag in ("stubborn", "blank", "detach") if getattr(known, flag)]
    # utils/common.py, kill_itself_when_parent_died: SGLang's end with the one that started them. vLLM's core does not.
    flags += ["mortal", "name=sglang::scheduler"] if engine == "sglang" else ["name=VLLM::EngineCore"]
    flags += [f"workers={known.workers}", *([f"environment={known.environment}"] if known.environment else [])]
    pace = {"weights": known.slow_start}
    for each in known.pace:
        phase, _, seconds = each.partition("=")
        pace[phase] = float(seconds)
    return Options(
        serving=serving,
        device="cuda" if known.cuda else "cpu",
        die=known.die,
        die_after=known.die_after,
        never_ready=known.hang,
        pace=pace,
        shards=known.shards,
        children=known.children,
        child_flags=tuple(flags),
        survive=known.survive,
        faults=(*(fault(each) for each in known.fault), *([Fault("mute")] if known.mute else [])),
        control=known.control,
    )


def fault(text: str) -> Fault:
    """A fault in its words; raises ValueError."""
    when, found, what = text.strip().rpartition(": ")
    if not found or when in PHASES:
        return Fault(what, when)
    number, unit = when.split()
    if unit not in {"requests", "seconds"}:
        raise ValueError(text)
    return Fault(what, unit, float(number))


class Stub:
    """The process that listens."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.engine = options.serving.engine
        self.state = State()
        self.cores: list[Core] = []
        self.asking = threading.Lock()
        self.eaten: list[bytes] = []
        self.waiting = [each for each in options.faults if each.when]

    def run(self) -> None:
        """Start as an engine does, and serve until a signal."""
        server = Server(self.options.serving, self.state, alive=self.alive, counted=self.counted)
        for each in self.options.faults:
            if not each.when:
                self.happen(each.what)
            elif each.when == "seconds":
                self.later(each.number, each.what)
        self.cores = [Core(self.options.child_flags) for _ in range(self.options.children)]
        for core in self.cores:
            threading.Thread(target=self.watch, args=(core,), daemon=True).start()
        if self.options.control:
            threading.Thread(target=self.obey, args=(self.options.control,), daemon=True).start()
        if self.options.die is not None:
            threading.Timer(self.options.die_after, self.die, (self.options.die,)).start()
            if not self.options.die_after:
                threading.Event().wait()
        self.start()
        if self.options.never_ready:
            threading.Event().wait()
        server.server_activate()
        self.opened()
        server.serve_forever()

    def start(self) -> None:
        """Load a model that is not there."""
        what = self.options.serving
        sequences = f"Maximum concurrency for {what.context:,} tokens per request: {KV_TOKENS / what.context:.2f}x"
        words = {"model": what.model, "context": what.context, "host": what.host, "port": what.port, "tokens": KV_TOKENS}
        words |= {"sequences": sequences, "DEVICE": "GPU" if self.options.device == "cuda" else "CPU"}
        core = self.core
        worker = next((worker for each in self.cores for worker in each.workers), core)
        pids = {"APIServer": os.getpid(), "EngineCore": core, "Worker": worker}
        tell_start(self.engine, self.options.device, words, pids, shards=self.options.shards, reached=self.reached)

    def opened(self) -> None:
        """Tell of the address that is open; SGLang then generates for the first time."""
        what = self.options.serving
        lines = [f"Started server process [{os.getpid()}]", "Waiting for application startup.", "Application startup complete."]
        for line in lines:
            say(f"INFO:     {line}") if self.engine == "vllm" else log(self.engine, "", f"INFO:     {line}")
        if self.engine == "sglang":
            log(self.engine, "", f"INFO:     Uvicorn running on http://{what.host}:{what.port} (Press CTRL+C to quit)")
            log(self.engine, "", "The server is fired up and ready to roll!")
        self.state.warm = True
        time.sleep(self.reached("ready"))

    @property
    def core(self) -> int:
        return self.cores[0].pid if self.cores else os.getpid()

    def alive(self) -> bool:
        """Wait until all cores have answered; whether they live."""
        with self.asking:
            return all(core.ask() for core in self.cores) or self.options.survive

    def counted(self, requests: int) -> None:
        self.due("requests", requests)

    def reached(self, phase: str) -> float:
        self.due(phase, 0)
        return self.options.pace.get(phase, 0.0)

    def due(self, when: str, number: int) -> None:
        """Let happen what was to happen now."""
        now = [each for each in self.waiting if each.when == when and each.number <= number]
        self.waiting = [each for each in self.waiting if each not in now]
        for each in now:
            self.happen(each.what)

    def later(self, seconds: float, what: str) -> None:
        timer = threading.Timer(seconds, self.happen, (what,))
        timer.daemon = True
        timer.start()

    def obey(self, control: Path) -> None:
        """Take each line of the file once, when it has its end."""
        told = 0
        while True:
            text = control.read_text() if control.exists() else ""
            lines = text[: text.rfind("\n") + 1].splitlines()
            for line in lines[told:]:
                each = fault(line)
                if each.when == "seconds":
                    self.later(each.number, each.what)
                elif each.when:
                    number = each.number + self.state.requests if each.when == "requests" else 0.0
                    self.waiting.append(Fault(each.what, each.when, number))
                else:
                    self.happen(each.what)
            if lines[told:]:
                control.with_name(f"{control.name}.done").write_text(f"{len(lines)}\n")
            told = len(lines)
            time.sleep(0.02)

    def happen(self, what: str) -> None:
        word, *values = what.split()
        if word == "exit":
            self.end(int(values[0]))
        elif word == "signal":
            os.kill(self.whom(values[1:]), signal.Signals[f"SIG{values[0]}"])
        elif word == "log":
            say(Path(values[0]).read_text().rstrip("\n"))
        elif word == "slow":
            self.state.slow = float(values[0])
        elif word == "eat":
            # Not zeros, which would be no memory until they are written to.
            self.eaten.append(b"\1" * min(int(values[0]), MOST_EATEN - sum(map(len, self.eaten))))
        elif word == "well":
            self.state.mute = self.state.hung = self.state.refusing = False
            self.state.slow = 0.0
            self.eaten.clear()
        else:
            setattr(self.state, {"mute": "mute", "hang": "hung", "refuse": "refusing"}[word], True)

    def whom(self, words: Sequence[str]) -> int:
        if words == ["worker"]:
            return self.cores[0].workers[0]
        return self.core if words == ["core"] else os.getpid()

    def watch(self, core: Core) -> None:
        """What a core's death means to each engine."""
        code = core.process.wait()
        if self.options.survive:
            return
        self.state.dead = True
        if self.engine == "sglang":
            log(
                "sglang",
                "",
                f"Subprocess scheduler_0 (pid={core.pid}) crashed with exit code {code}. Triggering SIGQUIT for cleanup...",
            )
            self.end(-signal.SIGKILL)
        text = "[shutdown] MPClient: engine core exited unexpectedly; starting cleanup"
        log("vllm", "APIServer", text, place="core_client.py:817", level="WARNING")
        time.sleep(WATCHDOG)
        say("INFO:     Shutting down")
        self.end(0)

    def die(self, text: str) -> NoReturn:
        for line in text.splitlines():
            log(self.engine, "EngineCore", line, pid=self.core, level="ERROR")
        if self.engine == "vllm":
            cause = "Engine core initialization failed. See root cause above. Failed core proc(s): {}"
            say(f"(APIServer pid={os.getpid()}) RuntimeError: {cause}")
        self.end(1)

    def end(self, code: int) -> NoReturn:
        """Take the cores along, and be gone; a code below zero is a signal."""
        for core in self.cores:
            core.line.close()
            if core.process.poll() is None:
                os.kill(core.pid, signal.SIGTERM)
        if code < 0:
            os.kill(os.getpid(), -code)
        os._exit(code)

    def turn(self) -> None:
        """Mute or well, by turns."""
        self.happen("well" if self.state.mute else "mute")


def main() -> None:
    stub = Stub(parse(sys.argv[1:], os.environ))
    signal.signal(signal.SIGTERM, lambda *_: stub.end(0))
    signal.signal(signal.SIGUSR1, lambda *_: stub.turn())
    stub.run()


if __name__ == "__main__":
    main()
