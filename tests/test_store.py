import json
from pathlib import Path

import pytest

from launcher import store
from launcher.home import Home
from launcher.server import Server, ServerSpec

FULL = ServerSpec(
    model="m",
    engine="vllm",
    variant="fp8",
    context=65_536,
    gpus=(0, 1, 2),
    origin="org/M",
    tensor=1,
    pipeline=3,
    memory_share=0.9,
    kv_dtype="fp8",
    sessions=4,
    speculative=False,
    can_sleep=True,
    engine_args=("--enforce-eager", "--seed=7"),
)


def server(spec: ServerSpec) -> Server:
    return Server(spec, "vllm", "fp8", "stopped", 65_536, "http://127.0.0.1:8400/v1", Path("/log"), 1.5)


@pytest.mark.parametrize("spec", [pytest.param(ServerSpec("m"), id="a name"), pytest.param(FULL, id="every option")])
def test_what_was_asked_for_comes_back_as_it_was(tmp_path: Path, spec: ServerSpec) -> None:
    home = Home(tmp_path)
    store.see(home, server(spec))
    assert store.seen(home) == (server(spec),)


def test_a_state_that_was_written_before_there_were_these_options_is_read(tmp_path: Path) -> None:
    home = Home(tmp_path)
    store.see(home, server(FULL))
    path = home.state / "seen" / "m.json"
    content = json.loads(path.read_text())
    content["spec"] = {"model": "m", "engine": None, "variant": "fp8", "context": 65_536, "gpus": [0]}
    path.write_text(json.dumps(content))
    assert store.seen(home)[0].spec == ServerSpec("m", variant="fp8", context=65_536, gpus=(0,))
