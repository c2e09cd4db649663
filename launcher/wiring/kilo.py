"""Kilo: a fork of opencode, whose configuration it takes as it is, in a place of its own."""

import shlex
from pathlib import Path

from launcher.forms import PROVIDER
from launcher.llm import LLMConfig
from launcher.wiring import opencode
from launcher.wiring.base import Files, Place

NAME = "kilo"
AGENT = "kilo"
GENERATIONS = ("kilo",)
PROGRAMS = ("kilo",)
IN_CONTAINERS = False

refuses, connect, disconnect = opencode.refuses, opencode.connect, opencode.disconnect


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:  # noqa: ARG001 - one file for every model
    """Both files that it reads, the one that comes last first."""
    return (place.config / "kilo" / "kilo.jsonc", place.config / "kilo" / "kilo.json")


def leaves(files: Files, place: Place) -> str | None:
    """A machine without the agent."""
    return "" if place.lacks(NAME, PROGRAMS, files) else None


def start_line(place: Place, llm: LLMConfig) -> str:
    """The command, which is told of the model where it does not start with it."""
    return "kilo" if place.default else f"kilo -m {shlex.quote(f'{PROVIDER}/{llm.served}')}"
