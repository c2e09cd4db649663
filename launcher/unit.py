"""The systemd unit that keeps a home's `launcher serve` at work: its name, its text, and what it passes on. Values only.

What must be escaped is told by systemd.service(5), systemd.exec(5) and systemd.syntax(7).
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from launcher.command import inheritable
from launcher.errors import LauncherError

# `launcher serve` ends with it when it is told to leave: systemd does not start it again. Neither Python nor a shell ends with
# it by itself (EX_TEMPFAIL in sysexits.h).
LEFT = 75
# How long systemd waits before it starts `launcher serve` again, whatever it ended by (seconds). Short, since nobody answers at
# the agents' address meanwhile; not shorter, since one that can never start would take a core for itself.
RESTART = 2

# What `serve` itself goes by: which GPUs it may see, where things are fetched from and kept. What an engine needs stands in its
# wish.
_PASSED_ON = re.compile(r"(CUDA|HF|UV|PIP|SSL)_\w+|(http|https|all|no)_proxy|\w+_CA_BUNDLE|XDG_CACHE_HOME|LD_LIBRARY_PATH")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Unit:
    """What systemd is to start for a home: `root` is the home, `log` the file for what it writes, `python` the interpreter.

    `paths` is the PYTHONPATH that the interpreter needs to find this launcher, "" where it finds it by itself. `up` are the
    words behind `launcher up` for a model that it asks for itself; without any it keeps what was asked for.
    """

    name: str
    root: Path
    python: Path
    log: Path
    paths: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    up: tuple[str, ...] = ()


def name(root: Path, default: Path) -> str:
    """A unit for each home, so that two homes of one user do not meet; the default one's has the plain name."""
    if root == default:
        return "model-launcher.service"
    return f"model-launcher-{hashlib.sha256(bytes(root)).hexdigest()[:8]}.service"


def passed_on(env: Mapping[str, str]) -> dict[str, str]:
    """What of a person's environment `launcher serve` is given; no secrets, and nothing that systemd would not take."""
    return {
        name: value
        for name, value in inheritable(env).items()
        if (_PASSED_ON.fullmatch(name) or _PASSED_ON.fullmatch(name.lower())) and not _unfit(value)
    }


def text(unit: Unit) -> str:
    """The unit's file; raises LauncherError for a path that systemd cannot be told."""
    variables = {"LAUNCHER_HOME": str(unit.root), **({"PYTHONPATH": unit.paths} if unit.paths else {}), **unit.env}
    return _TEXT.format(
        origin=_EXPORTED.format(name=unit.name) if unit.up else _WRITTEN,
        start="\n".join([start_line(unit.python), *_asks(unit)]),
        environment="\n".join(f"Environment={_variable(name, value)}" for name, value in variables.items()),
        log=_specifiers(_fit(str(unit.log))),
        restart=RESTART,
        left=LEFT,
    )


def start_line(python: Path) -> str:
    """The line that says which launcher is started.

    -P: in the folder that systemd starts it in, something else may be called `launcher`.
    """
    return f"ExecStart={_program(python)} serve"


def _program(python: Path) -> str:
    path = _fit(str(python))
    if re.search(r"""["'\\]""", path):
        # systemd's config_parse_exec (core/load-fragment.c) takes no such program, however it is quoted.
        hint = "install the launcher in a folder without quotation marks and backslashes in its path"
        raise LauncherError(f"systemd starts nothing that is called {path}", hint=hint)
    # In the program's own path `$$` would stay what it is: the colon turns variables off instead (systemd 244).
    colon = ":" if "$" in path else ""
    return f'{colon}"{_specifiers(path)}" -P -m launcher'


def _asks(unit: Unit) -> Iterator[str]:
    """The lines that ask for a model once `launcher serve` is at work."""
    if not unit.up:
        return
    yield "# The unit is at work once this model is proven; one that serves already is left alone."
    words = " ".join(_word(word) for word in ("up", *unit.up, "--no-wire", "--yes"))
    yield f"ExecStartPost={_program(unit.python)} {words}"
    yield "# The first time it fetches the engine and the weights."
    yield "TimeoutStartSec=infinity"


def _word(word: str) -> str:
    """A word of a command line: systemd takes quotes, backslashes, $NAME and %n for more than they are."""
    escaped = _fit(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{_specifiers(escaped)}"'


def _variable(name: str, value: str) -> str:
    escaped = _fit(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}={_specifiers(escaped)}"'


def _specifiers(value: str) -> str:
    return value.replace("%", "%%")


def _fit(value: str) -> str:
    if _unfit(value):
        hint = "give that folder another name, or set LAUNCHER_HOME to another one"
        raise LauncherError(f"systemd cannot be told of {value!r}: it takes no control characters, and only UTF-8", hint=hint)
    return value


def _unfit(value: str) -> bool:
    return bool(_CONTROL.search(value)) or value.encode(errors="ignore").decode() != value


_WRITTEN = "# Written by `launcher enable`, which writes it anew; `launcher disable` takes it away."
_EXPORTED = """\
# Made by `launcher export systemd`. As ~/.config/systemd/user/{name}:
#   systemctl --user daemon-reload && systemctl --user enable --now {name}
# and `loginctl enable-linger`, so that it starts with the machine. The key is made by itself, in a file of yours alone."""
_TEXT = """\
{origin}

[Unit]
Description=Keeps local models alive (launcher serve)
# Never given up: what stands in its way today (a disk that is not mounted, a `launcher serve` in a terminal) is gone tomorrow.
StartLimitIntervalSec=0

[Service]
Type=exec
{start}
{environment}
StandardOutput=append:{log}
Restart=always
RestartSec={restart}
# It was told to leave (`launcher disable`): the models run on, and another process looks after them.
SuccessExitStatus={left}
RestartPreventExitStatus={left}
# Engines outlive `launcher serve`: the next one finds them again and restarts none. So its end must not be theirs, be it a
# crash, a newer version or a kill. When it is stopped (`systemctl --user stop`, or the machine goes down), it ends them itself.
KillMode=process
# Which takes it: an engine's answer or its grace, the kill, and the time that a driver takes to give memory back.
TimeoutStopSec=120
# For the same reason an engine that the kernel ends for lack of memory must not take all others with it.
OOMPolicy=continue
# Threads of engines count here, and a machine of many cores has thousands of them.
TasksMax=infinity

[Install]
WantedBy=default.target
"""
