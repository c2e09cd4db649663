"""What fetching a model takes, before its first byte: which files, how much of them is missing, and whether there is room."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from launcher.errors import LauncherError
from launcher.weight_files import File, wanted


@dataclass(frozen=True, slots=True)
class Part:
    """A needed file, and how much of it lies in the cache: all of it, a beginning, or nothing. Bytes."""

    file: File
    there: int = 0

    @property
    def missing(self) -> int:
        return self.file.size - self.there


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """The files that serving a repository needs, at one commit of it. `code` is what an engine would run, if it were let."""

    repo: str
    commit: str
    parts: tuple[Part, ...]
    code: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """All of it."""
        return sum(part.file.size for part in self.parts)

    @property
    def missing(self) -> int:
        """What is to be fetched."""
        return sum(part.missing for part in self.parts)

    def json(self) -> dict[str, Any]:
        return asdict(self)


def read(plain: Mapping[str, Any]) -> FetchPlan:
    """The plan of what `json` made; raises KeyError or TypeError for anything else."""
    parts = tuple(Part(File(**part["file"]), part["there"]) for part in plain["parts"])
    return FetchPlan(plain["repo"], plain["commit"], parts, tuple(plain["code"]))


def plan(
    repo: str, commit: str, files: Iterable[File], there: Mapping[str, int], *, revision: str | None, code: bool = False
) -> FetchPlan:
    """Which of a repository's files are needed. `there` are the bytes that the cache has, by the names of contents.

    Raises LauncherError where nothing can be served.
    """
    by_path = {file.path: file for file in files}
    names = wanted(by_path, code=code)
    if not names:
        at = f" at {revision}" if revision else ""
        message = f"{repo}{at} holds no weights that an engine can load"
        raise LauncherError(message, hint="take a repository with .safetensors files")
    parts = tuple(Part(by_path[name], min(there.get(by_path[name].blob, 0), by_path[name].size)) for name in names)
    return FetchPlan(repo, commit, parts, tuple(sorted(name for name in by_path if name.endswith(".py"))))
