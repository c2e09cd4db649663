"""Providers' models that the gateway asks: the fallbacks of models here, and those that are served under their own names."""

from collections.abc import Iterable, Mapping

from launcher import litellm_list, ports, store, telling
from launcher.endpoint import Window
from launcher.errors import LauncherError
from launcher.gateway.table import Remote, Route
from launcher.home import Home
from launcher.llm import LLMConfig
from launcher.providers import PROVIDERS
from launcher.remote import is_here, remote
from launcher.world import World


def asked(world: World, name: str) -> tuple[LLMConfig, Remote]:
    """A configuration and how the gateway asks it; raises LauncherError for one that it cannot ask."""
    llm = telling.told(world, name).llm
    if llm.local:
        raise LauncherError(f"{name} is a model of this machine", hint="`launcher llm add NAME` makes one of a provider's")
    made = remote(llm)
    if is_here(made) and made.port == (store.port(world.home) or ports.FIRST):
        raise LauncherError(f"{name} is at this launcher's own address: it would ask itself", hint="name a provider's model")
    return llm, made


def served(home: Home) -> tuple[Mapping[str, Window], tuple[str, ...]]:
    """What is served under its own name, and what is wrong with the record of it: that is to stop nothing else."""
    try:
        return store.remotes(home), ()
    except LauncherError as fault:
        return {}, (f"{fault.message} ({fault.hint})",)


def window(llm: LLMConfig) -> Window:
    """What the model takes: as the configuration says, else LiteLLM's list."""
    listed = litellm_list.look_up(llm.model)
    tools = llm.native_tool_calling
    return Window(
        context=llm.max_input_tokens or (listed.max_input_tokens if listed else None) or 0,
        output=llm.max_output_tokens or (listed.max_output_tokens if listed else None) or 0,
        tools=bool(listed and listed.tools) if tools is None else tools,
    )


def where(llm: LLMConfig, made: Remote) -> str:
    """Who answers, and what that means for whoever asks."""
    provider = PROVIDERS[llm.provider]
    leaves = "" if is_here(made) else "requests leave this machine"
    costs = "may cost money" if provider.paid or not is_here(made) else ""
    means = " and ".join(filter(None, (leaves, costs)))
    return f"{provider.title}, {made.host}" + (f": {means}" if means else "")


def fallback_notes(world: World, name: str, fallback: str, told: LLMConfig | None = None) -> tuple[str, ...]:
    """What a person has to know of a model's fallback; `told` is what agents were told of the model."""
    try:
        llm, made = asked(world, fallback)
    except LauncherError as fault:
        return (f"{fallback} cannot stand in for {name}: {fault.message} ({fault.hint})",)
    notes = [f"while {name} is down, {fallback} answers ({where(llm, made)}); `launcher up {name} --no-fallback` ends that"]
    takes = window(llm).context if told else 0
    if told and not takes:
        notes.append(f"how much context {fallback} takes is not known: launcher llm edit {fallback} --set max_input_tokens=N")
    elif told and takes < told.window:
        notes.append(f"{fallback} takes {takes:,} tokens, and agents are told {told.window:,}: what is longer is refused there")
    return tuple(notes)


def routes(world: World, names: Iterable[str], windows: Mapping[str, Window]) -> tuple[tuple[Route, ...], tuple[str, ...]]:
    """The routes of these, and what is wrong with the others."""
    made, faults = [], []
    for name in names:
        try:
            llm, there = asked(world, name)
        except LauncherError as fault:
            faults.append(f"{name} is not asked: {fault.message}")
            continue
        takes = windows.get(name, Window())
        made.append(
            Route(
                name,
                "remote",
                (there,),
                context=llm.max_input_tokens or takes.context,
                output=llm.max_output_tokens or takes.output,
                engine=PROVIDERS[llm.provider].title,
                native_tool_calling=takes.tools,
            )
        )
    return tuple(made), tuple(faults)
