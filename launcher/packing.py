"""Makes a folder that holds all that serving a model takes, and takes one in on a machine without a network."""

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from launcher import __version__, atomic, catalogue, derive, disk, environments, packed, profile, weights, weights_record
from launcher.child import Child, Log
from launcher.environments import Build
from launcher.errors import LauncherError
from launcher.fetching import last_line
from launcher.home import Home
from launcher.packed import MANIFEST, Packed
from launcher.plan import Plan
from launcher.profile import CPU
from launcher.profile_weights import HubWeights, LocalWeights, ModelScopeWeights, PyPIWeights, Weights
from launcher.progress import Progress
from launcher.staging import clear, put, staging
from launcher.uv import Uv
from launcher.world import World

_CHUNK = 1 << 20
# uv knows this address by the word `cpu` (its --torch-backend); pip must be told.
_TORCH_CPU = "https://download.pytorch.org/whl/cpu"


@dataclass(frozen=True, slots=True)
class Pack:
    """A folder that is whole: what it holds, and the bytes of it."""

    folder: Path
    holds: Packed
    weights: int
    wheels: int


def pack(world: World, plan: Plan, source: Path, folder: Path) -> Pack:
    """Put a plan's weights (from `source`), profile, wheels and lock into a folder; raises LauncherError.

    What an earlier run put there is kept where it is the same. The manifest is written last: without it, it is no pack.
    """
    build = environments.build_for(world.engines[plan.engine], plan.build)
    if not build.lock.exists():
        raise LauncherError(f"{build.name} does not exist for {build.arch}", hint="pack it on a machine of another kind")
    for part in ("profiles", "weights", "wheels", "locks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    _refuse_full(folder, source, build)
    world.progress.phase("wheels")
    fetch_wheels(world.home, build, folder / "wheels", progress=world.progress, env=world.env)
    world.progress.phase("weights")
    files = _copy(source, folder / "weights", world.progress)
    (folder / "profiles" / f"{plan.profile.name}.toml").write_text(_profile(world, plan), encoding="utf-8")
    shutil.copyfile(build.lock, folder / "locks" / build.lock.name)
    holds = _holds(world, plan, build, files)
    atomic.write(folder / MANIFEST, packed.text(holds), mode=0o644)
    return Pack(folder, holds, _size(folder / "weights"), _size(folder / "wheels"))


def read(folder: Path) -> Packed:
    """What a folder holds; raises LauncherError for one that is no pack."""
    try:
        return packed.parse((folder / MANIFEST).read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{folder} is no whole pack: {MANIFEST}: {error.strerror}"
        raise LauncherError(message, hint="`launcher pack MODEL DIR` makes one, and writes that file last") from None
    except ValueError as error:
        raise LauncherError(f"{folder / MANIFEST} is damaged: {error}", hint="make the pack again, or copy it again") from None


def environment(env: Mapping[str, str], folder: Path) -> dict[str, str]:
    """A user's environment in which packages come from a pack alone, and nothing from a network."""
    kept = {name: value for name, value in env.items() if name not in _INDEXES}
    wheels = str(folder / "wheels")
    return {**kept, "UV_FIND_LINKS": wheels, "PIP_NO_INDEX": "1", "UV_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}


_INDEXES = frozenset(
    {"UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"}
)


def take_in(world: World, folder: Path) -> Packed:
    """Check every file of a pack, and note its profile and its weights as this home's; raises LauncherError.

    Weights of the hub are served where they lie. Nothing is taken in of a pack that is not whole.
    """
    holds = read(folder)
    _refuse_unlike(world, holds)
    _refuse_damaged(folder, holds, world.progress)
    text = _profile_text(folder, holds)
    parsed = profile.parse(text, name=holds.model, where=str(folder / "profiles"))
    variant = next((each for each in parsed.variants if each.name == holds.variant), None)
    if variant is None:
        raise LauncherError(f"the pack's profile has no variant {holds.variant}", hint="make the pack again")
    _take_profile(world, holds, text)
    _take_weights(world, folder, holds, variant.weights)
    return holds


# -- making one --


def _refuse_full(folder: Path, source: Path, build: Build) -> None:
    needs = _size(source) + environments.installed_size(build.lock) // 2 - _size(folder)
    hint = "name a folder on a larger disk"
    disk.check("the pack", needs=needs, free=disk.free_bytes(folder), path=folder, hint=hint)


def fetch_wheels(home: Home, build: Build, folder: Path, *, progress: Progress, env: Mapping[str, str]) -> None:
    """All packages of a build's lock, by pip, which checks their hashes; raises LauncherError.

    uv has no word for this. What lies in the folder already is not fetched again.
    """
    settings = Uv(env, cpu_build=build.accelerator == CPU).env
    packages, faults = 0, list[str]()
    with (
        Log(home.make().logs / f"pack-{build.name}.log") as log,
        Child([*_download(build, folder)], env={**_pip(settings, build), "PIP_NO_INPUT": "1"}, cwd=folder) as child,
    ):
        for line in child.lines():
            if line:
                log.write(line)
                packages += line.startswith("Collecting ")
                faults += [line.removeprefix("ERROR: ")] if line.startswith("ERROR: ") else []
            progress.update(f"fetching the packages of {build.name}: {packages} so far")
        if child.wait():
            message = f"cannot fetch the packages of {build.name}: {faults[0] if faults else last_line(log)}"
            raise LauncherError(message, hint=f"the whole output is in {log.path}; what is there is kept")


def _download(build: Build, folder: Path) -> Iterator[str | Path]:
    yield from (sys.executable, "-I", "-m", "pip", "download", "--dest", folder, "--progress-bar", "off")
    yield from ("--no-deps", "--only-binary", ":all:", "--require-hashes", "--disable-pip-version-check", "-r", build.lock)
    # Wheels are for the interpreter that the engine gets, which need not be this one.
    yield from ("--python-version", build.python, "--implementation", "cp", "--abi", f"cp{build.python.replace('.', '')}")
    yield from ("--abi", "abi3", "--abi", "none")
    # PEP 600, and the names that were used before it.
    platforms = (*(f"manylinux_2_{minor}" for minor in range(5, 40)), "manylinux1", "manylinux2010", "manylinux2014", "linux")
    for platform in platforms:
        yield from ("--platform", f"{platform}_{build.arch}")
    yield from ("--platform", "any")


def _pip(settings: Mapping[str, str], build: Build) -> dict[str, str]:
    """Uv's settings as pip takes them, those that pip has of its own kept."""
    theirs = (
        ("PIP_INDEX_URL", settings.get("UV_DEFAULT_INDEX") or settings.get("UV_INDEX_URL")),
        ("PIP_EXTRA_INDEX_URL", settings.get("UV_INDEX") or settings.get("UV_EXTRA_INDEX_URL")),
        ("PIP_FIND_LINKS", settings.get("UV_FIND_LINKS", "").replace(",", " ")),
        ("PIP_CERT", settings.get("SSL_CERT_FILE")),
    )
    told = {name: value for name, value in theirs if value}
    if build.accelerator == CPU and not told.get("PIP_FIND_LINKS"):
        told["PIP_EXTRA_INDEX_URL"] = f"{told.get('PIP_EXTRA_INDEX_URL', '')} {_TORCH_CPU}".strip()
    return {**settings, **told}


def _copy(source: Path, folder: Path, progress: Progress) -> dict[str, str]:
    """The files of weights, links followed, and the sha256 of each; what is there with the same hash is not copied again."""
    paths = sorted(path for path in source.rglob("*") if path.is_file() and path.name != weights.MARKER)
    names = {str(path.relative_to(source)) for path in paths}
    for old in (path for path in folder.rglob("*") if path.is_file() and str(path.relative_to(folder)) not in names):
        old.unlink()
    total, done, hashes = sum(path.stat().st_size for path in paths), 0, {}
    for path in paths:
        name = str(path.relative_to(source))
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        temporary = place.with_name(f".{place.name}.part")
        with path.open("rb") as stream, temporary.open("wb") as out:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                out.write(chunk)
                done += len(chunk)
                progress.update(f"copying {disk.gigabytes(done)} of {disk.gigabytes(total)}", done, total)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(place)
        hashes[name] = digest.hexdigest()
    return hashes


def _profile(world: World, plan: Plan) -> str:
    """The profile's file or, of one that was derived, the file that `models add` would make."""
    known = catalogue.paths(world.profiles).get(plan.profile.name)
    if known and not plan.profile.origin:
        return known.read_text(encoding="utf-8")
    source = plan.variant.weights
    if isinstance(source, PyPIWeights):
        return catalogue.paths(world.profiles)[plan.profile.name].read_text(encoding="utf-8")
    if isinstance(source, HubWeights) and source.code:
        message = f"{plan.profile.name} runs code of its repository, and a profile cannot agree to that"
        raise LauncherError(message, hint="take a model that the engine itself knows")
    return derive.toml(derive.table(world.facts(source)), schema=catalogue.shipped() / "schema.json")


def _holds(world: World, plan: Plan, build: Build, files: Mapping[str, str]) -> Packed:
    source = plan.variant.weights
    hub = weights_record.find(world.home, source) if isinstance(source, HubWeights) else None
    return Packed(
        launcher=__version__,
        model=plan.profile.name,
        variant=plan.variant.name,
        engine=build.engine,
        engine_version=build.version,
        accelerator=build.accelerator,
        arch=build.arch,
        python=build.python,
        lock=environments.digest(build.lock),
        files=files,
        repo=source.repo if isinstance(source, HubWeights) else "",
        revision=(source.revision or "") if isinstance(source, HubWeights) else "",
        commit=hub.commit if hub else "",
        path=str(source.path) if isinstance(source, LocalWeights) else "",
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# -- taking one in --


def _refuse_unlike(world: World, holds: Packed) -> None:
    """A pack whose engine is not the one that this launcher would install."""
    again = "make the pack again with this launcher, for a machine of this kind"
    if holds.engine not in world.engines:
        raise LauncherError(f"the pack is for the engine {holds.engine}, which this launcher does not know", hint=again)
    build = environments.build_for(world.engines[holds.engine], holds.accelerator)
    if build.arch != holds.arch:
        raise LauncherError(f"the pack is for {holds.arch}, and this machine is {build.arch}", hint=again)
    if not build.lock.exists() or environments.digest(build.lock) != holds.lock:
        message = f"the pack was made by launcher {holds.launcher}, whose {holds.engine} is made of other packages"
        raise LauncherError(message, hint=again)


def _refuse_damaged(folder: Path, holds: Packed, progress: Progress) -> None:
    """Every file's hash, several at once; pip's wheels are checked against the lock when they are installed."""

    def digest(name: str) -> str | None:
        try:
            with (folder / "weights" / name).open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError:
            return None

    progress.phase("weights")
    with ThreadPoolExecutor(4) as pool:
        found: dict[str, str | None] = {}
        for name, outcome in [(name, pool.submit(digest, name)) for name in holds.files]:
            progress.update(f"checking {name}", len(found), len(holds.files))
            found[name] = outcome.result()
    missing = [name for name, digest in found.items() if digest is None]
    damaged = [name for name, digest in found.items() if digest not in {None, holds.files[name]}]
    if missing or damaged:
        parts = (("lacks", missing), ("has damaged", damaged))
        what = "; ".join(f"{verb} {', '.join(names)}" for verb, names in parts if names)
        raise LauncherError(f"the pack in {folder} {what}", hint="copy it again")


def _profile_text(folder: Path, holds: Packed) -> str:
    """The pack's profile; a folder's place in it is where the pack lies here."""
    path = folder / "profiles" / f"{holds.model}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise LauncherError(f"the pack lacks {path}: {error.strerror}", hint="copy it again") from None
    return text.replace(holds.path, str(folder / "weights")) if holds.path else text


def _take_profile(world: World, holds: Packed, text: str) -> None:
    known = catalogue.paths(world.profiles).get(holds.model)
    if known is None or (known.read_text(encoding="utf-8") != text and known.parent != world.home.profiles):
        catalogue.add(world.home.make().profiles, holds.model, text)
    elif known.read_text(encoding="utf-8") != text:
        message = f"{known} is another profile of {holds.model} than the pack's"
        raise LauncherError(message, hint="move that file away")


def _take_weights(world: World, folder: Path, holds: Packed, source: Weights) -> None:
    home = world.home
    home.make().weights.mkdir(mode=0o700, exist_ok=True)
    if isinstance(source, HubWeights | ModelScopeWeights):
        weights_record.write(home, source, _told(folder, holds))
    elif isinstance(source, PyPIWeights) and not weights.locate(home, weights.called(holds.model, holds.variant), source):
        _take_copy(home, folder / "weights", weights.called(holds.model, holds.variant), source, world.progress)


def _told(folder: Path, holds: Packed) -> dict[str, object]:
    sizes = {name: (folder / "weights" / name).stat() for name in holds.files}
    files = {
        name: {"size": each.st_size, "blob": holds.files[name], "changed": each.st_mtime_ns} for name, each in sizes.items()
    }
    return {"folder": str(folder / "weights"), "commit": holds.commit, "files": files}


def _take_copy(home: Home, source: Path, name: str, origin: PyPIWeights, progress: Progress) -> None:
    place = home.weights / name
    clear(place)
    with staging(place) as fresh:
        for path in sorted(each for each in source.iterdir() if each.is_file()):
            progress.update(f"copying {path.name}")
            shutil.copyfile(path, fresh / path.name)
        (fresh / weights.MARKER).write_text(weights.digest(origin), encoding="ascii")
        put(fresh, place)
