"""Wheels made by hand, so that installing is tested for real and without any index."""

import hashlib
import os
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True)
class Wheel:
    """`tiny==1.0`, and the hash that pins it."""

    requirement: str
    sha256: str

    @property
    def locked(self) -> str:
        return f"{self.requirement} \\\n    --hash=sha256:{self.sha256}\n"


def make_wheel(
    folder: Path, files: Mapping[str, bytes], *, name: str = "tiny", version: str = "1.0", needs: Sequence[str] = ()
) -> Wheel:
    """Put a pure wheel with these files into `folder`; `needs` are the packages that it requires."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    meta = f"{name}-{version}.dist-info"
    required = "".join(f"Requires-Dist: {each}\n" for each in needs)
    described = {
        f"{meta}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}".encode(),
        f"{meta}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    content = {**files, **described}
    record = "".join(f"{each},,\n" for each in [*content, f"{meta}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for each, data in {**content, f"{meta}/RECORD": record.encode()}.items():
            archive.writestr(each, data)
    return Wheel(f"{name}=={version}", hashlib.sha256(path.read_bytes()).hexdigest())


def user_env(tmp_path: Path, **more: str) -> dict[str, str]:
    """A user whose pip knows only a folder of wheels, and whose uv keeps to this test."""
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME")},
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "UV_PYTHON_DOWNLOADS": "never",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "wheels"),
        **more,
    }


def made_up_torch(cuda: str | None) -> str:
    """A module that says of itself what PyTorch 2.13.0 does: for CUDA with code for two architectures, or for CPUs."""
    flags = "    @staticmethod\n    def _cuda_getArchFlags(): return 'sm_75 sm_80'\n"
    return f"__version__ = '2.13.0'\nclass version:\n    cuda = {cuda!r}\nclass _C:\n{flags}"
