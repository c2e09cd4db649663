"""Parse, dispatch, print, exit: the only print, the only exit code, the only place where faults are caught."""

import argparse
import errno
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from launcher import __version__
from launcher.errors import LauncherError
from launcher.home import Home

if TYPE_CHECKING:
    from launcher.gpu import Inventory
    from launcher.results import Result
    from launcher.server import ServerSpec
    from launcher.world import World

KNOWN_FAULT = 1
WRONG_USAGE = 2
INTERRUPTED = 130


def main(argv: Sequence[str]) -> int:
    """Run the verb that `argv` names; its exit code."""
    _take_any_encoding()
    try:
        words = _parser().parse_args(argv)
    except _UsageError as error:
        return _usage(error, as_json="--json" in argv)
    verb: Callable[[argparse.Namespace], int] = words.verb
    _end_alike()
    try:
        return verb(words)
    except LauncherError as fault:
        return _fault(fault, as_json=words.json)
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        return _fault(_system_fault(error), as_json=words.json)
    except KeyboardInterrupt:
        _tell("interrupted")
        return INTERRUPTED


def _take_any_encoding() -> None:
    """A terminal without our characters shows others: no reason to fail after the work is done."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _end_alike() -> None:
    """Whatever ends us, what was started is stopped. A shell's background job would ignore SIGINT; nohup means what it says."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def _system_fault(error: OSError) -> LauncherError:
    where = f" ({error.filename})" if error.filename else ""
    return LauncherError(f"{error.strerror}{where}", hint="mend the permissions or the disk's space, and run it again")


# -- verbs: each turns words into values, calls its command and shows the result --


def _up(words: argparse.Namespace) -> int:
    from launcher import host
    from launcher.commands import up
    from launcher.wiring.registry import TARGETS

    host.refuse_platform()
    request = up.UpRequest(
        spec=_spec(words),
        targets={} if words.no_wire else TARGETS,
        config_file=words.config_file,
        register_only=words.register_only,
        port=words.port,
    )
    if words.dry_run:
        with _world() as world:
            result: Result = up.dry_run(world, request)
        return _show(result, as_json=words.json)
    with _world() as world:
        result = up.run(world, request)
    if not words.foreground:
        return _show(result, as_json=words.json)

    def show() -> None:
        _show(result, as_json=words.json)
        _tell("It runs in the foreground: ^C stops it.")

    with _world() as world:
        up.stay(world, result.endpoint.model, show)
    return result.exit_code


def _down(words: argparse.Namespace) -> int:
    from launcher.commands import down

    with _world() as world:
        result = down.run(world, words.name)
    return _show(result, as_json=words.json)


def _ps(words: argparse.Namespace) -> int:
    from launcher.commands import ps

    with _world() as world:
        result = ps.run(world)
    return _show(result, as_json=words.json)


def _logs(words: argparse.Namespace) -> int:
    from launcher.commands import logs

    with _world() as world:
        if not words.follow:
            return _show(logs.run(world, words.name, lines=words.lines), as_json=words.json)
        with suppress(KeyboardInterrupt):  # how one leaves it
            for line in logs.follow(world, words.name, lines=words.lines):
                if not _print(json.dumps({"line": line}) if words.json else line):
                    break
    return 0


def _plan(words: argparse.Namespace) -> int:
    from launcher.commands import plan

    with _world() as world:
        result = plan.run(world, _spec(words), _inventory(words.on))
    return _show(result, as_json=words.json)


def _gpus(words: argparse.Namespace) -> int:
    from launcher.commands import gpus

    return _show(gpus.run(_inventory(None)), as_json=words.json)


def _models(words: argparse.Namespace) -> int:
    from launcher.commands import models

    with _world() as world:
        result = models.run(world, _inventory(words.on))
    return _show(result, as_json=words.json)


def _chat(words: argparse.Namespace) -> int:
    from launcher.commands import chat

    with _world() as world:
        where = chat.endpoint(world, words.model)
    if not sys.stdin.isatty():
        return _show(chat.run(where, sys.stdin.read()), as_json=words.json)
    if words.json:
        raise LauncherError("with --json the question comes on stdin", hint='echo "What is 2 + 2?" | launcher chat --json')
    _tell(f"Talking to {where.model}: ^C stops an answer, ^D ends.")
    for piece in chat.talk(where, lambda: input("> ")):
        print(piece, end="", flush=True)
    print()
    return 0


def _wires(words: argparse.Namespace) -> int:
    from launcher.commands import wires
    from launcher.wiring.registry import TARGETS

    with _world() as world:
        result = wires.run(world, TARGETS)
    return _show(result, as_json=words.json)


def _unwire(words: argparse.Namespace) -> int:
    from launcher.commands import unwire
    from launcher.wiring.registry import TARGETS

    with _world() as world:
        result = unwire.run(world, TARGETS)
    return _show(result, as_json=words.json)


# -- from words to values --


@contextmanager
def _world() -> Iterator["World"]:
    """Everything outside, with a screen on stderr while the work goes on."""
    from launcher import catalogue, preparing, screen
    from launcher.engines.registry import ENGINES
    from launcher.runners import local
    from launcher.world import World

    home, user_home, cwd = _folders()
    with screen.open_screen(sys.stderr) as progress:
        yield World(
            home=home,
            env=os.environ,
            user_home=user_home,
            cwd=cwd,
            profiles=catalogue.shipped(),
            engines=ENGINES,
            inventory=lambda: _inventory(None),
            expect=lambda plan: preparing.expect(home, os.environ, ENGINES, plan),
            prepare=lambda plan, progress: preparing.prepare(home, os.environ, ENGINES, plan, progress),
            runner=local,
            progress=progress,
        )


def _folders() -> tuple[Home, Path, Path]:
    """LAUNCHER_HOME, the user's home and where the user stands; raises LauncherError where one is not known."""
    try:
        return Home.find(os.environ), Path.home(), Path.cwd()
    except RuntimeError as error:
        hint = "set HOME, and LAUNCHER_HOME if it should be elsewhere"
        raise LauncherError(f"no home directory: {error}", hint=hint) from None
    except FileNotFoundError:
        raise LauncherError("the folder you stand in is gone", hint="cd to another one") from None


def _inventory(on: str | None) -> "Inventory":
    from launcher import host, machines

    return machines.inventory_on(on) if on else host.inventory(os.environ)


def _spec(words: argparse.Namespace) -> "ServerSpec":
    from launcher.server import ServerSpec

    return ServerSpec(
        model=words.model or "", engine=words.engine, variant=words.variant, context=words.context, gpus=words.gpus or ()
    )


# -- from results to the terminal --


def _show(result: "Result", *, as_json: bool) -> int:
    shown = json.dumps(result.json(), indent=2, ensure_ascii=False) if as_json else result.text()
    if isinstance(shown, str):
        _print(shown)
        return result.exit_code
    from rich.console import Console

    console = Console(highlight=False)
    with console.capture() as captured:
        # Not cropped: a line that must not be wrapped, since it will be copied, goes beyond the edge.
        console.print(shown, crop=False)
    _print("\n".join(line.rstrip() for line in captured.get().rstrip().splitlines()))
    return result.exit_code


def _print(text: str) -> bool:
    """Print to stdout; whether anybody still reads it (`launcher logs | head`)."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python would complain about it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    except OSError as error:
        raise LauncherError(f"cannot write the output: {error.strerror}", hint="see where it was sent to") from None
    return True


def _tell(text: str) -> None:
    """Say something beside the result: on stderr, if there is one."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def _fault(fault: LauncherError, *, as_json: bool) -> int:
    if as_json:
        _print(json.dumps({"error": {"message": fault.message, "hint": fault.hint}}, ensure_ascii=False))
        return KNOWN_FAULT
    red, plain = ("\033[31m", "\033[0m") if sys.stderr is not None and sys.stderr.isatty() else ("", "")
    _tell(f"{red}error:{plain} {fault.message}")
    if fault.hint:
        _tell(f"hint:  {fault.hint}")
    return KNOWN_FAULT


def _usage(error: "_UsageError", *, as_json: bool) -> int:
    if as_json:
        _print(json.dumps({"error": {"message": str(error), "hint": error.help_line}}, ensure_ascii=False))
    else:
        _tell(f"error: {error}\nhint:  {error.help_line}")
    return WRONG_USAGE


# -- the words --


@dataclass
class _UsageError(Exception):
    """Words that do not parse; `help_line` is what to type to see which do."""

    message: str
    help_line: str

    def __str__(self) -> str:
        return self.message


class _Parser(argparse.ArgumentParser):
    """An argparse parser that raises, so that `main` alone ends the program."""

    def error(self, message: str) -> NoReturn:
        raise _UsageError(message, f"{self.prog} --help")


def _parser() -> _Parser:
    parser = _Parser(prog="launcher", description=_ABOUT, epilog=_CODES, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"launcher {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    up = _verb(verbs, "up", _up, "serve a model, prove it and tell the agents about it")
    _add_model(up)
    _add_choice(up)
    up.add_argument(
        "--config-file",
        type=Path,
        metavar="FILE",
        help="the config.toml to write (./config.toml, else our own)",
    )
    up.add_argument("--register-only", action="store_true", help="add [llm.NAME] to config.toml and leave its [llm] alone")
    up.add_argument("--no-wire", action="store_true", help="write no agent's files")
    up.add_argument("--port", type=_number(1024, 65_535), metavar="N", help="serve on this port from now on (default: 8400)")
    up.add_argument("--foreground", action="store_true", help="stay until ^C, which stops the model")
    up.add_argument("--dry-run", action="store_true", help="show the plan, the command and the edits; touch nothing")
    up.add_argument("--yes", action="store_true", help="ask nothing (nothing is asked without a terminal either)")
    down = _verb(verbs, "down", _down, "stop a model, or all, and leave nothing behind")
    down.add_argument("name", nargs="?", metavar="NAME", help="only this model (default: all)")
    _verb(verbs, "ps", _ps, "what was started here, and how it is")
    logs = _verb(verbs, "logs", _logs, "what an engine wrote")
    logs.add_argument("name", nargs="?", metavar="NAME", help="the model (default: the one that runs)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what it writes from now on")
    logs.add_argument(
        "-n", "--lines", type=_number(0, 10**9), default=200, metavar="N", help="start with the last N lines (default: 200)"
    )
    chat = _verb(verbs, "chat", _chat, "talk to the model in the terminal")
    _add_model(chat)
    plan = _verb(verbs, "plan", _plan, "what would run, and why; on another machine with --on")
    _add_model(plan)
    _add_choice(plan)
    _add_on(plan)
    _verb(verbs, "gpus", _gpus, "the GPUs here, and who holds their memory")
    models = _verb(verbs, "models", _models, "the models there are, and which run here")
    _add_on(models)
    _verb(verbs, "wires", _wires, "which agents were told about the model")
    _verb(verbs, "unwire", _unwire, "give the agents' files back as they were")
    return parser


_ABOUT = "From a bare machine to a working local model behind a coding agent, with one command: launcher up"
_CODES = (
    "Exit codes: 0 done, 1 a known fault, 2 wrong usage, 130 interrupted. "
    "Everything is kept in LAUNCHER_HOME (default: ~/.local/share/model-launcher)."
)


def _verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", allow_abbrev=False
    )
    parser.add_argument("--json", action="store_true", help="print one JSON value on stdout")
    parser.set_defaults(verb=run)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a name that `launcher models` lists")


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", type=_engine, metavar="NAME", help="serve with this engine")
    parser.add_argument("--variant", metavar="NAME", help="a variant of the profile (bf16, fp8, ...)")
    parser.add_argument("--context", type=_context, metavar="TOKENS", help="the context length, as 65536 or 64k")
    parser.add_argument("--gpus", type=_indexes, metavar="LIST", help="use only these GPUs, as 0,1")


def _add_on(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--on", metavar="MACHINE", help="2xA100-80GB, RTX-4090, 2xNAME:48GiB, or a file made by `gpus --json`")


def _engine(text: str) -> str:
    from launcher.engines.registry import ENGINES

    if text not in ENGINES:
        raise argparse.ArgumentTypeError(f"unknown engine {text!r}; known: {', '.join(ENGINES)}")
    return text


def _number(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return number


def _path(text: str) -> Path:
    # A quoted ~, or the one in --config-file=~/x, has not been through the shell's hands.
    return Path(text).expanduser()


def _context(text: str) -> int:
    digits, factor = (text[:-1], 1024) if text.lower().endswith("k") else (text, 1)
    if not digits.isdecimal() or int(digits) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of tokens such as 65536 or 64k")
    return int(digits) * factor


def _indexes(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of GPU numbers such as 0,1")
    return tuple(sorted({int(part) for part in parts}))
