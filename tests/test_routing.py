"""Whether a model's fallback answers, as a table of what its record may say."""

from dataclasses import replace
from pathlib import Path

import pytest

from launcher import routing
from launcher.prepared import Prepared
from launcher.runners.base import Handle
from launcher.server import Server, ServerSpec, Wanted

SPEC = ServerSpec("m", engine="vllm")
WANT = Wanted(SPEC, "ask", SPEC, Prepared(Path("/e"), Path("/e/p"), Path("/w"), Path("/c"), "1"), {}, fallback="sky")
RUNS = Handle(77, 0.0, "id", Path("/e"))
READY = Server(SPEC, "vllm", "fp16", "ready", 8192, "http://127.0.0.1:12000/v1", Path("/log"), 0.0, ask="ask", handle=RUNS)
FIRST = replace(READY, state="starting")
WORKED = replace(READY, proven=True)
GONE = replace(WORKED, handle=None)


@pytest.mark.parametrize(
    ("server", "down"),
    [
        pytest.param(None, True, id="one that was wished a moment ago"),
        pytest.param(FIRST, True, id="one that starts for the first time"),
        pytest.param(replace(READY, ask="before"), True, id="one that is to be started anew with other options"),
        pytest.param(replace(GONE, state="waiting", restarts=1), True, id="one that failed and waits for its next start"),
        pytest.param(replace(GONE, state="waiting", detail="no room"), True, id="one that has no room"),
        pytest.param(replace(WORKED, state="starting", restarts=1), True, id="one that starts again after a failure"),
        pytest.param(replace(WORKED, state="starting"), True, id="one that starts with the machine"),
        pytest.param(replace(GONE, state="stopped"), True, id="one that ended with `serve` and is about to start with it"),
        pytest.param(replace(WORKED, state="ending", detail="it ended by itself"), True, id="one that is cleared away"),
        pytest.param(replace(GONE, state="failed", detail="no memory"), True, id="one that was given up"),
        pytest.param(WORKED, False, id="one that is ready"),
        pytest.param(replace(GONE, state="idle"), False, id="one that was unloaded: the request loads it"),
        pytest.param(replace(WORKED, state="starting", rested=True), False, id="one that is loaded because somebody asked"),
        pytest.param(replace(WORKED, state="starting", rested=True, restarts=1), True, id="one that failed as it was loaded"),
        pytest.param(replace(WORKED, state="asleep"), False, id="one that sleeps"),
        pytest.param(replace(GONE, state="held"), False, id="one that has made room in a swap"),
        pytest.param(replace(WORKED, state="ending"), False, id="one that finishes its requests before a sleep or a swap"),
    ],
)
def test_a_fallback_answers_for_what_is_down_and_not_for_what_rests(server: Server | None, *, down: bool) -> None:
    (route,) = routing.routes([WANT], [server] if server else [], {"m": "key"})
    assert (route.fallback, route.down) == ("sky", down)


def test_what_was_stopped_has_no_fallback() -> None:
    (route,) = routing.routes([], [replace(GONE, state="stopped")], {})
    assert (route.state, route.fallback, route.down) == ("off", "", False)


def test_in_a_swap_the_fallback_is_that_of_what_serves() -> None:
    new = replace(WANT, ask="new", back=WANT, fallback="other")
    (route,) = routing.routes([new], [replace(GONE, state="held")], {})
    assert (route.state, route.fallback, route.down) == ("held", "sky", False)
