"""A model and the agents that are told of it: its proof, who could be told, and who must be told anew."""

from collections.abc import Mapping
from dataclasses import replace

from launcher import configurations, keys, probe, telling
from launcher.endpoint import Endpoint
from launcher.errors import LauncherError
from launcher.llm import LLMConfig
from launcher.store import look
from launcher.telling import Told
from launcher.tool_call import ToolProof
from launcher.wiring import apply
from launcher.wiring.apply import Fault, Outcome, Wired
from launcher.wiring.base import Edit, Target
from launcher.world import World


def proof(world: World, told: Told) -> tuple[ToolProof | None, str]:
    """The proof of a local model's tool calls, or why there is none yet."""
    llm = told.llm
    if not llm.local:
        return None, f"`launcher llm test {llm.name}` asks it, tool calls and all."
    if told.state != "ready":
        return None, f"{llm.name} does not run now: the proof is still to come (`launcher up {llm.name}`)."
    context = next(server.context for server in look(world.home)[0] if server.name == llm.name)
    world.progress.phase("proof")
    return probe.tools(Endpoint(llm.name, llm.base_url, llm.api_key, context)), ""


def as_seen(world: World, told: Told, proof: ToolProof | None) -> LLMConfig:
    """Tools are sent as the proof says, unless a person decided it; what was seen is kept."""
    llm = told.llm
    if proof is None or "native_tool_calling" in told.said:
        return llm
    native = proof.native(planned=bool(llm.native_tool_calling))
    known = configurations.traits(world.home, llm.name)
    if known and known.native_tool_calling != native:
        configurations.note(world.home, llm.name, replace(known, native_tool_calling=native))
    return replace(llm, native_tool_calling=native)


def again(world: World, targets: Mapping[str, Target]) -> Outcome:
    """Each file that is wired to an address, or with a key, that is none any more is wired anew, as it was wired before."""
    edits: list[Edit] = []
    faults: list[Fault] = []
    try:
        wired = [each for each in apply.wired(targets, world.home) if each.present and each.target in targets]
    except LauncherError as fault:  # a damaged record: which file it is of, nobody knows
        return Outcome((), (Fault("", "", fault.message, fault.hint),))
    for each in _firsts(wired):
        try:
            llm = telling.told(world, each.name).llm
        except LauncherError:  # a model that was never served has no address yet
            continue
        files = [other for other in wired if (other.target, other.name) == (each.target, each.name)]
        if not llm.local or not _stale(files, llm):
            continue
        target = targets[each.target]
        place = telling.place(
            world,
            config_file=each.path,
            register_only=each.manner.register_only,
            chosen=frozenset({each.target}),
            docker=each.manner.docker,
            default=each.manner.default,
        )
        outcome = apply.write(apply.propose({each.target: target}, place, llm, world.home).edits, world.home)
        edits += [edit for edit in outcome.edits if edit.changes]
        faults += outcome.faults
    return Outcome(tuple(edits), tuple(faults))


def offered(world: World, targets: Mapping[str, Target], llm: LLMConfig) -> tuple[str, ...]:
    """The agents that are on this machine and were not told of any model yet; none while a record is damaged."""
    try:
        told = {each.agent for each in apply.wired(targets, world.home) if each.present}
    except LauncherError:  # it is told where it matters: a server that was proven is not given up for it
        return ()
    others = {name: target for name, target in targets.items() if target.AGENT not in told}
    proposal = apply.propose(others, telling.place(world), llm, world.home)
    found = [*(edit.agent for edit in proposal.edits), *(skip.agent for skip in proposal.skips)]
    return tuple(dict.fromkeys(found))


def _stale(files: list[Wired], llm: LLMConfig) -> bool:
    """Whether files lead elsewhere, or hold another key of ours: some agents take none from a file."""
    keyed = [text for each in files if keys.PREFIX in (text := each.after or "")]
    return files[0].base_url != llm.base_url or bool(keyed and not any(llm.api_key in text for text in keyed))


def _firsts(wired: list[Wired]) -> list[Wired]:
    """One file of each target and model: all of them are written together."""
    return list({(each.target, each.name): each for each in reversed(wired)}.values())
