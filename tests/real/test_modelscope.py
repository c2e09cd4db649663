"""Weights from ModelScope: its real client, against a site on loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.commands.test_pull import FILES, NEEDED, SIZE
from tests.models_for_tests import safetensors
from tests.modelscope_server import ModelScope
from tests.real.conftest import ROOT

pytestmark = pytest.mark.real


def run(tmp_path: Path, site: ModelScope, client: Path | None, *words: str, code: int = 0) -> Any:
    path = os.pathsep.join([*([str(client.parent)] if client else []), "/usr/bin", "/bin"])
    env = {
        "HOME": str(tmp_path),
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "LAUNCHER_HOME": str(tmp_path / "launcher"),
        "MODELSCOPE_ENDPOINT": site.url,
        "MODELSCOPE_CACHE": str(tmp_path / "cache"),
    }
    argv = [sys.executable, "-m", "launcher", *words, "--json"]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, (done.stdout, done.stderr)
    # With --json `pull` tells events, a line each.
    return [json.loads(line) for line in done.stdout.splitlines()] if words[0] == "pull" else json.loads(done.stdout)


def test_what_serving_needs_is_fetched_and_nothing_else(tmp_path: Path, modelscope: Path) -> None:
    with ModelScope({"org/Tiny": FILES}) as site:
        told = run(tmp_path, site, modelscope, "pull", "modelscope:org/Tiny")[-1]
        assert (told["event"], told["name"], told["size"]) == ("done", "tiny", SIZE)
        assert {path.name: path.read_bytes() for path in Path(told["folder"]).iterdir()} == {n: FILES[n] for n in NEEDED}
        assert sorted(set(site.asked)) == sorted(NEEDED)
        site.asked.clear()
        again = run(tmp_path, site, modelscope, "pull", "modelscope:org/Tiny")[-1]
        assert (again["folder"], site.asked) == (told["folder"], [])
    # Whole is whole: a plan asks nobody.
    assert run(tmp_path, site, None, "plan", "modelscope:org/Tiny")["model"] == "tiny"


def test_a_plan_takes_the_small_files_alone(tmp_path: Path, modelscope: Path) -> None:
    with ModelScope({"org/Tiny": FILES}) as site:
        assert run(tmp_path, site, modelscope, "plan", "modelscope:org/Tiny")["model"] == "tiny"
        assert sorted(set(site.asked)) == ["config.json", "tokenizer_config.json"]


def test_a_profile_may_name_a_repository_of_modelscope(tmp_path: Path, modelscope: Path) -> None:
    with ModelScope({"org/Tiny": FILES}) as site:
        run(tmp_path, site, modelscope, "models", "add", "modelscope:org/Tiny")
        assert 'modelscope = "org/Tiny"' in (tmp_path / "launcher" / "profiles" / "tiny.toml").read_text()
        assert run(tmp_path, site, modelscope, "pull", "tiny")[-1]["size"] == SIZE


@pytest.mark.parametrize("fault", ["wrong", "cut"])
def test_what_comes_damaged_or_breaks_off_is_fetched_again(tmp_path: Path, modelscope: Path, fault: str) -> None:
    with ModelScope({"org/Tiny": FILES}) as site:
        run(tmp_path, site, modelscope, "plan", "modelscope:org/Tiny")
        setattr(site, fault, 2)
        told = run(tmp_path, site, modelscope, "pull", "modelscope:org/Tiny")[-1]
        assert getattr(site, fault) == 0
    assert (Path(told["folder"]) / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_what_changed_there_is_fetched_by_a_later_pull(tmp_path: Path, modelscope: Path) -> None:
    with ModelScope({"org/Tiny": dict(FILES)}) as site:
        run(tmp_path, site, modelscope, "pull", "modelscope:org/Tiny")
        site.repositories["org/Tiny"]["model.safetensors"] = changed = safetensors(300_000)
        told = run(tmp_path, site, modelscope, "pull", "modelscope:org/Tiny")[-1]
    assert (Path(told["folder"]) / "model.safetensors").read_bytes() == changed


@pytest.mark.parametrize(
    ("site", "name", "message", "hint"),
    [
        pytest.param(ModelScope({}), "org/Tiny", "ModelScope has no model org/Tiny", "modelscope.cn", id="not there"),
        pytest.param(
            ModelScope({"org/Tiny": FILES}, private=True), "org/Tiny", "not read org/Tiny", "modelscope login", id="not for you"
        ),
        pytest.param(ModelScope({"org/Tiny": {"README.md": b"#"}}), "org/Tiny", "no config.json", "", id="no model"),
        pytest.param(ModelScope({}), "Tiny", "'Tiny' is no repository of ModelScope", "ORGANISATION/MODEL", id="no repository"),
    ],
)
def test_what_cannot_be_had_is_told(
    tmp_path: Path, modelscope: Path, site: ModelScope, name: str, message: str, hint: str
) -> None:
    with site:
        told = run(tmp_path, site, modelscope, "pull", f"modelscope:{name}", code=1)[-1]
    assert message in told["error"]["message"]
    assert hint in told["error"]["hint"]


def test_without_its_client_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    with ModelScope({"org/Tiny": FILES}) as site:
        told = run(tmp_path, site, None, "pull", "modelscope:org/Tiny", code=1)[-1]
    assert told["error"]["message"] == "ModelScope's client is not installed"
    assert "pipx install modelscope" in told["error"]["hint"]
