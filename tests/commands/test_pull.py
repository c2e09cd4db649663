"""`pull`, `models verify`, `models rm`: as programs, against a hub on loopback."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher import weights_record
from launcher.home import Home
from launcher.profile_weights import HubWeights
from tests.hub_server import Faults, Hub, Repository
from tests.models_for_tests import coder, safetensors
from tests.test_weights import hub_env

SMALL = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "vocab_size": 512}
FILES = {
    "config.json": coder(**SMALL, num_key_value_heads=2)["config.json"].encode(),
    "tokenizer_config.json": coder()["tokenizer_config.json"].encode(),
    "model.safetensors": safetensors(400_000),
    "original/consolidated.00.pth": bytes(2_000),
    "README.md": b"# it",
}
NEEDED = ("config.json", "tokenizer_config.json", "model.safetensors")
SIZE = sum(len(FILES[name]) for name in NEEDED)


@pytest.fixture
def server() -> Iterator[Hub]:
    with Hub({"org/tiny": Repository(FILES)}) as hub:
        yield hub


def run(tmp_path: Path, server: Hub, *words: str, code: int = 0) -> str:
    env = {**hub_env(tmp_path, server.url), "LAUNCHER_HOME": str(tmp_path / "launcher")}
    argv = [sys.executable, "-m", "launcher", *words]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def shard(tmp_path: Path) -> Path:
    found = weights_record.find(Home(tmp_path / "launcher"), HubWeights("org/tiny"))
    assert found is not None
    return found.folder / "model.safetensors"


def test_each_step_is_told_as_an_object_a_line(tmp_path: Path, server: Hub) -> None:
    server.rate = 400_000
    told = events(run(tmp_path, server, "pull", "org/tiny", "--json"))
    *steps, last = told
    assert {each["event"] for each in steps} == {"phase", "progress"}
    assert {each["file"] for each in steps if "file" in each} == {"model.safetensors"}
    totals = [(each["done"], each["total"]) for each in steps if "total" in each and "file" not in each]
    assert totals == sorted(totals)
    assert {total for _, total in totals} == {SIZE}
    assert any(each["text"].endswith("/s") and each["left"] > 0 for each in steps if "file" in each)
    assert (last["event"], last["name"], last["variant"], last["size"]) == ("done", "tiny", "bf16", SIZE)
    assert last["commit"] == server.repositories["org/tiny"].commit == Path(last["folder"]).name


def test_a_dry_run_tells_sizes_and_room_and_fetches_nothing(tmp_path: Path, server: Hub) -> None:
    (told,) = events(run(tmp_path, server, "pull", "org/tiny", "--dry-run", "--json"))[-1:]
    assert (told["size"], told["missing"]) == (SIZE, len(FILES["model.safetensors"]))
    assert {each["path"] for each in told["files"]} == set(NEEDED)
    assert told["free"] > 0
    assert not server.sent


def test_the_same_is_told_to_a_person(tmp_path: Path, server: Hub) -> None:
    text = run(tmp_path, server, "pull", "org/tiny", "--dry-run")
    assert f"commit {server.repositories['org/tiny'].commit}" in text
    assert "would be fetched" in text
    assert "is whole: " in run(tmp_path, server, "pull", "org/tiny")


def test_a_damaged_file_is_found_named_and_fetched_again(tmp_path: Path, server: Hub) -> None:
    run(tmp_path, server, "pull", "org/tiny")
    assert "every file is what it was" in run(tmp_path, server, "models", "verify", "org/tiny")
    content = shard(tmp_path).read_bytes()
    status = shard(tmp_path).stat()
    shard(tmp_path).write_bytes(content[:-1] + b"x")
    # As a disk that loses a bit would leave it: nothing but the content tells.
    os.utime(shard(tmp_path), ns=(status.st_atime_ns, status.st_mtime_ns))
    (told,) = json.loads(run(tmp_path, server, "models", "verify", "org/tiny", "--json"))
    assert (told["damaged"], told["whole"]) == (["model.safetensors"], True)
    assert shard(tmp_path).read_bytes() == content


def test_what_cannot_be_fetched_again_ends_with_1_and_is_not_served(tmp_path: Path, server: Hub) -> None:
    run(tmp_path, server, "pull", "org/tiny")
    path = shard(tmp_path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    server.faults = Faults(wrong=9)
    assert "damaged model.safetensors; not whole" in run(tmp_path, server, "models", "verify", "org/tiny", code=1)
    assert not path.exists()


def test_what_was_fetched_is_shown_and_freed(tmp_path: Path, server: Hub) -> None:
    run(tmp_path, server, "models", "add", "org/tiny", "--no-recipe")
    run(tmp_path, server, "pull", "tiny")
    (row,) = [each for each in json.loads(run(tmp_path, server, "models", "--json")) if each["name"] == "tiny"]
    assert row["on_disk"] == SIZE
    assert row["last_used"] == pytest.approx(shard(tmp_path).stat().st_mtime, abs=100)
    path = shard(tmp_path)
    assert "Nothing was removed" in run(tmp_path, server, "models", "rm", "tiny")
    assert path.exists()
    assert "came free" in run(tmp_path, server, "models", "rm", "tiny", "--yes")
    assert not path.exists()
    assert not list((tmp_path / "hf" / "hub").glob("models--*/blobs/*"))
    (row,) = [each for each in json.loads(run(tmp_path, server, "models", "--json")) if each["name"] == "tiny"]
    assert (row["on_disk"], row["last_used"]) == (0, None)


def test_what_others_fetched_is_not_freed(tmp_path: Path, server: Hub) -> None:
    hf = Path(sys.executable).with_name("hf")
    subprocess.run([hf, "download", "org/tiny"], env=hub_env(tmp_path, server.url), check=True, capture_output=True)
    told = json.loads(run(tmp_path, server, "models", "rm", "org/tiny", "--yes", "--json", code=1))
    assert "that this launcher fetched" in told["error"]["message"]
    assert list((tmp_path / "hf" / "hub").glob("models--*/blobs/*"))
