"""Waits with an engine's imports done and becomes a server when it is told to: `python -I spare.py ORDERS IMPORTS WORD...`.

Run by an engine's interpreter, never imported by us. IMPORTS is a JSON list of modules, or of programs' paths; the words are
those of a server like the one to come. ORDERS is a named pipe; one line of JSON is the order: the words after the interpreter's
name (`argv`), the whole environment (`env`) and the log. It ends by itself once the pipe's name is gone.
"""

import importlib
import json
import os
import runpy
import select
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Seconds between two looks whether anybody still knows of it.
LOOK = 20.0


def main(orders: Path, imports: Sequence[str], words: Sequence[str]) -> None:
    """Import, wait, and become what the order says."""
    # What a program prepares for its imports may depend on its options.
    sys.argv = [*words]
    # Open for writing too: whoever gives the order never waits, be the imports done or not.
    pipe = os.open(orders, os.O_RDWR)
    for name in imports:
        try:
            # A program's first level alone: what a child of multiprocessing runs of it.
            if name.endswith(".py"):
                runpy.run_path(name, run_name="__mp_main__")
            else:
                importlib.import_module(name)
        except Exception:  # noqa: BLE001 - the server will fail at the same, where it is read: in its own log
            traceback.print_exc()
    order = wait(pipe, orders)
    if order is not None:
        os.close(pipe)
        orders.unlink(missing_ok=True)
        become(order["argv"], order["env"], order["log"])


def wait(pipe: int, orders: Path) -> Any:
    """The order; None if the pipe was removed."""
    line = b""
    while not line.endswith(b"\n"):
        if select.select([pipe], [], [], LOOK)[0]:
            line += os.read(pipe, 1 << 16)
        elif not orders.exists():
            return None
    return json.loads(line)


def become(argv: Sequence[str], env: dict[str, str], log: str) -> None:
    """Run what `python *argv` would run, in this process."""
    os.environ.clear()
    os.environ.update(env)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    words = [word for word in argv if word != "-I"]
    if words[0] == "-m":
        sys.argv = words[1:]
        # It is imported already; run a second time, as the program.
        sys.modules.pop(words[1], None)
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:])
