"""A home in which real `launcher` processes are run, and a model in it whose engine is the stub."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from launcher import background, catalogue, processes, store
from launcher.engines import vllm
from launcher.home import Home
from launcher.lock import Holder
from launcher.prepared import Prepared
from launcher.runners import local
from launcher.server import Server, ServerSpec, Wanted
from tests import stub_engine
from tests.models_for_tests import tiny_folder
from tests.ports_for_tests import own_port

ROOT = Path(__file__).parents[1]
MODEL = "smollm2-135m"
SHIPPED = catalogue.shipped() / f"{MODEL}.toml"
NOWHERE = Path("/nonexistent/model-launcher.service")


def awaited(happened: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass
class Homestead:
    """A home, the environment of who uses it, and the processes that were started in it."""

    home: Home
    env: dict[str, str]
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def serve(self, *words: str) -> "subprocess.Popen[str]":
        return self.run([sys.executable, "-m", "launcher", "serve", *words])

    def run(self, argv: list[str]) -> "subprocess.Popen[str]":
        process = subprocess.Popen(argv, cwd=ROOT, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.started.append(process)
        return process

    def launcher(self, *words: str) -> "subprocess.CompletedProcess[str]":
        argv = [sys.executable, "-m", "launcher", *words]
        return subprocess.run(argv, cwd=ROOT, env=self.env, capture_output=True, text=True, check=False)

    def attend(self, unit_file: Path = NOWHERE) -> None:
        background.attend(self.home, self.env, unit_file=lambda: unit_file)

    def holder(self) -> Holder | None:
        return background.at_work(self.home)

    def staying(self) -> "subprocess.Popen[str]":
        process = self.serve()
        awaited(lambda: (holder := self.holder()) is not None and holder.pid == process.pid)
        return process

    def want(self, port: int, *, context: int = 8192) -> None:
        """A wish for a model whose engine is the stub; a context that is not the model's own makes a profile of it."""
        if context != 8192:
            self.home.profiles.mkdir()
            own = re.sub(r"max_position_embeddings = \d+", f"max_position_embeddings = {context}", SHIPPED.read_text())
            (self.home.profiles / SHIPPED.name).write_text(own)
        environment = self.home.root / "engine"
        python = environment / "bin" / "python"
        python.parent.mkdir(parents=True)
        # vLLM is run as `python -I -m MODULE OPTION...`
        python.write_text(f'#!/bin/sh\nshift 3\nexec "{sys.executable}" "{stub_engine.__file__}" "$@"\n')
        python.chmod(0o755)
        prepared = Prepared(
            environment=environment,
            python=python,
            weights=tiny_folder(self.home.root / "tiny"),
            caches=self.home.caches,
            version=vllm.VERSION,
        )
        spec = ServerSpec(model=MODEL)
        planned = replace(spec, engine="vllm", variant="fp16", context=context)
        env = {name: value for name, value in self.env.items() if name == "PATH"}
        store.keep_port(self.home, port)
        wish = Wanted(spec=spec, ask="one", planned=planned, prepared=prepared, env=env, spare=False)
        store.want(self.home, wish)

    def ready(self) -> Server:
        def is_ready() -> bool:
            server = store.find(self.home, MODEL)
            return server is not None and server.state == "ready"

        awaited(is_ready)
        server = store.find(self.home, MODEL)
        assert server
        return server


@contextmanager
def homestead(root: Path) -> Iterator[Homestead]:
    """One under `root`; whatever was started in it is ended with the block."""
    home = Home(root / "home").make()
    env = {
        **{name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}},
        "HOME": str(root),
        "PYTHONPATH": str(ROOT),
        "LAUNCHER_HOME": str(home.root),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
    }
    # Of its own: tests may run beside a real launcher.
    store.keep_port(home, own_port())
    made = Homestead(home, env)
    try:
        yield made
    finally:
        store.unwant(home, MODEL)
        for server in store.seen(home):
            if server.handle:
                local.stop(server.handle, grace=0)
        if (holder := made.holder()) and holder.pid:
            os.kill(holder.pid, signal.SIGTERM)
        for process in made.started:
            process.kill()
            process.communicate()
        awaited(lambda: made.holder() is None)


def lives(server: Server) -> bool:
    return bool(server.members) and all(processes.lives(pid, started) for pid, started in server.members)
