import os
import random
import re
import shutil
import sys
import venv
from pathlib import Path

import pytest

from launcher import disk, weights_record
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.hub_fetch import lacks
from launcher.profile_weights import HubWeights, LocalWeights, PyPIWeights
from launcher.progress import Silent
from launcher.weight_files import wanted
from launcher.weights import check, fetch, folder, locate
from tests.hub_server import Faults, Hub, Repository
from tests.models_for_tests import tiny_folder
from tests.wheels import make_wheel

ROOT = Path(__file__).parent.parent
SHARD = random.Random(1).randbytes(2_000_000)  # noqa: S311  # content, not a secret
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "model.safetensors": SHARD,
    "pytorch_model.bin": SHARD,
    "model.gguf": SHARD,
    "original/consolidated.00.pth": SHARD,
    "README.md": b"# it",
}
NEEDED = {"config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"}
NO_PYTHON = Path("/no/engine")


class Told(Silent):
    """Remembers what was said and how far it went."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.bytes: list[tuple[int, int]] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def update(self, text: str, done: int = 0, total: int = 0, *, left: float | None = None) -> None:  # noqa: ARG002  # the protocol's
        if total:
            self.bytes.append((done, total))


def hub_env(tmp_path: Path, url: str, **more: str) -> dict[str, str]:
    here = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    return {**here, "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": url, **more}


def get(tmp_path: Path, weights: HubWeights, env: dict[str, str], progress: Silent | None = None) -> Path:
    home = Home(tmp_path / "home")
    return fetch(home, "m", weights, environment_python=lambda: NO_PYTHON, progress=progress or Silent(), env=env)


# -- from the hub --


def test_what_an_engine_needs_is_fetched_once_into_the_hubs_own_cache(tmp_path: Path) -> None:
    weights, told = HubWeights("org/model"), Told()
    with Hub({"org/model": Repository(FILES)}) as server:
        path = get(tmp_path, weights, hub_env(tmp_path, server.url), told)
        asked = len(server.asked)
        assert get(tmp_path, weights, hub_env(tmp_path, server.url)) == path
        assert len(server.asked) == asked
    assert {file.name for file in path.iterdir()} == NEEDED
    assert (path / "model.safetensors").read_bytes() == SHARD
    assert path.is_relative_to(tmp_path / "hf" / "hub")
    assert told.bytes
    assert all(done <= total for done, total in told.bytes)
    assert {total for _, total in told.bytes} == {sum(len(FILES[name]) for name in NEEDED)}


def test_an_answer_that_breaks_off_is_carried_on(tmp_path: Path) -> None:
    with Hub({"org/model": Repository(FILES)}, faults=Faults(cut=[500_000])) as server:
        path = get(tmp_path, HubWeights("org/model"), hub_env(tmp_path, server.url))
        assert server.sent["model.safetensors"] == len(SHARD)
    assert (path / "model.safetensors").read_bytes() == SHARD


def test_the_users_token_opens_a_pinned_gated_repository(tmp_path: Path) -> None:
    repository = Repository(FILES, gated=True)
    with Hub({"org/model": repository}) as server:
        path = get(tmp_path, HubWeights("org/model", repository.commit), hub_env(tmp_path, server.url, HF_TOKEN=server.token))
    assert path.name == repository.commit


ONLY_GGUF = {"config.json": b"{}", "model.gguf": SHARD}


@pytest.mark.parametrize(
    ("weights", "more", "message", "hint"),
    [
        pytest.param(HubWeights("org/none"), {}, "no repository org/none", "check the name", id="no such repository"),
        pytest.param(HubWeights("org/private"), {}, "no repository org/private", "hf auth login", id="a private one"),
        pytest.param(HubWeights("org/gated"), {}, "is gated", "accept the terms at http", id="a gated one"),
        pytest.param(
            HubWeights("org/gated"), {"HF_TOKEN": "hf_x"}, "asked with the token in HF_TOKEN", "token's account", id="its token"
        ),
        pytest.param(HubWeights("org/private"), {}, "asked with no token", "hf auth login", id="without a token"),
        pytest.param(HubWeights("org/model", "v9"), {}, "no revision v9", "commits", id="no such revision"),
        pytest.param(HubWeights("not a name"), {}, "'not a name' is no name", "ORGANISATION/MODEL", id="no name at all"),
        pytest.param(HubWeights("org/gguf"), {}, "no weights that an engine can load", ".safetensors", id="no weights"),
        pytest.param(HubWeights("org/new"), {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE", "launcher pack", id="offline"),
        pytest.param(
            HubWeights("org/new"), {"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot reach the hub", "the network", id="no network"
        ),
    ],
)
def test_what_cannot_be_fetched_is_told_in_one_line(
    tmp_path: Path, weights: HubWeights, more: dict[str, str], message: str, hint: str
) -> None:
    repositories = {
        "org/model": Repository(FILES),
        "org/gated": Repository(FILES, gated=True),
        "org/private": Repository(FILES, private=True),
        "org/gguf": Repository(ONLY_GGUF),
    }
    with Hub(repositories) as server, pytest.raises(LauncherError) as fault:
        get(tmp_path, weights, hub_env(tmp_path, server.url, **more))
    assert message in fault.value.message
    assert hint in fault.value.hint
    assert "\n" not in fault.value.message
    assert locate(Home(tmp_path / "home"), "m", weights) is None


def test_what_another_program_fetched_serves_while_the_hub_is_away(tmp_path: Path) -> None:
    weights, told = HubWeights("org/model"), Told()
    with Hub({"org/model": Repository(FILES)}) as server:
        path = get(tmp_path, weights, hub_env(tmp_path, server.url))
        shutil.rmtree(tmp_path / "home")
        server.down = True
        assert get(tmp_path, weights, hub_env(tmp_path, server.url), told) == path
        assert told.said == ["the hub cannot be asked: org/model is taken from the cache as it is"]
        (path / "model.safetensors").unlink()
        with pytest.raises(LauncherError, match="it answered 503"):
            get(tmp_path, weights, hub_env(tmp_path, server.url))


def test_weights_that_were_taken_out_of_the_cache_are_not_found(tmp_path: Path) -> None:
    home, weights = Home(tmp_path / "home"), HubWeights("org/model")
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "config.json").write_text("{}")
    home.make().weights.mkdir()
    told = {"folder": str(snapshot), "commit": "c0ffee", "files": {"config.json": {"size": 2}}}
    weights_record.write(home, weights, told)
    assert locate(home, "m", weights) == snapshot == folder(home, "m", weights, {})
    (snapshot / "config.json").write_text("{")
    assert locate(home, "m", weights) is None


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        pytest.param({"HOME": "/h"}, "/h/.cache/huggingface/hub", id="at home"),
        pytest.param({"HOME": "/h", "XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub", id="where caches are"),
        pytest.param({"HOME": "/h", "HF_HOME": "/hf"}, "/hf/hub", id="where the hub's things are"),
        pytest.param({"HOME": "/h", "HF_HOME": "/hf", "HF_HUB_CACHE": "/cache"}, "/cache", id="where the hub's cache is"),
    ],
)
def test_before_it_is_fetched_the_folder_is_where_the_hub_will_put_it(
    tmp_path: Path, env: dict[str, str], expected: str
) -> None:
    weights = HubWeights("org/model", "v1")
    assert folder(Home(tmp_path), "m", weights, env) == Path(expected) / "models--org--model" / "snapshots" / "v1"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(list(FILES), NEEDED, id="safetensors beside all other formats"),
        pytest.param(
            ["config.json", "pytorch_model.bin", "training_args.bin"], {"config.json", "pytorch_model.bin"}, id="only pickles"
        ),
        pytest.param(
            ["config.json", "model-1.safetensors", "consolidated.safetensors"],
            {"config.json", "model-1.safetensors"},
            id="twice",
        ),
        pytest.param(
            ["params.json", "consolidated.safetensors"], {"params.json", "consolidated.safetensors"}, id="Mistral's own"
        ),
        pytest.param(
            ["model.safetensors", "tokenizer.model", "merges.txt", "qwen.tiktoken", "additional_chat_templates/tool.jinja"],
            {"model.safetensors", "tokenizer.model", "merges.txt", "qwen.tiktoken", "additional_chat_templates/tool.jinja"},
            id="every kind of tokenizer",
        ),
        pytest.param(
            ["model.safetensors", "onnx/model.safetensors", "1_Pooling/config.json"], {"model.safetensors"}, id="subfolders"
        ),
        pytest.param(["model.safetensors", "modeling_x.py"], {"model.safetensors"}, id="no code"),
        pytest.param(["config.json", "m.gguf"], set(), id="nothing that an engine loads"),
    ],
)
def test_only_what_an_engine_needs_is_wanted(names: list[str], expected: set[str]) -> None:
    assert set(wanted(names)) == expected


TWO_SHARDS = '{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}'


@pytest.mark.parametrize(
    ("files", "tree", "expected"),
    [
        pytest.param({"config.json": "{}", "model.safetensors": ""}, {}, [], id="one file"),
        pytest.param({"model.safetensors": ""}, {}, ["config.json"], id="no configuration"),
        pytest.param({"config.json": "{}"}, {}, ["model.safetensors"], id="no weights"),
        pytest.param(
            {"config.json": "{}", "model.safetensors.index.json": TWO_SHARDS, "1.safetensors": "", "2.safetensors": ""},
            {},
            [],
            id="all shards",
        ),
        pytest.param(
            {"config.json": "{}", "model.safetensors.index.json": TWO_SHARDS, "1.safetensors": ""},
            {},
            ["2.safetensors"],
            id="a shard is missing",
        ),
        pytest.param(
            {"config.json": "{}", "model.safetensors": "12"},
            {"config.json": 2, "model.safetensors": 3, "tokenizer.json": 1, "README.md": 9},
            ["model.safetensors", "tokenizer.json"],
            id="less than the hub has, of what is needed",
        ),
    ],
)
def test_what_a_snapshot_lacks_is_named(
    tmp_path: Path, files: dict[str, str], tree: dict[str, int], expected: list[str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert lacks(tmp_path, tree) == expected


@pytest.mark.parametrize(
    ("needs", "free", "message"),
    [
        pytest.param(10, 10, None, id="just enough"),
        pytest.param(
            65_500_000_000, 900_000_000, "fetching it needs 65.5 GB of disk, and 900 MB are free in /d", id="far too little"
        ),
    ],
)
def test_a_full_disk_is_told_with_both_numbers(needs: int, free: int, message: str | None) -> None:
    told = None
    try:
        disk.check("fetching it", needs=needs, free=free, path=Path("/d"), hint="")
    except LauncherError as fault:
        told = fault.message
    assert told == message


# -- a folder of the user's --


def test_a_folder_is_loaded_where_it_is(tmp_path: Path) -> None:
    home, path = Home(tmp_path / "home"), tiny_folder(tmp_path / "mine")
    weights = LocalWeights(path)
    check(weights)
    assert path == locate(home, "m", weights) == folder(home, "m", weights, {})
    assert fetch(home, "m", weights, environment_python=lambda: NO_PYTHON, progress=Silent(), env={}) == path
    assert not home.root.exists()


def test_a_folder_that_is_not_whole_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    home, path = Home(tmp_path / "home"), tiny_folder(tmp_path / "mine")
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[:-1])
    weights = LocalWeights(path)
    assert locate(home, "m", weights) is None
    with pytest.raises(LauncherError, match=r"mine is not a whole model: model.safetensors is cut off"):
        check(weights)
    with pytest.raises(LauncherError, match="is not a whole model"):
        fetch(home, "m", weights, environment_python=lambda: NO_PYTHON, progress=Silent(), env={})


# -- from a wheel --

STUBS = {
    "torch.py": "bfloat16 = 'bf16'\n",
    "gguf.py": "class GGUFReader: ...\n",
    "transformers.py": """
import os
from pathlib import Path

class GgufConfig:
    def __init__(self, dequantize):
        assert dequantize

class AutoTokenizer:
    name = "tokenizer.json"
    @classmethod
    def from_pretrained(cls, folder, gguf_file, **options):
        assert os.environ["HF_HUB_OFFLINE"] == "1"
        loaded = cls()
        loaded.content = (Path(folder) / gguf_file).read_bytes()
        return loaded
    def save_pretrained(self, folder):
        (Path(folder) / self.name).write_bytes(self.content)

class AutoModelForCausalLM(AutoTokenizer):
    name = "model.safetensors"
""",
}


def engine_python(tmp_path: Path, stubs: dict[str, str]) -> Path:
    """An interpreter of its own, with modules that stand for an engine's."""
    venv.create(tmp_path / "engine", symlinks=True)
    site = tmp_path / "engine" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    for name, text in stubs.items():
        (site / name).write_text(text)
    return tmp_path / "engine" / "bin" / "python"


def wheel_env(tmp_path: Path) -> dict[str, str]:
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    return {**pip, "PATH": os.environ["PATH"], "HOME": str(tmp_path), "UV_CACHE_DIR": str(tmp_path / "cache")}


def in_a_wheel(tmp_path: Path) -> PyPIWeights:
    wheel = make_wheel(tmp_path / "wheels", {"tiny/model.gguf": b"GGUF"})
    return PyPIWeights(wheel.requirement, wheel.sha256, "tiny/model.gguf")


def test_weights_in_a_wheel_are_converted_once(tmp_path: Path) -> None:
    home, weights, python = Home(tmp_path / "home"), in_a_wheel(tmp_path), engine_python(tmp_path, STUBS)
    assert locate(home, "m", weights) is None
    path = fetch(home, "m", weights, environment_python=lambda: python, progress=Silent(), env=wheel_env(tmp_path))
    assert path == home.weights / "m" == locate(home, "m", weights) == folder(home, "m", weights, {})
    assert {file.name for file in path.iterdir()} == {"model.safetensors", "tokenizer.json", ".made-from"}
    assert (path / "model.safetensors").read_bytes() == b"GGUF"
    assert fetch(home, "m", weights, environment_python=lambda: NO_PYTHON, progress=Silent(), env={}) == path
    assert {file.name for file in home.weights.iterdir()} == {"m", "m.lock"}


def test_other_weights_under_the_same_name_are_fetched_anew(tmp_path: Path) -> None:
    home, weights, python = Home(tmp_path / "home"), in_a_wheel(tmp_path), engine_python(tmp_path, STUBS)
    fetch(home, "m", weights, environment_python=lambda: python, progress=Silent(), env=wheel_env(tmp_path))
    newer = make_wheel(tmp_path / "wheels", {"tiny/model.gguf": b"newer"}, version="2.0")
    changed = PyPIWeights(newer.requirement, newer.sha256, weights.file)
    assert locate(home, "m", changed) is None
    path = fetch(home, "m", changed, environment_python=lambda: python, progress=Silent(), env=wheel_env(tmp_path))
    assert (path / "model.safetensors").read_bytes() == b"newer"


OTHER_HASH = "0" * 64


@pytest.mark.parametrize(
    ("change", "stubs", "reason"),
    [
        pytest.param({"sha256": ""}, STUBS, "is not pinned", id="without a hash nothing is fetched"),
        pytest.param({"sha256": OTHER_HASH}, STUBS, "[Hh]ash", id="a changed wheel is refused"),
        pytest.param({"file": "tiny/other.gguf"}, STUBS, "holds no tiny/other.gguf", id="the wheel lacks the file"),
        pytest.param({"requirement": "none==1.0"}, STUBS, "none was not found", id="no such wheel"),
        pytest.param({}, {}, "No module named 'torch'", id="the conversion fails"),
    ],
)
def test_a_wheel_that_gives_no_weights_leaves_nothing(
    tmp_path: Path, change: dict[str, str], stubs: dict[str, str], reason: str
) -> None:
    home, good, python = Home(tmp_path / "home"), in_a_wheel(tmp_path), engine_python(tmp_path, stubs)
    weights = PyPIWeights(
        requirement=change.get("requirement", good.requirement),
        sha256=change.get("sha256", good.sha256),
        file=change.get("file", good.file),
    )
    with pytest.raises(LauncherError) as fault:
        fetch(home, "m", weights, environment_python=lambda: python, progress=Silent(), env=wheel_env(tmp_path))
    assert re.search(reason, fault.value.message)
    assert "\n" not in fault.value.message
    assert {file.name for file in home.weights.iterdir()} == {"m.lock"}
