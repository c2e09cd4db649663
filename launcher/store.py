"""The state on disk: what is wanted, what was seen, the port that was chosen. Writes are atomic; `lock` orders the writers."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from launcher import atomic
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.runners.base import Handle
from launcher.server import Server, ServerSpec

VERSION = 1
_PORTS = 1 << 16


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
    """All servers that were ever seen, in the order of their names; raises LauncherError for a damaged record."""
    servers, damaged = look(home)
    if damaged:
        raise damaged[0]
    return servers


def look(home: Home) -> tuple[tuple[Server, ...], tuple[LauncherError, ...]]:
    """The servers whose records can be read, and what is wrong with the others."""
    servers, damaged = [], []
    for path in sorted((home.state / "seen").glob("*.json")):
        try:
            servers.append(_server(path))
        except LauncherError as fault:
            damaged.append(fault)
    return tuple(servers), tuple(damaged)


def port(home: Home) -> int | None:
    """The port that agents were told, once one was chosen."""
    path = home.state / "port.json"
    if not path.exists():
        return None
    number = _read(path).get("port")
    if not isinstance(number, int) or not 0 < number < _PORTS:
        raise _damaged(path, "it holds no port")
    return number


def keep_port(home: Home, number: int) -> None:
    """Keep this port for all servers to come."""
    _write(home.state / "port.json", {"port": number})


def chosen(home: Home) -> Mapping[str, str]:
    """The environments that a person chose: the engine and build (`vllm-cuda`) -> the name."""
    path = home.state / "engines.json"
    if not path.exists():
        return {}
    names = _read(path).get("chosen")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise _damaged(path, "it holds no names")
    return names


def choose(home: Home, serves: str, name: str | None) -> None:
    """Keep this choice for an engine and build (`vllm-cuda`); None forgets it."""
    kept = {key: value for key, value in chosen(home).items() if key != serves}
    _write(home.state / "engines.json", {"chosen": {**kept, **({serves: name} if name else {})}})


def _plain(server: Server) -> dict[str, Any]:
    plain = asdict(server)
    plain["log"] = str(server.log)
    if server.handle:
        plain["handle"]["environment"] = str(server.handle.environment)
    return plain


def _server(path: Path) -> Server:
    plain = _read(path)
    try:
        handle = plain["handle"]
        return Server(
            spec=_spec(plain["spec"]),
            engine=plain["engine"],
            variant=plain["variant"],
            state=plain["state"],
            context=plain["context"],
            base_url=plain["base_url"],
            log=Path(plain["log"]),
            since=plain["since"],
            gpus=tuple(plain["gpus"]),
            tensor=plain["tensor"],
            pipeline=plain["pipeline"],
            kv_dtype=plain["kv_dtype"],
            speculative=plain.get("speculative", False),
            claim=plain["claim"],
            handle=Handle(**{**handle, "environment": Path(handle["environment"])}) if handle else None,
            detail=plain["detail"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, f"{type(error).__name__} {error}") from None


def _spec(plain: dict[str, Any]) -> ServerSpec:
    return ServerSpec(**{**plain, "gpus": tuple(plain["gpus"]), "engine_args": tuple(plain.get("engine_args", ()))})


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise LauncherError(f"cannot read {path}: {error.strerror}", hint="mend its permissions") from None
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(content, dict) or content.pop("version", None) != VERSION:
        raise _damaged(path, f"it is not of version {VERSION}")
    return content


def _damaged(path: Path, reason: str) -> LauncherError:
    # Not simply "remove it": it may be all that leads to a running engine.
    hint = "see with `ps aux` that no engine of that model runs, then remove that file"
    return LauncherError(f"the record {path} is damaged: {reason}", hint=hint)


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic.write(path, json.dumps({"version": VERSION, **content}, indent=1) + "\n")
    except OSError as error:
        hint = "make room on the disk, or mend the permissions of that folder"
        raise LauncherError(f"cannot write {path}: {error.strerror}", hint=hint) from None
