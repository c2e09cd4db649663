"""A unit of the user's systemd: `launcher serve`, and with it this model."""

from dataclasses import replace

from launcher import unit
from launcher.exporting.base import Export

NAME = "systemd"


def refuses(export: Export) -> str | None:
    """A unit is one machine's."""
    return f"a unit is one machine's, and this plan takes {export.plan.nodes}" if export.plan.nodes > 1 else None


def text(export: Export) -> str:
    """The unit of `launcher enable`, which also asks for the model: the first time, and whenever it is started anew."""
    return unit.text(replace(export.unit, up=export.up))
