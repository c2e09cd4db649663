"""The profiles on this machine, by name."""

import difflib
from collections.abc import Mapping
from pathlib import Path

from launcher import profile
from launcher.errors import LauncherError
from launcher.profile import Profile

_HERE = Path(__file__).parent


def shipped() -> Path:
    """The folder of the profiles that come with the launcher: inside the wheel, or beside the package in a checkout."""
    inside = _HERE / "profiles"
    return inside if inside.is_dir() else _HERE.parent / "profiles"


def names(folder: Path) -> tuple[str, ...]:
    """The names that users may type."""
    return tuple(sorted(path.stem for path in folder.glob("*.toml")))


def load(folder: Path, name: str) -> Profile:
    """The profile called `name`; raises LauncherError with the closest names if there is none."""
    known = names(folder)
    if name not in known:
        closest = difflib.get_close_matches(name.lower().rpartition("/")[2], known, n=3, cutoff=0.4)
        hint = f"closest: {', '.join(closest)}" if closest else f"known: {', '.join(known)}"
        raise LauncherError(f"there is no model called {name!r}", hint=f"{hint}; `launcher models` lists all")
    path = folder / f"{name}.toml"
    return profile.parse(path.read_text(encoding="utf-8"), name=name, where=str(path))


def load_all(folder: Path) -> Mapping[str, Profile]:
    """Every profile, by name."""
    return {name: load(folder, name) for name in names(folder)}
