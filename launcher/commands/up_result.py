"""What `launcher up` tells at its end: the summary for people, the object for scripts, and the dry run."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.commands.plan import PlanResult
from launcher.endpoint import Endpoint, place_of
from launcher.exposure import Opening
from launcher.plan import Plan
from launcher.probe import QUESTION, Proof
from launcher.results import copied
from launcher.tool_call import ToolProof
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
    tools: ToolProof | None
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
    notes: tuple[str, ...] = ()
    reachable: tuple[Opening, ...] = ()
    offered: tuple[str, ...] = ()
    fallback: str = ""
    fallback_notes: tuple[str, ...] = ()
    replicas: int = 1

    @property
    def exit_code(self) -> int:
        return 1 if self.faults else 0

    def json(self) -> object:
        return {
            "model": self.endpoint.model,
            "variant": self.plan.variant.name,
            "engine": self.plan.engine,
            "replicas": self.replicas,
            "base_url": self.endpoint.base_url,
            "reachable": [
                {"url": each.url(self._port), "from": each.whence, "tls": each.tls, "fault": each.fault}
                for each in self.reachable
            ],
            "context": self.endpoint.context,
            "agent_model": f"openai/{self.endpoint.model}",
            "key_file": str(self.key),
            "log": str(self.log),
            "proof": {"text": self.proof.text, "seconds": round(self.proof.seconds, 3)},
            "tool_call": {"verdict": self.tools.verdict, "choice": self.tools.choice} if self.tools else None,
            "wired": [str(edit.path) for edit in self.edits],
            "skipped": [{"target": skip.target, "reason": skip.reason} for skip in self.skips],
            "faults": [{"target": fault.target, "message": fault.message, "hint": fault.hint} for fault in self.faults],
            "offered": list(self.offered),
            "seconds": dict(self.seconds),
            "already": self.already,
            "replaced": self.replaced,
            "fallback": self.fallback or None,
            "notes": [*self.fallback_notes, *self.notes, *self.plan.notes, *([self.gpu_hint] if self.gpu_hint else [])],
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
        return Group(head, Text(), facts, Text(), *self._wiring(), *self._remarks(), *self._next())

    @property
    def _port(self) -> int:
        return place_of(self.endpoint.base_url)[1]

    def _facts(self) -> Iterator[tuple[str, str]]:
        yield "asked", QUESTION
        yield "it said", f"“{_short(self.proof.text)}” in {self.proof.seconds:.1f} s"
        if self.tools:
            yield "tool calls", "; ".join(filter(None, (self.tools.meaning, self.tools.remedy)))
        yield "engine", f"{self.plan.engine} on {self.plan.devices}, {self.plan.variant.name}"
        if self.replicas > 1:
            yield "replicas", f"{self.replicas}, which share the requests"
        yield "context", f"{self.endpoint.context:,} tokens"
        yield "base URL", self.endpoint.base_url
        yield "agent model", f"openai/{self.endpoint.model}"
        yield "key", f"in {_tilde(self.key)}"
        yield "log", _tilde(self.log)
        told = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items() if seconds >= 1)
        yield "time", told or "under a second"

    def _wiring(self) -> Iterator["RenderableType"]:
        """What was written and how to start with it: in lines of their own, since they are copied."""
        from rich.text import Text

        if not self.wanted_wiring:
            yield Text("Agents' files are left as they are (--no-wire).")
        for edit in self.edits:
            narrowed = " (readable by you alone from now on, since the key is in it)" if edit.narrows else ""
            yield copied(f"Wired {_tilde(edit.path)}{narrowed}")
        for line in self.starts:
            yield Text("Start an agent with it:", "dim")
            yield copied(f"  {line}")
        for skip in self.skips:
            yield Text.assemble((f"Not wired {skip.target}: ", "dim"), skip.reason)
        for fault in self.faults:
            yield Text.assemble((f"Not wired {fault.target}: ", "red"), fault.message, f" ({fault.hint})" if fault.hint else "")

        if self.offered:
            yield Text.assemble(("Here too: ", "dim"), f"{', '.join(self.offered)} (`launcher wire AGENT` tells them of it)")

    def _remarks(self) -> Iterator["RenderableType"]:
        from rich.text import Text

        reachable = (each.text(self._port) for each in self.reachable)
        for remark in (*reachable, *self.fallback_notes, *self.notes, *self.plan.notes, self.gpu_hint):
            if remark:
                yield Text.assemble(("! ", "yellow"), remark)

    def _next(self) -> Iterator["RenderableType"]:
        from rich.text import Text

        undo = ", `launcher unwire` gives the agents' files back" if self.edits else ""
        yield Text.assemble(("Undo: ", "dim"), f"`launcher down` stops it{undo}.")
        yield Text.assemble(("Next: ", "dim"), ("launcher chat", "bold"), " talks to it in the terminal.")


@dataclass(frozen=True, slots=True)
class DryRunResult:
    """The plan, the exact command and the edits, none of which has happened."""

    plan: PlanResult
    proposal: Proposal
    running: str = ""
    reachable: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()
    replicas: int = 1

    @property
    def exit_code(self) -> int:
        return 1 if self.proposal.faults else 0

    def json(self) -> object:
        edits = [{"path": str(edit.path), "diff": diff([edit])} for edit in self.proposal.edits]
        skips = [{"target": skip.target, "reason": skip.reason} for skip in self.proposal.skips]
        faults = [{"target": fault.target, "message": fault.message, "hint": fault.hint} for fault in self.proposal.faults]
        return {
            "plan": self.plan.json(),
            "replicas": self.replicas,
            "edits": edits,
            "skipped": skips,
            "faults": faults,
            "running": self.running,
            "reachable": list(self.reachable),
            "fallback": list(self.fallback),
        }

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.syntax import Syntax
        from rich.text import Text

        parts: list[RenderableType] = [self.plan.text()]
        if edits := diff(self.proposal.edits):
            parts += [Text(), Text("edits", "dim"), Syntax(edits, "diff", background_color="default")]
        parts += [Text(f"not wired: {skip.target}: {skip.reason}") for skip in self.proposal.skips]
        parts += [Text(f"not possible: {fault.message}\nhint:  {fault.hint}", "red") for fault in self.proposal.faults]
        if self.replicas > 1:
            parts.append(Text(f"{self.replicas} replicas would share the requests, each planned so."))
        if self.running:
            parts.append(Text(self.running))
        parts += [Text(line) for line in (*self.reachable, *self.fallback)]
        return Group(*parts, Text(), Text("Nothing was started or written (--dry-run).", "dim"))


def _tilde(path: Path) -> str:
    """A path as a shell takes it, shortened by the home directory."""
    home = Path.home()
    return f"~/{shlex.quote(str(path.relative_to(home)))}" if path.is_relative_to(home) else shlex.quote(str(path))


def _short(text: str, limit: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]}…"
