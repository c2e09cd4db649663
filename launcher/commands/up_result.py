"""What `launcher up` tells at its end: the summary for people, the object for scripts, and the dry run."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.commands.plan import PlanResult
from launcher.endpoint import Endpoint
from launcher.plan import Plan
from launcher.probe import QUESTION, Proof
from launcher.wiring.apply import Fault, Proposal, Skip
from launcher.wiring.base import Edit
from launcher.wiring.diff import diff

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class UpResult:
    """A proven server and what was written about it."""

    plan: Plan
    endpoint: Endpoint
    proof: Proof
    key: Path
    log: Path
    edits: tuple[Edit, ...]
    skips: tuple[Skip, ...]
    faults: tuple[Fault, ...]
    starts: tuple[str, ...]
    seconds: Mapping[str, float]
    already: bool
    replaced: str
    gpu_hint: str
    wanted_wiring: bool

    @property
    def exit_code(self) -> int:
        return 1 if self.faults else 0

    def json(self) -> object:
        return {
            "model": self.endpoint.model,
            "variant": self.plan.variant.name,
            "engine": self.plan.engine,
            "base_url": self.endpoint.base_url,
            "context": self.endpoint.context,
            "agent_model": f"openai/{self.endpoint.model}",
            "key_file": str(self.key),
            "log": str(self.log),
            "proof": {"text": self.proof.text, "seconds": round(self.proof.seconds, 3)},
            "wired": [str(edit.path) for edit in self.edits],
            "skipped": [{"target": skip.target, "reason": skip.reason} for skip in self.skips],
            "faults": [{"target": fault.target, "message": fault.message, "hint": fault.hint} for fault in self.faults],
            "seconds": dict(self.seconds),
            "already": self.already,
            "replaced": self.replaced,
            "notes": list(self.plan.notes),
        }

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        verb = "was up already" if self.already else "is up"
        head = Text.assemble(("✓ ", "green"), (self.endpoint.model, "bold"), f" {verb} and answers")
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="dim", no_wrap=True)
        facts.add_column(overflow="fold")
        for label, value in self._facts():
            facts.add_row(label, value)
        return Group(head, Text(), facts, Text(), *self._remarks(), self._next())

    def _facts(self) -> Iterator[tuple[str, str]]:
        yield "asked", QUESTION
        yield "it said", f"“{_short(self.proof.text)}” in {self.proof.seconds:.1f} s"
        device = f"{self.plan.tensor} x {self.plan.gpus[0].name}" if self.plan.gpus else "CPU"
        yield "engine", f"{self.plan.engine} on {device}, {self.plan.variant.name}"
        yield "context", f"{self.endpoint.context:,} tokens"
        yield "base URL", self.endpoint.base_url
        yield "agent model", f"openai/{self.endpoint.model}"
        yield "key", f"in {_tilde(self.key)}"
        yield "log", _tilde(self.log)
        told = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items() if seconds >= 1)
        yield "time", told or "under a second"
        if not self.wanted_wiring:
            yield "wired", "nothing (--no-wire)"
        for edit in self.edits:
            narrowed = " (now readable by you alone, since the key is in it)" if edit.narrows else ""
            yield "wired", f"{_tilde(edit.path)}{narrowed}"
        for line in self.starts:
            yield "  start it", line
        for skip in self.skips:
            yield "skipped", f"{skip.target}: {skip.reason}"
        for fault in self.faults:
            yield "not wired", f"{fault.target}: {fault.message}"
        if self.edits:
            yield "undo", "`launcher unwire` gives the agents' files back; `launcher down` stops the model"
        else:
            yield "stop", "`launcher down`"

    def _remarks(self) -> Iterator["RenderableType"]:
        from rich.text import Text

        for remark in (*self.plan.notes, self.gpu_hint):
            if remark:
                yield Text.assemble(("! ", "yellow"), remark)

    def _next(self) -> "RenderableType":
        from rich.text import Text

        return Text.assemble("Next: ", ("launcher chat", "bold"), " talks to it here.")


@dataclass(frozen=True, slots=True)
class DryRunResult:
    """The plan, the exact command and the edits, none of which has happened."""

    plan: PlanResult
    proposal: Proposal

    @property
    def exit_code(self) -> int:
        return 1 if self.proposal.faults else 0

    def json(self) -> object:
        edits = [{"path": str(edit.path), "diff": diff([edit])} for edit in self.proposal.edits]
        skips = [{"target": skip.target, "reason": skip.reason} for skip in self.proposal.skips]
        faults = [{"target": fault.target, "message": fault.message, "hint": fault.hint} for fault in self.proposal.faults]
        return {"plan": self.plan.json(), "edits": edits, "skipped": skips, "faults": faults}

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.syntax import Syntax
        from rich.text import Text

        parts: list[RenderableType] = [self.plan.text()]
        if self.proposal.edits:
            parts += [Text(), Text("edits", "dim"), Syntax(diff(self.proposal.edits), "diff", background_color="default")]
        parts += [Text(f"skipped {skip.target}: {skip.reason}") for skip in self.proposal.skips]
        parts += [Text(f"not possible: {fault.message}", "red") for fault in self.proposal.faults]
        return Group(*parts, Text(), Text("Nothing was started or written (--dry-run).", "dim"))


def _tilde(path: Path) -> str:
    """A path as a shell takes it, shortened by the home directory."""
    home = Path.home()
    return f"~/{shlex.quote(str(path.relative_to(home)))}" if path.is_relative_to(home) else shlex.quote(str(path))


def _short(text: str, limit: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]}…"
