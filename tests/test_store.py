import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import store
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.prepared import Prepared
from launcher.runners.base import Handle
from launcher.server import Server, ServerSpec, Wanted

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


# What the launcher of version 1 of the state wrote, before there was a supervisor.
SPEC_1 = {"model": "m", "engine": None, "variant": "fp8", "context": 65_536, "gpus": [0]}
SEEN_1 = {
    "version": 1,
    "spec": SPEC_1,
    "engine": "vllm",
    "variant": "fp8",
    "state": "ready",
    "context": 65_536,
    "base_url": "http://127.0.0.1:8400/v1",
    "log": "/log",
    "since": 1.5,
    "gpus": [0],
    "tensor": 1,
    "pipeline": 1,
    "kv_dtype": "",
    "claim": 7,
    "handle": {"pid": 77, "started": 2.5, "server_id": "id", "environment": "/e"},
    "detail": "",
}


def test_what_an_earlier_launcher_saw_is_carried_forward(tmp_path: Path) -> None:
    home = Home(tmp_path)
    written(home.state / "seen" / "m.json", SEEN_1)
    (kept,) = store.seen(home)
    assert kept.spec == ServerSpec("m", variant="fp8", context=65_536, gpus=(0,))
    assert (kept.handle, kept.ask, kept.restarts, kept.members) == (Handle(77, 2.5, "id", Path("/e")), "", 0, ())
    store.see(home, kept)
    assert store.seen(home) == (kept,)
    contained = replace(kept, handle=Handle(77, 2.5, "id", Path("/e"), container="launcher-id", daemon="unix:///d"))
    store.see(home, contained)
    assert store.seen(home) == (contained,)


def test_what_an_earlier_launcher_was_asked_for_is_the_wish_that_its_server_was_started_for(tmp_path: Path) -> None:
    home = Home(tmp_path)
    written(home.state / "wanted" / "m.json", {"version": 1, **SPEC_1})
    written(home.state / "seen" / "m.json", SEEN_1)
    (want,), (server,) = store.wanted(home), store.seen(home)
    assert want.ask == server.ask
    assert want.planned == want.spec == server.spec
    assert not want.prepared.whole


@pytest.mark.parametrize("folder", ["wanted", "seen"])
def test_what_a_newer_launcher_wrote_is_left_alone(tmp_path: Path, folder: str) -> None:
    home = Home(tmp_path)
    written(home.state / folder / "m.json", {"version": 99})
    with pytest.raises(LauncherError, match=r"a newer launcher wrote .*m\.json") as caught:
        (store.wanted if folder == "wanted" else store.seen)(home)
    assert "remove" not in caught.value.hint


def written(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_a_wish_comes_back_as_it_was(tmp_path: Path) -> None:
    home = Home(tmp_path)
    ready = Prepared(
        Path("/e"), Path("/e/bin/python"), Path("/w"), Path("/c"), "0.32.0", image="i@sha256:7a", daemon="unix:///d"
    )
    want = Wanted(FULL, "ask", FULL, ready, {"LANG": "C"}, spare=False)
    before = store.wishes_changed(home)
    store.want(home, want)
    assert store.wanted(home) == (want,)
    assert store.wishes_changed(home) != before
    store.unwant(home, "m")
    assert store.wanted(home) == ()
