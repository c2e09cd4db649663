"""`launcher llm use`: an agent is told another configuration, local or remote, in one command."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import agent_server, exposing, interfaces, introducing, lock, telling
from launcher.agent_server import Activated
from launcher.commands.wire_result import WireResult
from launcher.errors import LauncherError
from launcher.llm import LLMConfig
from launcher.providers import PROVIDERS
from launcher.telling import Told
from launcher.wiring import apply
from launcher.wiring.apply import Fault, Proposal
from launcher.wiring.base import Place, Target
from launcher.world import World

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class UseRequest:
    """What was typed: `generation` is one of the agent's, "all" for every one, None for those that are found."""

    name: str
    agent: str = "openhands"
    generation: str | None = None
    config_file: Path | None = None
    register_only: bool = False
    docker: bool = False
    proof: bool = True
    agent_server: str | None = None


def dry_run(world: World, request: UseRequest, targets: Mapping[str, Target]) -> WireResult:
    """What `run` would write, without asking anybody."""
    told, chosen = _told(world, request), _chosen(request, targets)
    proposal = _propose(world, request, chosen, told.llm)
    notes = _notes(world, request, told, dry=True)
    return WireResult(request.name, proposal.edits, proposal.skips, proposal.faults, (), None, "", dry=True, notes=notes)


def run(world: World, request: UseRequest, targets: Mapping[str, Target]) -> WireResult:
    """Prove a local model that runs, then tell the agent of it; raises LauncherError for one that cannot be used."""
    told, chosen = _told(world, request), _chosen(request, targets)

    def wait(holder: lock.Holder) -> None:
        world.progress.say(f"waiting for `{holder.command}` (pid {holder.pid})")

    with lock.acquire(world.home.make().lock, f"launcher llm use {request.name}", waiting=wait, timeout=None):
        proof, why = introducing.proof(world, told) if request.proof else (None, "")
        llm = introducing.as_seen(world, told, proof)
        proposal = _propose(world, request, chosen, llm)
        outcome = apply.write(proposal.edits, world.home)
        notes = _notes(world, request, told)
    taken = {edit.target for edit in outcome.edits}
    place = _place(world, request, chosen)
    activated, refused = _activated(world, request, llm)
    return WireResult(
        name=request.name,
        edits=outcome.edits,
        skips=proposal.skips,
        faults=(*proposal.faults, *outcome.faults, *refused),
        starts=tuple(target.start_line(place, llm) for name, target in chosen.items() if name in taken),
        proof=proof,
        why=why,
        activated=activated,
        dry=False,
        notes=notes,
    )


def _activated(world: World, request: UseRequest, llm: LLMConfig) -> tuple[Activated | None, tuple[Fault, ...]]:
    """What a running agent server made of it; the files are written by then, whatever it says."""
    if not request.agent_server:
        return None, ()
    try:
        return agent_server.activate(request.agent_server, llm, world.env), ()
    except LauncherError as fault:
        return None, (Fault("agent-server", request.agent, fault.message, fault.hint),)


def _notes(world: World, request: UseRequest, told: Told, *, dry: bool = False) -> tuple[str, ...]:
    """A provider is reached from a container as from anywhere."""
    if not (request.docker and told.llm.local):
        return ()
    return exposing.for_containers(world.home, interfaces.read(docker=True), dry=dry)


def _told(world: World, request: UseRequest) -> Told:
    told = telling.told(world, request.name)
    llm = told.llm
    needs_key = llm.local or llm.provider not in PROVIDERS or PROVIDERS[llm.provider].key
    if needs_key and not llm.api_key:
        # OpenHands would retry a missing key for two minutes, as if the server had a fault.
        raise LauncherError(f"{llm.name} has no key", hint=f"launcher llm edit {llm.name} --new-key")
    return told


def _chosen(request: UseRequest, targets: Mapping[str, Target]) -> Mapping[str, Target]:
    of_agent = {name: target for name, target in targets.items() if request.agent == target.AGENT}
    if not of_agent:
        agents = ", ".join(sorted({target.AGENT for target in targets.values()}))
        raise LauncherError(f"unknown agent {request.agent!r}", hint=f"known: {agents}")
    if request.generation in {None, "all"}:
        return of_agent
    chosen = {name: target for name, target in of_agent.items() if request.generation in target.GENERATIONS}
    if not chosen:
        known = ", ".join(sorted({each for target in of_agent.values() for each in target.GENERATIONS}))
        raise LauncherError(f"{request.agent} has no generation {request.generation!r}", hint=f"known: {known}, all")
    return chosen


def _place(world: World, request: UseRequest, chosen: Mapping[str, Target]) -> Place:
    """Files are made for what was asked for by name; an agent server makes the settings that it activates a model in."""
    wanted = {name for name, target in chosen.items() if request.generation in {"all", target.GENERATIONS[0]}}
    if request.agent_server:
        wanted |= {name for name, target in chosen.items() if target.GENERATIONS[0] == "v1"}
    return telling.place(
        world,
        config_file=request.config_file,
        register_only=request.register_only,
        chosen=frozenset(wanted),
        docker=request.docker,
    )


def _propose(world: World, request: UseRequest, chosen: Mapping[str, Target], llm: LLMConfig) -> Proposal:
    return apply.propose(chosen, _place(world, request, chosen), llm, world.home)
