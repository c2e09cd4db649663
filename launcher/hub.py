"""The door to the Hugging Face hub: `python -m launcher.hub fetch REPO REVISION` fetches a repository into the hub's cache.

`facts` instead of `fetch` fetches only the small files that tell what kind of model it is, and `whoami` alone asks whether the
hub answers, and takes the token if there is one. It runs as a process of its own,
since the client's downloads cannot be interrupted, and since it reads its settings (HF_HOME, HF_TOKEN, HF_ENDPOINT, ...) from
the environment when it is imported. What it tells, it tells as lines of JSON.
"""

import errno
import glob
import io
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from launcher import disk
from launcher.errors import LauncherError

# Lines a second.
PACE = 4
# What tells which kind of model a repository holds, and how large it is.
FACTS = (
    "config.json",
    "model.safetensors.index.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "hf_quant_config.json",
)
LOGIN = "`hf auth login`"


def wanted(names: Iterable[str]) -> list[str]:
    """The files of a repository that an engine needs: its weights in one format, safetensors if there are any, and small files.

    Engines load what lies at the top. `consolidated` is Mistral's own layout of the same weights.
    """
    weights = shards(names)
    return [*weights, *(name for name in names if _is_small(name))] if weights else []


def shards(names: Iterable[str]) -> list[str]:
    """The files with weights that an engine loads."""
    top = [name for name in names if "/" not in name]
    return next((found for kind in _WEIGHTS if (found := [name for name in top if kind(name)])), [])


def is_whole(folder: Path) -> bool:
    """Whether a snapshot has a configuration and all weights that its index names; the client puts only whole files there."""
    if not (folder / "config.json").exists():
        return False
    index = folder / "model.safetensors.index.json"
    if index.exists():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return all((folder / shard).exists() for shard in shards)
    return any(True for suffix in ("safetensors", "bin") for _ in folder.glob(f"*.{suffix}"))


def main(argv: Sequence[str]) -> int:
    """Fetch, and tell the progress and the outcome on stdout."""
    if argv[0] == "whoami":
        _tell(whoami())
        return 0
    what, repo, revision = argv
    try:
        if what == "facts":
            folder, sizes = facts(repo, revision or None)
            _tell({"folder": str(folder), "sizes": sizes})
        else:
            folder, checked = fetch(repo, revision or None, report=_Report())
            _tell({"folder": str(folder), "checked": checked})
    except LauncherError as fault:
        _tell({"error": fault.message, "hint": fault.hint})
        return 1
    return 0


def facts(repo: str, revision: str | None) -> tuple[Path, Mapping[str, int]]:
    """A folder in the hub's cache with the files of `FACTS` that the repository has, and the bytes of each file with weights.

    No sizes where the hub cannot be asked and the cache answers. Raises LauncherError.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        with _faults(repo, revision):
            files = HfApi().model_info(repo, revision=revision, files_metadata=True).siblings or []
            sizes = {file.rfilename: file.size or 0 for file in files}
            weights = shards(sizes)
            if weights:
                folder = snapshot_download(repo, revision=revision, allow_patterns=list(FACTS), tqdm_class=_bar(_nobody))
                return Path(folder), {name: sizes[name] for name in weights}
    except (OfflineModeIsEnabled, _Unreachable) as reason:
        return _cached(repo, revision, reason, is_enough=lambda folder: (folder / "config.json").exists()), {}
    raise _no_weights(repo)


def whoami() -> Mapping[str, object]:
    """Where the hub is, and what it answered; the token itself stays here.

    `status` is None where nobody answered, and `reason` says why; `date` is the hub's clock, as HTTP writes it.
    """
    import httpx
    from huggingface_hub import constants, get_session, get_token

    token = get_token()
    told: dict[str, object] = {"endpoint": constants.ENDPOINT, "offline": constants.HF_HUB_OFFLINE, "token": bool(token)}
    if constants.HF_HUB_OFFLINE:
        return told
    # Told before it is asked: so that it is known who does not answer.
    _tell(told)
    began = time.monotonic()
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        answer = get_session().get(f"{constants.ENDPOINT}/api/whoami-v2", headers=headers)
    except httpx.TransportError as error:
        return {**told, "reason": _one_line(error)}
    told |= {"status": answer.status_code, "date": answer.headers.get("date", ""), "seconds": time.monotonic() - began}
    # A portal before the network answers with a page.
    if answer.status_code == HTTPStatus.OK and "json" in answer.headers.get("content-type", ""):
        told["user"] = answer.json().get("name", "")
    return told


def _one_line(error: Exception) -> str:
    words = " ".join(str(error).split())
    return re.sub(r"^\[Errno -?\d+\] ", "", words) or type(error).__name__


def fetch(repo: str, revision: str | None, *, report: Callable[[int, int], None]) -> tuple[Path, bool]:
    """The snapshot's folder in the hub's cache, fetched as far as it is not there; raises LauncherError.

    False beside it: the hub could not be asked, and the folder only looks whole.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        with _faults(repo, revision):
            files = _list(repo, revision)
    except (OfflineModeIsEnabled, _Unreachable) as reason:
        return _cached(repo, revision, reason, is_enough=is_whole), False
    names = wanted(files)
    if not names:
        raise _no_weights(repo)
    missing = sum(files[name] for name in names)
    _check_disk(repo, missing)
    try:
        with _faults(repo, revision):
            patterns = [glob.escape(name) for name in names]
            bar = _bar(lambda done: report(min(done, missing), missing))
            return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, tqdm_class=bar)), True
    except _Unreachable as reason:
        message = f"the hub went away while {repo} was fetched: {reason}"
        raise LauncherError(message, hint="try again: what is there is kept") from None


def _no_weights(repo: str) -> LauncherError:
    return LauncherError(f"{repo} holds no weights that an engine can load", hint="take a repository with .safetensors files")


def _nobody(_done: int) -> None:
    """Small files: nobody waits for them."""


class _Unreachable(Exception):  # noqa: N818  # never leaves this module
    """The hub cannot be reached."""


def _is_safetensors(name: str) -> bool:
    return name.endswith(".safetensors") and not name.startswith("consolidated")


_WEIGHTS: tuple[Callable[[str], bool], ...] = (
    _is_safetensors,
    lambda name: name.endswith(".safetensors"),
    lambda name: name.startswith(("pytorch_model", "model")) and name.endswith(".bin"),
)
_SMALL = (".json", ".jinja", ".txt", ".model", ".tiktoken")


def _is_small(name: str) -> bool:
    return name.endswith(_SMALL) and ("/" not in name or name.startswith("additional_chat_templates/"))


def _list(repo: str, revision: str | None) -> Mapping[str, int]:
    """The repository's files, each with the bytes that are still to be fetched of it."""
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_CACHE

    info = HfApi().model_info(repo, revision=revision, files_metadata=True)
    blobs = Path(HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "blobs"

    def missing(blob: str | None, size: int) -> int:
        return 0 if blob and (blobs / blob).exists() else size

    return {
        file.rfilename: missing(file.lfs.sha256 if file.lfs else file.blob_id, file.size or 0) for file in info.siblings or []
    }


def _check_disk(repo: str, missing: int) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE)
    hint = "make room, or set HF_HOME to a directory on a larger disk"
    disk.check(f"fetching {repo}", needs=missing, free=disk.free_bytes(cache), path=cache, hint=hint)


def _cached(repo: str, revision: str | None, reason: Exception, *, is_enough: Callable[[Path], bool]) -> Path:
    """What an earlier run or another program fetched, where the hub cannot be asked."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        small = ["config.json", "tokenizer*.json"]
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=small))
        if is_enough(folder):
            return folder
    except LocalEntryNotFoundError:
        pass
    if not isinstance(reason, _Unreachable):
        message = f"HF_HUB_OFFLINE is set, and {repo} is not in the cache {constants.HF_HUB_CACHE}"
        raise LauncherError(message, hint="unset HF_HUB_OFFLINE once, or bring the cache along (HF_HOME)") from None
    message = f"cannot reach the hub at {constants.ENDPOINT} for {repo}: {reason}"
    hint = "check the network and HTTPS_PROXY; HF_ENDPOINT names a mirror"
    raise LauncherError(message, hint=hint) from None


@contextmanager
def _faults(repo: str, revision: str | None) -> Iterator[None]:
    """The client's errors as ours; _Unreachable where nobody answered."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled:
        raise
    except Exception as error:
        if (explained := _explain(error, repo, revision)) is None:
            raise
        raise explained from None


def _explain(error: Exception, repo: str, revision: str | None) -> Exception | None:
    """What to raise instead; None for what nobody expects."""
    import httpx
    from huggingface_hub import errors
    from huggingface_hub.constants import ENDPOINT

    licence = f"accept its licence at {ENDPOINT}/{repo}, then {LOGIN}"
    sayings = (
        (errors.GatedRepoError, f"{repo} is gated: its authors ask for your consent first", licence),
        (errors.RepositoryNotFoundError, f"the hub has no repository {repo}, or not for you", f"check the name; or {LOGIN}"),
        (errors.RevisionNotFoundError, f"{repo} has no revision {revision}", f"see {ENDPOINT}/{repo}/commits"),
        (errors.HFValidationError, f"{repo!r} is no name of a repository", "it looks like ORGANISATION/MODEL"),
    )
    for kind, message, hint in sayings:
        if isinstance(error, kind):
            return LauncherError(message, hint=hint)
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_status(error.response.status_code, repo)
    if isinstance(error, httpx.TransportError | errors.LocalEntryNotFoundError):
        return _Unreachable(type(error.__cause__ or error).__name__)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return LauncherError(f"the disk became full while {repo} was fetched", hint="make room and try again")
    return None


def _explain_status(status: int, repo: str) -> Exception:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _Unreachable(f"it answered {status}")
    refused = status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    hint = f"the token is not accepted: {LOGIN} anew, or unset HF_TOKEN" if refused else "try again later"
    return LauncherError(f"the hub answered {status} for {repo}", hint=hint)


def _bar(report: Callable[[int], None]) -> type[Any]:
    """A progress bar for the client that draws nothing and reports bytes. It makes several at once: the furthest one counts."""
    from tqdm.std import tqdm  # type: ignore[import-untyped]  # it has no annotations

    class Bar(tqdm):  # type: ignore[misc]  # the same
        monitor_interval = 0

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "file": io.StringIO()})

        def display(self, *_args: Any, **_options: Any) -> None:
            """Draw nothing."""

        def update(self, n: float | None = 1) -> bool | None:
            drawn: bool | None = super().update(n)
            if self.unit == "B":
                report(int(self.n))
            return drawn

    return Bar


class _Report:
    """Tells the furthest progress, a few times a second."""

    def __init__(self) -> None:
        self._furthest = 0
        self._told = 0.0

    def __call__(self, done: int, total: int) -> None:
        self._furthest = max(self._furthest, done)
        now = time.monotonic()
        if now - self._told >= 1 / PACE:
            self._told = now
            _tell({"done": self._furthest, "total": total})


def _tell(content: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
