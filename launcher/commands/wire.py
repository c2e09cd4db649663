"""`launcher wire`: agents are told of the model, whether it runs by now or not."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher import exposing, interfaces, introducing, keys, lock, store, telling
from launcher.commands.wire_result import WireResult
from launcher.endpoint import Endpoint
from launcher.errors import LauncherError
from launcher.server import ServerSpec
from launcher.serving import plan_now, running_now
from launcher.telling import Told
from launcher.wiring import apply
from launcher.wiring.base import Place, Target
from launcher.world import World


@dataclass(frozen=True, slots=True)
class WireRequest:
    """What was typed: no agents for those that are found, no model for the one that runs, or ran last, or would be planned."""

    agents: tuple[str, ...] = ()
    model: str = ""
    default: bool = False
    config_file: Path | None = None
    docker: bool = False
    proof: bool = True


def dry_run(world: World, request: WireRequest, targets: Mapping[str, Target]) -> WireResult:
    """What `run` would write, without asking anybody."""
    chosen = _chosen(request, targets)
    told = _told(world, request.model)
    proposal = apply.propose(chosen, _place(world, request, chosen), told.llm, world.home)
    notes = _notes(world, request, dry=True)
    return WireResult(told.llm.name, proposal.edits, proposal.skips, proposal.faults, (), None, "", dry=True, notes=notes)


def run(world: World, request: WireRequest, targets: Mapping[str, Target]) -> WireResult:
    """Prove a model that runs, then tell the agents of it; what fails for one agent is told, the others are done."""
    chosen = _chosen(request, targets)

    def wait(holder: lock.Holder) -> None:
        world.progress.say(f"waiting for `{holder.command}` (pid {holder.pid})")

    with lock.acquire(world.home.make().lock, "launcher wire", waiting=wait, timeout=None):
        keys.ensure(world.home.key)
        told = _told(world, request.model)
        proof, why = introducing.proof(world, told) if request.proof else (None, "")
        llm = introducing.as_seen(world, told, proof)
        place = _place(world, request, chosen)
        proposal = apply.propose(chosen, place, llm, world.home)
        outcome = apply.write(proposal.edits, world.home)
        notes = _notes(world, request)
    taken = {edit.target for edit in outcome.edits}
    return WireResult(
        name=llm.name,
        edits=outcome.edits,
        skips=proposal.skips,
        faults=(*proposal.faults, *outcome.faults),
        starts=tuple(target.start_line(place, llm) for name, target in chosen.items() if name in taken),
        proof=proof,
        why=why,
        dry=False,
        notes=notes,
    )


def named(agents: tuple[str, ...], targets: Mapping[str, Target]) -> Mapping[str, Target]:
    """The targets of these agents, all without a name; raises LauncherError for one that nobody knows."""
    known = {target.AGENT for target in targets.values()} | set(targets)
    for agent in agents:
        if agent not in known:
            there = ", ".join(dict.fromkeys(target.AGENT for target in targets.values()))
            raise LauncherError(f"unknown agent {agent!r}", hint=f"known: {there}")
    return {name: target for name, target in targets.items() if not agents or {name, target.AGENT} & set(agents)}


def _chosen(request: WireRequest, targets: Mapping[str, Target]) -> Mapping[str, Target]:
    """With `docker` those that know containers; raises LauncherError for another one that was named."""
    chosen = named(request.agents, targets)
    if not request.docker:
        return chosen
    able = {target.AGENT for target in chosen.values() if target.IN_CONTAINERS}
    for target in chosen.values() if request.agents else ():
        if target.AGENT not in able:
            raise LauncherError(f"{target.AGENT} can only be told on this machine", hint="leave --docker out")
    return {name: target for name, target in chosen.items() if target.AGENT in able}


def _place(world: World, request: WireRequest, chosen: Mapping[str, Target]) -> Place:
    """Files are made for what was asked for by name."""
    return telling.place(
        world,
        config_file=request.config_file,
        chosen=frozenset(request.agents) & frozenset(chosen),
        docker=request.docker,
        default=request.default,
    )


def _notes(world: World, request: WireRequest, *, dry: bool = False) -> tuple[str, ...]:
    return exposing.for_containers(world.home, interfaces.read(docker=True), dry=dry) if request.docker else ()


def _told(world: World, model: str) -> Told:
    """The model that was named, else the one that runs, ran last, or would be chosen here."""
    running = running_now(world)
    seen = sorted(store.look(world.home)[0], key=lambda server: -server.since)
    name = model or next((server.name for server in (*running, *seen)), "")
    if name in telling.names(world):
        return telling.told(world, name)
    plan = plan_now(world, ServerSpec(model=name), running)
    key = keys.read(world.home.key) or "sk-local-new"
    endpoint = Endpoint(plan.profile.name, store.address(world.home), key, plan.context)
    return Told(telling.local(world, endpoint, telling.traits(plan.profile, plan.engine)))
