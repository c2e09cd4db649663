"""What an agent's adapter is: files in, files out. It reads and writes nothing itself; `apply` does."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from launcher.llm import LLMConfig

Files = Mapping[Path, str | None]
"""The text of each file by its path; None is a file that does not exist. Line ends are kept as they are."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a person wanted files to be wired, as in Place: what must be known to do the same again."""

    default: bool = False
    docker: bool = False
    register_only: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where an agent's files are looked for: the user's home directory and the config.toml that was chosen.

    `env` is the user's environment, which may name other folders; `programs` are those of the targets' that can be started;
    `chosen` are targets whose files are made where there are none. In `docker`, agents run in containers of this machine.
    With `default`, the model becomes the one that an agent starts with. `named` is a file that a person named, for agents that
    look for none themselves, and `own` our own folder for such files.
    """

    home: Path
    config_file: Path
    register_only: bool = False
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    programs: frozenset[str] = frozenset()
    chosen: frozenset[str] = frozenset()
    docker: bool = False
    default: bool = False
    named: Path | None = None
    own: Path = Path()

    @property
    def manner(self) -> Manner:
        return Manner(self.default, self.docker, self.register_only)

    @property
    def config(self) -> Path:
        """The folder of users' configurations (specifications.freedesktop.org/basedir-spec)."""
        return self.folder("XDG_CONFIG_HOME", self.home / ".config")

    @property
    def openhands(self) -> Path:
        """The folder of OpenHands' applications and of its profile store."""
        return self.folder("OH_PERSISTENCE_DIR", self.home / ".openhands")

    @property
    def openhands_cli(self) -> Path:
        """The folder of OpenHands' command."""
        return self.folder("OPENHANDS_PERSISTENCE_DIR", self.home / ".openhands")

    def folder(self, variable: str, usual: Path) -> Path:
        """The folder that a variable names, else the usual one."""
        named = self.env.get(variable)
        return Path(named).expanduser().absolute() if named else usual

    def lacks(self, target: str, programs: tuple[str, ...], files: Files) -> bool:
        """Whether an agent that nobody chose is not on this machine: no program of it is, and no file."""
        there = any(text is not None for text in files.values()) or not self.programs.isdisjoint(programs)
        return target not in self.chosen and not there


@dataclass(frozen=True, slots=True)
class Edit:
    """One file of one target: the user's own text, what is in it now and what shall be; None is no file.

    `mode` is the file's own, from before we came; None where there was no file.
    """

    target: str
    agent: str
    path: Path
    name: str
    base_url: str
    mode: int | None
    before: str | None = field(repr=False)
    now: str | None = field(repr=False)
    after: str | None = field(repr=False)
    manner: Manner = Manner()

    @property
    def changes(self) -> bool:
        return self.now != self.after

    @property
    def narrows(self) -> bool:
        """Whether group or others could read the file, which they cannot while our key is in it."""
        return self.mode is not None and bool(self.mode & 0o077)


class Target(Protocol):
    """One agent's way of being configured; a module meets it with constants and functions."""

    @property
    def NAME(self) -> str:
        """The target's own name, a key of the registry: `openhands-profile`."""

    @property
    def AGENT(self) -> str:
        """The agent that reads these files: `openhands`."""

    @property
    def GENERATIONS(self) -> tuple[str, ...]:
        """The generations of the agent that do, for those who want one alone; the first is the one that new files are for."""

    @property
    def PROGRAMS(self) -> tuple[str, ...]:
        """The programs by which the agent is found on a machine, beside its files."""

    @property
    def IN_CONTAINERS(self) -> bool:
        """Whether the files can tell an agent in a container, to which loopback is the container itself."""

    def paths(self, place: Place, llm: LLMConfig) -> tuple[Path, ...]:
        """The files that `connect` reads and writes, in the order in which they are shown."""

    def refuses(self, llm: LLMConfig) -> str | None:
        """Why this agent would not load such a model, or None."""

    def leaves(self, files: Files, place: Place) -> str | None:
        """Why these files are left as they are, or None; "" if the agent is not on this machine, which nobody is told."""

    def connect(self, files: Files, place: Place, llm: LLMConfig) -> Files:
        """The files once the model is registered in them; raises LauncherError for a file that cannot be understood."""

    def disconnect(self, now: Files, before: Files, after: Files) -> Files:
        """`now` without what changed from `before` to `after`: exactly our own entries, even if others edited it since.

        Raises LauncherError for a file that cannot be understood any more.
        """

    def start_line(self, place: Place, llm: LLMConfig) -> str:
        """What a person types to start the agent with these files."""
