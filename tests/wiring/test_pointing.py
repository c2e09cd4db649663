"""Where each agent's files lead, as `launcher wire --check` sees it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.endpoint import Endpoint
from launcher.llm import LLMConfig
from launcher.wiring.apply import Wired
from launcher.wiring.pointing import Pointer, pointer
from launcher.wiring.registry import TARGETS
from tests.wiring.values import KEY, place

URL = "http://127.0.0.1:8400/v1"
LLM = LLMConfig.of(Endpoint("qwen2.5-coder", URL, KEY, 131_072), native_tool_calling=True)


def seen(name: str, changed: Callable[[str], str]) -> Pointer | str:
    """Where files lead that were wired and then changed."""
    target = TARGETS[name]
    chosen = replace(place(Path("/x")), default=True, own=Path("/x/own"))
    after = target.connect(dict.fromkeys(target.paths(chosen, LLM)), chosen, LLM)
    wired = [Wired(name, target.AGENT, path, LLM.name, URL, present=True, after=text) for path, text in after.items()]
    return pointer(wired, [text and changed(text) for text in after.values()], KEY)


@pytest.mark.parametrize("name", TARGETS)
def test_the_address_and_the_key_are_found_where_they_were_put(name: str) -> None:
    assert seen(name, lambda text: text) == Pointer("qwen2.5-coder", URL, KEY)


@pytest.mark.parametrize("name", TARGETS)
def test_one_that_was_led_elsewhere_is_asked_there(name: str) -> None:
    found = seen(name, lambda text: text.replace("127.0.0.1:8400", "127.0.0.1:9"))
    assert isinstance(found, Pointer)
    assert found.base_url == "http://127.0.0.1:9/v1"


@pytest.mark.parametrize("name", TARGETS)
def test_another_key_is_the_one_that_would_be_sent(name: str) -> None:
    found = seen(name, lambda text: text.replace(KEY, "sk-theirs"))
    assert isinstance(found, Pointer)
    # Zed's settings take none: it has ours from where its user put it.
    assert found.api_key == (KEY if name == "zed" else "sk-theirs")
