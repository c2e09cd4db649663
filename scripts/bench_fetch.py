"""Fetching measured against a hub on loopback: throughput beside plain `hf download`, and what kills at random moments cost.

    python scripts/bench_fetch.py [--megabytes 1200] [--rounds 7] [--rate MB_PER_SECOND] [--kills 100]

Both clients run in turns, in processes of their own, from empty caches; what is told is the median of each. With --rate the hub
sends each file no faster, as a network would: without one, the processor is what is measured, and this also checks hashes and
flushes each file to the disk, which the plain client does not.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.hub_server import Hub, Repository  # noqa: E402  # beside this script's folder

FETCH = """
import os, sys, pathlib
from launcher import weights
from launcher.home import Home
from launcher.profile_weights import HubWeights
from launcher.progress import Silent
class Told(Silent):
    def say(self, text):
        print(text, file=sys.stderr)
home = Home(pathlib.Path(os.environ["LAUNCHER_HOME"]))
weights.fetch(home, "m", HubWeights("org/model"), environment_python=pathlib.Path, progress=Told(), env=dict(os.environ))
"""
SHARDS = 4
# Of the size, that may be fetched where one fetch was killed once.
LIMIT = 1.1


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--kills", type=int, default=0)
    typed = parser.parse_args()
    size = typed.megabytes * 10**6 // SHARDS
    chance = random.Random(1)  # noqa: S311  # contents, not secrets
    files = {f"model-{number}-of-{SHARDS}.safetensors": chance.randbytes(size) for number in range(1, SHARDS + 1)}
    rate = typed.rate * 1e6 / SHARDS if typed.rate else None
    with Hub({"org/model": Repository({"config.json": b"{}", **files})}, rate=rate) as hub:
        if typed.kills:
            kills(hub, files, typed.kills)
        else:
            compare(hub, size * SHARDS, typed.rounds)


def compare(hub: Hub, size: int, rounds: int) -> None:
    """Both clients in turns."""
    ours = [sys.executable, "-c", FETCH]
    plain = [str(Path(sys.executable).with_name("hf")), "download", "org/model"]
    seconds: dict[str, list[float]] = {"launcher": [], "hf download": []}
    for number in range(rounds):
        turns = [("launcher", ours), ("hf download", plain)]
        for name, argv in turns if number % 2 else reversed(turns):
            with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
                os.sync()
                began = time.perf_counter()
                subprocess.run(argv, env=environment(Path(folder), hub), check=True, stdout=subprocess.DEVNULL)
                seconds[name].append(time.perf_counter() - began)
    for name, took in seconds.items():
        middle = statistics.median(took)
        spread = f"{min(took):.2f} to {max(took):.2f} s"
        print(f"{name:12} {middle:6.2f} s, {size / middle / 1e6:6.0f} MB/s ({spread}, {rounds} rounds)")
    print(f"ratio of medians: {statistics.median(seconds['hf download']) / statistics.median(seconds['launcher']):.3f}")


def kills(hub: Hub, files: dict[str, bytes], rounds: int) -> None:
    """Kill at a random moment, go on, and look at every byte; each round from an empty cache."""
    size, shares, moments = sum(map(len, files.values())), [], 0
    expected = {hashlib.sha256(content).hexdigest() for content in files.values()}
    chance = random.Random(2)  # noqa: S311  # moments, not secrets
    with tempfile.TemporaryDirectory() as folder:
        whole = fetch_for(Path(folder), hub, None)
    for _ in range(rounds):
        hub.sent.clear()
        with tempfile.TemporaryDirectory() as folder:
            moments += fetch_for(Path(folder), hub, chance.uniform(0.1, whole)) == 0
            fetch_for(Path(folder), hub, None)
            found = [path for path in Path(folder).rglob("blobs/*") if path.stat().st_size == len(next(iter(files.values())))]
            if {hashlib.sha256(path.read_bytes()).hexdigest() for path in found} != expected:
                raise SystemExit("a file is damaged")
            shutil.rmtree(folder, ignore_errors=True)
            Path(folder).mkdir()
        shares.append(sum(hub.sent.values()) / size)
        if shares[-1] > LIMIT:
            print(f"{shares[-1]:.3f} of the size was fetched; by file: {dict(hub.sent)}", flush=True)
    print(f"{rounds} rounds, {moments} of them killed before the end; whole in {whole:.1f} s; every hash is right")
    print(f"bytes fetched over the size: median {statistics.median(shares):.3f}, most {max(shares):.3f}")


def fetch_for(folder: Path, hub: Hub, seconds: float | None) -> float:
    """Fetch, and kill it after so many seconds; how long it took, 0 if it was killed."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", FETCH], env=environment(folder, hub), start_new_session=True)
    try:
        if process.wait(seconds):
            raise SystemExit("the fetch failed")
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return 0.0
    return time.perf_counter() - began


def environment(folder: Path, hub: Hub) -> dict[str, str]:
    """A user with nothing yet."""
    here = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    # What the command asks other servers for is not what is measured.
    here |= {"HF_HUB_DISABLE_UPDATE_CHECK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**here, "HF_HOME": str(folder / "hf"), "LAUNCHER_HOME": str(folder / "home"), "HF_ENDPOINT": hub.url}


if __name__ == "__main__":
    main()
