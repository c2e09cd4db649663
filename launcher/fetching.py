"""Has the hub's process fetch a repository, watches that bytes come, and tries again where they do not."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from launcher import pace, promises, retrying
from launcher.child import Child, Log
from launcher.disk import gigabytes
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.pace import Seen
from launcher.profile_weights import HubWeights
from launcher.progress import Progress
from launcher.retrying import Break

QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
# How often who waits says so (seconds): it must be possible to end it.
_TURN = 0.2
_NO_XET = "HF_HUB_DISABLE_XET"


def fetch(
    home: Home,
    name: str,
    weights: HubWeights,
    *,
    vouched: Mapping[str, Sequence[int]],
    log: Log,
    progress: Progress,
    env: Mapping[str, str],
    patience: float = retrying.PATIENCE,
) -> Mapping[str, Any]:
    """What the hub's process told at its end: `folder`, `commit`, `files`; `unchecked` where the hub could not be asked.

    The lock on `name` is held. Raises LauncherError with what cannot be helped by trying again.
    """
    progress.update(f"asking the hub for {weights.repo}")
    request = _request(home, name, weights, vouched)
    breaks: list[Break] = []
    env = {**env, **QUIET}
    begun = False
    try:
        while True:
            attempt = Attempt(weights.repo, progress, patience)
            words = _argv("fetch", json.dumps({"request": request, "begun": begun}))
            told = attempt.run(words, env=env, cwd=home.weights, log=log)
            if told is not None:
                return told
            begun = begun or attempt.planned
            if attempt.commit:
                # What was begun is ended: a repository that changes meanwhile must not give a mixture.
                request["revision"] = request["revision"] or attempt.commit
            breaks.append(attempt.how)
            env = again(weights.repo, breaks, env, progress)
    finally:
        promises.keep(home.weights, name)


def plan(home: Home, name: str, weights: HubWeights, *, log: Log, env: Mapping[str, str]) -> Mapping[str, Any]:
    """What fetching would take: `plan` or, where the hub cannot be asked and the cache has all of it, as `fetch` tells."""
    words = json.dumps({"request": _request(home, name, weights, {}), "begun": False})
    told: dict[str, Any] = {}
    with Child(_argv("plan", words), env={**env, **QUIET}, cwd=home.weights, errors=log.file) as child:
        for line in child.lines():
            told = json.loads(line) if line and line.startswith("{") else told
    return _outcome(told, log, weights.repo)


def remove(repo: str, *, env: Mapping[str, str], cwd: Path) -> None:
    """Take a repository out of the hub's cache, as its own client does: contents that other repositories share stay."""
    with Child(_argv("remove", repo), env={**env, **QUIET}, cwd=cwd) as child:
        for _ in child.lines():
            pass


def _request(home: Home, name: str, weights: HubWeights, vouched: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    return {
        "repo": weights.repo,
        "revision": weights.revision,
        "folder": str(home.weights),
        "name": name,
        "code": bool(weights.code),
        "vouched": {blob: list(stamp) for blob, stamp in vouched.items()},
    }


def _argv(*words: str) -> list[str | Path]:
    # Never the folder where the user stands: a file there must not be taken for a module.
    return [sys.executable, "-P", "-m", "launcher.hub", *words]


def _outcome(told: Mapping[str, Any], log: Log, repo: str) -> Mapping[str, Any]:
    if "error" in told:
        raise LauncherError(told["error"], hint=told["hint"])
    if "folder" not in told and "plan" not in told:
        raise LauncherError(f"fetching {repo} failed: {last_line(log)}", hint=f"the whole output is in {log.path}")
    return told


def last_line(log: Log) -> str:
    """What a program said last that is not empty."""
    lines = log.path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def again(repo: str, breaks: Sequence[Break], env: Mapping[str, str], progress: Progress) -> dict[str, str]:
    """Wait for the next try; its environment. Raises LauncherError where there is none."""
    last, step = breaks[-1], retrying.after(breaks)
    if step is None:
        message = f"the hub went away while {repo} was fetched: {last.reason}, {len(breaks)} times"
        raise LauncherError(message, hint="check the network and try again: what is there is kept")
    by = ", without Xet" if step.turned else ""
    progress.say(f"fetching {repo}: {last.reason}; it goes on in {step.wait:.0f} s{by}")
    until = time.monotonic() + step.wait
    while (rest := until - time.monotonic()) > 0:
        progress.update(f"fetching {repo}: waiting to try again")
        time.sleep(min(_TURN, rest))
    return {**env, **({} if step.xet else {_NO_XET: "1"} if last.xet else {})}


class Attempt:
    """One run of a hub's process: what it told, and how it broke off."""

    def __init__(self, repo: str, progress: Progress, patience: float) -> None:
        self._repo = repo
        self._progress = progress
        self._patience = patience
        self._counters: Mapping[str, Any] = {}
        self._moved = time.monotonic()
        self._reason = ""
        self._stalled = False
        self.planned = False
        self.commit = ""

    @property
    def how(self) -> Break:
        moved = self._counters.get("received", 0) > 0
        return Break(self._reason, moved=moved, xet=self._counters.get("xet", False), stalled=self._stalled)

    def run(self, argv: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path, log: Log) -> Mapping[str, Any] | None:
        """The outcome; None where it broke off. Raises LauncherError."""
        told: Mapping[str, Any] = {}
        with _Rows(self._repo, self._progress) as rows, Child(argv, env=env, cwd=cwd, errors=log.file) as child:
            for line in child.lines():
                if line and line.startswith("{"):
                    told = self._take(json.loads(line), rows) or told
                if time.monotonic() - self._moved > self._patience:
                    self._stalled, self._reason = True, f"no byte came for {self._patience:.0f} s"
                    return None
                rows.turn()
        if "away" in told:
            self._reason = f"the hub went away ({told['away']})"
            return None
        return _outcome(told, log, self._repo)

    def _take(self, told: Mapping[str, Any], rows: "_Rows") -> Mapping[str, Any] | None:
        """Note a line; the outcome, if it was that."""
        if "what" in told:
            if _movement(told) != _movement(self._counters):
                self._moved = time.monotonic()
            self._counters = told
            rows.show(told)
        elif "plan" in told:
            self.planned, self.commit = True, told["plan"]["commit"]
            self._moved = time.monotonic()
        elif "say" in told:
            self._progress.say(told["say"])
        else:
            return told
        return None


def _movement(counters: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(counters.get(name) for name in ("what", "done", "received", "waited"))


class _Rows:
    """A line for all, and one for each file that moves."""

    def __init__(self, repo: str, progress: Progress) -> None:
        self._repo = repo
        self._progress = progress
        self._files: dict[str, _File] = {}
        self._seen: tuple[Seen, ...] = ()
        self._last: tuple[str, int, int, float | None] = (f"asking the hub for {repo}", 0, 0, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for row in self._files.values():
            row.close()

    def turn(self) -> None:
        """Say it again: who watches may want to end the work."""
        text, done, total, left = self._last
        self._progress.update(text, done, total, left=left)

    def show(self, told: Mapping[str, Any]) -> None:
        now, done, total = time.monotonic(), told["done"], told["total"]
        self._seen = pace.recent(self._seen, (now, done))
        left = pace.left(total - done, pace.rate(self._seen))
        self._last = (f"{told['what']} {self._repo}: {_speed(self._seen, done, total)}", done, total, left)
        for path, (count, size) in told["files"].items():
            if path not in self._files:
                self._files[path] = _File(path, size, self._progress)
            self._files[path].show(now, count)
        for path in self._files.keys() - told["files"].keys():
            self._files.pop(path).finish()


class _File:
    """The line of one file."""

    def __init__(self, path: str, size: int, progress: Progress) -> None:
        self._path, self._size = path, size
        self._seen: tuple[Seen, ...] = ()
        self._open = ExitStack()
        self._row = self._open.enter_context(progress.part(path))

    def show(self, now: float, done: int) -> None:
        self._seen = pace.recent(self._seen, (now, done))
        left = pace.left(self._size - done, pace.rate(self._seen))
        self._row.update(f"{self._path}: {_speed(self._seen, done, self._size)}", done, self._size, left=left)

    def finish(self) -> None:
        self._row.update(f"{self._path}: {gigabytes(self._size)}", self._size, self._size)
        self.close()

    def close(self) -> None:
        self._open.close()


def _speed(seen: Sequence[Seen], done: int, total: int) -> str:
    rate = pace.rate(seen)
    return f"{gigabytes(done)} of {gigabytes(total)}" + (f", {gigabytes(round(rate))}/s" if rate else "")
