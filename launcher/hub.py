"""The door to the Hugging Face hub: `python -m launcher.hub fetch REQUEST` fetches a repository into the hub's cache.

`plan` instead of `fetch` says what that would take, `facts REPO REVISION` fetches only the small files that tell what kind of
model it is, `remove` takes a repository out of the cache, and `whoami` asks whether the hub answers, and takes the token if
there is one. It runs as a process of its own, since the client's downloads cannot be interrupted, and since it reads its
settings (HF_HOME, HF_TOKEN, HF_ENDPOINT, ...) from the environment when it is imported. What it tells are lines of JSON.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

from launcher import hub_fetch
from launcher.errors import LauncherError
from launcher.fetch_plan import FetchPlan
from launcher.hub_faults import Unreachable, faults, one_line
from launcher.hub_fetch import Request
from launcher.weight_files import modules, shards

# What tells which kind of model a repository holds, and how large it is.
FACTS = (
    "config.json",
    "model.safetensors.index.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "hf_quant_config.json",
)


def main(argv: Sequence[str]) -> int:
    """Do what was asked, and tell the progress and the outcome on stdout."""
    verb, *words = argv
    try:
        _tell(_VERBS[verb](*words))
    except LauncherError as fault:
        _tell({"error": fault.message, "hint": fault.hint})
        return 1
    except Unreachable as reason:
        _tell({"away": str(reason)})
        return 1
    return 0


def facts(repo: str, revision: str) -> Mapping[str, object]:
    """A folder in the hub's cache with the files of `FACTS` that the repository has, and the bytes of each file with weights.

    No sizes where the hub cannot be asked and the cache answers. Raises LauncherError.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import OfflineModeIsEnabled

    at = revision or None
    request = Request(repo, at, Path(), "")
    try:
        with faults(repo, at):
            told = HfApi().model_info(repo, revision=at, files_metadata=True)
            sizes = {file.rfilename: file.size or 0 for file in told.siblings or []}
            weights = shards(sizes)
            if not weights:
                message = f"{repo} holds no weights that an engine can load"
                raise LauncherError(message, hint="take a repository with .safetensors files")
            folder = snapshot_download(
                repo, revision=at, allow_patterns=list(FACTS), tqdm_class=hub_fetch.bar(hub_fetch.nobody)
            )
            return {
                "folder": folder,
                "commit": told.sha,
                "sizes": {name: sizes[name] for name in weights},
                "code": modules(sizes),
            }
    except (OfflineModeIsEnabled, Unreachable) as reason:
        offline = isinstance(reason, OfflineModeIsEnabled)
        found = hub_fetch.snapshot(request)
        if not (found / "config.json").exists():
            raise hub_fetch.not_cached(request, ["config.json"], offline=offline, reason=str(reason)) from None
        code = modules(str(path.relative_to(found)) for path in found.rglob("*.py"))
        return {"folder": str(found), "commit": found.name, "sizes": {}, "code": code}


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
        return {**told, "reason": one_line(error)}
    told |= {"status": answer.status_code, "date": answer.headers.get("date", ""), "seconds": time.monotonic() - began}
    # A portal before the network answers with a page.
    if answer.status_code == HTTPStatus.OK and "json" in answer.headers.get("content-type", ""):
        told["user"] = answer.json().get("name", "")
    return told


def _fetch(text: str) -> Mapping[str, object]:
    request, plan = _looked(text)
    return hub_fetch.fetch(request, plan, _tell) if isinstance(plan, FetchPlan) else plan


def _plan(text: str) -> Mapping[str, object]:
    _, plan = _looked(text)
    return {"plan": plan.json()} if isinstance(plan, FetchPlan) else plan


def _looked(text: str) -> tuple[Request, FetchPlan | Mapping[str, object]]:
    """What the hub says or, where it cannot be asked, what the cache has. What was begun is never ended by the cache."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    content = json.loads(text)
    request = Request(**{**content["request"], "folder": Path(content["request"]["folder"])})
    try:
        return request, hub_fetch.look(request)
    except (OfflineModeIsEnabled, Unreachable) as reason:
        offline = isinstance(reason, OfflineModeIsEnabled)
        if content["begun"]:
            raise Unreachable(str(reason)) from None
        return request, hub_fetch.cached(request, offline=offline, reason=str(reason))


def _remove(repo: str) -> Mapping[str, object]:
    """Take a repository out of the cache, as `hf cache` does: contents that others share stay."""
    from huggingface_hub import scan_cache_dir

    found = scan_cache_dir()
    ours = [each for each in found.repos if each.repo_id == repo and each.repo_type == "model"]
    # Of this repository alone: a copy of it has the same commits.
    strategy = replace(found, repos=frozenset(ours)).delete_revisions(
        *(rev.commit_hash for each in ours for rev in each.revisions)
    )
    strategy.execute()
    return {"freed": strategy.expected_freed_size}


_VERBS: Mapping[str, Callable[..., Mapping[str, object]]] = {
    "fetch": _fetch,
    "plan": _plan,
    "facts": facts,
    "whoami": whoami,
    "remove": _remove,
}
_TELLING = threading.Lock()


def _tell(content: Mapping[str, object]) -> None:
    with _TELLING:
        sys.stdout.write(json.dumps(content) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    status = main(sys.argv[1:])
    # Downloads that are not needed any more must not be waited for.
    sys.stdout.flush()
    os._exit(status)
