"""What telling agents of a model gives back: what was written, or would be, and what the model's proof was."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.agent_server import Activated
from launcher.results import copied
from launcher.tool_call import ToolProof
from launcher.wiring.apply import Fault, Skip
from launcher.wiring.base import Edit
from launcher.wiring.diff import diff

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class WireResult:
    """What was written, or would be in a dry run; `proof` is of the tool calls, None where nobody was asked, `why` says why."""

    name: str
    edits: tuple[Edit, ...]
    skips: tuple[Skip, ...]
    faults: tuple[Fault, ...]
    starts: tuple[str, ...]
    proof: ToolProof | None
    why: str
    dry: bool
    activated: Activated | None = None
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return 1 if self.faults or (self.activated and not self.activated.active) else 0

    def json(self) -> object:
        return {
            "name": self.name,
            "edits": [{"target": each.target, "path": str(each.path), "diff": diff([each])} for each in self.edits],
            "skipped": [{"target": each.target, "reason": each.reason} for each in self.skips],
            "faults": [{"target": each.target, "message": each.message, "hint": each.hint} for each in self.faults],
            "tool_call": {"verdict": self.proof.verdict, "choice": self.proof.choice} if self.proof else None,
            "not_proven": self.why or None,
            "agent_server": {"active": self.activated.active, "reason": self.activated.reason} if self.activated else None,
            "notes": list(self.notes),
            "written": not self.dry,
        }

    def text(self) -> "RenderableType":
        from rich.console import Group

        return Group(*self._lines())

    def _lines(self) -> Iterator["RenderableType"]:
        from rich.syntax import Syntax
        from rich.text import Text

        if self.dry and (edits := diff(self.edits)):
            yield Syntax(edits, "diff", background_color="default")
        if not (self.edits or self.skips or self.faults):
            yield Text("No agent was found that could be told; `launcher wire AGENT` makes its files.")
        for edit in self.edits if not self.dry else ():
            narrowed = " (readable by you alone from now on, since the key is in it)" if edit.narrows else ""
            yield copied(f"{'Wired' if edit.changes else 'Was wired already:'} {edit.path}{narrowed}")
        for skip in self.skips:
            yield Text.assemble((f"Not wired {skip.target}: ", "dim"), skip.reason)
        for fault in self.faults:
            yield Text.assemble((f"Not wired {fault.target}: ", "red"), fault.message, f" ({fault.hint})" if fault.hint else "")
        for line in self.starts:
            yield copied(f"  {line}")
        for note in self.notes:
            yield copied(note)
        yield from self._proven()
        if self.dry:
            yield Text("Nothing was written (--dry-run).", "dim")

    def _proven(self) -> Iterator["RenderableType"]:
        from rich.text import Text

        if self.proof:
            yield Text(f"Tool calls: {self.proof.meaning}" + (f"; {self.proof.remedy}" if self.proof.remedy else ""))
        elif self.why:
            yield Text(self.why, "dim")
        if self.activated and self.activated.active:
            yield Text(f"Agent server {self.activated.version} at {self.activated.address} tried it and uses it now.")
        elif self.activated:
            yield Text(f"Agent server at {self.activated.address} could not use it: {self.activated.reason}", "red")
