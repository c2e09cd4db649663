"""Gets the facts of a model that no profile describes: from the hub, through its own client's cache, or from a folder."""

import datetime as dt
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher import hub, local_model, modelscope, weights_record
from launcher.child import Child
from launcher.derive import Facts
from launcher.errors import LauncherError
from launcher.fetching import QUIET
from launcher.home import Home
from launcher.profile_weights import Found, HubWeights, LocalWeights, ModelScopeWeights
from launcher.progress import Progress
from launcher.weight_files import modules, shards


def read(weights: Found, *, home: Home, progress: Progress, env: Mapping[str, str]) -> Facts:
    """What the small files tell; raises LauncherError for what cannot be found or read."""
    today = dt.datetime.now(tz=dt.UTC).date()
    if isinstance(weights, LocalWeights):
        _refuse_no_folder(weights.path)
        try:
            return Facts(weights, _texts(weights.path), local_model.sizes(weights.path), today)
        except OSError as error:
            raise LauncherError(f"cannot read {error.filename}: {error.strerror}", hint="check its permissions") from None
    if isinstance(weights, ModelScopeWeights):
        return _at_modelscope(weights, home, today, progress, env)
    progress.phase("model")
    progress.update(f"asking the hub about {weights.repo}")
    told = _ask(weights, env)
    return Facts(weights, _texts(Path(told["folder"])), told["sizes"], today, commit=told["commit"], code=tuple(told["code"]))


def _at_modelscope(weights: ModelScopeWeights, home: Home, today: dt.date, progress: Progress, env: Mapping[str, str]) -> Facts:
    """What is on the disk whole tells it without asking anybody."""
    found = weights_record.find(home, weights)
    if found and not found.faulty():
        return Facts(weights, _texts(found.folder), local_model.sizes(found.folder), today)
    progress.phase("model")
    progress.update(f"asking ModelScope about {weights.name}")
    folder, sizes = modelscope.facts(home, weights, hub.FACTS, progress=progress, env=env)
    return Facts(weights, _texts(folder), {name: sizes[name] for name in shards(sizes)}, today, code=tuple(modules(sizes)))


def _refuse_no_folder(path: Path) -> None:
    if not path.is_dir():
        reason = "is a file, not the folder of a model" if path.exists() else "does not exist"
        raise LauncherError(f"{path} {reason}", hint="name a folder with config.json and .safetensors files")


def _ask(weights: HubWeights, env: Mapping[str, str]) -> Mapping[str, Any]:
    """What the client's process tells last; it runs where no file of the user's can be taken for a module."""
    argv = [sys.executable, "-P", "-m", "launcher.hub", "facts", weights.repo, weights.revision or ""]
    said, outcome = "", dict[str, Any]()
    with Child(argv, env={**env, **QUIET}, cwd=Path("/")) as child:
        for line in child.lines():
            said = line or said
            if line and line.startswith("{"):
                outcome = json.loads(line)
    if "error" in outcome:
        raise LauncherError(outcome["error"], hint=outcome["hint"])
    if "away" in outcome or "folder" not in outcome:
        reason = outcome.get("away") or said or "it said nothing"
        raise LauncherError(f"asking the hub about {weights.repo} failed: {reason}", hint="try again")
    return outcome


def _texts(folder: Path) -> dict[str, str]:
    # What is no UTF-8 is no JSON either: the parser tells that better.
    present = [name for name in hub.FACTS if (folder / name).is_file()]
    return {name: (folder / name).read_text(encoding="utf-8", errors="replace") for name in present}
