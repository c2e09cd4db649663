"""Carries the content of a state file forward, from the version that an earlier launcher wrote to today's."""

from collections.abc import Callable, Mapping
from typing import Any

# 2: a wish tells where its weights and environment are, a server how often it failed and where its start is.
# 3: a wish tells what it takes the place of, a server which of its model's two it is; and both how it sleeps.
VERSION = 3


def forward(kind: str, content: Mapping[str, Any], version: int) -> dict[str, Any]:
    """The content of a file of this kind (`wanted`, `seen`, ...) as today's launcher would have written it.

    What it cannot know is as if it had never been there: a KeyError or TypeError means that the content is damaged.
    """
    carried = dict(content)
    for step in _STEPS.get(kind, ())[version - 1 :]:
        carried = step(carried)
    return carried


def _wanted_2(content: dict[str, Any]) -> dict[str, Any]:
    """Version 1 was the person's words alone; all else is found again at the next start."""
    spec = _spec_2(content)
    nowhere = {"environment": "", "python": "", "weights": "", "caches": "", "version": ""}
    return {
        "spec": spec,
        "ask": "",
        "planned": spec,
        "prepared": nowhere,
        "env": {},
        "spare": True,
        "idle_stop": None,
        "keep": False,
    }


def _seen_2(content: dict[str, Any]) -> dict[str, Any]:
    new = {
        "speculative": False,
        "hint": "",
        "ask": "",
        "restarts": 0,
        "again": 0.0,
        "phase": "",
        "share": None,
        "left": None,
        "members": [],
        "shared": [],
        "answer": "",
        "seconds": 0.0,
        "shrunk": None,
        "notes": [],
        "tools": False,
    }
    return {**new, **content, "spec": _spec_2(content["spec"])}


def _wanted_3(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "back": None, "turn": ""}


def _seen_3(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "seat": "", "proven": bool(content["answer"]), "swapped": None, "turned": "", "slept": 0}


def _spec_2(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Options that came one by one while there was version 1."""
    return {**spec, "gpus": spec["gpus"], "engine_args": spec.get("engine_args", [])}


_STEPS: Mapping[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], ...]] = {
    "wanted": (_wanted_2, _wanted_3),
    "seen": (_seen_2, _seen_3),
}
