"""What was counted, in Prometheus' words, and how the GPUs are."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.gateway.switchboard import Switchboard
from launcher.gateway.table import State
from launcher.gateway.tally import Spread

if TYPE_CHECKING:
    from prometheus_client.core import HistogramMetricFamily, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STATES: tuple[State, ...] = ("ready", "starting", "held", "asleep", "stopped", "off", "failed", "remote")


@dataclass(frozen=True, slots=True)
class Reading:
    """How a GPU is: bytes, percent, degrees Celsius, watts; None where the driver does not tell."""

    index: int
    uuid: str
    name: str
    used: int
    total: int
    utilisation: float | None = None
    temperature: float | None = None
    power: float | None = None


def exposition(board: Switchboard, gpus: Sequence[Reading]) -> str:
    """All of it as text."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class Ours(Collector):
        def collect(self) -> "Iterable[Metric]":
            yield from _of_models(board)
            yield from _of_gpus(gpus)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Ours())
    return generate_latest(registry).decode()


def _of_models(board: Switchboard) -> "Iterator[Metric]":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    requests = CounterMetricFamily(
        "launcher_requests", "Requests by answer; 499: the client went away", labels=["model", "status"]
    )
    tokens = CounterMetricFamily("launcher_tokens", "Tokens as engines tell them, else their events", labels=["model", "kind"])
    diverted = CounterMetricFamily(
        "launcher_fallbacks", "Requests that went to a provider's model, this one being down", labels=["model", "fallback"]
    )
    restarts = CounterMetricFamily("launcher_restarts", "Times that the engine was started anew", labels=["model"])
    waiting = GaugeMetricFamily("launcher_queue", "Requests that wait for a turn", labels=["model"])
    engines = GaugeMetricFamily("launcher_engines", "Engines that answer for the model now", labels=["model"])
    running = GaugeMetricFamily("launcher_in_flight", "Requests at the engine", labels=["model"])
    states = GaugeMetricFamily("launcher_state", "1 for the state that the model is in", labels=["model", "state"])
    spreads = {
        "waited": _histogram("launcher_wait_seconds", "From the request's first byte until its engine is asked"),
        "first": _histogram("launcher_time_to_first_token_seconds", "From the request's first byte to the answer's content"),
        "between": _histogram("launcher_inter_token_seconds", "Between two pieces of a streamed answer"),
        "whole": _histogram("launcher_request_seconds", "From the request's first byte to the answer's last"),
    }
    for name, served in board.tallies.items():
        tally = served.tally
        for status, count in list(tally.statuses.items()):
            requests.add_metric([name, str(status)], count)
        for fallback, count in list(tally.diverted.items()):
            diverted.add_metric([name, fallback], count)
        tokens.add_metric([name, "prompt"], tally.asked_tokens)
        tokens.add_metric([name, "completion"], tally.answered_tokens)
        for key, family in spreads.items():
            spread: Spread = getattr(tally, key)
            family.add_metric([name], _cumulative(spread), spread.total)
        if name not in board.served:
            continue
        restarts.add_metric([name], served.route.restarts)
        engines.add_metric([name], len(served.pools))
        waiting.add_metric([name], len(served.turns))
        running.add_metric([name], sum(pool.in_flight for pool in served.pools))
        for state in _STATES:
            states.add_metric([name, state], int(served.route.state == state))
    yield from (requests, tokens, diverted, restarts, engines, waiting, running, states, *spreads.values())
    connections = GaugeMetricFamily("launcher_connections", "Clients that are connected")
    connections.add_metric([], board.connections)
    yield connections


def _of_gpus(gpus: Sequence[Reading]) -> "Iterator[Metric]":
    from prometheus_client.core import GaugeMetricFamily

    told = (
        ("launcher_gpu_memory_used_bytes", "Memory that is taken", "used"),
        ("launcher_gpu_memory_bytes", "Memory", "total"),
        ("launcher_gpu_utilisation_percent", "Share of the time in which a kernel ran", "utilisation"),
        ("launcher_gpu_temperature_celsius", "Temperature", "temperature"),
        ("launcher_gpu_power_watts", "Power", "power"),
    )
    for metric, about, field in told:
        family = GaugeMetricFamily(metric, about, labels=["gpu", "uuid", "name"])
        for gpu in gpus:
            value = getattr(gpu, field)
            if value is not None:
                family.add_metric([str(gpu.index), gpu.uuid, gpu.name], value)
        yield family


def _histogram(name: str, about: str) -> "HistogramMetricFamily":
    from prometheus_client.core import HistogramMetricFamily

    return HistogramMetricFamily(name, about, labels=["model"])


def _cumulative(spread: Spread) -> list[tuple[str, float]]:
    counted = 0
    buckets = []
    for bound, count in zip((*map(str, spread.bounds), "+Inf"), spread.counts, strict=True):
        counted += count
        buckets.append((bound, float(counted)))
    return buckets
