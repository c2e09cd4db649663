"""Starts SGLang: `python -I sglang_start.py OPTIONS`, run by an engine's interpreter and never imported by us.

It adds what SGLang 0.5.23 has no option for: a key that stands in no argument, no log and no process' environment; a CPU build
without the GPU's packages; an end at once where the address is taken; and an end too where the KV pool does not hold one
sequence of the context, which it would report and refuse.
"""

import importlib.abc
import importlib.machinery
import logging
import os
import secrets
import socket
import sys
import types
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

# Where the adapter puts the key; KEY_ON_STDIN stands there once it has moved on.
KEY, KEY_ON_STDIN = "LAUNCHER_API_KEY", "-"
# What SGLang imports on a CPU too, though nothing of it runs there: PyPI's builds are CUDA's, and take gigabytes or do not load
# beside a CPU build of PyTorch. Of vLLM it looks for `rotary_embedding`, and does not call it.
ABSENT = ("torchvision", "triton", "vllm")


class Absent(types.ModuleType):
    """A package that is not there: whatever is asked of it exists, names of classes as classes that can be derived from."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__version__, self.__path__ = "0.0.0", []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made: Any = AbsentClass(name, (Hollow,), {}) if name[0].isupper() else Absent(f"{self.__name__}.{name}")
        setattr(self, name, made)
        return made

    def __call__(self, *words: Any, **options: Any) -> Any:
        """As a decorator, with or without arguments, it leaves what it decorates as it is; nothing else comes of a call."""
        return words[0] if len(words) == 1 and callable(words[0]) and not options else lambda decorated: decorated


class AbsentClass(type):
    """A class of such a package; members of an enumeration are found too."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{cls.__name__}.{name}"


class Hollow:
    """What such a class makes: an object without anything in it."""

    def __init__(self, *_: Any, **__: Any) -> None: ...


class AbsentFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what no other finder found."""

    def find_spec(self, fullname: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        package = fullname.partition(".")[0]
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if package in ABSENT else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Absent:
        return Absent(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """It is complete as it was created."""


def stand_in() -> None:
    """Let imports of absent packages succeed in this process."""
    from transformers.utils import (  # type: ignore[import-not-found]  # only an engine's environment has it
        is_torchvision_available,
        is_torchvision_v2_available,
        is_triton_available,
    )

    # Asked first, it remembers that they are not there: it would take ours for the real ones.
    for known in (is_torchvision_available, is_torchvision_v2_available, is_triton_available):
        known()
    sys.meta_path.append(AbsentFinder())


class Secret(str):
    """A text that is not shown: SGLang logs the repr of its settings. Children, which serve nothing, get a worthless one."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'****'"

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, _: Any) -> "Secret":
        return self

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (secrets.token_urlsafe(32),)


def take_key() -> Secret | None:
    """The key, out of everybody's sight: what a process was started with can be read as long as it runs."""
    key = os.environ.pop(KEY, None)
    if key is None:
        return None
    if key != KEY_ON_STDIN:
        if key.encode() not in Path("/proc/self/environ").read_bytes():
            # A spare: it was told later, where nobody else reads.
            return Secret(key)
        read, write = os.pipe()
        os.write(write, key.encode())
        os.close(write)
        os.dup2(read, 0)
        os.environ[KEY] = KEY_ON_STDIN
        # The same process with another environment; its pid and its session stay.
        os.execve(sys.executable, sys.orig_argv, os.environ)  # noqa: S606 - there is no shell, and none is wanted
    with os.fdopen(os.dup(0)) as pipe:
        taken = Secret(pipe.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    return taken


def refuse_taken(host: str, port: int) -> None:
    """Raise OSError where somebody listens: SGLang would find out in the end, and then wait for minutes for its own warm-up."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind((host, port))


def serve(options: Sequence[str], key: Secret | None) -> None:
    """Run the server until it ends."""
    from sglang.srt.entrypoints import http_server  # type: ignore[import-not-found]  # only its environment has it
    from sglang.srt.server_args import prepare_server_args  # type: ignore[import-not-found]  # the same
    from sglang.srt.utils import kill_process_tree  # type: ignore[import-not-found]  # the same

    def warm_up(settings: Any) -> bool:
        """SGLang's own, but only where a whole sequence fits: otherwise it would serve, and refuse what an agent sends."""
        pool = http_server.get_global_state().scheduler_info["max_total_num_tokens"]
        if pool < settings.context_length:
            logging.getLogger(__name__).error("the KV pool holds %d tokens, the context is %d", pool, settings.context_length)
            kill_process_tree(os.getpid())
        warmed: bool = http_server._execute_server_warmup(settings)  # noqa: SLF001 - the default of the option below
        return warmed

    settings = prepare_server_args(list(options))
    settings.api_key = key
    refuse_taken(settings.host, settings.port)
    try:
        http_server.launch_server(settings, execute_warmup_func=warm_up)
    finally:
        kill_process_tree(os.getpid(), include_parent=False)


def on_cpu(options: Sequence[str]) -> bool:
    """Whether the options are those of a CPU build."""
    return ("--device", "cpu") in pairwise(options)


if __name__ == "__main__":
    the_key = take_key()
# Not for the server alone: a child of multiprocessing runs this file too, with the same options and another name.
if on_cpu(sys.argv):
    stand_in()
if __name__ == "__main__":
    serve(sys.argv[1:], the_key)
