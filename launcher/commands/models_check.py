"""`launcher models check`: whether the file of a profile is sound."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import catalogue
from launcher.profile import Profile

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A file that is sound; a faulty one is an error."""

    path: Path
    profile: Profile
    exit_code: int = 0

    def json(self) -> object:
        variants = [variant.name for variant in self.profile.variants]
        return {"file": str(self.path), "sound": True, "name": self.profile.name, "variants": variants}

    def text(self) -> "RenderableType":
        return f"{self.path} is sound: {self.profile.name}, {', '.join(variant.name for variant in self.profile.variants)}"


def run(path: Path) -> CheckResult:
    """Read the file as the launcher does; raises LauncherError that tells all its faults."""
    return CheckResult(path, catalogue.read(path))
