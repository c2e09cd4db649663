"""`launcher plan`: what would run, and why, on this machine or on another."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from launcher.command import Command
from launcher.deciding import command_of, decide, what_would_do
from launcher.gpu import GIB, Inventory, holders, named
from launcher.plan import DoesNotFit, Memory, Plan, by_reason
from launcher.results import copied
from launcher.server import ServerSpec
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text


@dataclass(frozen=True, slots=True)
class PlanResult:
    """A plan and the command it leads to, or the reasons why there is none, and what would do."""

    outcome: Plan | DoesNotFit
    command: Command | None = None
    hint: str = ""

    @property
    def exit_code(self) -> int:
        return 1 if isinstance(self.outcome, DoesNotFit) else 0

    def json(self) -> object:
        if isinstance(self.outcome, DoesNotFit):
            rejections = [{"variant": r.variant, "engine": r.engine, "reason": r.reason} for r in self.outcome.rejections]
            return {"fits": False, "model": self.outcome.profile.name, "rejections": rejections, "hint": self.hint}
        plan, memory = self.outcome, self.outcome.memory
        return {
            "fits": True,
            "model": plan.profile.name,
            "variant": plan.variant.name,
            "engine": plan.engine,
            "gpus": [{"index": gpu.index, "name": gpu.name, "node": gpu.node} for gpu in plan.gpus],
            "nodes": plan.nodes,
            "tensor": plan.tensor,
            "pipeline": plan.pipeline,
            "context": plan.context,
            "sessions": round(plan.sessions, 2),
            "kv_dtype": plan.kv_dtype,
            "speculative": asdict(plan.manner.speculative) if plan.manner.speculative else None,
            "sequences": plan.manner.sequences,
            "can_sleep": plan.manner.can_sleep,
            "memory": {
                "weights": memory.weights,
                "kv": memory.kv,
                "overhead": memory.overhead,
                "claim": memory.claim,
                "kv_tokens": memory.kv_tokens,
            },
            "notes": [*plan.notes, *plan.others],
            "command": self.command.shell() if self.command else "",
        }

    def text(self) -> "RenderableType":
        if isinstance(self.outcome, DoesNotFit):
            return _refused(self.outcome, self.hint)
        return _picture(self.outcome, self.command)


def run(world: World, spec: ServerSpec, inventory: Inventory) -> PlanResult:
    """Plan, and show the command that the plan leads to; nothing is touched."""
    outcome = decide(world, spec, inventory)
    if isinstance(outcome, DoesNotFit):
        return PlanResult(outcome, hint=what_would_do(world, spec, inventory, outcome))
    if outcome.nodes > 1:
        return PlanResult(outcome)  # a command for each node: `launcher export` writes them
    return PlanResult(outcome, command_of(world, outcome))


def _refused(outcome: DoesNotFit, hint: str) -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    heading, reasons = f"{outcome.profile.name} does not fit", by_reason(outcome.rejections)
    if len(reasons) == 1:
        return Group(Text.assemble((heading, "bold red"), f": {', '.join(reasons)}"), Text(f"hint:  {hint}"))
    table = Table(box=None, padding=(0, 2), show_header=False)
    for reason, who in reasons.items():
        table.add_row(Text(who, "bold"), reason)
    return Group(Text(heading, "bold red"), table, Text(f"hint:  {hint}"))


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
    facts.add_row(
        "context",
        f"{plan.context:,} tokens; {plan.memory.kv_tokens:,} in memory: {plan.sessions:.1f} such conversations at once",
    )
    facts.add_row("KV type", plan.kv_dtype)
    if drafts := plan.manner.speculative:
        facts.add_row("drafts", f"{drafts.tokens} tokens at a time by the model's own heads ({drafts.method})")
    for note in (*plan.notes, *plan.others):
        facts.add_row("note", note)
    shown = [Text.assemble((plan.profile.name, "bold"), (f"  {plan.profile.title}", "dim")), facts, Text(), *_bars(plan)]
    if plan.nodes > 1:
        shown += [
            Text(),
            Text(f"`launcher export kubernetes {plan.profile.name} --on ...` writes it for these machines, or skypilot"),
        ]
    if command:
        shown += [Text(), Text("command", "dim"), copied(command.shell(separator=" \\\n  "))]
    return Group(*shown)


def _bars(plan: Plan) -> "list[RenderableType]":
    """What each device holds: one bar a GPU, against all that it has. Each part has a glyph, since not all see colours."""
    from rich.table import Table
    from rich.text import Text

    memory = plan.memory
    used = memory.weights + memory.overhead + memory.kv
    # Of a cluster the fullest of each machine.
    fullest = {gpu.node: gpu for gpu in sorted(plan.gpus, key=lambda gpu: -gpu.free)}
    shown = plan.gpus if plan.nodes == 1 else [fullest[node] for node in sorted(fullest)]
    word = "GPU" if plan.nodes == 1 else "node"
    rows = [(f"{word} {gpu.node if plan.nodes > 1 else gpu.index}", gpu.total, gpu.total - gpu.free) for gpu in shown]
    rows = rows or [("memory", used, 0)]
    table = Table.grid(padding=(0, 1))
    for label, total, others in rows:
        left = f", {max(0, total - used - others) / GIB:.1f} free" if plan.gpus else ""
        table.add_row(label, _bar(memory, others, total), Text(f"{total / GIB:.1f} GiB{left}", "dim"))
    legend = Text("in GiB on each: " if len(rows) > 1 else "in GiB: ", "dim")
    for (glyph, colour, what), size in zip(_PARTS, (memory.weights, memory.overhead, memory.kv), strict=False):
        legend.append(glyph, colour).append(f" {what} {size / GIB:.1f}  ")
    if plan.gpus:
        glyph, colour, what = _PARTS[-1]
        held = max(gpu.total - gpu.free for gpu in plan.gpus)
        legend.append(glyph, colour).append(f" {what} {held / GIB:.1f}")
    who = holders(plan.gpus)
    return [table, legend, *([Text(f"others: {named(who)}")] if who else [])]


_WIDTH = 40
_PARTS = (("█", "blue", "weights"), ("▓", "magenta", "engine"), ("▒", "green", "KV cache"), ("▚", "red", "others"))


def _bar(memory: Memory, others: int, total: int) -> "Text":
    """Parts end where their sum does, so that rounding each makes no bar longer than the device."""
    from rich.text import Text

    bar, end = Text(), 0
    for (glyph, colour, _), size in zip(_PARTS, (memory.weights, memory.overhead, memory.kv, others), strict=True):
        end += size
        bar.append(glyph * (min(_WIDTH, round(_WIDTH * end / total)) - len(bar.plain)), colour)
    return bar.append("·" * (_WIDTH - len(bar.plain)), "dim")
