"""A real `launcher serve`, with a driver of any machine: what its metrics tell of the GPUs."""

from dataclasses import replace
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from launcher import store
from tests.fake_nvml import H100, RTX_4090, Card, Scenario, fake_driver
from tests.homestead import awaited, homestead

BUSY = replace(H100, health=("busy 97", "warm 61", "power 412500"))
QUIET = replace(RTX_4090, health=("busy 0", "warm 31"))
SPLIT = replace(
    BUSY, instances=(Card("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9984), Card("NVIDIA H100 80GB HBM3 MIG 2g.20gb", 20096))
)


def test_metrics_tell_what_each_gpu_does_and_leave_out_what_its_driver_does_not(tmp_path: Path) -> None:
    with homestead(tmp_path) as made:
        del made.env["CUDA_VISIBLE_DEVICES"]
        made.env |= fake_driver(tmp_path / "driver", Scenario(BUSY, QUIET, SPLIT))
        made.staying()
        port = store.port(made.home)
        awaited(lambda: store.listening(made.home) == (port, ""))
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    told: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("launcher_gpu_") and "memory" not in sample.name:
                told.setdefault(sample.name, {})[sample.labels["gpu"]] = sample.value
    # 3 and 4 are slices: as warm as their card, whose watts and work are not theirs.
    assert told == {
        "launcher_gpu_utilisation_percent": {"0": 97.0, "1": 0.0},
        "launcher_gpu_temperature_celsius": {"0": 61.0, "1": 31.0, "3": 61.0, "4": 61.0},
        "launcher_gpu_power_watts": {"0": 412.5},
    }
