from pathlib import Path

import pytest

from launcher import local_model
from tests.models_for_tests import index, safetensors

WHOLE = safetensors(100)


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        pytest.param({"config.json": b"{}", "model.safetensors": WHOLE}, None, id="one file"),
        pytest.param(
            {
                "config.json": b"{}",
                "model.safetensors.index.json": index().encode(),
                "model-1.safetensors": WHOLE,
                "model-2.safetensors": WHOLE,
            },
            None,
            id="two shards",
        ),
        pytest.param({"config.json": b"{}", "pytorch_model.bin": b"PK"}, None, id="PyTorch's own format"),
        pytest.param({"model.safetensors": WHOLE}, "there is no config.json", id="no configuration"),
        pytest.param({"config.json": b"{}"}, "there are no weights (.safetensors)", id="no weights"),
        pytest.param({"config.json": b"{}", "model.gguf": b"GGUF"}, "there are no weights (.safetensors)", id="another format"),
        pytest.param(
            {"config.json": b"{}", "model.safetensors.index.json": index().encode(), "model-1.safetensors": WHOLE},
            "model-2.safetensors of its index is missing",
            id="a shard is missing",
        ),
        pytest.param(
            {"config.json": b"{}", "model.safetensors.index.json": index().encode()},
            "model-1.safetensors and 1 more of its index is missing",
            id="all shards are missing",
        ),
        pytest.param(
            {"config.json": b"{}", "model.safetensors.index.json": b"{"}, "cannot be read: Expecting", id="the index is cut off"
        ),
        pytest.param(
            {"config.json": b"{}", "model.safetensors.index.json": b"[]"}, "it names no files", id="the index is no index"
        ),
        pytest.param({"config.json": b"{}", "model.safetensors": WHOLE[:-1]}, "model.safetensors is cut off", id="half copied"),
        pytest.param({"config.json": b"{}", "model.safetensors": WHOLE[:20]}, "is cut off", id="the header is cut off"),
        pytest.param({"config.json": b"{}", "model.safetensors": b""}, "is cut off", id="an empty file"),
        pytest.param(
            {"config.json": b"{}", "model.safetensors": b"version https://git-lfs.github.com/spec/v1"},
            "is cut off",
            id="a pointer instead of the file, as git leaves it",
        ),
    ],
)
def test_a_folder_is_whole_or_says_what_is_missing(tmp_path: Path, files: dict[str, bytes], fault: str | None) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    found = local_model.fault(tmp_path)
    assert found is None if fault is None else found is not None and fault in found


def test_a_folder_that_is_gone_is_no_model(tmp_path: Path) -> None:
    assert local_model.fault(tmp_path / "none") == "there is no config.json"


def test_only_what_is_loaded_counts(tmp_path: Path) -> None:
    for name in ("model-1.safetensors", "consolidated.safetensors", "pytorch_model.bin"):
        (tmp_path / name).write_bytes(b"1234")
    assert local_model.sizes(tmp_path) == {"model-1.safetensors": 4}
