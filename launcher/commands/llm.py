"""`launcher llm`: the LLM configurations there are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher import store, telling
from launcher.errors import LauncherError
from launcher.providers import PROVIDERS
from launcher.telling import Told
from launcher.wiring import apply
from launcher.wiring.base import Target
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class LLMRow:
    """A configuration and the agents that have it now; `served` by the gateway, if it is a provider's."""

    told: Told
    agents: tuple[str, ...]
    served: bool = False

    @property
    def state(self) -> str:
        """Whether it can be asked: a local one by its server, a remote one by its key."""
        llm = self.told.llm
        if llm.local:
            return self.told.state or "stopped"
        needs_key = llm.provider not in PROVIDERS or PROVIDERS[llm.provider].key
        if needs_key and not llm.api_key:
            return "no key"
        return "served" if self.served else "configured"


@dataclass(frozen=True, slots=True)
class LLMsResult:
    """All configurations; `faults` tell which cannot be read."""

    rows: tuple[LLMRow, ...]
    faults: tuple[LauncherError, ...]

    @property
    def exit_code(self) -> int:
        return 1 if self.faults else 0

    def json(self) -> object:
        return [
            {
                "name": row.told.llm.name,
                "provider": row.told.llm.provider,
                "model": row.told.llm.model,
                "base_url": row.told.llm.base_url or None,
                "state": row.state,
                "agents": list(row.agents),
            }
            for row in self.rows
        ]

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("name", "model", "address", "state", "told to"):
            table.add_column(column, overflow="fold", no_wrap=column in {"name", "state"})
        for row in self.rows:
            llm = row.told.llm
            table.add_row(Text(llm.name, "bold"), llm.model, llm.base_url or "its own", row.state, ", ".join(row.agents))
        empty = Text("None yet: `launcher up` makes a local one, `launcher llm add NAME` one of a provider.")
        faults = [Text(f"{fault.message} ({fault.hint})", "red") for fault in self.faults]
        return Group(table if self.rows else empty, *faults)


def run(world: World, targets: Mapping[str, Target]) -> LLMsResult:
    """Look at the records; nothing is asked and nothing is changed."""
    wired = apply.wired(targets, world.home)
    rows, faults = [], []
    served = store.remotes(world.home)
    for name in telling.names(world):
        try:
            told = telling.told(world, name)
        except LauncherError as fault:
            faults.append(fault)
            continue
        rows.append(LLMRow(told, tuple(each.target for each in wired if each.present and each.name == name), name in served))
    return LLMsResult(tuple(rows), tuple(faults))
