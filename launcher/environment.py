"""What an installed engine is, as the marker in its folder says. Values only."""

import json
from dataclasses import dataclass
from pathlib import Path

from launcher.release import Release

# A folder without it is not whole: it is written last.
MARKER = ".made-from"
VERSION = 1


UNKNOWN = Release("")


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment on the disk; `broken` says why it cannot be used, "" where it can.

    `accelerator` is `cpu` or `cuda`. `made_from` is the hash of its lock, "" for one that was adopted. `made` in seconds since
    the epoch; `size` in bytes as it was when it was made. An adopted one is somebody else's: never changed and never deleted.
    One in docker is an `image`, by the digest that was pulled (else its id); `tag` is what it was asked for as, `daemon` the
    address of the docker that has it. It has no interpreter here.
    """

    name: str
    path: Path
    python: Path
    engine: str = ""
    accelerator: str = ""
    release: Release = UNKNOWN
    made_from: str = ""
    made: float = 0.0
    size: int = 0
    broken: str = ""
    adopted: bool = False
    image: str = ""
    tag: str = ""
    daemon: str = ""


def own_python(path: Path) -> Path:
    """The interpreter of an environment that was made here."""
    return path / "bin" / "python"


def marker(environment: Environment) -> str:
    """The text of the marker."""
    release = environment.release
    content = {
        "version": VERSION,
        "engine": environment.engine,
        "engine_version": release.version,
        "accelerator": environment.accelerator,
        "torch": release.torch,
        "cuda": release.cuda,
        "archs": release.archs,
        "made_from": environment.made_from,
        "made": environment.made,
        "size": environment.size,
        # Elsewhere only for an adopted one: what was made here is moved to its place when it is whole.
        "python": str(environment.python) if environment.adopted and not environment.image else "",
        "adopted": environment.adopted,
        "image": environment.image,
        "tag": environment.tag,
        "daemon": environment.daemon,
    }
    return json.dumps(content, indent=1) + "\n"


def parse(text: str, path: Path) -> Environment:
    """The environment whose marker lies in `path`; raises ValueError for a text that is no marker of this version."""
    try:
        content = json.loads(text)
        if content["version"] != VERSION:
            message = f"it is not of version {VERSION}"
            raise ValueError(message)
        cuda = content["cuda"]
        return Environment(
            name=path.name,
            path=path,
            python=Path(content["python"]) if content["python"] else own_python(path),
            engine=content["engine"],
            accelerator=content["accelerator"],
            release=Release(
                version=content["engine_version"],
                torch=content["torch"],
                cuda=(int(cuda[0]), int(cuda[1])) if cuda else None,
                archs=tuple(content["archs"]),
            ),
            made_from=content["made_from"],
            made=float(content["made"]),
            size=int(content["size"]),
            # Earlier launchers adopted interpreters alone, and wrote none of these.
            adopted=bool(content.get("adopted", content["python"])),
            image=content.get("image", ""),
            tag=content.get("tag", ""),
            daemon=content.get("daemon", ""),
        )
    except (KeyError, TypeError, IndexError) as error:
        message = f"{type(error).__name__} {error}"
        raise ValueError(message) from None
