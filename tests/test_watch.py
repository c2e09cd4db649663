"""Whole logs, real ones and such as a GPU makes, are followed from their first line to their last."""

from itertools import pairwise
from pathlib import Path

import pytest

from launcher.engines.registry import ENGINES
from launcher.phases import COMPILE, GRAPHS, IMPORTS, KV, ORDER, READY, WARMUP, WEIGHTS, Phase
from launcher.tail import Tail
from launcher.watch import Watch

STARTS = Path(__file__).with_name("starts")
ON_CPU = (IMPORTS, WEIGHTS, KV, WARMUP, READY)
ON_GPU = (IMPORTS, WEIGHTS, COMPILE, KV, GRAPHS, WARMUP, READY)


def followed(log: Path) -> list[Watch]:
    """The watches of a start whose lines come a second apart."""
    engine = ENGINES[log.name.partition("-")[0]]
    watches = [Watch.begun(0)]
    for at, line in enumerate(Tail(log).new(), 1):
        watches.append(watches[-1].fed(engine.phase(line), at))
    return watches


@pytest.mark.parametrize(
    ("log", "phases"),
    [
        pytest.param("vllm-cpu", ON_CPU, id="vLLM on a CPU"),
        pytest.param("sglang-cpu", ON_CPU, id="SGLang on a CPU"),
        pytest.param("vllm-cuda", ON_GPU, id="vLLM on GPUs"),
        pytest.param(
            "sglang-cuda", tuple(name for name in ON_GPU if name != COMPILE), id="SGLang compiles as it captures graphs"
        ),
    ],
)
def test_a_whole_log_has_all_phases_in_their_order(log: str, phases: tuple[str, ...]) -> None:
    last = followed(STARTS / f"{log}.log")[-1]
    assert tuple(name for name, _ in last.reached) == phases
    assert all(one < other for (_, one), (_, other) in pairwise(last.reached))
    assert list(last.seconds()) == [*phases[:-1]]


@pytest.mark.parametrize(
    ("log", "shares"),
    [
        pytest.param("vllm-cpu", [0.0, 1.0], id="vLLM, one file"),
        pytest.param("sglang-cpu", [0.0, 1.0], id="SGLang, one file"),
        pytest.param("vllm-cuda", [0.0, 0.25, 0.5, 0.75, 1.0], id="vLLM, four files"),
        pytest.param("sglang-cuda", [0.0, 0.25, 0.5, 1.0], id="SGLang, four files"),
    ],
)
def test_weights_are_told_by_their_share(log: str, shares: list[float]) -> None:
    told = [watch.now.share for watch in followed(STARTS / f"{log}.log") if watch.now.name == WEIGHTS]
    seen = [share for share in told if share is not None]
    assert list(dict.fromkeys(seen)) == shares


def test_the_logs_are_of_an_engine_each() -> None:
    assert {log.name.partition("-")[0] for log in STARTS.iterdir()} == set(ENGINES)


def fed(*phases: tuple[str, float | None]) -> Watch:
    """The watch after phases that came a second apart, each with its share."""
    watch = Watch.begun(100)
    for number, (name, share) in enumerate(phases, 1):
        watch = watch.fed(Phase(name, f"doing {name}", share), 100 + number)
    return watch


@pytest.mark.parametrize(
    ("watch", "words", "done", "seconds"),
    [
        pytest.param(fed(), "importing", (0, 0), {}, id="a start begins with its imports"),
        pytest.param(fed((WEIGHTS, 0.45)), "doing weights", (45, 100), {IMPORTS: 1}, id="a share"),
        pytest.param(fed((WEIGHTS, 0.45), (WEIGHTS, None)), "doing weights", (0, 0), {IMPORTS: 1}, id="no share any more"),
        pytest.param(
            fed((WEIGHTS, 1), (KV, None), (WEIGHTS, 0.5)), "doing kv", (0, 0), {IMPORTS: 1, WEIGHTS: 1},
            id="a worker that is behind does not bring a phase back",
        ),
        pytest.param(
            fed((COMPILE, None), (GRAPHS, 0.3)), "doing compile", (0, 0), {IMPORTS: 1},
            id="graphs before there is a KV cache are those of a measurement",
        ),
        pytest.param(
            fed((KV, None), (GRAPHS, 0.3)), "doing graphs", (30, 100), {IMPORTS: 1, KV: 1}, id="graphs are captured after it"
        ),
        pytest.param(
            fed((WEIGHTS, 0.5)).ended(110), "ready", (0, 0), {IMPORTS: 1, WEIGHTS: 9}, id="it is ready though its log said less"
        ),
        pytest.param(
            fed((WEIGHTS, 0.5), (READY, None)).ended(110), "ready", (0, 0), {IMPORTS: 1, WEIGHTS: 1}, id="it was ready already"
        ),
    ],
)  # fmt: skip
def test_a_watch_tells_where_a_start_is(watch: Watch, words: str, done: tuple[int, int], seconds: dict[str, float]) -> None:
    assert (watch.now.words, watch.done, watch.seconds()) == (words, done, seconds)


def test_every_phase_can_be_reached() -> None:
    assert [name for name, _ in fed(*((name, None) for name in ORDER)).reached] == [*ORDER]
