"""`launcher doctor`: whether all that a model's start depends on is well, and what to do where it is not."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.examining import examine
from launcher.finding import Finding, Level
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLOURS: dict[Level, str] = {"pass": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True, slots=True)
class DoctorResult:
    """All findings; 1 where something fails."""

    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        return 1 if self._count("fail") else 0

    def json(self) -> object:
        return {
            "ok": not self.exit_code,
            "findings": [
                {"level": each.level, "title": each.title, "detail": each.detail, "remedy": each.remedy}
                for each in self.findings
            ],
        }

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for each in self.findings:
            colour = _COLOURS[each.level]
            table.add_row(Text(each.level, colour), each.title, Text(each.detail))
            if each.remedy:
                table.add_row("", "", Text(f"-> {each.remedy}", colour))
        return Group(table, "", self._summary())

    def _summary(self) -> str:
        failing, warning = self._count("fail"), self._count("warn")
        if not failing and not warning:
            return "All is well: `launcher up` starts a model."
        counts = [f"{count} {word}" for count, word in ((failing, "to mend"), (warning, "to look at")) if count]
        return f"{', '.join(counts)}; {self._count('pass')} are well."

    def _count(self, level: Level) -> int:
        return sum(each.level == level for each in self.findings)


def run(world: World) -> DoctorResult:
    """Look and judge; nothing is changed."""
    return DoctorResult(examine(world))
