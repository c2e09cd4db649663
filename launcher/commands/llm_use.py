"""`launcher llm use`: an agent is told another configuration, local or remote, in one command."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import agent_server, configurations, lock, probe, telling
from launcher.agent_server import Activated
from launcher.endpoint import Endpoint
from launcher.errors import LauncherError
from launcher.llm import LLMConfig
from launcher.providers import PROVIDERS
from launcher.results import copied
from launcher.store import look
from launcher.telling import Told
from launcher.tool_call import ToolProof
from launcher.wiring import apply
from launcher.wiring.apply import Fault, Proposal, Skip
from launcher.wiring.base import Edit, Place, Target
from launcher.wiring.diff import diff
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


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


@dataclass(frozen=True, slots=True)
class LLMUseResult:
    """What was written, or would be in a dry run; `proof` is of the tool calls, None where nobody was asked, `why` says why."""

    name: str
    edits: tuple[Edit, ...]
    skips: tuple[Skip, ...]
    faults: tuple[Fault, ...]
    starts: tuple[str, ...]
    proof: ToolProof | None
    why: str
    activated: Activated | None
    dry: bool

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
        for edit in self.edits if not self.dry else ():
            narrowed = " (readable by you alone from now on, since the key is in it)" if edit.narrows else ""
            yield copied(f"{'Wired' if edit.changes else 'Was wired already:'} {edit.path}{narrowed}")
        for skip in self.skips:
            yield Text.assemble((f"Not wired {skip.target}: ", "dim"), skip.reason)
        for fault in self.faults:
            yield Text.assemble((f"Not wired {fault.target}: ", "red"), fault.message, f" ({fault.hint})" if fault.hint else "")
        for line in self.starts:
            yield copied(f"  {line}")
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


def dry_run(world: World, request: UseRequest, targets: Mapping[str, Target]) -> LLMUseResult:
    """What `run` would write, without asking anybody."""
    told, chosen = _told(world, request), _chosen(request, targets)
    proposal = _propose(world, request, chosen, told.llm)
    return LLMUseResult(request.name, proposal.edits, proposal.skips, proposal.faults, (), None, "", None, dry=True)


def run(world: World, request: UseRequest, targets: Mapping[str, Target]) -> LLMUseResult:
    """Prove a local model that runs, then tell the agent of it; raises LauncherError for one that cannot be used."""
    told, chosen = _told(world, request), _chosen(request, targets)

    def wait(holder: lock.Holder) -> None:
        world.progress.say(f"waiting for `{holder.command}` (pid {holder.pid})")

    with lock.acquire(world.home.make().lock, f"launcher llm use {request.name}", waiting=wait, timeout=None):
        proof, why = _proof(world, told) if request.proof else (None, "")
        llm = _as_seen(world, told, proof)
        proposal = _propose(world, request, chosen, llm)
        outcome = apply.write(proposal.edits, world.home)
    taken = {edit.target for edit in outcome.edits}
    place = _place(world, request, chosen)
    activated, refused = _activated(world, request, llm)
    return LLMUseResult(
        name=request.name,
        edits=outcome.edits,
        skips=proposal.skips,
        faults=(*proposal.faults, *outcome.faults, *refused),
        starts=tuple(target.start_line(place, llm) for name, target in chosen.items() if name in taken),
        proof=proof,
        why=why,
        activated=activated,
        dry=False,
    )


def _activated(world: World, request: UseRequest, llm: LLMConfig) -> tuple[Activated | None, tuple[Fault, ...]]:
    """What a running agent server made of it; the files are written by then, whatever it says."""
    if not request.agent_server:
        return None, ()
    try:
        return agent_server.activate(request.agent_server, llm, world.env), ()
    except LauncherError as fault:
        return None, (Fault("agent-server", request.agent, fault.message, fault.hint),)


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


def _proof(world: World, told: Told) -> tuple[ToolProof | None, str]:
    """The proof of a local model's tool calls, or why there is none yet."""
    llm = told.llm
    if not llm.local:
        return None, f"`launcher llm test {llm.name}` asks it, tool calls and all."
    if told.state != "ready":
        return None, f"{llm.name} does not run now: the proof is still to come (`launcher up {llm.name}`)."
    context = next(server.context for server in look(world.home)[0] if server.name == llm.name)
    world.progress.phase("proof")
    return probe.tools(Endpoint(llm.name, llm.base_url, llm.api_key, context)), ""


def _as_seen(world: World, told: Told, proof: ToolProof | None) -> LLMConfig:
    """Tools are sent as the proof says, unless a person decided it; what was seen is kept."""
    llm = told.llm
    if proof is None or "native_tool_calling" in told.said:
        return llm
    native = proof.native(planned=bool(llm.native_tool_calling))
    known = configurations.traits(world.home, llm.name)
    if known and known.native_tool_calling != native:
        configurations.note(world.home, llm.name, replace(known, native_tool_calling=native))
    return replace(llm, native_tool_calling=native)
