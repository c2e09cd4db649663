from pathlib import Path

import pytest

from launcher.server import Server, ServerSpec, serves

NAMED = ServerSpec("m")
FOLDER = ServerSpec("m", origin="/models/M")
NARROW = ServerSpec("m", memory_share=0.5, sessions=4)
TOLD = ServerSpec("m", engine="vllm", can_sleep=True, engine_args=("--enforce-eager", "--seed=7"))


def runs(spec: ServerSpec) -> Server:
    return Server(
        spec=spec,
        engine="vllm",
        variant="fp8",
        state="ready",
        context=65_536,
        base_url="http://127.0.0.1:8400/v1",
        log=Path("/log"),
        since=1.5,
        gpus=(0, 1),
        tensor=2,
        pipeline=1,
        kv_dtype="bf16",
        speculative=True,
    )


@pytest.mark.parametrize(
    ("running", "asked", "expected"),
    [
        pytest.param(NAMED, ServerSpec(""), True, id="nothing was asked for"),
        pytest.param(NAMED, NAMED, True, id="its name"),
        pytest.param(NAMED, ServerSpec("other"), False, id="another name"),
        pytest.param(NAMED, FOLDER, False, id="a folder of the same name as the profile that runs"),
        pytest.param(FOLDER, FOLDER, True, id="the folder that runs"),
        pytest.param(FOLDER, NAMED, False, id="the profile of the same name as the folder that runs"),
        pytest.param(FOLDER, ServerSpec(""), True, id="nothing, where a folder runs"),
        pytest.param(NAMED, ServerSpec("", variant="fp8", context=65_536, gpus=(0, 1)), True, id="what the planner chose"),
        pytest.param(NAMED, ServerSpec("", context=32_768), False, id="another context"),
        pytest.param(NAMED, ServerSpec("m", tensor=2, pipeline=1), True, id="the layout that the planner chose"),
        pytest.param(NAMED, ServerSpec("m", tensor=1), False, id="one GPU"),
        pytest.param(NAMED, ServerSpec("m", pipeline=2), False, id="stages"),
        pytest.param(NAMED, ServerSpec("m", kv_dtype="fp8"), False, id="another KV cache"),
        pytest.param(NAMED, ServerSpec("m", memory_share=0.5), False, id="a share of memory that nobody asked for before"),
        pytest.param(NAMED, ServerSpec("m", sessions=4), False, id="sessions that nobody asked for before"),
        pytest.param(NARROW, ServerSpec("m", memory_share=0.5), True, id="the same share"),
        pytest.param(NARROW, NARROW, True, id="the same words"),
        pytest.param(NARROW, NAMED, True, id="less than was asked for then"),
        pytest.param(NAMED, ServerSpec("m", speculative=True), True, id="draft heads, which the planner chose"),
        pytest.param(NAMED, ServerSpec("m", speculative=False), False, id="no draft heads"),
        pytest.param(NAMED, ServerSpec("m", can_sleep=True), False, id="one that can sleep"),
        pytest.param(TOLD, NAMED, True, id="nothing of what one that can sleep was told besides"),
        pytest.param(TOLD, TOLD, True, id="the same options of the engine"),
        pytest.param(TOLD, ServerSpec("m", engine_args=("--seed=7",)), False, id="fewer options of the engine"),
        pytest.param(NAMED, ServerSpec("m", engine_args=("--seed=7",)), False, id="an option that nobody gave before"),
    ],
)
def test_a_server_serves_what_is_asked_for_or_anything_where_nothing_is(
    running: ServerSpec, asked: ServerSpec, *, expected: bool
) -> None:
    assert serves(runs(running), asked) is expected
