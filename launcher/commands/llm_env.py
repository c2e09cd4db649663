"""`launcher llm env`: a configuration as variables, for a shell, a file, or `docker run`."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from launcher import atomic, configurations, llm_env, telling
from launcher.client_env import CLIENTS
from launcher.errors import LauncherError
from launcher.llm import from_a_container
from launcher.results import copied
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType

Form = Literal["shell", "file", "docker"]


@dataclass(frozen=True, slots=True)
class LLMEnvResult:
    """The variables; `lines` are what is printed, without a secret in them unless it was asked for.

    `secrets` are the names of those that hold one.
    """

    lines: tuple[str, ...]
    variables: Mapping[str, str] = field(repr=False)
    secrets: frozenset[str]
    path: Path | None
    show_key: bool
    exit_code: int = 0

    def json(self) -> object:
        told = {name: text for name, text in self.variables.items() if self.show_key or name not in self.secrets}
        return {"variables": told, "file": str(self.path) if self.path else None}

    def text(self) -> "RenderableType":
        from rich.console import Group

        return Group(*(copied(line) for line in self.lines))


def run(
    world: World,
    name: str,
    *,
    form: Form,
    client: str = llm_env.CLIENT,
    file: Path | None = None,
    show_key: bool = False,
) -> LLMEnvResult:
    """Print or write the variables that `client` reads; a file that is written is its user's alone, and has the key in it."""
    llm = telling.told(world, name).llm
    if not llm.local and client != llm_env.CLIENT:
        # A key of one provider must not end in a variable that is read for another's.
        raise LauncherError(f"{name} is no local model", hint=f"`launcher llm env {name}` has it as LLM_* variables")
    variables = CLIENTS[client].variables(from_a_container(llm) if form == "docker" else llm)
    secrets = llm_env.secret_names(llm, variables)
    if form == "shell":
        key = world.home.key if llm.local else configurations.secret_path(world.home, name, "api_key")
        files = {each: str(key) if variables[each] == llm.api_key else "" for each in secrets}
        lines = (*llm_env.shell(variables, files, show_key=show_key), *(f"# {note}" for note in CLIENTS[client].notes(llm)))
        return LLMEnvResult(lines, variables, secrets, None, show_key)
    path = world.cwd / file if file else configurations.env_path(world.home, name, client)
    _write(world, path, llm_env.env_file(variables))
    lines = (shlex.join(llm_env.docker_words(str(path))),) if form == "docker" else (str(path),)
    return LLMEnvResult(lines, variables, secrets, path, show_key)


def _write(world: World, path: Path, text: str) -> None:
    try:
        world.home.make().llm.mkdir(mode=0o700, exist_ok=True)
        atomic.write(path, text)
    except OSError as error:
        raise LauncherError(f"cannot write {path}: {error.strerror}", hint="name another --file") from None
