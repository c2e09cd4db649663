"""Run by the interpreter that has ModelScope's client, never imported: asks it and tells lines of JSON, as `launcher.hub` does.

`files REPOSITORY` lists what a repository has, `fetch REQUEST` brings some of it into the client's own cache, which other
programs share. The client continues what broke off and checks each file's SHA-256.
"""

from __future__ import annotations  # that interpreter may be older than ours

import json
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

# How often it tells how far it is (seconds).
_TURN = 0.2
_OLD = "ModelScope's client is too old: it has no modelscope_hub"


def main(verb: str, word: str) -> int:
    """Do what was asked, and tell the outcome last."""
    try:
        from modelscope_hub import HubApi, errors  # type: ignore[import-not-found]  # that interpreter has it
    except ImportError:
        return _tell({"error": _OLD, "hint": "`pip install -U modelscope` where it is installed"})
    request: dict[str, Any] = {"repo": word} if verb == "files" else json.loads(word)
    repo = request["repo"]
    try:
        # One site after the other, as the client does: China's own, and the one for everybody else.
        api = HubApi(endpoint=HubApi().resolve_endpoint_for_read(repo, repo_type="model"))
        return _tell(_files(api, repo) if verb == "files" else _fetch(api, request))
    except errors.NotExistError:
        return _tell({"error": f"ModelScope has no model {repo}", "hint": "look it up on modelscope.cn: ORGANISATION/MODEL"})
    except (errors.AuthenticationError, errors.PermissionDeniedError):
        hint = "`modelscope login` with a token of somebody who may"
        return _tell({"error": f"ModelScope lets you not read {repo}", "hint": hint})
    except (errors.HubError, OSError) as fault:
        return _tell(_told(fault, errors, repo))


def _files(api: Any, repo: str) -> dict[str, object]:
    from modelscope_hub import errors

    try:
        cached = Path(api.download_repo(repo, "model", local_files_only=True))
    except (errors.HubError, OSError):
        cached = None  # nothing of it is there yet
    found = [each for each in api.list_repo_files(repo, "model") if not each.is_dir]
    return {"files": [_file(each, cached / each.path if cached else None) for each in found]}


def _file(told: Any, cached: Path | None) -> dict[str, object]:
    there = cached.stat().st_size if cached and cached.is_file() else 0
    return {"path": told.path, "size": told.size, "sha256": told.sha256 or "", "there": there}


class _Count:
    """How many bytes of each file came; the client makes one for each file."""

    moved: ClassVar[dict[str, int]] = {}
    lock = threading.Lock()

    def __init__(self, filename: str, _size: int) -> None:
        self._filename = filename

    def update(self, size: int) -> None:
        with self.lock:
            self.moved[self._filename] = self.moved.get(self._filename, 0) + size

    def end(self) -> None:
        """A file is whole."""


def _fetch(api: Any, request: dict[str, Any]) -> dict[str, object]:
    files = request["files"]
    sizes = {each["path"]: each["size"] for each in files}
    over = threading.Event()
    reporter = threading.Thread(target=_report, args=(sizes, over), daemon=True)
    reporter.start()
    try:
        folder = api.download_repo(
            request["repo"],
            "model",
            allow_patterns=list(sizes),
            file_list=[{"Path": each["path"], "Size": each["size"], "Sha256": each["sha256"]} for each in files],
            progress_callbacks=[_Count],
        )
    finally:
        over.set()
        reporter.join()
    return {"folder": str(folder)}


def _report(sizes: dict[str, int], over: threading.Event) -> None:
    total = sum(sizes.values())
    while not over.wait(_TURN):
        with _Count.lock:
            moved = dict(_Count.moved)
        now = {name: [count, sizes[name]] for name, count in moved.items() if count < sizes.get(name, 0)}
        done = min(sum(moved.values()), total)
        _tell({"what": "fetching", "done": done, "total": total, "received": done, "files": now})


def _told(fault: BaseException, errors: Any, repo: str) -> dict[str, object]:
    """What may be tried again is away; all else is an error."""
    causes = list(getattr(fault, "failed_files", {}).values()) or [fault]
    text = str(causes[0]).partition("\n")[0] or type(causes[0]).__name__
    passing = (errors.NetworkError, errors.ServerError, errors.RateLimitError, errors.FileIntegrityError, OSError)
    if any(isinstance(each, passing) for each in causes):
        return {"away": text}
    return {"error": f"fetching {repo} from ModelScope failed: {text}", "hint": "try again"}


def _tell(content: dict[str, object]) -> int:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()
    return int("error" in content or "away" in content)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
