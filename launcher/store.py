"""The state on disk: what is wanted, what was seen, the port that was chosen. Writes are atomic; `lock` orders the writers."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from launcher import atomic, carrying, ports
from launcher.endpoint import Window, base_url
from launcher.errors import LauncherError
from launcher.exposure import Exposure, Opening
from launcher.home import Home
from launcher.prepared import Prepared
from launcher.runners.base import Handle
from launcher.server import REPLICA, Server, ServerSpec, Swapped, Wanted
from launcher.swap import SEATS

_PORTS = 1 << 16


def want(home: Home, wanted: Wanted) -> None:
    """Note that a person wants this served: what survives the server itself."""
    _write(_wanted(home, wanted.name), _plain_wish(wanted))


def unwant(home: Home, name: str) -> None:
    """Forget that `name` was wanted."""
    _wanted(home, name).unlink(missing_ok=True)


def wanted(home: Home) -> tuple[Wanted, ...]:
    """What is wanted, in the order of the names; raises LauncherError for a damaged record."""
    wanted, damaged = wishes(home)
    for fault in damaged.values():
        raise fault
    return wanted


def wishes(home: Home) -> tuple[tuple[Wanted, ...], Mapping[str, LauncherError]]:
    """What is wanted, and by name what is wrong with the records that cannot be read."""
    wanted, damaged = [], {}
    for path in sorted(_wanted(home, "").parent.glob("*.json")):
        try:
            wanted.append(_want(path))
        except LauncherError as fault:
            damaged[path.stem] = fault
    return tuple(wanted), damaged


def wishes_changed(home: Home) -> int:
    """A number that is another one after each change of what is wanted: cheap to ask."""
    return changed(_wanted(home, "").parent)


def changed(folder: Path) -> int:
    """When something was last added to a folder or removed from it, in nanoseconds; 0 where there is none."""
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def see(home: Home, server: Server) -> None:
    """Record what was seen of a server."""
    _write(home.state / "seen" / f"{server.key}.json", _plain(server))


def forget(home: Home, key: str) -> None:
    """Take a record away that tells nothing any more."""
    (home.state / "seen" / f"{key}.json").unlink(missing_ok=True)


def seen(home: Home) -> tuple[Server, ...]:
    """All servers that were ever seen, in the order of their names; raises LauncherError for a damaged record."""
    servers, damaged = look(home)
    if damaged:
        raise damaged[0]
    return servers


def find(home: Home, name: str) -> Server | None:
    """What was last seen of this one, None if it never was; raises LauncherError for a damaged record."""
    found = _of(home, name)
    return max(found, key=lambda server: (server.state == "ready", server.since)) if found else None


def started(home: Home, want: Wanted) -> Server | None:
    """What was last seen of the server of this wish; raises LauncherError for a damaged record.

    Of several replicas it is the first that is not ready: None while one of them was not begun, though the others are.
    """
    found = every(home, want)
    late = next((server for server in found if server.state != "ready"), None)
    whole = len(found) >= (want.spec.replicas or 1)
    return late or (found[0] if found and whole else None)


def every(home: Home, want: Wanted) -> tuple[Server, ...]:
    """The servers of this wish, the first replica first; raises LauncherError for a damaged record."""
    return tuple(server for server in _of(home, want.name) if server.ask == want.ask)


def named(home: Home, name: str) -> Server | None:
    """The server that a person means: a replica by its record's name, of a model in two seats the one that runs, or was last.

    Raises LauncherError for a damaged record.
    """
    servers = seen(home)
    replica = next((each for each in servers if each.key == name and REPLICA in each.seat), None)
    of_model = [each for each in servers if each.name == name]
    first = next((each for each in of_model if each.replica == 1), None)
    return replica or first or max(of_model, key=lambda server: (server.handle is not None, server.since), default=None)


def window(home: Home, server: Server) -> int:
    """The tokens of context that agents are told: what all replicas have that serve beside this one."""
    beside = [each for each in _of(home, server.name) if each.ask == server.ask and each.state == "ready"]
    return min(each.context for each in (server, *beside))


def _of(home: Home, name: str) -> list[Server]:
    folder = home.state / "seen"
    replicas = sorted(folder.glob(f"{name}{REPLICA}*.json"))
    found = [_if_there(path) for path in (*(folder / f"{name}{seat}.json" for seat in SEATS), *replicas)]
    return [server for server in found if server]


def _if_there(path: Path) -> Server | None:
    """A server's record; None too for one that is forgotten in this moment."""
    try:
        return _server(path) if path.exists() else None
    except LauncherError:
        if path.exists():
            raise
        return None


def look(home: Home) -> tuple[tuple[Server, ...], tuple[LauncherError, ...]]:
    """The servers whose records can be read, and what is wrong with the others."""
    servers, damaged = [], []
    for path in sorted((home.state / "seen").glob("*.json")):
        try:
            found = _if_there(path)
        except LauncherError as fault:
            damaged.append(fault)
        else:
            servers += [found] if found else []
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


def address(home: Home) -> str:
    """The base URL that agents are given, for ever: the gateway's."""
    return base_url(ports.LOOPBACK, port(home) or ports.FIRST)


def forget_port(home: Home) -> None:
    """No port was chosen after all."""
    (home.state / "port.json").unlink(missing_ok=True)


def listening(home: Home) -> tuple[int, str]:
    """The port that the gateway listens on, 0 for none, and what keeps it from the one that was chosen."""
    path = home.state / "listening.json"
    if not path.exists():
        return 0, ""
    content = _read(path)
    return int(content.get("port", 0)), str(content.get("fault", ""))


def listener(home: Home) -> int:
    """The process of the gateway that said last where it listens, 0 if none did."""
    path = home.state / "listening.json"
    return int(_read(path).get("pid", 0)) if path.exists() else 0


def keep_listening(home: Home, number: int, fault: str, openings: Sequence[Opening] = ()) -> None:
    """Tell where the gateway of this process listens: on loopback's port, and beyond it."""
    told = [asdict(opening) for opening in openings]
    _write(home.state / "listening.json", {"port": number, "fault": fault, "pid": os.getpid(), "openings": told})


def openings(home: Home) -> tuple[Opening, ...]:
    """Where the gateway said last that it listens beyond loopback, or why it does not."""
    path = home.state / "listening.json"
    try:
        return tuple(Opening(**each) for each in (_read(path).get("openings", []) if path.exists() else []))
    except TypeError as error:
        raise _damaged(path, str(error)) from None


def exposure(home: Home) -> Exposure:
    """What is wished beyond loopback; nothing, where nothing was."""
    path = home.exposure
    if not path.exists():
        return Exposure()
    plain = _read(path)
    try:
        return Exposure(
            hosts=tuple(plain["hosts"]),
            docker=plain["docker"],
            names=tuple(plain["names"]),
            tls=tuple(Path(each) for each in plain["tls"]),
            origins=tuple(plain["origins"]),
        )
    except (KeyError, TypeError) as error:
        raise _damaged(path, f"{type(error).__name__} {error}") from None


def expose(home: Home, exposure: Exposure) -> None:
    """Keep what is wished beyond loopback, for all starts to come."""
    _write(home.exposure, {**asdict(exposure), "tls": [str(path) for path in exposure.tls]})


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


def aliases(home: Home) -> Mapping[str, str]:
    """Other names that were given to models: the alias -> the model."""
    path = home.state / "aliases.json"
    if not path.exists():
        return {}
    names = _read(path).get("aliases")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise _damaged(path, "it holds no names")
    return names


def keep_aliases(home: Home, names: Mapping[str, str]) -> None:
    """Keep these other names of models."""
    _write(home.state / "aliases.json", {"aliases": dict(names)})


def remotes(home: Home) -> Mapping[str, Window]:
    """Providers' models that are served under their own names, with what each takes."""
    path = home.state / "remotes.json"
    if not path.exists():
        return {}
    try:
        return {name: Window(**plain) for name, plain in _read(path)["remotes"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, f"{type(error).__name__} {error}") from None


def keep_remotes(home: Home, served: Mapping[str, Window]) -> None:
    """Serve these from now on."""
    _write(home.state / "remotes.json", {"remotes": {name: asdict(window) for name, window in served.items()}})


def _plain_wish(wanted: Wanted) -> dict[str, Any]:
    plain = asdict(wanted)
    for each in filter(None, (plain, plain["back"])):
        each["prepared"] = {key: str(value) for key, value in each["prepared"].items()}
    return plain


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
            speculative=plain["speculative"],
            claim=plain["claim"],
            handle=Handle(**{**handle, "environment": Path(handle["environment"])}) if handle else None,
            detail=plain["detail"],
            hint=plain["hint"],
            ask=plain["ask"],
            restarts=plain["restarts"],
            again=plain["again"],
            phase=plain["phase"],
            share=plain["share"],
            left=plain["left"],
            members=tuple((pid, started) for pid, started in plain["members"]),
            shared=tuple(plain["shared"]),
            answer=plain["answer"],
            seconds=plain["seconds"],
            shrunk=plain["shrunk"],
            notes=tuple(plain["notes"]),
            tools=plain["tools"],
            seat=plain["seat"],
            proven=plain["proven"],
            swapped=Swapped(**plain["swapped"]) if plain["swapped"] else None,
            turned=plain["turned"],
            slept=plain["slept"],
            rested=plain.get("rested", False),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, f"{type(error).__name__} {error}") from None


def _want(path: Path) -> Wanted:
    plain = _read(path)
    try:
        return _wish(plain)
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, f"{type(error).__name__} {error}") from None


def _wish(plain: dict[str, Any]) -> Wanted:
    return Wanted(
        spec=_spec(plain["spec"]),
        ask=plain["ask"],
        planned=_spec(plain["planned"]),
        prepared=_prepared(plain["prepared"]),
        env=plain["env"],
        spare=plain["spare"],
        idle_stop=plain["idle_stop"],
        keep=plain["keep"],
        back=_wish(plain["back"]) if plain["back"] else None,
        turn=plain["turn"],
        fallback=plain.get("fallback", ""),
    )


def _prepared(plain: dict[str, str]) -> Prepared:
    environment, python, weights, caches = (Path(plain[key]) for key in ("environment", "python", "weights", "caches"))
    # Later than version 3, and "" where nobody wrote them.
    later = {key: plain.get(key, "") for key in ("pinned", "image", "daemon")}
    return Prepared(environment, python, weights, caches, version=plain["version"], **later)


def _spec(plain: dict[str, Any]) -> ServerSpec:
    return ServerSpec(**{**plain, "gpus": tuple(plain["gpus"]), "engine_args": tuple(plain["engine_args"])})


def _wanted(home: Home, name: str) -> Path:
    return home.state / "wanted" / f"{name}.json"


def _read(path: Path) -> dict[str, Any]:
    """The content of a record, carried forward if an earlier launcher wrote it."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise LauncherError(f"cannot read {path}: {error.strerror}", hint="mend its permissions") from None
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    version = content.pop("version", None) if isinstance(content, dict) else None
    if not isinstance(version, int) or version < 1:
        raise _damaged(path, "it tells no version")
    if version > carrying.VERSION:
        hint = "run the newer launcher, or set LAUNCHER_HOME to another directory for this one"
        raise LauncherError(
            f"a newer launcher wrote {path} (version {version}, and this one knows {carrying.VERSION})", hint=hint
        )
    try:
        return carrying.forward(path.parent.name, content, version)
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, f"{type(error).__name__} {error}") from None


def _damaged(path: Path, reason: str) -> LauncherError:
    # Not simply "remove it": it may be all that leads to a running engine.
    hint = "see with `ps aux` that no engine of that model runs, then remove that file"
    return LauncherError(f"the record {path} is damaged: {reason}", hint=hint)


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic.write(path, json.dumps({"version": carrying.VERSION, **content}, indent=1) + "\n")
    except OSError as error:
        hint = "make room on the disk, or mend the permissions of that folder"
        raise LauncherError(f"cannot write {path}: {error.strerror}", hint=hint) from None
