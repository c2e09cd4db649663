#!/usr/bin/env python3
"""Does what a Dockerfile says, step by step, in a folder with a root file system: for machines where no container engine runs.

    debootstrap --variant=minbase --include=ca-certificates,python3-venv,python3-dev bookworm ROOT
    ln -s python3 ROOT/usr/bin/python
    scripts/try_dockerfile.py Dockerfile.gpu ROOT --build-arg ENGINES=vllm --build-arg BUILD=cpu
    scripts/try_dockerfile.py Dockerfile.gpu ROOT --run serve --host 0.0.0.0

As root. What FROM names is not fetched: ROOT stands in for it. `--run` starts ENTRYPOINT with these words at the end. Layers,
volumes and the network's separation are not tried. Variables for pip and certificates, and its folder of wheels, are passed on.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

PASSED = re.compile(r"(PIP|SSL|UV|CURL|REQUESTS)_\w+|https?_proxy|no_proxy", re.IGNORECASE)


def main() -> int:
    """Take the steps; the exit code of what was run in the end."""
    about = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    about.add_argument("file", type=Path)
    about.add_argument("root", type=Path)
    about.add_argument("--build-arg", action="append", default=[])
    about.add_argument("--run", nargs=argparse.REMAINDER)
    typed = about.parse_args()
    state = State(typed.root.resolve(), Path.cwd(), dict(each.split("=", 1) for each in typed.build_arg))
    shutil.copy("/etc/resolv.conf", state.root / "etc" / "resolv.conf")
    for word, rest in steps(typed.file.read_text()):
        if typed.run is None or word in {"ENV", "USER", "WORKDIR", "ENTRYPOINT"}:
            state.step(word, rest)
    return state.inside([*state.entry, *typed.run], replace=True) if typed.run is not None else 0


def steps(text: str) -> list[tuple[str, str]]:
    """Each instruction with its words, comments and continued lines taken out."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    return [(word.upper(), rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


class State:
    """What the steps so far have set."""

    def __init__(self, root: Path, context: Path, args: dict[str, str]) -> None:
        self.root, self.context, self.args = root, context, args
        self.env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.known: dict[str, str] = {}
        self.user, self.folder = "0:0", "/"
        self.entry: list[str] = []

    def step(self, word: str, rest: str) -> None:
        print(f"{word} {rest[:110]}", file=sys.stderr, flush=True)
        match word:
            case "ENV":
                self.env |= {key: self.filled(value) for key, value in (each.split("=", 1) for each in shlex.split(rest))}
            case "ARG":
                name, _, default = shlex.split(rest)[0].partition("=")
                self.known[name] = self.args.get(name, default)
            case "USER":
                self.user = rest.strip()
            case "WORKDIR":
                self.folder = rest.strip()
                (self.root / self.folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "COPY":
                self.copy(shlex.split(rest))
            case "RUN":
                if code := self.inside(["sh", "-c", rest]):
                    raise SystemExit(f"RUN ended with {code}: {rest}")
            case "ENTRYPOINT":
                self.entry = json.loads(rest)

    def filled(self, value: str) -> str:
        return re.sub(r"\$(\w+)", lambda found: self.env.get(found[1], ""), value)

    def copy(self, words: list[str]) -> None:
        """A folder's content goes into the target, as Docker has it."""
        *sources, target = words
        place = self.root / self.folder.lstrip("/") / target
        for source in sources:
            path = self.context / source
            if path.is_dir():
                shutil.copytree(path, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                into = place / path.name if target.endswith("/") else place
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, into)

    def inside(self, words: list[str], *, replace: bool = False) -> int:
        passed = {key: value for key, value in os.environ.items() if PASSED.fullmatch(key)}
        home = "/root" if self.user.startswith("0") else "/home/launcher"
        env = [f"{key}={value}" for key, value in {**passed, **self.known, **self.env, "HOME": home}.items()]
        wheels = [each for each in [os.environ.get("PIP_FIND_LINKS", "")] if Path(each).is_absolute()]
        mounts = [f"mount --bind /{each} {shlex.quote(str(self.root))}/{each}" for each in ("dev", "sys", "etc/ssl")]
        mounts.append(f"mount -t proc proc {shlex.quote(str(self.root))}/proc")
        mounts.append(f"mount -t tmpfs -o mode=1777 shm {shlex.quote(str(self.root / 'dev' / 'shm'))}")
        for each in wheels:
            (self.root / each.lstrip("/")).mkdir(parents=True, exist_ok=True)
            mounts.append(f"mount --bind {each} {shlex.quote(str(self.root))}{each}")
        enter = [
            "chroot",
            f"--userspec={self.user}",
            str(self.root),
            "env",
            "-i",
            *env,
            "sh",
            "-c",
            f'cd {self.folder} && exec "$@"',
        ]
        script = " && ".join([*mounts, f"exec {shlex.join([*enter, 'sh', *words])}"])
        # As in a container, the first process is process 1, and nothing outlives it.
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--", "sh", "-c", script]
        if replace:
            os.execvp(command[0], command)  # noqa: S606 - there is no shell between, and signals reach who runs
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
