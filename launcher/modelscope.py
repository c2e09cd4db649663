"""The door to ModelScope, whose client is used where a person has installed it: as a process of the interpreter that has it."""

import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher import disk, fetching, promises, retrying
from launcher.child import Child, Log
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.profile_weights import ModelScopeWeights
from launcher.progress import Progress
from launcher.retrying import Break
from launcher.weight_files import wanted

SCRIPT = Path(__file__).with_name("modelscope_fetch.py")
# A script's first line, or the second of one whose interpreter's path is too long for the kernel.
_INTERPRETER = re.compile(rb"(?:#!|'''exec' )\"?([^\s\"]*python[\d.]*)\"?")


def client(env: Mapping[str, str]) -> str:
    """The interpreter that has ModelScope's client: our own, or that of the `modelscope` on PATH; raises LauncherError."""
    if env.get("HF_HUB_OFFLINE") == "1":
        raise LauncherError("ModelScope is not asked: what is not here is not fetched", hint="leave --offline out")
    if importlib.util.find_spec("modelscope_hub"):
        return sys.executable
    if program := shutil.which("modelscope", path=env.get("PATH")):
        lines = Path(program).read_bytes()[:4096].split(b"\n")[:2]
        for found in filter(None, map(_INTERPRETER.match, lines)):
            return found[1].decode()
        raise LauncherError(f"{program} does not say which Python runs it", hint="install it with pip, pipx or uv")
    hint = "`pipx install modelscope` or `uv tool install modelscope` brings it"
    raise LauncherError("ModelScope's client is not installed", hint=hint)


def files(weights: ModelScopeWeights, *, env: Mapping[str, str], cwd: Path) -> Mapping[str, Mapping[str, Any]]:
    """What the repository has, by path: `path`, `size` and what is `there` of it in bytes, `sha256`; raises LauncherError."""
    said, told = "", dict[str, Any]()
    with Child([client(env), "-I", SCRIPT, "files", weights.name], env=env, cwd=cwd) as child:
        for line in child.lines():
            said = line or said
            if line and line.startswith("{"):
                told = json.loads(line)
    if "error" in told:
        raise LauncherError(told["error"], hint=told["hint"])
    if "files" not in told:
        reason = told.get("away") or said or "it said nothing"
        raise LauncherError(f"ModelScope did not answer for {weights.name}: {reason}", hint="check the network and try again")
    return {each["path"]: each for each in told["files"]}


def fetch(
    home: Home,
    name: str,
    weights: ModelScopeWeights,
    *,
    log: Log,
    progress: Progress,
    env: Mapping[str, str],
    patience: float = retrying.PATIENCE,
) -> Mapping[str, Any]:
    """As `fetching.fetch`: `folder`, `commit` and `files` of what serving needs, in the client's cache; `name` is locked."""
    progress.update(f"asking ModelScope for {weights.name}")
    there = files(weights, env=env, cwd=home.weights)
    needed = [there[path] for path in wanted(there)]
    if not needed:
        message = f"{weights.name} holds no weights that an engine can load"
        raise LauncherError(message, hint="take a repository with .safetensors files")
    return _fetched(home, name, weights, needed, log=log, progress=progress, env=env, patience=patience)


def facts(
    home: Home, weights: ModelScopeWeights, names: tuple[str, ...], *, progress: Progress, env: Mapping[str, str]
) -> tuple[Path, dict[str, int]]:
    """A folder with those of these small files that the repository has, and the bytes of all of its files."""
    home.make().weights.mkdir(mode=0o700, exist_ok=True)
    there = files(weights, env=env, cwd=home.weights)
    small = [there[name] for name in names if name in there]
    with Log(home.logs / "modelscope.log") as log:
        told = _fetched(home, "modelscope", weights, small, log=log, progress=progress, env=env, patience=retrying.PATIENCE)
    return Path(told["folder"]), {path: each["size"] for path, each in there.items()}


def _fetched(
    home: Home,
    name: str,
    weights: ModelScopeWeights,
    needed: list[Mapping[str, Any]],
    *,
    log: Log,
    progress: Progress,
    env: Mapping[str, str],
    patience: float,
) -> Mapping[str, Any]:
    place = cache(env)
    missing = sum(each["size"] for each in needed if each["there"] != each["size"])
    free = disk.free_bytes(place) - promises.promised(home.weights, name, place)
    hint = "make room, or set MODELSCOPE_CACHE to a directory on a larger disk"
    disk.check(f"fetching {weights.repo}", needs=missing, free=max(0, free), path=place, hint=hint)
    argv: list[str | Path] = [client(env), "-I", SCRIPT, "fetch", json.dumps({"repo": weights.name, "files": needed})]
    breaks: list[Break] = []
    while True:
        attempt = fetching.Attempt(weights.repo, progress, patience)
        told = attempt.run(argv, env=env, cwd=home.weights, log=log)
        if told is not None:
            break
        breaks.append(attempt.how)
        fetching.again(weights.repo, breaks, env, progress)
    folder = Path(told["folder"])
    return {"folder": str(folder), "commit": "", "files": {each["path"]: _file(folder / each["path"], each) for each in needed}}


def _file(path: Path, told: Mapping[str, Any]) -> dict[str, object]:
    return {"size": told["size"], "blob": told["sha256"], "changed": path.stat().st_mtime_ns}


def cache(env: Mapping[str, str]) -> Path:
    """Where the client keeps repositories (modelscope_hub, config.py)."""
    return Path(env.get("MODELSCOPE_CACHE") or Path(env.get("HOME", "~")) / ".cache" / "modelscope").expanduser()
