"""`launcher plan`: what would run, and why, on this machine or on another."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.command import Command
from launcher.deciding import command_of, decide, what_would_do
from launcher.gpu import GIB, Inventory
from launcher.plan import DoesNotFit, Plan
from launcher.results import copied
from launcher.server import ServerSpec
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class PlanResult:
    """A plan and the command it leads to, or the reasons why there is none."""

    outcome: Plan | DoesNotFit
    command: Command | None = None

    @property
    def exit_code(self) -> int:
        return 1 if isinstance(self.outcome, DoesNotFit) else 0

    def json(self) -> object:
        if isinstance(self.outcome, DoesNotFit):
            rejections = [{"variant": r.variant, "engine": r.engine, "reason": r.reason} for r in self.outcome.rejections]
            return {"fits": False, "model": self.outcome.profile.name, "rejections": rejections}
        plan, memory = self.outcome, self.outcome.memory
        return {
            "fits": True,
            "model": plan.profile.name,
            "variant": plan.variant.name,
            "engine": plan.engine,
            "gpus": [{"index": gpu.index, "name": gpu.name} for gpu in plan.gpus],
            "tensor": plan.tensor,
            "pipeline": plan.pipeline,
            "context": plan.context,
            "sessions": round(plan.sessions, 2),
            "kv_dtype": plan.kv_dtype,
            "memory": {
                "weights": memory.weights,
                "kv": memory.kv,
                "overhead": memory.overhead,
                "claim": memory.claim,
                "kv_tokens": memory.kv_tokens,
            },
            "notes": list(plan.notes),
            "command": self.command.shell() if self.command else "",
        }

    def text(self) -> "RenderableType":
        if isinstance(self.outcome, DoesNotFit):
            return _refused(self.outcome)
        return _picture(self.outcome, self.command)


def run(world: World, spec: ServerSpec, inventory: Inventory) -> PlanResult:
    """Plan, and show the command that the plan leads to; nothing is touched."""
    outcome = decide(world, spec, inventory)
    if isinstance(outcome, DoesNotFit):
        return PlanResult(outcome)
    return PlanResult(outcome, command_of(world, outcome))


def _refused(outcome: DoesNotFit) -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2), show_header=False)
    for each in outcome.rejections:
        table.add_row(Text(each.variant, "bold"), each.engine, each.reason)
    return Group(Text(f"{outcome.profile.name} does not fit", "bold red"), table, Text(f"hint:  {what_would_do(outcome)}"))


def _picture(plan: Plan, command: Command | None) -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    devices = plan.devices
    devices += f", tensor parallel {plan.tensor}" if plan.tensor > 1 else ""
    devices += f", {plan.pipeline} pipeline stages" if plan.pipeline > 1 else ""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_row("variant", plan.variant.name)
    facts.add_row("engine", plan.engine)
    facts.add_row("runs on", devices)
    facts.add_row("context", f"{plan.context:,} tokens; the memory holds {plan.sessions:.1f} such conversations at once")
    facts.add_row("KV type", plan.kv_dtype)
    for note in plan.notes:
        facts.add_row("note", note)
    shown = [Text.assemble((plan.profile.name, "bold"), (f"  {plan.profile.title}", "dim")), facts, Text(), *_bars(plan)]
    if command:
        shown += [Text(), Text("command", "dim"), copied(command.shell(separator=" \\\n  "))]
    return Group(*shown)


def _bars(plan: Plan) -> "list[RenderableType]":
    """What each device holds: one bar a GPU, against all that it has."""
    from rich.table import Table
    from rich.text import Text

    width = 40
    memory = plan.memory
    rows = [(f"GPU {gpu.index}", gpu.total, gpu.total - gpu.free) for gpu in plan.gpus] or [("memory", memory.claim, 0)]
    table = Table.grid(padding=(0, 1))
    for label, total, others in rows:
        parts = [(memory.weights, "blue"), (memory.overhead, "magenta"), (memory.kv, "green"), (others, "red")]
        bar = Text()
        for size, colour in parts:
            bar.append("█" * round(width * size / total), colour)
        bar.append("░" * max(0, width - len(bar.plain)), "dim")
        table.add_row(label, bar, Text(f"{total / GIB:.1f} GiB", "dim"))
    legend = Text.assemble(
        "each: " if len(rows) > 1 else "", ("█", "blue"), f" weights {memory.weights / GIB:.1f}  ",
        ("█", "magenta"), f" engine {memory.overhead / GIB:.1f}  ",
        ("█", "green"), f" KV cache {memory.kv / GIB:.1f} GiB = {memory.kv_tokens:,} tokens",
    )  # fmt: skip
    return [table, legend]
