"""The state on disk: what is wanted, what was seen, the port that was chosen. Writes are atomic; `lock` orders the writers."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from launcher import atomic
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.runners.base import Handle
from launcher.server import Server, ServerSpec

VERSION = 1


def want(home: Home, spec: ServerSpec) -> None:
    """Note that a person wants this served: what survives the server itself."""
    _write(home.state / "wanted" / f"{spec.model}.json", asdict(spec))


def unwant(home: Home, name: str) -> None:
    """Forget that `name` was wanted."""
    (home.state / "wanted" / f"{name}.json").unlink(missing_ok=True)


def wanted(home: Home) -> tuple[str, ...]:
    """The names of the models that are wanted."""
    return tuple(path.stem for path in sorted((home.state / "wanted").glob("*.json")))


def see(home: Home, server: Server) -> None:
    """Record what was seen of a server."""
    _write(home.state / "seen" / f"{server.name}.json", _plain(server))


def seen(home: Home) -> tuple[Server, ...]:
    """All servers that were ever seen, in the order of their names."""
    return tuple(_server(path) for path in sorted((home.state / "seen").glob("*.json")))


def port(home: Home) -> int | None:
    """The port that agents were told, once one was chosen."""
    path = home.state / "port.json"
    return int(_read(path)["port"]) if path.exists() else None


def keep_port(home: Home, number: int) -> None:
    """Keep this port for all servers to come."""
    _write(home.state / "port.json", {"port": number})


def _plain(server: Server) -> dict[str, Any]:
    plain = asdict(server)
    plain["log"] = str(server.log)
    if server.handle:
        plain["handle"]["environment"] = str(server.handle.environment)
    return plain


def _server(path: Path) -> Server:
    plain = _read(path)
    handle = plain["handle"]
    return Server(
        spec=ServerSpec(**{**plain["spec"], "gpus": tuple(plain["spec"]["gpus"])}),
        engine=plain["engine"],
        variant=plain["variant"],
        state=plain["state"],
        context=plain["context"],
        base_url=plain["base_url"],
        log=Path(plain["log"]),
        since=plain["since"],
        handle=Handle(**{**handle, "environment": Path(handle["environment"])}) if handle else None,
        detail=plain["detail"],
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise LauncherError(
            f"cannot read the state in {path}: {error}", hint="remove that file; `launcher up` makes it anew"
        ) from None
    if content.pop("version", None) != VERSION:
        raise LauncherError(f"{path} is of another version of the launcher", hint="use that version, or remove the file")
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    atomic.write(path, json.dumps({"version": VERSION, **content}, indent=1) + "\n")
