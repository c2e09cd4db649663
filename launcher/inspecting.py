"""The door to another interpreter: what it has of engines, asked of itself in a process with a limit."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.child import Child
from launcher.engines.base import Engine
from launcher.errors import LauncherError
from launcher.progress import Progress
from launcher.release import Release

INSPECTION = Path(__file__).with_name("inspection.py")
# Not where the user stands: a `torch.py` there would be imported.
ROOT = Path("/")
# The first import of an engine, not byte-compiled, from a cold disk.
LONGEST = 300.0


@dataclass(frozen=True, slots=True)
class Found:
    """What an interpreter said: the versions of the packages that it has, its PyTorch, and what could not be imported.

    `fault` is "" where all could be.
    """

    packages: Mapping[str, str]
    torch: str
    cuda: tuple[int, int] | None
    archs: tuple[str, ...]
    fault: str

    def release(self, engine: Engine) -> Release:
        """The engine as it is there; its version is "" where it has none."""
        version = next((self.packages[name] for name in _packages(engine) if name in self.packages), "")
        return Release(version, self.torch, self.cuda, self.archs)


def inspect(
    python: Path,
    modules: Sequence[str],
    *,
    engines: Sequence[Engine] = (),
    env: Mapping[str, str],
    progress: Progress,
    limit: float = LONGEST,
) -> Found:
    """Let the interpreter tell of these engines and import these modules in turn.

    Raises LauncherError if it does not run, or not within `limit` seconds. No GPU is shown: what is asked is how it was built.
    """
    packages = [name for engine in engines for name in _packages(engine)]
    deadline = time.monotonic() + limit
    told: Any = None
    said = ""
    with Child(
        [python, "-c", INSPECTION.read_text(encoding="utf-8"), ",".join(packages), *modules], env=_environment(env), cwd=ROOT
    ) as child:
        for line in child.lines():
            progress.update(f"importing {' and '.join(modules)}" if modules else f"asking {python}")
            if line is None and time.monotonic() > deadline:
                raise LauncherError(f"{python} did not import {modules[-1]} in {limit:.0f} s", hint="look at what keeps it")
            if line:
                said, told = line, _object(line) or told
        status = child.wait()
    if told is None:
        reason = said or f"it ended with status {status}"
        raise LauncherError(f"{python} does not work: {reason}", hint="name the interpreter of an environment with an engine")
    return _found(told)


def _packages(engine: Engine) -> tuple[str, ...]:
    """The packages that hold the engine: a community's CPU build may have a name of its own."""
    return tuple(dict.fromkeys(names[0] for names in engine.REQUIREMENTS.values() if names))


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    """As an engine is started: without what is meant for our own interpreter."""
    kept = {key: value for key, value in env.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "LAUNCHER_"))}
    return {
        **kept,
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }


def _object(line: str) -> Any:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and "packages" in value else None


def _found(told: Mapping[str, Any]) -> Found:
    cuda = re.fullmatch(r"(\d+)\.(\d+).*", told["cuda"])
    return Found(
        packages=dict(told["packages"]),
        torch=told["torch"],
        cuda=(int(cuda[1]), int(cuda[2])) if cuda else None,
        archs=tuple(told["archs"]),
        fault=told["fault"],
    )
