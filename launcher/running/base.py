"""What it takes to start an agent on a model with nothing of the user's written: values, and the adapter's protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from launcher.command import Command
from launcher.llm import LLMConfig


@dataclass(frozen=True, slots=True)
class User:
    """Who starts an agent: the home directory, and the environment, which may name other folders."""

    home: Path
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    def folder(self, variable: str, usual: Path) -> Path:
        """The folder that a variable names, else the usual one."""
        named = self.env.get(variable)
        return Path(named).expanduser().absolute() if named else usual


@dataclass(frozen=True, slots=True)
class Mirror:
    """A folder that shows all that lies in another one, but for the files that are written into it.

    `also` are names that it shows where they are not there yet.
    """

    folder: Path
    of: Path
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Start:
    """How an agent is started: its command, and the files of its user alone that are there for as long as it runs."""

    command: Command
    files: Mapping[Path, str] = field(default_factory=dict, repr=False)
    mirror: Mirror | None = None


class Agent(Protocol):
    """One agent that `launcher run` starts; a module meets it with constants and a function."""

    @property
    def NAME(self) -> str:
        """What is typed after `launcher run`."""

    @property
    def PROGRAM(self) -> str:
        """The program that is looked for in PATH."""

    @property
    def INSTALL(self) -> str:
        """The line that installs it."""

    @property
    def TOOLS(self) -> bool:
        """Whether it works by tool calls, with long instructions: little can be done in a small window then."""

    def start(self, llm: LLMConfig, words: Sequence[str], folder: Path, user: User) -> Start:
        """The command with a person's own `words` last, and its files, all of them in `folder`.

        A secret is in `Command.secrets` or in a file, never in the argv.
        """
