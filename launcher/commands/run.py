"""`launcher run`: a coding agent on the local model, with nothing of the user's written."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import keys, processes, store, telling
from launcher.command import Command
from launcher.commands import up
from launcher.commands.up import UpRequest
from launcher.deciding import meant
from launcher.endpoint import Endpoint
from launcher.errors import LauncherError
from launcher.llm import SMALLEST_WINDOW, LLMConfig
from launcher.results import copied
from launcher.running import execution
from launcher.running.base import Agent, User
from launcher.server import ServerSpec
from launcher.serving import plan_now, running_now
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType

_MASK = "****"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What was typed: `words` are for the agent; without a model the one that runs is taken, else `launcher up` chooses."""

    agent: str
    words: Sequence[str] = ()
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """An agent that can be started at once, on a model that runs."""

    agent: Agent
    program: str
    llm: LLMConfig
    words: Sequence[str]


@dataclass(frozen=True, slots=True)
class RunDryResult:
    """The command and the files, in which the key is masked; `missing` says how to install a program that is not there."""

    command: Command
    files: Mapping[Path, str]
    model: str
    missing: str
    exit_code: int = 0

    def json(self) -> object:
        return {
            "model": self.model,
            "argv": list(self.command.argv),
            "env": {**self.command.env, **dict.fromkeys(self.command.secrets, _MASK)},
            "files": {str(path): text for path, text in self.files.items()},
            "missing": self.missing or None,
        }

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        parts: list[RenderableType] = [copied(self.command.shell(" \\\n    "))]
        for path, text in self.files.items():
            parts += [Text(f"\n{path}, for as long as it runs:", "dim"), copied(text.rstrip())]
        if self.missing:
            parts.append(Text(f"\n{self.missing}", "yellow"))
        return Group(*parts, Text("\nNothing was started or written (--dry-run).", "dim"))


def dry_run(world: World, request: RunRequest, agents: Mapping[str, Agent]) -> RunDryResult:
    """What `run` would start, without starting the model or making a file."""
    agent = _known(request.agent, agents)
    llm = _running(world, request.model) or _planned(world, request.model)
    start = agent.start(llm, request.words, world.home.running / agent.NAME, _user(world))
    missing = "" if _program(world, agent) else f"{agent.PROGRAM} is not on this machine: {agent.INSTALL}"
    # Without a key there is none to mask: a model that was never up.
    files = {path: text.replace(llm.api_key or _MASK, _MASK) for path, text in start.files.items()}
    return RunDryResult(start.command, files, llm.name, missing)


def ready(world: World, request: RunRequest, agents: Mapping[str, Agent]) -> Ready:
    """The agent's program, and its model once that serves; raises LauncherError for what is not to be had."""
    agent = _known(request.agent, agents)
    program = _program(world, agent)
    if program is None:
        raise LauncherError(f"{agent.PROGRAM} is not on this machine", hint=f"install it: {agent.INSTALL}")
    keys.ensure(world.home.make().key)
    llm = _running(world, request.model) or _brought_up(world, request.model)
    if agent.TOOLS:
        for remark in _remarks(llm):
            world.progress.say(remark)
    return Ready(agent, program, llm, request.words)


def run(world: World, ready: Ready) -> int:
    """Start the agent in this terminal and wait for its end; its exit code."""
    with execution.room(world.home) as folder:
        start = ready.agent.start(ready.llm, ready.words, folder, _user(world))
        execution.fill(start)
        return execution.run(ready.program, start, world.env)


def _known(name: str, agents: Mapping[str, Agent]) -> Agent:
    if name not in agents:
        raise LauncherError(f"unknown agent {name!r}", hint=f"known: {', '.join(agents)}")
    return agents[name]


def _program(world: World, agent: Agent) -> str | None:
    return shutil.which(agent.PROGRAM, path=world.env.get("PATH"))


def _user(world: World) -> User:
    return User(world.user_home, world.env)


def _running(world: World, model: str | None) -> LLMConfig | None:
    """What is told of the model if it serves at this moment, so that an agent starts at once; None if it does not."""
    home = world.home
    if not processes.look(store.listener(home), home.root) or store.listening(home) != (store.port(home), ""):
        return None
    names = [
        server.name
        for server in store.seen(home)
        if model in (None, server.name) and server.state == "ready" and server.handle and world.runner.alive(server.handle)
    ]
    return telling.told(world, names[0]).llm if names else None


def _brought_up(world: World, model: str | None) -> LLMConfig:
    result = up.run(world, UpRequest(ServerSpec(model=model or "")))
    return telling.told(world, result.endpoint.model).llm


def _planned(world: World, model: str | None) -> LLMConfig:
    """What would be told of a model that is to be started."""
    plan = plan_now(world, meant(world, ServerSpec(model=model or "")), running_now(world))
    key = keys.read(world.home.key) or "sk-local-new"
    endpoint = Endpoint(plan.profile.name, store.address(world.home), key, plan.context)
    return telling.local(world, endpoint, telling.traits(plan.profile, plan.engine))


def _remarks(llm: LLMConfig) -> list[str]:
    """What keeps an agent that works by tools from working well."""
    window, told = llm.max_input_tokens or 0, []
    if window < SMALLEST_WINDOW:
        told.append(f"{llm.name} takes {window:,} tokens of input: coding agents send thousands before the first question")
    if not llm.native_tool_calling:
        told.append(f"{llm.name} was not seen to call tools, which this agent works by")
    return told
