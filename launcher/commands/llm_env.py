"""`launcher llm env`: a configuration as LLM_* variables, for a shell, a file, or `docker run`."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from launcher import atomic, configurations, llm_env, telling
from launcher.errors import LauncherError
from launcher.llm import SECRETS, from_a_container
from launcher.results import copied
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType

Form = Literal["shell", "file", "docker"]


@dataclass(frozen=True, slots=True)
class LLMEnvResult:
    """The variables; `lines` are what is printed, without a secret in them unless it was asked for."""

    lines: tuple[str, ...]
    variables: Mapping[str, str] = field(repr=False)
    path: Path | None
    show_key: bool
    exit_code: int = 0

    def json(self) -> object:
        names = {f"{llm_env.PREFIX}{secret.upper()}" for secret in SECRETS}
        told = {name: text for name, text in self.variables.items() if self.show_key or name not in names}
        return {"variables": told, "file": str(self.path) if self.path else None}

    def text(self) -> "RenderableType":
        from rich.console import Group

        return Group(*(copied(line) for line in self.lines))


def run(world: World, name: str, *, form: Form, file: Path | None = None, show_key: bool = False) -> LLMEnvResult:
    """Print or write the variables; a file that is written is its user's alone, and has the key in it."""
    llm = telling.told(world, name).llm
    variables = llm_env.variables(from_a_container(llm) if form == "docker" else llm)
    if form == "shell":
        key = world.home.key if llm.local else configurations.secret_path(world.home, name, "api_key")
        lines = tuple(llm_env.shell(variables, key_file=str(key) if llm.api_key else "", show_key=show_key))
        return LLMEnvResult(lines, variables, None, show_key)
    path = world.cwd / file if file else configurations.env_path(world.home, name)
    _write(world, path, llm_env.env_file(variables))
    lines = (shlex.join(llm_env.docker_words(str(path))),) if form == "docker" else (str(path),)
    return LLMEnvResult(lines, variables, path, show_key)


def _write(world: World, path: Path, text: str) -> None:
    try:
        world.home.make().llm.mkdir(mode=0o700, exist_ok=True)
        atomic.write(path, text)
    except OSError as error:
        raise LauncherError(f"cannot write {path}: {error.strerror}", hint="name another --file") from None
