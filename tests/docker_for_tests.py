"""A docker of a test's own: its program in a folder for the PATH, what it has, and what it was asked."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.engines import vllm
from tests import stand_in_docker

TAG = vllm.IMAGE.name
REFERENCE = "vllm/vllm-openai@sha256:7a0f0fc6e5f6e6d0c1a4a6b1f7d2f0f86c4f4a3f0d5b9f4f2a6f1e9d8c7b6a50"
SIZE = 9_800_000_000
IMAGE: dict[str, Any] = {
    "Id": "sha256:11ab",
    "RepoDigests": [REFERENCE],
    "Size": SIZE,
    "Config": {"Env": ["PATH=/usr/bin", "CUDA_VERSION=13.0.1", "NVIDIA_REQUIRE_CUDA=cuda>=13.0"], "User": ""},
}
INFO: dict[str, Any] = {"ServerVersion": "28.3.2", "Runtimes": {"runc": {}, "nvidia": {}}}


@dataclass(frozen=True)
class OwnDocker:
    """It lies in `folder`."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, *, has: bool = True) -> "OwnDocker":
        """One that can pull vLLM's image, or has it."""
        (folder / "bin").mkdir(parents=True)
        program = folder / "bin" / "docker"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{stand_in_docker.__file__}" "{folder}" "$@"\n')
        program.chmod(0o755)
        made = cls(folder)
        made.keep("registry", {TAG: IMAGE})
        made.keep("images", {TAG: IMAGE} if has else {})
        made.keep("info", INFO)
        return made

    @property
    def daemon(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    @property
    def env(self) -> dict[str, str]:
        """The environment of who has it on the PATH."""
        return {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}

    def keep(self, name: str, content: object) -> None:
        (self.folder / f"{name}.json").write_text(json.dumps(content))

    def fails(self, verb: str, text: str = "", *, code: int = 1, seconds: float = 0.0) -> None:
        """From now on that verb says this, or hangs for so long."""
        self.keep("faults", {verb: {"text": text, "code": code, "seconds": seconds}})

    def heals(self) -> None:
        self.keep("faults", {})

    def clear(self) -> None:
        """End what runs in it, whatever a test left."""
        self.heals()
        for name in self.containers():
            subprocess.run([self.folder / "bin" / "docker", "rm", "--force", name], env=self.env, check=False)

    def images(self) -> set[str]:
        return set(json.loads((self.folder / "images.json").read_text()))

    def containers(self) -> set[str]:
        return {path.name for path in (self.folder / "containers").glob("*")}

    def first(self, container: str) -> int:
        """The first process of a container, as this machine has it."""
        return int((self.folder / "containers" / container / "pids").read_text().split()[1])

    def volumes(self) -> set[str]:
        return {path.name for path in (self.folder / "volumes").glob("*")}

    def said(self, verb: str) -> list[list[str]]:
        """The calls with this word, without the daemon's address."""
        calls = [json.loads(line) for line in (self.folder / "said.jsonl").read_text().splitlines()]
        return [words for words in calls if verb in words[:3]]
