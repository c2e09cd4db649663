"""Fetches a repository into the cache of the hub's client and checks every byte. Runs in the hub's own process.

Large files over plain HTTP are fetched by `transfer`, since the client begins anew what was broken off; where the hub offers
Xet, and for all that is small, the client fetches.
"""

import glob
import importlib.util
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher import fetch_plan, promises, transfer
from launcher.errors import LauncherError
from launcher.fetch_plan import FetchPlan
from launcher.hub_cache import Cache
from launcher.hub_faults import faults
from launcher.weight_files import File, listed, wanted

Tell = Callable[[Mapping[str, object]], None]
# Looks at the counters a second.
PACE = 4
# As many files at once as the client fetches (huggingface_hub, snapshot_download: max_workers).
WORKERS = 8
# So often a file may come wrong: the second time it is the hub's, or a disk's.
_TRIES = 2


@dataclass(frozen=True, slots=True)
class Request:
    """What to fetch. `folder` and `name` are where downloads note what they still need.

    `vouched` are contents that were checked before, by their names in the cache: size and time of change then (nanoseconds).
    `code` takes modules too.
    """

    repo: str
    revision: str | None
    folder: Path
    name: str
    code: bool = False
    vouched: Mapping[str, Sequence[int]] = field(default_factory=dict)


def look(request: Request) -> FetchPlan:
    """What fetching takes; raises LauncherError for what is not there or not for this user, before a byte is asked for."""
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url

    with faults(request.repo, request.revision):
        told = HfApi().model_info(request.repo, revision=request.revision, files_metadata=True)
        files = [_file(each) for each in told.siblings or []]
        commit = str(told.sha)
        found = {file.blob: _cache(request.repo).there(file, commit) for file in files}
        plan = fetch_plan.plan(request.repo, commit, files, found, revision=request.revision, code=request.code)
        first = next((part.file.path for part in plan.parts if part.missing), None)
        if first:
            # A gated repository's description is everybody's; its files are not.
            get_hf_file_metadata(hf_hub_url(request.repo, first, revision=commit), retry_on_errors=True)
    return plan


def fetch(request: Request, plan: FetchPlan, tell: Tell) -> Mapping[str, object]:
    """Fetch what is missing, check all of it, and say what is there; raises LauncherError and Unreachable."""
    tell({"plan": plan.json()})
    cache = _cache(request.repo)
    promises.make(request.folder, request.name, plan, cache)
    with _telling(tell) as counters:
        if _drop_damaged(plan, cache, request.vouched, counters, tell):
            plan = look(request)
            promises.make(request.folder, request.name, plan, cache)
        counters.begin("fetching", plan)
        with faults(request.repo, request.revision):
            _fetch_large(plan, cache, counters, tell)
            folder = _complete(request, plan)
            _check_small(plan, cache, tell)
    return {"folder": str(folder), "commit": plan.commit, "files": _record(plan, folder)}


def cached(request: Request, *, offline: bool, reason: str) -> Mapping[str, object]:
    """What an earlier run or another program fetched, where the hub cannot be asked; or LauncherError for what is not whole."""
    folder = snapshot(request)
    if missing := lacks(folder, _tree(request)):
        raise not_cached(request, missing, offline=offline, reason=reason)
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    sizes = {name: {"size": path.stat().st_size} for name, path in files.items()}
    return {"folder": str(folder), "commit": folder.name, "files": sizes, "unchecked": True}


def snapshot(request: Request) -> Path:
    """The folder of the wanted revision as the cache knows it, be it there or not."""
    from huggingface_hub import constants

    cache, revision = _cache(request.repo), request.revision or constants.DEFAULT_REVISION
    ref = cache.folder / "refs" / revision
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
    return cache.folder / "snapshots" / commit


def not_cached(request: Request, missing: Sequence[str], *, offline: bool, reason: str) -> LauncherError:
    """That the cache does not have what is needed, by name."""
    from huggingface_hub import constants

    what = f"{request.repo} at {request.revision}" if request.revision else request.repo
    if snapshot(request).is_dir():
        lacking = f"of {what} the cache {constants.HF_HUB_CACHE} lacks {listed(missing)}"
    else:
        lacking = f"{what} is not in the cache {constants.HF_HUB_CACHE}"
    if offline:
        hint = "unset HF_HUB_OFFLINE once, or bring it along: `launcher pack` makes a folder for `launcher up --offline --from`"
        return LauncherError(f"nothing may be fetched (HF_HUB_OFFLINE), and {lacking}", hint=hint)
    hint = "check the network and HTTPS_PROXY; HF_ENDPOINT names a mirror"
    return LauncherError(f"cannot reach the hub at {constants.ENDPOINT} ({reason}), and {lacking}", hint=hint)


def lacks(folder: Path, tree: Mapping[str, int]) -> list[str]:
    """What an engine would miss in a snapshot.

    `tree` is the client's note of what the repository has (bytes by names); without one, the snapshot's own index tells.
    """
    if tree:
        return [name for name in wanted(tree) if not _has(folder / name, tree[name])]
    if not (folder / "config.json").exists():
        return ["config.json"]
    index = folder / "model.safetensors.index.json"
    if index.exists():
        named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return [shard for shard in named if not (folder / shard).exists()]
    whole = any(True for suffix in ("safetensors", "bin") for _ in folder.glob(f"*.{suffix}"))
    return [] if whole else ["model.safetensors"]


def _has(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size == size


def _tree(request: Request) -> Mapping[str, int]:
    """What the client noted of a repository's files when it fetched some of them; empty where it has no note."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    with suppress(CachedRepoTreeNotFoundError):
        return {file.path: file.size for file in get_cached_repo_tree(request.repo, revision=request.revision)}
    return {}


# -- what the hub says --


def _cache(repo: str) -> Cache:
    from huggingface_hub import constants

    return Cache(Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}")


def _file(told: Any) -> File:
    return File(told.rfilename, told.size or 0, str(told.lfs.sha256 if told.lfs else told.blob_id))


# -- what is in the cache already --


def _drop_damaged(
    plan: FetchPlan, cache: Cache, vouched: Mapping[str, Sequence[int]], counters: "Counters", tell: Tell
) -> bool:
    """Check what the cache has and nobody has checked yet; what is damaged is taken out of it. Whether something was."""
    known = [(part.file, path) for part in plan.parts if (path := cache.found(part.file, plan.commit))]
    doubtful = [(file, path) for file, path in known if list(vouched.get(file.blob, ())) != _stamp(path)]
    counters.begin("checking", plan)

    def is_damaged(file: File, path: Path) -> bool:
        with path.open("rb", buffering=0) as stream:
            return bool(transfer.digest_of(stream, file, counters.of(file)).hexdigest() != file.blob)

    damaged = [file for (file, _), bad in zip(doubtful, _at_once(is_damaged, doubtful), strict=True) if bad]
    for file in damaged:
        tell({"say": f"{file.path} of {plan.repo} is damaged in the cache ({_unlike(file)}): it is fetched again"})
        _remove(file, plan.commit, cache)
    return bool(damaged)


def _remove(file: File, commit: str, cache: Cache) -> None:
    for path in (cache.pointer(file, commit), cache.blob(file), cache.part(file)):
        path.unlink(missing_ok=True)


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


# -- what is missing --


def _fetch_large(plan: FetchPlan, cache: Cache, counters: "Counters", tell: Tell) -> None:
    # Not by what is missing of it: a kill between the last byte and the name leaves a whole part, which nobody has checked.
    large = [(part.file,) for part in plan.parts if part.file.is_large and not cache.found(part.file, plan.commit)]

    def one(file: File) -> None:
        _fetch_one(plan, file, cache, counters, tell)

    # The largest first: what is left at the end is short.
    _at_once(one, sorted(large, key=lambda each: -each[0].size))


def _fetch_one(plan: FetchPlan, file: File, cache: Cache, counters: "Counters", tell: Tell) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public, not in __all__

    url, report = hf_hub_url(plan.repo, file.path, revision=plan.commit), counters.of(file)
    offered = get_hf_file_metadata(url, retry_on_errors=True).xet_file_data is not None
    if offered and _has_xet():
        counters.xet = True
        hf_hub_download(plan.repo, file.path, revision=plan.commit, tqdm_class=bar(report, counters.received_of(file)))
        return
    cache.blob(file).parent.mkdir(parents=True, exist_ok=True)
    with _alone(cache, file, counters):
        for _ in range(_TRIES):
            if cache.blob(file).exists():
                break  # by another program, while this one waited
            watch = transfer.Watch(report, counters.received_of(file))
            if transfer.fill(url, cache.part(file), file, headers=build_hf_headers(), watch=watch):
                cache.part(file).chmod(0o666 & ~_umask())
                cache.part(file).replace(cache.blob(file))
                break
            cache.part(file).unlink()
            tell({"say": f"{file.path} of {plan.repo} came damaged ({_unlike(file)}): it is fetched again"})
        else:
            raise _wrong(plan, file)
    report(file.size)


def _has_xet() -> bool:
    """Whether the client fetches over Xet what the hub offers so (huggingface_hub, utils/_runtime.py: is_xet_available)."""
    from huggingface_hub import constants

    return not constants.HF_HUB_DISABLE_XET and importlib.util.find_spec("hf_xet") is not None


def _unlike(file: File) -> str:
    return f"its {file.says()} is not the hub's"


def _wrong(plan: FetchPlan, file: File) -> LauncherError:
    hint = "a proxy or a mirror may change it; else the disk or the memory is faulty (`launcher doctor`)"
    return LauncherError(
        f"{file.path} of {plan.repo} came damaged {_TRIES} times: its {file.says()} is not {file.blob}", hint=hint
    )


@contextmanager
def _alone(cache: Cache, file: File, counters: "Counters") -> Iterator[None]:
    """Hold the client's own lock on a content: another program that fetches it is waited for, and its work shared."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # as above

    path = cache.folder.parent / ".locks" / cache.folder.name / f"{file.blob}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            with WeakFileLock(path, timeout=1):
                yield
                return
        except Timeout:
            counters.waiting()


def _complete(request: Request, plan: FetchPlan) -> Path:
    """The snapshot as the client itself makes it: small files, names for all contents, the branch for other programs."""
    from huggingface_hub import snapshot_download

    names = [glob.escape(part.file.path) for part in plan.parts]
    for revision in (request.revision, plan.commit):
        folder = Path(snapshot_download(plan.repo, revision=revision, allow_patterns=names, tqdm_class=bar(nobody)))
        if folder.name == plan.commit:
            break
    return folder


def _check_small(plan: FetchPlan, cache: Cache, tell: Tell) -> None:
    """What the client fetched, and had no hash for."""
    from huggingface_hub import hf_hub_download

    for part in (each for each in plan.parts if each.missing):
        file = part.file
        for attempt in range(_TRIES):
            if _is_sound(file, cache.pointer(file, plan.commit)):
                break
            if attempt + 1 == _TRIES:
                raise _wrong(plan, file)
            tell({"say": f"{file.path} of {plan.repo} came damaged ({_unlike(file)}): it is fetched again"})
            _remove(file, plan.commit, cache)
            hf_hub_download(plan.repo, file.path, revision=plan.commit, tqdm_class=bar(nobody))


def _is_sound(file: File, path: Path) -> bool:
    """By size alone for what `transfer` or Xet has checked already."""
    if path.stat().st_size != file.size or file.is_large:
        return path.stat().st_size == file.size
    with path.open("rb") as stream:
        return bool(transfer.digest_of(stream, file, nobody).hexdigest() == file.blob)


def _record(plan: FetchPlan, folder: Path) -> Mapping[str, object]:
    """Each file with its hash, and what tells later that it is still the one that was checked."""
    stamps = {part.file: _stamp(folder / part.file.path) for part in plan.parts}
    return {file.path: {"size": file.size, "blob": file.blob, "changed": stamp[1]} for file, stamp in stamps.items()}


def _umask() -> int:
    import os

    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _at_once(work: Callable[..., Any], each: Sequence[tuple[Any, ...]]) -> list[Any]:
    """What the work gives for each; after the first fault nothing is waited for: the process ends."""
    pool = ThreadPoolExecutor(WORKERS)
    futures = [pool.submit(work, *arguments) for arguments in each]
    wait(futures, return_when=FIRST_EXCEPTION)
    pool.shutdown(wait=False, cancel_futures=True)
    faulty = next((future for future in futures if future.done() and not future.cancelled() and future.exception()), None)
    return [faulty.result()] if faulty else [future.result() for future in futures]


# -- how far it is --


class Counters:
    """How much of each file is there."""

    def __init__(self) -> None:
        self._what = ""
        self._sizes: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._received: dict[str, int] = {}
        self._waited = 0
        self.xet = False

    def begin(self, what: str, plan: FetchPlan) -> None:
        """Count anew, for `fetching` or `checking`."""
        self._what = what
        self._sizes = {part.file.path: part.file.size for part in plan.parts}
        self._done = {part.file.path: part.there if what == "fetching" else 0 for part in plan.parts}

    def of(self, file: File) -> Callable[[int], None]:
        """What a file's work tells its progress to; each file has one thread."""

        def report(done: int) -> None:
            self._done[file.path] = done

        return report

    def received_of(self, file: File) -> Callable[[int], None]:
        """What a file's work tells each piece to that came over the network."""

        def received(count: int) -> None:
            self._received[file.path] = self._received.get(file.path, 0) + count

        return received

    def waiting(self) -> None:
        """Another program moves."""
        self._waited += 1

    def json(self) -> Mapping[str, object]:
        done = dict(self._done)
        moving = {path: [count, self._sizes[path]] for path, count in done.items() if 0 < count < self._sizes[path]}
        total = sum(self._sizes.values())
        return {
            "what": self._what,
            "done": sum(done.values()),
            "total": total,
            "files": moving,
            "received": sum(dict(self._received).values()),
            "waited": self._waited,
            "xet": self.xet,
        }


@contextmanager
def _telling(tell: Tell) -> Iterator[Counters]:
    """Tell the counters a few times a second while the block runs, and once at its end."""
    counters, over = Counters(), threading.Event()

    def tick() -> None:
        while not over.wait(1 / PACE):
            tell(counters.json())

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield counters
    finally:
        over.set()
        thread.join()
    tell(counters.json())


def nobody(_bytes: int) -> None:
    """Small files: nobody waits for them."""


def bar(report: Callable[[int], None], received: Callable[[int], None] = nobody) -> type[Any]:
    """A progress bar for the client that draws nothing and reports bytes. It makes several at once: the furthest one counts."""
    from tqdm.std import tqdm  # type: ignore[import-untyped]  # it has no annotations

    furthest = [0]

    class Bar(tqdm):  # type: ignore[misc]  # the same
        monitor_interval = 0

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "file": io.StringIO()})

        def display(self, *_args: Any, **_options: Any) -> None:
            """Draw nothing."""

        def update(self, n: float | None = 1) -> bool | None:
            drawn: bool | None = super().update(n)
            if self.unit == "B":
                received(max(0, int(self.n) - furthest[0]))
                furthest[0] = max(furthest[0], int(self.n))
                report(furthest[0])
            return drawn

    return Bar
