import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import psutil
import pytest

from launcher import disk
from launcher.engines import vllm
from launcher.environment import MARKER
from launcher.environments import Build, build_for, find, installed_size, place, python_of
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.installing import attempts, compile_all, ensure
from launcher.progress import Silent
from launcher.release import Release
from launcher.uv import interpreters_path
from tests.on_loopback import on_loopback
from tests.wheels import PYTHON, Wheel, made_up_torch, make_wheel, user_env


class Told(Silent):
    """Remembers what was said and shown."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.shown: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def update(self, text: str, done: int = 0, total: int = 0, *, left: float | None = None) -> None:  # noqa: ARG002  # the protocol's
        self.shown.append(text)


def tiny(tmp_path: Path, text: str = "ANSWER = 42\n") -> Wheel:
    scripts = b"[console_scripts]\ntiny = tiny:main\n"
    source = f"{text}\n\ndef main():\n    print(__file__)\n".encode()
    return make_wheel(tmp_path / "wheels", {"tiny/__init__.py": source, "tiny-1.0.dist-info/entry_points.txt": scripts})


def build_of(tmp_path: Path, lock: str, *, python: str = PYTHON) -> Build:
    path = tmp_path / "tiny-1.0-cpu-x86_64.txt"
    path.write_text(lock)
    return Build(engine="tiny", version="1.0", accelerator="cpu", arch="x86_64", python=python, lock=path)


def made(home: Home) -> set[str]:
    return {path.name for path in home.environments.iterdir()}


def output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


WHOLE = {"tiny-1.0-cpu", "tiny-1.0-cpu.lock"}


def test_an_environment_is_made_once_and_runs_at_its_place(tmp_path: Path) -> None:
    home, build, env = Home(tmp_path / "home"), build_of(tmp_path, tiny(tmp_path).locked), user_env(tmp_path)
    assert find(home, build) is None
    environment = ensure(home, build, progress=Silent(), env=env)
    assert environment == find(home, build)
    assert (environment.name, environment.path, environment.python) == (build.name, place(home, build), python_of(home, build))
    assert (environment.engine, environment.release, environment.accelerator) == ("tiny", Release("1.0"), "cpu")
    assert disk.usage(environment.path).size - environment.size <= 8192, "all of it but the marker, which tells it"
    assert time.time() - environment.made < 60
    assert made(home) == WHOLE
    for command in ([environment.python, "-c", "import tiny; tiny.main()"], [environment.path / "bin" / "tiny"]):
        assert output(*command).startswith(str(environment.path))


def test_an_environment_that_is_there_costs_nothing(tmp_path: Path) -> None:
    home, build, env = Home(tmp_path / "home"), build_of(tmp_path, tiny(tmp_path).locked), user_env(tmp_path)
    first = ensure(home, build, progress=Silent(), env=env)
    told = Told()
    assert ensure(home, build, progress=told, env={}) == first
    assert not told.shown


def test_an_environment_is_compiled_whatever_the_user_tells_python(tmp_path: Path) -> None:
    home, build = Home(tmp_path / "home"), build_of(tmp_path, tiny(tmp_path).locked)
    environment = ensure(home, build, progress=Silent(), env=user_env(tmp_path))
    assert not list(environment.path.rglob("tiny/__pycache__/__init__.*.pyc"))
    compile_all(environment, progress=Silent(), env={**user_env(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"})
    assert list(environment.path.rglob("tiny/__pycache__/__init__.*.pyc"))


def test_a_new_lock_replaces_the_environment(tmp_path: Path) -> None:
    home, env = Home(tmp_path / "home"), user_env(tmp_path)
    ensure(home, build_of(tmp_path, tiny(tmp_path).locked), progress=Silent(), env=env)
    newer = build_of(tmp_path, tiny(tmp_path, "ANSWER = 43\n").locked)
    assert find(home, newer) is None
    environment = ensure(home, newer, progress=Silent(), env=env)
    assert output(environment.python, "-c", "import tiny; print(tiny.ANSWER)") == "43\n"
    assert made(home) == WHOLE


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path: (path / MARKER).unlink(), id="without the marker it was not finished"),
        pytest.param(
            lambda path: (path / MARKER).write_text((path / MARKER).read_text().replace('"made_from": "', '"made_from": "x')),
            id="the marker names another lock",
        ),
        pytest.param(lambda path: (path / MARKER).write_text("7f7f"), id="the marker is an older launcher's"),
        pytest.param(
            lambda path: ((path / "bin/python").unlink(), (path / "bin/python").symlink_to("/gone")),
            id="the system's Python that it links to is gone",
        ),
    ],
)
def test_only_a_whole_environment_is_found(tmp_path: Path, spoil: object) -> None:
    home, build, env = Home(tmp_path / "home"), build_of(tmp_path, tiny(tmp_path).locked), user_env(tmp_path)
    environment = ensure(home, build, progress=Silent(), env=env)
    assert callable(spoil)
    spoil(environment.path)
    assert find(home, build) is None


def test_two_at_once_make_it_once(tmp_path: Path) -> None:
    home, build, env = Home(tmp_path / "home"), build_of(tmp_path, tiny(tmp_path).locked), user_env(tmp_path)
    told = [Told(), Told()]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda progress: ensure(home, build, progress=progress, env=env), told)
    assert first == second
    assert sorted(bool(each.shown) for each in told) == [False, True]


FAULTS = [
    pytest.param(
        lambda lock: lock.replace("sha256:", "sha256:0000")[:-5] + "\n",
        {},
        PYTHON,
        "Hash mismatch",
        id="the wheel is not the one that was locked",
    ),
    pytest.param(lambda _: "tiny==1.0\n", {}, PYTHON, "must have a hash", id="the lock holds no hash"),
    pytest.param(lambda lock: lock.replace("tiny", "tinier"), {}, PYTHON, "tinier was not found", id="a wheel is nowhere"),
    pytest.param(lambda lock: lock, {}, "3.99", "No interpreter found for Python 3.99", id="there is no such Python"),
    pytest.param(
        lambda lock: lock,
        {"PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "UV_HTTP_RETRIES": "0", "UV_INDEX": "http://me:secret@127.0.0.1:9/simple"},
        PYTHON,
        "Connection refused",
        id="the index cannot be reached",
    ),
    pytest.param(lambda lock: lock, {"UV_OFFLINE": "maybe"}, PYTHON, "UV_OFFLINE", id="uv does not take a setting"),
]


@pytest.mark.parametrize(("spoil", "more", "python", "reason"), FAULTS)
def test_what_goes_wrong_is_one_line_and_leaves_nothing(
    tmp_path: Path, spoil: object, more: dict[str, str], python: str, reason: str
) -> None:
    assert callable(spoil)
    home, build = Home(tmp_path / "home"), build_of(tmp_path, spoil(tiny(tmp_path).locked), python=python)
    with pytest.raises(LauncherError) as fault:
        ensure(home, build, progress=Silent(), env=user_env(tmp_path, **more))
    told = fault.value.message + fault.value.hint
    assert reason in fault.value.message
    assert "\n" not in told
    assert "secret" not in told
    assert made(home) == {"tiny-1.0-cpu.lock"}


def test_the_log_is_for_this_user_alone_and_holds_no_password(tmp_path: Path) -> None:
    home, build = Home(tmp_path / "home"), build_of(tmp_path, tiny(tmp_path).locked.replace("tiny", "tinier"))
    places = f"{tmp_path / 'wheels'} http://me:secret@127.0.0.1:9/wheels"
    with pytest.raises(LauncherError) as fault:
        ensure(home, build, progress=Silent(), env=user_env(tmp_path, PIP_FIND_LINKS=places, UV_HTTP_RETRIES="0"))
    log = home.logs / "environment-tiny-1.0-cpu.log"
    assert str(log) in fault.value.hint
    assert log.stat().st_mode & 0o777 == 0o600
    assert "127.0.0.1:9/wheels" in log.read_text()
    assert "secret" not in log.read_text()


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    home, build = Home(tmp_path / "home"), build_of(tmp_path, "# installed: 9900000 MB\n" + tiny(tmp_path).locked)
    with pytest.raises(LauncherError, match=r"needs 9900\.0 GB of disk"):
        ensure(home, build, progress=Silent(), env=user_env(tmp_path))
    assert made(home) == {"tiny-1.0-cpu.lock"}


def test_another_architecture_is_told_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match=r"vllm-0\.32\.0-cpu does not exist for riscv64") as fault:
        ensure(Home(tmp_path / "home"), build_for(vllm, "cpu", arch="riscv64"), progress=Silent(), env={})
    assert fault.value.hint == "supported architectures for it: x86_64"
    assert not (tmp_path / "home").exists()


def test_settings_of_the_project_where_the_user_stands_do_not_leak_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "uv.toml").write_text('required-version = "<0.1"\n')
    monkeypatch.chdir(tmp_path / "project")
    home, build = Home(tmp_path / "home"), build_of(tmp_path, tiny(tmp_path).locked)
    assert ensure(home, build, progress=Silent(), env=user_env(tmp_path)).python.exists()


@contextmanager
def silent_index() -> Iterator[str]:
    """An index that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/simple"


ENSURE = """
import os, sys
from pathlib import Path
from launcher.environments import Build
from launcher.home import Home
from launcher.installing import compile_all, ensure
from launcher.installing import attempts, compile_all, ensure
from launcher.progress import Silent
from launcher.uv import interpreters_path
build = Build("tiny", "1.0", "cpu", "x86_64", sys.argv[3], Path(sys.argv[2]))
ensure(Home(Path(sys.argv[1])), build, progress=Silent(), env=os.environ)
"""


@contextmanager
def hanging(home: Home, build: Build, env: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], psutil.Process]]:
    """A run of its own that waits for the index, and the uv that it waits for."""
    command = [sys.executable, "-c", ENSURE, str(home.root), str(build.lock), build.python]
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as run:
        try:
            yield run, _uv_of(psutil.Process(run.pid))
        finally:
            run.kill()


def _uv_of(run: psutil.Process) -> psutil.Process:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for child in run.children():
            with suppress(psutil.Error):  # the uv that made the interpreter may end while it is looked at
                if "sync" in child.cmdline() and child.name() == "uv":
                    return child
        time.sleep(0.02)
    raise AssertionError("uv never came")


def _ends(process: psutil.Process) -> bool:
    """Whether it ends soon; who collects an orphan's remains, and when, is the system's affair."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with suppress(psutil.ZombieProcess):
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("number", "left"),
    [
        pytest.param(signal.SIGKILL, True, id="a killed run leaves a folder that the next one removes"),
        pytest.param(signal.SIGINT, False, id="an interrupted run leaves nothing"),
    ],
)
def test_uv_ends_with_the_run_and_the_next_run_ends_whole(tmp_path: Path, number: signal.Signals, left: bool) -> None:  # noqa: FBT001  # a column of the table
    home, build, env = Home(tmp_path / "home"), build_of(tmp_path, tiny(tmp_path).locked), user_env(tmp_path)
    with silent_index() as index:
        waiting = {**env, "PIP_NO_INDEX": "", "PIP_INDEX_URL": index, "PIP_TIMEOUT": "60", "PYTHONPATH": str(Path.cwd())}
        with hanging(home, build, waiting) as (run, uv):
            run.send_signal(number)
            run.wait(timeout=10)
            assert _ends(uv)
    assert find(home, build) is None
    assert any(name.startswith(".tiny") for name in made(home)) is left
    assert ensure(home, build, progress=Silent(), env=env) == find(home, build)
    assert made(home) == WHOLE


def test_killed_at_any_moment_the_next_run_ends_whole(tmp_path: Path) -> None:
    """A few rounds of what scripts/soak_installs.py does thirty times with packages of the index."""
    home, build = Home(tmp_path / "home"), build_of(tmp_path, tiny(tmp_path).locked)
    env = {**user_env(tmp_path), "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-c", ENSURE, str(home.root), str(build.lock), build.python]
    chance = random.Random(4)  # noqa: S311 - the same moments each time, not a secret
    for _ in range(4):
        with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as run:
            time.sleep(chance.uniform(0.1, 0.8))
            run.kill()
        found = find(home, build)
        assert found is None or output(found.python, "-c", "import tiny; print(tiny.ANSWER)") == "42\n"
        there = ensure(home, build, progress=Silent(), env=env)
        assert output(there.python, "-c", "import tiny; print(tiny.ANSWER)") == "42\n"
        assert made(home) == WHOLE
        shutil.rmtree(there.path)


def test_a_pytorch_that_cannot_be_imported_is_told_now_and_not_by_a_server(tmp_path: Path) -> None:
    text = b"raise OSError('libgomp.so.1: cannot open shared object file')"
    torch = make_wheel(tmp_path / "wheels", {"torch.py": text}, name="torch", version="2.13.0")
    home, build = Home(tmp_path / "home"), build_of(tmp_path, tiny(tmp_path).locked + torch.locked)
    with pytest.raises(LauncherError, match=r"does not work: import torch: OSError: libgomp\.so\.1"):
        ensure(home, build, progress=Silent(), env=user_env(tmp_path))
    assert made(home) == {"tiny-1.0-cpu.lock"}


def test_what_pytorch_says_of_itself_is_in_the_record(tmp_path: Path) -> None:
    text = made_up_torch("13.0").encode()
    torch = make_wheel(tmp_path / "wheels", {"torch.py": text}, name="torch", version="2.13.0")
    home, build = Home(tmp_path / "home"), build_of(tmp_path, tiny(tmp_path).locked + torch.locked)
    there = ensure(home, build, progress=Silent(), env=user_env(tmp_path))
    assert there.release == Release("1.0", "2.13.0", (13, 0), ("sm_75", "sm_80"))
    assert find(home, build) == there


@pytest.mark.parametrize(
    ("cached", "message"),
    [
        pytest.param(True, "", id="from uv's cache"),
        pytest.param(False, "cannot install tiny-1.0-cpu with what is here: ", id="not without what was never fetched"),
    ],
)
def test_offline_what_is_here_is_enough_or_it_is_told(tmp_path: Path, message: str, *, cached: bool) -> None:
    lock = tiny(tmp_path).locked
    with an_index(tmp_path / "wheels") as address:
        env = user_env(tmp_path, PIP_NO_INDEX="", PIP_FIND_LINKS="", PIP_INDEX_URL=address)
        if cached:
            ensure(Home(tmp_path / "before"), build_of(tmp_path, lock), progress=Silent(), env=env)
    home, build = Home(tmp_path / "home"), build_of(tmp_path, lock)
    if cached:
        assert ensure(home, build, progress=Silent(), env={**env, "UV_OFFLINE": "1"}).python.exists()
        return
    with pytest.raises(LauncherError, match=message) as fault:
        ensure(home, build, progress=Silent(), env={**env, "UV_OFFLINE": "1"})
    assert "without --offline" in fault.value.hint


@contextmanager
def an_index(folder: Path) -> Iterator[str]:
    """An index of the tiny wheels, on this machine."""
    (folder / "simple" / "tiny").mkdir(parents=True)
    links = "".join(f'<a href="/{path.name}">{path.name}</a>' for path in folder.glob("tiny*.whl"))
    (folder / "simple" / "tiny" / "index.html").write_text(links)
    with on_loopback(partial(Quiet, directory=str(folder))) as port:
        yield f"http://127.0.0.1:{port}/simple"


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that says nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        pass


@pytest.mark.parametrize(
    ("accelerator", "settings", "torch_at_hand", "no_index", "expected"),
    [
        pytest.param("cuda", {"UV_FIND_LINKS": "/w"}, False, False, ({},), id="CUDA's torch is in the index"),
        pytest.param("cpu", {}, False, False, ({"UV_TORCH_BACKEND": "cpu"},), id="nothing configured: PyTorch's own index"),
        pytest.param("cpu", {"UV_FIND_LINKS": "/w"}, True, False, ({},), id="a folder holds the torch: nothing else is asked"),
        pytest.param(
            "cpu",
            {"UV_FIND_LINKS": "https://a/w"},
            False,
            False,
            ({}, {"UV_TORCH_BACKEND": "cpu"}),
            id="a place that may hold it goes first",
        ),
        pytest.param(
            "cpu",
            {"UV_INDEX": "https://a/s"},
            False,
            False,
            ({}, {"UV_TORCH_BACKEND": "cpu"}),
            id="so does an index of their own",
        ),
        pytest.param("cpu", {"UV_FIND_LINKS": "/w"}, False, True, ({},), id="without indexes PyTorch's is not asked either"),
    ],
)
def test_where_a_cpu_torch_comes_from(
    accelerator: str, settings: dict[str, str], *, torch_at_hand: bool, no_index: bool, expected: tuple[dict[str, str], ...]
) -> None:
    assert attempts(accelerator, settings, torch_at_hand=torch_at_hand, no_index=no_index) == expected


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        pytest.param("# installed: 2600 MB\n", 2_600_000_000, id="megabytes"),
        pytest.param("six==1.0 \\\n", 0, id="not said"),
        pytest.param("", 0, id="an empty lock"),
    ],
)
def test_the_first_line_of_a_lock_tells_the_size(tmp_path: Path, first: str, expected: int) -> None:
    (tmp_path / "lock.txt").write_text(first)
    assert installed_size(tmp_path / "lock.txt") == expected


def test_pyenvs_shims_give_way_to_the_interpreters_behind_them(tmp_path: Path) -> None:
    pyenv = tmp_path / ".pyenv"
    for version in ("3.11.7", "3.12.1"):
        (pyenv / "versions" / version / "bin").mkdir(parents=True)
    path = os.pathsep.join([str(pyenv / "shims"), "/usr/bin"])
    assert interpreters_path(path, pyenv).split(os.pathsep) == [
        "/usr/bin",
        str(pyenv / "versions" / "3.11.7" / "bin"),
        str(pyenv / "versions" / "3.12.1" / "bin"),
    ]
