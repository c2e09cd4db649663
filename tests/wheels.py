"""Wheels made by hand, so that installing is tested for real and without any index."""

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Wheel:
    """`tiny==1.0`, and the hash that pins it."""

    requirement: str
    sha256: str

    @property
    def locked(self) -> str:
        return f"{self.requirement} \\\n    --hash=sha256:{self.sha256}\n"


def make_wheel(folder: Path, files: Mapping[str, bytes], *, name: str = "tiny", version: str = "1.0") -> Wheel:
    """Put a pure wheel with these files into `folder`."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    meta = f"{name}-{version}.dist-info"
    described = {
        f"{meta}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{meta}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    content = {**files, **described}
    record = "".join(f"{each},,\n" for each in [*content, f"{meta}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for each, data in {**content, f"{meta}/RECORD": record.encode()}.items():
            archive.writestr(each, data)
    return Wheel(f"{name}=={version}", hashlib.sha256(path.read_bytes()).hexdigest())
