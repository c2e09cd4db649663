"""`launcher llm show`: all that one configuration says, and what is known of its model."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import configurations, litellm_list, telling
from launcher.litellm_list import Listed
from launcher.llm import SECRETS
from launcher.providers import PROVIDERS, Provider
from launcher.telling import Told
from launcher.verified import Verified, said_of
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class LLMShowResult:
    """A configuration; `key_file` is where its key lies, `listed` and `verified` what lists say of the model."""

    told: Told
    key_file: Path
    listed: Listed | None
    verified: Verified | None
    exit_code: int = 0

    def json(self) -> object:
        llm = self.told.llm
        said = {
            each.name: getattr(llm, each.name)
            for each in fields(llm)
            if each.name not in SECRETS and getattr(llm, each.name) not in (None, "", {})
        }
        listed, verified = self.listed, self.verified
        return {
            **{key: dict(value) if key == "litellm_extra_body" else value for key, value in said.items()},
            "key_file": str(self.key_file) if llm.api_key else None,
            "set_by_you": list(self.told.said),
            "price_per_million": _prices(listed),
            "verified": {"source": verified.source, "date": verified.date} if verified else None,
        }

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in self._rows():
            table.add_row(name, value)
        return Group(Text(self.told.llm.name, "bold"), table, *(Text(each, "yellow") for each in self._remarks()))

    def _rows(self) -> Iterator[tuple[str, str]]:
        llm = self.told.llm
        for each in fields(llm):
            value = getattr(llm, each.name)
            if each.name == "name" or each.name in SECRETS or value in (None, "", {}):
                continue
            yield each.name, f"{value}  (set by you)" if each.name in self.told.said and llm.local else str(value)
        yield "api_key", f"in {self.key_file}" if llm.api_key else "none"

    def _remarks(self) -> Iterator[str]:
        llm = self.told.llm
        if not llm.local:
            yield from remarks(PROVIDERS.get(llm.provider), self.listed, self.verified)


def run(world: World, name: str) -> LLMShowResult:
    """Look at the records and at the lists; nothing is asked."""
    told = telling.told(world, name)
    llm = told.llm
    key = world.home.key if llm.local else configurations.secret_path(world.home, name, "api_key")
    return LLMShowResult(told, key, None if llm.local else litellm_list.look_up(llm.model), said_of(llm.model))


def remarks(provider: Provider | None, listed: Listed | None, verified: Verified | None) -> Iterator[str]:
    """What a person should know of a provider's model: its price, the lists that name it, what it needs beside."""
    prices = _prices(listed)
    if provider and provider.paid:
        told = f"{prices['input']:g} in and {prices['output']:g} out" if prices else "not in LiteLLM's list"
        yield f"US dollars a million tokens: {told}. Agents send many long prompts: set a spending limit at {provider.title}."
    if verified:
        note = f" ({verified.note})" if verified.note else ""
        yield f"On OpenHands' list of verified models of {verified.date}{note}."
    elif provider and provider.paid:
        yield "On none of OpenHands' lists of verified models: try it on something small first."
    if provider and provider.environment:
        yield f"The agent's own environment must have {', '.join(provider.environment)}: no field can hold them."


def _prices(listed: Listed | None) -> dict[str, float] | None:
    if listed is None or listed.input_cost is None or listed.output_cost is None:
        return None
    return {"input": round(listed.input_cost * _MILLION, 4), "output": round(listed.output_cost * _MILLION, 4)}
