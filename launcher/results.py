"""What a verb gives back: one value, shown as text to people and as JSON to programs."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import RenderableType


def copied(text: str) -> "RenderableType":
    """A line that will be copied: never wrapped, the terminal breaks it where it must."""
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ignore")


class Result(Protocol):
    """Every command returns one; `cli` alone prints it."""

    @property
    def exit_code(self) -> int:
        """0 if what was asked is done or answered."""

    def json(self) -> object:
        """Plain values for `--json`."""

    def text(self) -> "RenderableType":
        """The same for a person."""
