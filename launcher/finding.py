"""What a check found: one line for a person, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["pass", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`title` says what was looked at, `detail` what was seen; `remedy` is "" only where there is nothing to mend."""

    level: Level
    title: str
    detail: str
    remedy: str = ""


def passes(title: str, detail: str) -> Finding:
    """All is well."""
    return Finding("pass", title, detail)


def warns(title: str, detail: str, remedy: str) -> Finding:
    """It works, but not as well as it could, or not for long."""
    return Finding("warn", title, detail, remedy)


def fails(title: str, detail: str, remedy: str) -> Finding:
    """Something does not work."""
    return Finding("fail", title, detail, remedy)
