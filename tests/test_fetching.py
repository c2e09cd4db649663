"""Fetching from a hub on which everything goes wrong, by the real client: what comes is whole, and comes once."""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher import promises, weights, weights_record
from launcher.errors import LauncherError
from launcher.fetch_plan import FetchPlan, Part
from launcher.home import Home
from launcher.hub_cache import Cache
from launcher.profile_weights import HubWeights
from launcher.weight_files import File
from tests.hub_server import Faults, Hub, Repository
from tests.test_weights import NO_PYTHON, ROOT, Told, hub_env

MODEL = HubWeights("org/model")
SIZE = 3_000_000
SHARDS = {f"model-{number}-of-2.safetensors": random.Random(number).randbytes(SIZE) for number in (1, 2)}  # noqa: S311
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "model.safetensors.index.json": json.dumps({"weight_map": {str(n): name for n, name in enumerate(SHARDS)}}).encode(),
    **SHARDS,
}


def get(
    tmp_path: Path, env: Mapping[str, str], progress: Told | None = None, *, patience: float = 60, anew: bool = False
) -> Path:
    return weights.fetch(
        Home(tmp_path / "home"),
        "m",
        MODEL,
        environment_python=lambda: NO_PYTHON,
        progress=progress or Told(),
        env=env,
        patience=patience,
        anew=anew,
    )


def assert_whole(path: Path, files: Mapping[str, bytes] = FILES) -> None:
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.iterdir()}
    assert found == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


@pytest.mark.parametrize(
    ("faults", "said", "most"),
    [
        pytest.param(Faults(cut=[1_000_000, 500_000, 0, 100_000]), [], 1.0, id="answers that break off are carried on"),
        pytest.param(Faults(busy=[429, 503, 500]), [], 1.0, id="a hub that is busy is asked again"),
        pytest.param(Faults(busy=[503] * 8), [r"the hub went away \(it answered 503\); it goes on in 1 s"], 1.0, id="for long"),
        pytest.param(Faults(cut=[2_000_000], plain=True), [], 2.0, id="where ranges are not known, it is begun anew"),
        pytest.param(
            Faults(wrong=1), [r"model-\d-of-2.safetensors of org/model came damaged \(its sha256"], 1.6, id="wrong bytes"
        ),
        pytest.param(Faults(hang=[700_000]), [r"no byte came for 6 s; it goes on in 1 s$"], 1.0, id="a line that stalls"),
    ],
)
def test_whatever_goes_wrong_the_files_are_the_hubs(tmp_path: Path, faults: Faults, said: list[str], most: float) -> None:
    told = Told()
    with Hub({"org/model": Repository(FILES)}, faults=faults) as server:
        path = get(
            tmp_path, hub_env(tmp_path, server.url, HF_HUB_DOWNLOAD_TIMEOUT="30"), told, patience=6 if faults.hang else 60
        )
    assert_whole(path)
    assert [bool(re.search(pattern, line)) for pattern, line in zip(said, told.said, strict=True)] == [True] * len(said), (
        told.said
    )
    assert sum(server.sent.values()) <= most * 2 * SIZE


def test_what_comes_damaged_twice_is_named_and_never_served(tmp_path: Path) -> None:
    with Hub({"org/model": Repository(FILES)}, faults=Faults(wrong=9)) as server, pytest.raises(LauncherError) as fault:
        get(tmp_path, hub_env(tmp_path, server.url))
    assert re.match(r"model-\d-of-2.safetensors of org/model came damaged 2 times: its sha256", fault.value.message)
    assert weights.locate(Home(tmp_path / "home"), "m", MODEL) is None
    assert not list((tmp_path / "hf").rglob("blobs/" + hashlib.sha256(SHARDS["model-1-of-2.safetensors"]).hexdigest()))


def test_a_hub_that_is_away_for_a_while_is_waited_for(tmp_path: Path) -> None:
    told = Told()
    with Hub({"org/model": Repository(FILES)}, faults=Faults(cut=[1_000_000, 1_000_000])) as server:

        def leave() -> None:
            if sum(server.sent.values()) >= 1_500_000 and not server.down:
                server.down, server.on_bytes = True, lambda: None
                threading.Timer(5, come_back).start()

        def come_back() -> None:
            server.down = False

        server.on_bytes = leave
        assert_whole(get(tmp_path, hub_env(tmp_path, server.url), told))
    assert sum(server.sent.values()) == 2 * SIZE
    assert told.said[0] == "fetching org/model: the hub went away (it answered 503); it goes on in 1 s"


def test_what_is_damaged_in_the_cache_is_named_and_fetched_again(tmp_path: Path) -> None:
    told = Told()
    with Hub({"org/model": Repository(FILES)}) as server:
        env = hub_env(tmp_path, server.url)
        path = get(tmp_path, env)
        blob = (path / "model-2-of-2.safetensors").resolve()
        content = bytearray(blob.read_bytes())
        content[77] ^= 1
        blob.write_bytes(content)
        server.sent.clear()
        assert_whole(get(tmp_path, env, told, anew=True))
    assert told.said == [
        "model-2-of-2.safetensors of org/model is damaged in the cache (its sha256 is not the hub's): it is fetched again"
    ]
    assert dict(server.sent) == {"model-2-of-2.safetensors": SIZE}


def test_what_another_program_fetched_is_used_and_checked(tmp_path: Path) -> None:
    with Hub({"org/model": Repository(FILES)}) as server:
        env = hub_env(tmp_path, server.url)
        hf = Path(sys.executable).with_name("hf")
        subprocess.run([hf, "download", "org/model"], env=env, check=True, capture_output=True)
        sent = sum(server.sent.values())
        assert_whole(get(tmp_path, env))
        assert sum(server.sent.values()) == sent
    record = weights_record.find(Home(tmp_path / "home"), MODEL)
    assert record is not None
    assert record.blobs["model-1-of-2.safetensors"] == hashlib.sha256(SHARDS["model-1-of-2.safetensors"]).hexdigest()


def test_other_programs_find_the_model_where_the_client_puts_it(tmp_path: Path) -> None:
    code = (
        "import sys, huggingface_hub as h; print(h.snapshot_download('org/model', allow_patterns=['*.json', '*.safetensors']))"
    )
    with Hub({"org/model": Repository(FILES)}) as server:
        env = hub_env(tmp_path, server.url)
        path = get(tmp_path, env)
        offline = {**env, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(path)


def test_a_part_that_was_whole_when_it_was_killed_is_checked_and_taken(tmp_path: Path) -> None:
    repository = Repository(FILES)
    blobs = tmp_path / "hf" / "hub" / "models--org--model" / "blobs"
    blobs.mkdir(parents=True)
    sound, damaged = SHARDS
    (blobs / f"{repository.hashes[sound]}.incomplete").write_bytes(SHARDS[sound])
    (blobs / f"{repository.hashes[damaged]}.incomplete").write_bytes(SHARDS[damaged][:-1] + b"x")
    told = Told()
    with Hub({"org/model": repository}) as server:
        assert_whole(get(tmp_path, hub_env(tmp_path, server.url), told))
    assert dict(server.sent) == {damaged: SIZE}
    assert len(told.said) == 1


def test_two_at_once_fetch_it_once(tmp_path: Path) -> None:
    with Hub({"org/model": Repository(FILES)}, rate=4_000_000) as server:
        env = hub_env(tmp_path, server.url)
        # The second has a LAUNCHER_HOME of its own: only the client's own locks are common.
        threads = [threading.Thread(target=get, args=(tmp_path / home, env)) for home in ("one", "one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert dict(server.sent) == dict.fromkeys(SHARDS, SIZE)
        for home in ("one", "two"):
            found = weights.locate(Home(tmp_path / home / "home"), "m", MODEL)
            assert found is not None
            assert_whole(found)


def test_a_branch_that_moved_is_followed_when_it_is_asked_for(tmp_path: Path) -> None:
    first, second = Repository(FILES), Repository({**FILES, "config.json": b'{"v": 2}'})
    second.older = (first,)
    with Hub({"org/model": first}) as server:
        env = hub_env(tmp_path, server.url)
        path = get(tmp_path, env)
        server.repositories["org/model"] = second
        server.sent.clear()
        assert get(tmp_path, env) == path
        moved = get(tmp_path, env, anew=True)
        assert (path.name, moved.name) == (first.commit, second.commit)
        assert not server.sent, "the weights are the same"
        assert weights.locate(Home(tmp_path / "home"), "m", HubWeights("org/model", second.commit)) == moved


def test_a_branch_that_moves_while_it_is_fetched_gives_no_mixture(tmp_path: Path) -> None:
    first = Repository(FILES)
    second = Repository({name: content[::-1] for name, content in FILES.items()}, older=(first,))
    with Hub({"org/model": first}, faults=Faults(hang=[1_000_000])) as server:

        def move() -> None:
            server.repositories["org/model"] = second

        server.on_bytes = move
        path = get(tmp_path, hub_env(tmp_path, server.url, HF_HUB_DOWNLOAD_TIMEOUT="30"), patience=6)
    assert path.name == first.commit
    assert_whole(path)


DRIVER = """
import os, sys, pathlib
from launcher import weights
from launcher.home import Home
from launcher.profile_weights import HubWeights
from launcher.progress import Silent
root = pathlib.Path(sys.argv[1])
print(weights.fetch(Home(root / "home"), "m", HubWeights("org/model"), environment_python=pathlib.Path,
    progress=Silent(), env=dict(os.environ)))
"""


# -- room --


def part(size: int) -> Part:
    return Part(File("model.safetensors", size, hashlib.sha256(str(size).encode()).hexdigest()))


def test_other_downloads_that_run_keep_their_room(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    other, cache = FetchPlan("org/other", "c", (part(free // 2),)), Cache(tmp_path / "models--org--other")
    promises.make(folder, "other", other, cache)
    mine = FetchPlan("org/mine", "c", (part(free * 2 // 3),))
    # Nobody holds the other's lock: it was killed, and needs nothing any more.
    promises.make(folder, "mine", mine, Cache(tmp_path / "models--org--mine"))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder / "other.lock")], stdout=subprocess.PIPE, env={"PYTHONPATH": str(ROOT)}
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        with pytest.raises(LauncherError, match="of which other downloads still need"):
            promises.make(folder, "mine", mine, Cache(tmp_path / "models--org--mine"))
    finally:
        holder.kill()
        holder.communicate()


HOLD = """
import sys, time, pathlib
from launcher import lock
with lock.acquire(pathlib.Path(sys.argv[1]), "the fetching of weights", waiting=print, timeout=0):
    print("held", flush=True)
    time.sleep(60)
"""


def test_without_room_no_byte_is_asked_for(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    repository = Repository(FILES)
    with Hub({"org/model": repository}) as server:
        server.claimed["model-1-of-2.safetensors"] = free + 10**12
        with pytest.raises(LauncherError, match=r"fetching org/model needs .* of disk, and .* are free in"):
            get(tmp_path, hub_env(tmp_path, server.url))
    assert not [line for line in server.asked if "/cdn/" in line]


# A file system of its own, which only these processes see; what happens in it is printed.
SMALL_DISK = """
mount -t tmpfs -o size=$1 tmpfs "$2"
begun() { find "$2" -name "*.incomplete" -size +200k | grep -q .; }
[ -n "$3" ] && (until begun "$@"; do sleep 0.05; done; dd if=/dev/zero of="$2/other" bs=1M 2>/dev/null) &
"$4" -c "$5" "$2" 2>&1 | tail -n 1
wait
rm -f "$2/other"
[ -n "$3" ] && "$4" -c "$5" "$2" && sha256sum "$2"/hf/hub/models--*/snapshots/*/*.safetensors
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
@pytest.mark.parametrize(
    ("size", "fills", "said"),
    [
        pytest.param(
            "4m", "", "fetching org/model needs 6 MB of disk, and 4 MB are free in", id="too small from the beginning"
        ),
        pytest.param("10m", "yes", "the disk became full while org/model was fetched", id="another program fills it meanwhile"),
    ],
)
def test_a_full_disk_is_told_and_costs_nothing_later(tmp_path: Path, size: str, fills: str, said: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with Hub({"org/model": Repository(FILES)}, rate=1_000_000) as server:
        env = hub_env(disk, server.url, HF_HUB_DISABLE_XET="1")
        words = ["unshare", "-m", "sh", "-c", SMALL_DISK, "sh", size, str(disk), fills, sys.executable, DRIVER]
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
        assert said in done.stdout.splitlines()[0], done
        if fills:
            assert {line.split()[0] for line in done.stdout.splitlines() if line.endswith(".safetensors")} == {
                hashlib.sha256(content).hexdigest() for content in SHARDS.values()
            }
            assert sum(server.sent.values()) <= 1.25 * 2 * SIZE
        else:
            assert not server.sent


# -- kills --


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_at_any_moment_costs_hardly_a_byte(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    with Hub({"org/model": Repository(FILES)}, rate=3_000_000) as server:
        env = hub_env(tmp_path, server.url)
        for _ in range(3):
            driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], env=env, start_new_session=True)
            time.sleep(0.7 + chance.random() * 1.2)
            os.kill(driver.pid, signal.SIGKILL)
            driver.wait()
        assert_whole(get(tmp_path, env))
        assert 2 * SIZE <= sum(server.sent.values()) <= 1.25 * 2 * SIZE
