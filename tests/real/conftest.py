"""One LAUNCHER_HOME for all real tests: a real environment of vLLM for CPUs and real weights are made in it once."""

import base64
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Machine:
    """A user's machine: a home directory, a folder to stand in, and the launcher."""

    home: Path
    user_home: Path
    here: Path
    programs: Path | None = None

    @property
    def env(self) -> dict[str, str]:
        # pytest's own variable changes with each test, and a spare serves only what sees the variables that it was made with.
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("LAUNCHER_", "HF_", "PYTEST_"))}
        # uv's cache stays where it is: fetching three gigabytes again would prove nothing.
        cache = os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))
        path = os.pathsep.join(filter(None, (str(self.programs or ""), os.environ["PATH"])))
        own = {"LAUNCHER_HOME": str(self.home), "HOME": str(self.user_home), "UV_CACHE_DIR": cache, "PATH": path}
        return {**kept, **own}

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "launcher", *words]
        return subprocess.Popen(command, cwd=self.here, env=self.env | {"PYTHONPATH": str(ROOT)}, text=True, **more)

    def run(self, *words: str, stdin: str = "", code: int = 0) -> str:
        """What the launcher prints on stdout; it must end with `code`."""
        pipe = subprocess.PIPE
        with self.start(*words, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            out, err = process.communicate(stdin, timeout=900)
        assert process.returncode == code, f"launcher {' '.join(words)}: {process.returncode}\n{out}\n{err}"
        return out

    def json(self, *words: str, stdin: str = "", code: int = 0) -> Any:
        return json.loads(self.run(*words, "--json", stdin=stdin, code=code))


@pytest.fixture(scope="session")
def openhands_sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has openhands-sdk."""
    return _environment("openhands-sdk", tmp_path_factory)


@pytest.fixture(scope="session")
def openhands_cli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the openhands command."""
    return _environment("openhands-cli", tmp_path_factory)


@pytest.fixture(scope="session")
def aider(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has aider."""
    return _environment("aider", tmp_path_factory)


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has llm, OpenAI's SDK and LangChain's."""
    return _environment("clients", tmp_path_factory)


@pytest.fixture(scope="session")
def modelscope(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has ModelScope's client."""
    return _environment("modelscope", tmp_path_factory)


@pytest.fixture(scope="session")
def litellm_proxy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has LiteLLM and its proxy."""
    return _environment("litellm-proxy", tmp_path_factory)


@pytest.fixture(scope="session")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has Ray, and the `ray` command beside it."""
    return _environment("ray", tmp_path_factory)


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has Ray Serve and SkyPilot."""
    return _environment("exports", tmp_path_factory)


@pytest.fixture(scope="session")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of programs: the agents that come by npm, each as its lock says, and the node that one of them needs.

    They are unpacked, not installed: no script of theirs runs, and what they could do without is left out.
    """
    npm = shutil.which("npm")
    if not npm or platform.machine() != "x86_64":
        pytest.skip("the agents come by npm, for x86_64, and this machine lacks one of these")
    folder = tmp_path_factory.mktemp("agents")
    lock = json.loads((ROOT / "requirements" / "agents.json").read_text())
    packages = [each["package"] for each in lock.values()]
    subprocess.run(
        [npm, "pack", "--silent", "--pack-destination", str(folder), *packages], check=True, stdout=subprocess.DEVNULL
    )
    packed = {_integrity(path): path for path in folder.glob("*.tgz")}
    programs = folder / "bin"
    programs.mkdir()
    for name, each in lock.items():
        with tarfile.open(packed.pop(each["integrity"])) as archive:
            archive.extractall(folder / name, filter="data")
        (programs / name).symlink_to(folder / name / "package" / each["program"])
    return programs


def _integrity(path: Path) -> str:
    with path.open("rb") as file:
        return "sha512-" + base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()


def _environment(lock: str, folders: pytest.TempPathFactory) -> Path:
    """An environment made from one of the locks."""
    uv = find_uv_bin()
    found = _python_312(uv)
    if not found:
        pytest.skip(f"{lock} needs Python 3.12, and there is none here")
    folder = folders.mktemp(lock)
    python = folder / "bin" / "python"
    subprocess.run([uv, "venv", "-q", "--clear", "-p", found, str(folder)], check=True)
    words = ["pip", "install", "-q", "--require-hashes", "-p", str(python), "-r", str(ROOT / "requirements" / f"{lock}.txt")]
    subprocess.run([uv, *words], check=True)
    return python


def _python_312(uv: str) -> str:
    """One that uv finds, or one of pyenv's, whose shims answer for the chosen version alone."""
    found = subprocess.run([uv, "python", "find", "3.12"], capture_output=True, text=True, check=False).stdout.strip()
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return found or next((str(each) for each in sorted(pyenv.glob("versions/3.12*/bin/python3.12"))), "")


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp("machine")
    made = Machine(home=root / "launcher", user_home=root / "home", here=root / "here")
    made.user_home.mkdir()
    made.here.mkdir()
    yield made
    made.run("down")
