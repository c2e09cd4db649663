"""The profiles on this machine, by name: those that are shipped, and over them the user's own."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from launcher import atomic, profile
from launcher.errors import LauncherError
from launcher.profile import Profile

_HERE = Path(__file__).parent


def shipped() -> Path:
    """The folder of the profiles that come with the launcher: inside the wheel, or beside the package in a checkout."""
    inside = _HERE / "profiles"
    return inside if inside.is_dir() else _HERE.parent / "profiles"


def paths(folders: Sequence[Path]) -> Mapping[str, Path]:
    """The file of each profile, by name; a later folder's hides an earlier one's of the same name."""
    found = {path.stem: path for folder in folders for path in folder.glob("*.toml")}
    return {name: found[name] for name in sorted(found)}


def load(folders: Sequence[Path], name: str) -> Profile:
    """The profile called `name`; raises LauncherError with the closest names if there is none."""
    known = paths(folders)
    if name not in known:
        closest = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.4)
        hint = f"closest: {', '.join(closest)}" if closest else "`launcher models` lists those that are known"
        raise LauncherError(f"there is no model called {name!r}", hint=f"{hint}; or ORGANISATION/MODEL of the hub, or ./FOLDER")
    return read(known[name])


def read(path: Path) -> Profile:
    """The profile in a file; raises LauncherError for a file that cannot be read, or is faulty."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise LauncherError(f"cannot read {path}: {error.strerror}", hint="name the TOML file of a profile") from None
    except UnicodeDecodeError:
        raise LauncherError(f"{path} is not a text in UTF-8", hint="name the TOML file of a profile") from None
    return profile.parse(text, name=path.stem, where=str(path))


def add(folder: Path, name: str, text: str) -> Path:
    """A new profile in the user's folder; raises LauncherError for a faulty one, and if there is one of this name."""
    path = folder / f"{name}.toml"
    if path.exists():
        raise LauncherError(f"there is a profile {path} already", hint="edit that file, or remove it first")
    profile.parse(text, name=name, where=str(path))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    atomic.write(path, text)
    return path


def load_all(folders: Sequence[Path], *, faulty: Callable[[LauncherError], None] = lambda _: None) -> Mapping[str, Profile]:
    """Every sound profile, by name; one that a person is still writing hides no other, and is told to `faulty`."""
    found = {}
    for name, path in paths(folders).items():
        try:
            found[name] = read(path)
        except LauncherError as fault:
            faulty(fault)
    return found
