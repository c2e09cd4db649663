"""What stands in for docker's program, and its daemon: containers are processes of this machine, which outlive the program.

    python tests/stand_in_docker.py FOLDER WORD...

It takes the words that the launcher says, and no others. A program in a container is always tests/stub_engine.py; where its
port is published, somebody else listens for it. As with a container of root's, nobody but `top` tells which processes it has.
FOLDER holds `images.json` (what it has: by each name what `image inspect` prints), `registry.json` (what it can pull),
`info.json`, `said.jsonl` (each call) and `faults.json`: what a verb prints to stderr and exits with, or for how long it hangs.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

STUB = Path(__file__).with_name("stub_engine.py")
# What an engine starts beside its first process, and shares memory with.
WORKER = """
import mmap, os, time
path = f"/dev/shm/psm_stand_in_{os.getpid()}"
with open(path, "wb+") as file:
    os.unlink(path)
    file.truncate(4096)
    shared = mmap.mmap(file.fileno(), 4096)
time.sleep(3600)
"""
_LOOK = 0.02
_FLAGS = {"--rm", "--init", "--force", "--volumes", "--all"}


def main(folder: Path, words: Sequence[str]) -> int:
    """Do as the words say; the exit code."""
    with (folder / "said.jsonl").open("a") as said:
        said.write(json.dumps(words) + "\n")
    if words[0] == "--host":
        words = words[2:]
    verb, *rest = words
    fault = read(folder / "faults.json").get(verb)
    if fault:
        time.sleep(fault.get("seconds", 0))
        sys.stderr.write(fault.get("text", ""))
        return int(fault.get("code", 0))
    if verb in {"image", "volume", "context"}:
        verb, *rest = f"{verb} {rest[0]}", *rest[1:]
    return int(VERBS[verb](folder, rest))


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def options(words: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The options before the first word that is none, and the rest."""
    found: dict[str, list[str]] = {}
    rest = list(words)
    while rest and rest[0].startswith("-"):
        name = rest.pop(0)
        found.setdefault(name, []).append("" if name in _FLAGS else rest.pop(0))
    return found, rest


def context(folder: Path, _: Sequence[str]) -> int:
    say(os.environ.get("DOCKER_HOST") or f"unix://{folder}/docker.sock")
    return 0


def info(folder: Path, _: Sequence[str]) -> int:
    say(json.dumps(read(folder / "info.json")))
    return 0


def inspect(folder: Path, words: Sequence[str]) -> int:
    name = options(words)[1][0]
    if told := image_of(folder, name):
        say(json.dumps(told))
        return 0
    sys.stderr.write(f"Error response from daemon: No such image: {name}\n")
    return 1


def pull(folder: Path, words: Sequence[str]) -> int:
    name = words[0]
    there = read(folder / "registry.json")
    if name not in there:
        sys.stderr.write(f"Error response from daemon: manifest for {name} not found: manifest unknown: manifest unknown\n")
        return 1
    for stage in ("Pulling fs layer", "Download complete", "Pull complete"):
        for layer in ("4d8b49ca0a1e", "8a1e25ce7c4f"):
            say(f"{layer}: {stage}")
    (folder / "images.json").write_text(json.dumps({**read(folder / "images.json"), name: there[name]}))
    return 0


def image_rm(folder: Path, words: Sequence[str]) -> int:
    """By a name, and its digests with it; by a digest, if no name is left that keeps it."""
    (name,) = words
    there = read(folder / "images.json")
    if image_of(folder, name) is None:
        sys.stderr.write(f"Error response from daemon: No such image: {name}\n")
        return 1
    gone = {name} if name in there else {tag for tag, told in there.items() if name in told["RepoDigests"] and "@" in tag}
    (folder / "images.json").write_text(json.dumps({tag: told for tag, told in there.items() if tag not in gone}))
    return 0


def volume_rm(folder: Path, words: Sequence[str]) -> int:
    (folder / "volumes" / words[0]).unlink(missing_ok=True)
    return 0


def run(folder: Path, words: Sequence[str]) -> int:
    """The foreground: what the container prints, until it ends; a signal goes on to it."""
    told, (image, *arguments) = options(words)
    if image_of(folder, image) is None:
        sys.stderr.write(f"docker: Error response from daemon: No such image: {image}.\nSee 'docker run --help'.\n")
        return 125
    name = told["--name"][0]
    place = folder / "containers" / name
    place.mkdir(parents=True)
    (folder / "volumes").mkdir(exist_ok=True)
    for mount in told["--mount"]:
        if found := re.search(r"type=volume,src=([^,]+)", mount):
            (folder / "volumes" / found[1]).touch()
    (place / "labels").write_text("\n".join(told["--label"]))
    env = {}
    for each in told["--env"]:
        key, given, value = each.partition("=")
        env[key] = value if given else os.environ[key]
    # As if it were another user's: who looks from outside finds no id.
    env.pop("LAUNCHER_SERVER_ID")
    # HOST:PORT:PORT. Inside, it has that port of a network of its own.
    published = told["--publish"][0].rpartition(":")[0]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        own_port = str(taken.getsockname()[1])
    network = {"0.0.0.0": "127.0.0.1", published.rpartition(":")[2]: own_port}  # noqa: S104 - it is taken out
    argv = [sys.executable, str(STUB), *(network.get(word, word) for word in arguments)]
    output = place / "output"
    output.touch()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            # A process of its own, in whose environment nobody finds what the program's has.
            own = [sys.executable, "-I", __file__, str(folder), "keep", name, published, own_port, *argv]
            os.execve(own[0], own, {**env, "PATH": os.environ["PATH"]})  # noqa: S606 - there is no shell, and none is wanted
        os._exit(0)
    os.wait()
    signal.signal(signal.SIGTERM, lambda *_: end(place, signal.SIGTERM))
    with output.open() as printed:
        while True:
            ended = (folder / f"{name}.exit").exists()
            sys.stdout.write(printed.read())
            sys.stdout.flush()
            if ended:
                return int((folder / f"{name}.exit").read_text())
            time.sleep(_LOOK)


def keep(folder: Path, words: Sequence[str]) -> int:
    """The container's own life, whatever becomes of the program: when its first process ends, all of it does."""
    name, published, own_port, *argv = words
    place = folder / "containers" / name
    host, _, port = published.rpartition(":")
    threading.Thread(target=proxy, args=(socket.create_server((host, int(port))), int(own_port)), daemon=True).start()
    with (place / "output").open("ab") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    child = subprocess.Popen(argv, cwd="/", stdin=subprocess.DEVNULL)
    subprocess.Popen([sys.executable, "-I", "-c", WORKER], stdin=subprocess.DEVNULL)
    (place / "pids").write_text(f"{os.getpid()} {child.pid}")
    code = child.wait()
    for pid in inside(place):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    partial = folder / f"{place.name}.ending"
    partial.write_text(str(code if code >= 0 else 128 - code))
    partial.replace(folder / f"{place.name}.exit")
    shutil.rmtree(place)
    return 0


def proxy(listener: socket.socket, port: int) -> None:
    """As docker's own proxy: it takes every connection from the start on, and is no process of the container."""
    while True:
        client, _ = listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", port))
        except OSError:
            client.close()
            continue
        for one, other in ((client, server), (server, client)):
            threading.Thread(target=pass_on, args=(one, other), daemon=True).start()


def pass_on(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while piece := one.recv(1 << 16):
            other.sendall(piece)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)


def inside(place: Path) -> list[int]:
    """The processes of a container: those of its session, but for who keeps it."""
    pids = place / "pids"
    keeper = int(pids.read_text().split()[0]) if pids.exists() else 0
    found = {int(path.name): stat for path in Path("/proc").glob("[0-9]*") if (stat := stat_of(path))}
    session = found[keeper][3] if keeper in found else ""
    return [pid for pid, stat in found.items() if stat[3] == session and pid != keeper and stat[0] != "Z"]


def stat_of(path: Path) -> list[str]:
    """What stands behind the name of a process; nothing for one that has just ended."""
    with suppress(OSError):
        return (path / "stat").read_text().rpartition(")")[2].split()
    return []


def image_of(folder: Path, name: str) -> dict[str, Any] | None:
    found = read(folder / "images.json").items()
    return next((told for known, told in found if name in {known, told["Id"], *told["RepoDigests"]}), None)


def end(place: Path, number: signal.Signals) -> None:
    with suppress(OSError, ValueError, IndexError):
        os.kill(int((place / "pids").read_text().split()[1]), number)


def top(folder: Path, words: Sequence[str]) -> int:
    place = folder / "containers" / words[0]
    say("    PID")
    say("\n".join(f"{pid:7}" for pid in inside(place)))
    return 0 if place.exists() else 1


def stop(folder: Path, words: Sequence[str]) -> int:
    told, (name,) = options(words)
    return finish(folder / "containers" / name, signal.SIGTERM, float(told["-t"][0]))


def rm(folder: Path, words: Sequence[str]) -> int:
    return finish(folder / "containers" / options(words)[1][0], signal.SIGKILL, 0.0)


def finish(place: Path, number: signal.Signals, seconds: float) -> int:
    if not place.exists():
        sys.stderr.write(f"Error response from daemon: No such container: {place.name}\n")
        return 1
    end(place, number)
    deadline = time.monotonic() + seconds
    while place.exists():
        if time.monotonic() > deadline:
            end(place, signal.SIGKILL)
        time.sleep(_LOOK)
    return 0


def ps(folder: Path, words: Sequence[str]) -> int:
    label = options(words)[0]["--filter"][0].removeprefix("label=")
    for place in sorted((folder / "containers").glob("*")):
        labels = (place / "labels").read_text().splitlines()
        if label in labels:
            say(f"{place.name}\t{dict(each.split('=', 1) for each in labels)['launcher.server']}")
    return 0


VERBS = {
    "context inspect": context,
    "info": info,
    "image inspect": inspect,
    "image rm": image_rm,
    "volume rm": volume_rm,
    "pull": pull,
    "run": run,
    "keep": keep,
    "top": top,
    "stop": stop,
    "rm": rm,
    "ps": ps,
}

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
