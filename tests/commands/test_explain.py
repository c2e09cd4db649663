"""`launcher explain` over the samples, files of users and a server that was started here."""

from dataclasses import replace
from pathlib import Path

import pytest

from launcher import docker_faults, store
from launcher.commands import explain
from launcher.commands.explain import ExplainResult
from launcher.engines.registry import ENGINES
from launcher.errors import LauncherError
from launcher.runners.base import Handle
from launcher.server import Server, ServerSpec
from launcher.world import World
from tests.world import little_world

SAMPLES = Path(__file__).parent.parent / "samples"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The real engines; nothing was started yet."""
    made = replace(little_world(tmp_path), engines=ENGINES)
    made.home.make()
    return made


def text_of(result: ExplainResult) -> str:
    from rich.console import Console

    console = Console(width=200, highlight=False)
    with console.capture() as captured:
        console.print(result.text())
    return captured.get()


def started(world: World, name: str, log: Path, *, handle: Handle | None = None) -> None:
    server = Server(
        spec=ServerSpec(name),
        engine="vllm",
        variant="bf16",
        state="failed",
        context=8192,
        base_url="http://127.0.0.1:8400/v1",
        log=log,
        since=1.0,
        handle=handle,
    )
    store.see(world.home, server)


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*/*.log")), ids=lambda path: f"{path.parent.name} wrote {path.stem}")
def test_the_engine_is_guessed_from_its_lines(world: World, path: Path) -> None:
    by_docker = path.stem in {"port-docker", *(fault.name for fault in docker_faults.FAULTS)} - {"port"}
    assert explain.run(world, str(path), stdin=()).engine == ("docker" if by_docker else path.parent.name)


def test_cause_evidence_and_remedy_are_told(world: World) -> None:
    result = explain.run(world, str(SAMPLES / "vllm" / "kv-context.log"), stdin=())
    told = text_of(result)
    assert "the KV cache does not hold one sequence of this context" in told
    assert "the estimated maximum model length is 46464" in told
    assert "start with --context 45056" in told
    assert result.json() == {
        "log": str(SAMPLES / "vllm" / "kv-context.log"),
        "engine": "vllm",
        "fault": "kv-context",
        "cause": "the KV cache does not hold one sequence of this context",
        "evidence": result.found.evidence,
        "remedy": "start with --context 45056",
        "retry": {"context": 45056},
    }


def test_what_nobody_foresaw_has_no_remedy(world: World) -> None:
    result = explain.run(world, "-", stdin=["[2026-11-23 03:52:41] OddError: so odd\n"])
    assert result.json() == {
        "log": "stdin",
        "engine": "sglang",
        "fault": None,
        "cause": "the engine stopped with an error",
        "evidence": "OddError: so odd",
        "remedy": None,
        "retry": None,
    }
    assert "to do" not in text_of(result)


def test_the_engine_may_be_named(world: World) -> None:
    result = explain.run(world, "-", stdin=["OSError: [Errno 98] Address already in use\n"], engine="vllm")
    assert (result.engine, result.found.fault) == ("vllm", "port")


@pytest.mark.parametrize("name", ["tiny", None])
def test_a_server_that_was_started_here_is_meant_by_its_name_or_as_the_only_one(world: World, name: str | None) -> None:
    started(world, "tiny", SAMPLES / "vllm" / "port.log")
    result = explain.run(world, name, stdin=())
    assert (result.engine, result.found.fault) == ("vllm", "port")


def test_a_server_that_runs_has_no_end(world: World) -> None:
    class Alive:
        """All that is asked of a runner here."""

        @staticmethod
        def alive(_: Handle) -> bool:
            return True

    handle = Handle(pid=1, started=0.0, server_id="x", environment=Path("/env"))
    started(world, "tiny", SAMPLES / "vllm" / "port.log", handle=handle)
    with pytest.raises(LauncherError, match="tiny runs: there is no end to explain"):
        explain.run(replace(world, runner=Alive()), "tiny", stdin=())  # type: ignore[arg-type]  # no more of it is used


@pytest.mark.parametrize(
    ("what", "stdin", "message"),
    [
        pytest.param(None, (), "which log", id="nothing was started yet"),
        pytest.param("gone.log", (), "there is no log at gone.log, and no server of that name", id="no such file"),
        pytest.param("-", ("hello\n", "world\n"), "no known engine wrote stdin", id="another program's log"),
        pytest.param("-", (), "no known engine wrote stdin", id="no log at all"),
        pytest.param(str(SAMPLES), (), "is a folder", id="a folder"),
    ],
)
def test_what_cannot_be_explained_is_said(world: World, what: str | None, stdin: tuple[str, ...], message: str) -> None:
    with pytest.raises(LauncherError, match=message):
        explain.run(world, what, stdin=stdin)
