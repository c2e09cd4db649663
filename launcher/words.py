"""The words that may be typed: verbs, options and what each must look like."""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from launcher import __version__
from launcher.clearance import KINDS

# Less than this of a GPU holds no engine.
LEAST_SHARE = 0.05
# Seconds between two looks at the GPUs: what nvidia-smi's users are used to, and more often than memory is taken.
REFRESH = 2.0
# Where an agent server of OpenHands listens unless it is told otherwise.
USUAL_AGENT_SERVER = "http://127.0.0.1:8000"


@dataclass
class UsageError(Exception):
    """Words that do not parse; `help_line` is what to type to see which do."""

    message: str
    help_line: str

    def __str__(self) -> str:
        return self.message


class _Parser(argparse.ArgumentParser):
    """An argparse parser that raises, so that `main` alone ends the program."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"{self.prog} --help")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """What was typed; raises UsageError. After `run`, what stands behind `--` is the agent's, whatever it looks like."""
    if argv[:1] != ["run"] or "--" not in argv:
        return parser().parse_args(argv)
    end = argv.index("--")
    typed = parser().parse_args(argv[:end])
    typed.words = tuple(argv[end + 1 :])
    return typed


def parser() -> "_Parser":
    """What may be typed; raises UsageError instead of ending the program."""
    root = _Parser(prog="launcher", description=_ABOUT, epilog=_CODES, allow_abbrev=False)
    root.add_argument("--version", action="version", version=f"launcher {__version__}")
    verbs = root.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_up(_verb(verbs, "up", "serve a model, prove it and tell the agents about it"))
    down = _verb(verbs, "down", "stop a model, or all, and leave nothing behind")
    down.add_argument("name", nargs="?", metavar="NAME", help="only this model (default: all)")
    _add_swap(_verb(verbs, "swap", "serve by another engine, version or model, behind the same address, key and name"))
    sleep = _verb(verbs, "sleep", "have a model give its GPUs' memory back, to be there again in seconds")
    sleep.add_argument("name", nargs="?", metavar="NAME", help="the model (default: the one that runs)")
    sleep.add_argument(
        "--level",
        type=int,
        choices=(1, 2),
        default=1,
        help="1 keeps the weights in the host's memory, 2 reads them again (vLLM)",
    )
    wake = _verb(verbs, "wake", "have a model that sleeps serve again")
    wake.add_argument("name", nargs="?", metavar="NAME", help="the model (default: the one that sleeps)")
    alias = _verb(verbs, "alias", "other names of models, which agents may ask for")
    alias.add_argument("alias", nargs="?", type=_alias, metavar="NAME", help="the other name (default: list them)")
    alias.add_argument("model", nargs="?", metavar="MODEL", help="the model that it stands for")
    alias.add_argument("--remove", action="store_true", help="it stands for nothing any more")
    ps = _verb(verbs, "ps", "what was started here, and how it is")
    ps.add_argument(
        "--watch", nargs="?", type=_seconds, const=1.0, metavar="SECONDS", help="look again until ^C (every second)"
    )
    logs = _verb(verbs, "logs", "what an engine wrote")
    logs.add_argument("name", nargs="?", metavar="NAME", help="the model (default: the one that runs)")
    which = logs.add_mutually_exclusive_group()
    which.add_argument("-f", "--follow", action="store_true", help="go on with what it writes from now on")
    which.add_argument("--previous", action="store_true", help="of the start before the last")
    logs.add_argument(
        "-n", "--lines", type=_number(0, 10**9), default=200, metavar="N", help="start with the last N lines (default: 200)"
    )
    _add_log(_verb(verbs, "explain", "why an engine ended, from its log, and what to do"))
    chat = _verb(verbs, "chat", "talk to the model in the terminal")
    chat.add_argument(
        "model",
        nargs="?",
        metavar="NAME",
        help="a name that is asked for here: a model that `launcher ps` shows, or an alias (default: the one that runs)",
    )
    _add_run(_verb(verbs, "run", "start a coding agent on the model, with nothing written into its files"))
    _add_plan_verbs(verbs)
    gpus = _verb(verbs, "gpus", "the GPUs here, and who holds their memory")
    gpus.add_argument(
        "--watch", nargs="?", type=_seconds, const=REFRESH, metavar="SECONDS", help=f"look again until ^C (every {REFRESH} s)"
    )
    _add_pull(verbs)
    models = _verb(verbs, "models", "the models there are, and which run here")
    _add_on(models)
    _add_models_verbs(models)
    engines = _verb(verbs, "engines", "the engines' environments, and what each is good for")
    _add_engines_verbs(engines)
    _add_keys_verbs(_verb(verbs, "keys", "the keys that clients may send, by name"))
    _verb(verbs, "doctor", "whether all that a model's start depends on is well, and what to do where it is not")
    _add_clean(verbs)
    _add_keeping_verbs(verbs)
    _add_llm_verbs(_verb(verbs, "llm", "the LLM configurations there are: models here, and models of providers"))
    _add_wire(_verb(verbs, "wire", "tell coding agents of the model, in their own files"))
    _verb(verbs, "wires", "which agents were told about the model")
    unwire = _verb(verbs, "unwire", "give the agents' files back as they were")
    unwire.add_argument("agents", nargs="*", metavar="AGENT", help="only these (default: all)")
    return root


def _add_plan_verbs(verbs: Any) -> None:
    plan = _verb(verbs, "plan", "what would run, and why; on another machine with --on")
    _add_model(plan)
    _add_choice(plan)
    _add_on(plan)
    export = _verb(verbs, "export", "the same plan as another program's file, on stdout: systemd, compose, kubernetes, ...")
    export.add_argument("form", type=_form, metavar="FORM", help="systemd, compose, kubernetes, skypilot, ray, env or litellm")
    export.add_argument("model", metavar="MODEL", help=_WHERE)
    _add_choice(export)
    _add_on(export)
    export.add_argument("--replicas", type=_number(1, 64), metavar="N", help="so many servers that share the requests")
    export.add_argument(
        "--base-url", type=_base_url, metavar="URL", help="for env and litellm: where it answers (default: this machine's own)"
    )


def _add_run(run: argparse.ArgumentParser) -> None:
    run.usage = "%(prog)s [--model MODEL] [--dry-run] AGENT [-- WORD ...]"
    run.add_argument("agent", metavar="AGENT", help="such as opencode, claude or codex; any other word lists them all")
    run.add_argument("--model", metavar="MODEL", help=f"{_WHERE} (default: the one that runs, else what `launcher up` takes)")
    run.add_argument("--dry-run", action="store_true", help="show the command and its files, the key masked; start nothing")
    run.set_defaults(words=())
    run.epilog = "What stands behind `--` goes to the agent. Its exit code is this program's."


def _add_wire(wire: argparse.ArgumentParser) -> None:
    wire.add_argument("agents", nargs="*", metavar="AGENT", help="such as opencode (default: those that are on this machine)")
    wire.add_argument("--model", default="", metavar="NAME", help="a model that was served here (default: the one that runs)")
    wire.add_argument("--default", action="store_true", help="have the agent start with it; unwire brings the old one back")
    wire.add_argument("--config-file", type=Path, metavar="FILE", help="the file of an agent that looks for none itself")
    wire.add_argument(
        "--docker", action="store_true", help="the agent runs in a container: this machine has another name there"
    )
    wire.add_argument("--no-proof", dest="proof", action="store_false", help="do not ask the model to call a tool first")
    what = wire.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="show the edits; touch nothing")
    what.add_argument("--check", action="store_true", help="ask with what stands in each agent's file; touch nothing")


def _add_up(up: argparse.ArgumentParser) -> None:
    _add_model(up)
    _add_choice(up)
    _add_replicas(up)
    up.add_argument(
        "--config-file",
        type=Path,
        metavar="FILE",
        help="the config.toml to write (./config.toml, else our own)",
    )
    up.add_argument("--register-only", action="store_true", help="add [llm.NAME] to config.toml and leave its [llm] alone")
    up.add_argument("--no-wire", action="store_true", help="write no agent's files")
    up.add_argument(
        "--wire", action="append", default=[], metavar="AGENT", help="tell this agent, too (default: OpenHands); see `wire`"
    )
    up.add_argument("--port", type=_number(1024, 65_535), metavar="N", help="serve on this port from now on (default: 8400)")
    up.add_argument(
        "--spare",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep a process with the engine's imports done for the next start (default: if memory allows)",
    )
    up.add_argument("--no-proof", dest="proof", action="store_false", help="do not ask it to call a tool")
    up.add_argument(
        "--idle-stop",
        type=_duration,
        metavar="TIME",
        help="unload it when nobody asked for so long (30m, 2h); a request loads it",
    )
    up.add_argument("--keep", action="store_true", help="never unload it to make room for another model")
    fallback = up.add_mutually_exclusive_group()
    fallback.add_argument(
        "--fallback",
        metavar="NAME",
        help="while it is down, a provider's model answers, one that `launcher llm` lists: requests then leave this machine",
    )
    fallback.add_argument(
        "--no-fallback", dest="fallback", action="store_const", const="", help="take back the fallback that was kept"
    )
    up.add_argument("--foreground", action="store_true", help="stay until ^C, which stops the model")
    up.add_argument("--dry-run", action="store_true", help="show the plan, the command and the edits; touch nothing")
    _add_offline(up)
    up.add_argument(
        "--from", dest="pack", type=_path, metavar="DIR", help="serve what `launcher pack` put there; implies --offline"
    )
    up.add_argument("--yes", action="store_true", help="ask nothing (nothing is asked without a terminal either)")
    _add_exposure(up)


def _add_exposure(verb: argparse.ArgumentParser) -> None:
    """Each option replaces what was kept of it, and has a --no-... that takes it back."""
    group = verb.add_argument_group(
        "beyond this machine",
        "Kept for all starts to come. 127.0.0.1 is served always, in plain HTTP; a key is needed everywhere. "
        "--no-host, --no-docker, --no-allow-host, --no-tls and --no-cors take back what was kept.",
    )

    def several(option: str, kind: Callable[[str], str], metavar: str, about: str) -> None:
        either = group.add_mutually_exclusive_group()
        name = option.replace("-", "_")
        either.add_argument(f"--{option}", dest=name, action="append", type=kind, metavar=metavar, help=about)
        either.add_argument(f"--no-{option}", dest=name, action="store_const", const=[], help=argparse.SUPPRESS)

    several(
        "host", _address, "ADDRESS", "listen on this address of this machine too, as often as needed; 0.0.0.0 is all of them"
    )
    docker = group.add_mutually_exclusive_group()
    docker.add_argument("--docker", action="store_true", default=None, help="let this machine's containers reach it")
    docker.add_argument("--no-docker", dest="docker", action="store_false", help=argparse.SUPPRESS)
    several("allow-host", _host_name, "NAME", "clients may call this machine so, beside its addresses; as often as needed")
    group.add_argument("--tls-cert", type=_path, metavar="FILE", help="the certificate (PEM) for what --host opens")
    group.add_argument("--tls-key", type=_path, metavar="FILE", help="its key")
    group.add_argument("--no-tls", action="store_true", help=argparse.SUPPRESS)
    several("cors", _origin, "ORIGIN", "pages of this origin may ask in a browser, as often as needed (default: none)")


_ABOUT = "From a bare machine to a working local model behind a coding agent, with one command: launcher up"
_CODES = (
    "Exit codes: 0 done, 1 a known fault, 2 wrong usage, 130 interrupted. "
    "Everything is kept in LAUNCHER_HOME (default: ~/.local/share/model-launcher)."
)

_WHERE = "a name that `launcher models` lists, ORGANISATION/MODEL of the hub, modelscope:ORGANISATION/MODEL, or ./FOLDER"


def _verb(verbs: Any, name: str, about: str, *, json: bool | str = False) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", allow_abbrev=False
    )
    parser.add_argument("--json", action="store_true", default=json, help="print one JSON value on stdout")
    return parser


def _add_keeping_verbs(verbs: Any) -> None:
    serve = _verb(verbs, "serve", "keep alive what is wanted, in the foreground (`up` starts this in the background)")
    # What `up` starts: it ends when nothing is wanted any more.
    serve.add_argument("--background", action="store_true", help=argparse.SUPPRESS)
    _add_exposure(serve)
    enable = _verb(verbs, "enable", "have systemd start what is wanted with this machine, and keep it alive")
    enable.add_argument("--dry-run", action="store_true", help="show the unit that would be written; touch nothing")
    _verb(verbs, "disable", "take that back; what runs goes on until the machine goes down")


def _add_clean(verbs: Any) -> None:
    clean = _verb(verbs, "clean", "what takes room on the disk; with a kind, free it")
    clean.add_argument("kind", nargs="?", choices=(*KINDS, "all"), metavar="KIND", help=f"{', '.join(KINDS)} or all")
    clean.add_argument("names", nargs="*", metavar="NAME", help="only these (what lies elsewhere goes only when it is named)")
    clean.add_argument("--yes", action="store_true", help="free it without asking")


def _add_pull(verbs: Any) -> None:
    pull = _verb(verbs, "pull", "fetch a model's weights before they are needed; --json tells each step, an object a line")
    pull.add_argument("model", metavar="MODEL", help=_WHERE)
    pull.add_argument("--variant", metavar="NAME", help="a variant of the profile (default: the one that would be served here)")
    pull.add_argument("--dry-run", action="store_true", help="show what would be fetched, and the room that there is")
    _add_trust(pull)
    _add_offline(pull)
    pack = _verb(verbs, "pack", "make a folder that `up --offline --from DIR` serves on a machine without a network")
    pack.add_argument("model", metavar="MODEL", help=_WHERE)
    pack.add_argument("folder", type=_path, metavar="DIR", help="where; it may be there already")
    pack.add_argument("--variant", metavar="NAME", help="a variant of the profile (default: the one that would be served)")
    pack.add_argument("--engine", type=_engine, metavar="NAME", help="serve with this engine")
    _add_on(pack)


def _add_models_verbs(models: argparse.ArgumentParser) -> None:
    verbs = models.add_subparsers(metavar="VERB")
    # No defaults: they would hide a --json or --on that stands before the inner verb.
    show = _verb(verbs, "show", "all about one model, and its plan here", json=argparse.SUPPRESS)
    show.set_defaults(verb="models show")
    show.add_argument("model", metavar="MODEL", help=_WHERE)
    _add_on(show, default=argparse.SUPPRESS)
    check = _verb(verbs, "check", "whether the file of a profile is sound", json=argparse.SUPPRESS)
    check.set_defaults(verb="models check")
    check.add_argument("file", type=_path, metavar="FILE")
    add = _verb(verbs, "add", "write a profile of your own for a model", json=argparse.SUPPRESS)
    add.set_defaults(verb="models add")
    add.add_argument("model", metavar="ORG/REPO", help="a repository of the hub, or ./FOLDER")
    add.add_argument(
        "--recipe",
        action=argparse.BooleanOptionalAction,
        help="take parsers, versions and options from recipes.vllm.ai, or fail (default: if there is a recipe)",
    )

    verify = _verb(verbs, "verify", "read a model's weights again, and fetch again what is damaged", json=argparse.SUPPRESS)
    verify.set_defaults(verb="models verify")
    verify.add_argument("model", metavar="MODEL", help=_WHERE)
    _add_offline(verify)
    rm = _verb(verbs, "rm", "free what a model's weights take on the disk", json=argparse.SUPPRESS)
    rm.set_defaults(verb="models rm")
    rm.add_argument("model", metavar="MODEL", help=_WHERE)
    rm.add_argument("--yes", action="store_true", help="free it without asking (else it is only shown)")


def _add_engines_verbs(engines: argparse.ArgumentParser) -> None:
    verbs = engines.add_subparsers(metavar="VERB")

    def verb(name: str, about: str) -> argparse.ArgumentParser:
        inner = _verb(verbs, name, about, json=argparse.SUPPRESS)
        inner.set_defaults(verb=f"engines {name}")
        return inner

    install = verb("install", "make the environment of an engine, which `launcher up` does by itself too")
    install.add_argument("engine", type=_engine, metavar="ENGINE", help="such as vllm")
    install.add_argument("--version", type=_version, metavar="V", help="another version than the one this launcher is made for")
    builds = install.add_mutually_exclusive_group()
    for build, about in (("cpu", "the build for CPUs"), ("cuda", "the build for NVIDIA GPUs, on a machine without one too")):
        builds.add_argument(f"--{build}", dest="build", action="store_const", const=build, help=about)
    install.add_argument("--image", action="store_true", help="its makers' image instead, pulled and run by docker")
    _add_offline(install)
    for name, about in (
        ("remove", "free what an environment takes, or forget one that was added"),
        ("use", "serve an engine with this environment from now on"),
        ("check", "whether an environment works, on this driver and these GPUs"),
    ):
        verb(name, about).add_argument("name", metavar="NAME", help="an environment that `launcher engines` lists")
    add = verb("add", "take in an environment of your own, which is never changed")
    add.add_argument("name", metavar="NAME", help="what to call it")
    what = add.add_mutually_exclusive_group(required=True)
    what.add_argument("--python", type=_path, metavar="PATH", help="its interpreter, or its folder")
    what.add_argument("--image", metavar="IMAGE", help="an image for docker, IMAGE:TAG or IMAGE@DIGEST, with --engine")
    add.add_argument("--engine", type=_engine, metavar="NAME", help="what is in the image")


def _add_log(explain: argparse.ArgumentParser) -> None:
    explain.add_argument(
        "log", nargs="?", metavar="FILE|NAME", help="a log of any vLLM or SGLang, - for stdin, or a model that was started here"
    )
    explain.add_argument("--engine", type=_engine, metavar="NAME", help="who wrote it (default: guessed from its lines)")


def _add_swap(swap: argparse.ArgumentParser) -> None:
    swap.description = (
        "While it is got ready, what serves goes on. Both at once where they fit, else requests wait; if the new one does not "
        "prove itself, the old one comes back."
    )
    swap.add_argument("what", metavar="WHAT", help="vllm, sglang, one of them with a version (vllm@0.32.0), or a model")
    swap.add_argument(
        "--for", dest="alias", type=_alias, metavar="NAME", help="the model or alias whose place it takes (default: what runs)"
    )
    swap.add_argument("--context", type=_number(1, 10**9), metavar="TOKENS", help="tokens of context (default: as many as now)")
    swap.add_argument("--variant", metavar="NAME", help="one of the profile's variants (default: the same weights)")


def _alias(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name: letters, digits, and ._:/- between them")
    return text


def _add_keys_verbs(keys: argparse.ArgumentParser) -> None:
    verbs = keys.add_subparsers(metavar="VERB")
    _verb(verbs, "list", "the keys there are", json=argparse.SUPPRESS).set_defaults(verb="keys")
    add = _verb(verbs, "add", "make a key for somebody else, who can then be told apart and shut out", json=argparse.SUPPRESS)
    add.set_defaults(verb="keys add")
    add.add_argument("name", metavar="NAME", help="what to call it, here and in the log")
    add.add_argument("--show", action="store_true", help="print the key, where stdout is no terminal too")
    remove = _verb(verbs, "remove", "take a key away", json=argparse.SUPPRESS)
    remove.set_defaults(verb="keys remove")
    remove.add_argument("name", metavar="NAME", help="a key that `launcher keys` lists")


def _add_llm_verbs(llm: argparse.ArgumentParser) -> None:
    verbs = llm.add_subparsers(metavar="VERB")

    def verb(name: str, about: str) -> argparse.ArgumentParser:
        inner = _verb(verbs, name, about, json=argparse.SUPPRESS)
        inner.set_defaults(verb=f"llm {name}")
        return inner

    def named(name: str, about: str) -> argparse.ArgumentParser:
        inner = verb(name, about)
        inner.add_argument("name", metavar="NAME", help="a configuration that `launcher llm` lists")
        return inner

    verb("list", "the same as `launcher llm`")
    named("show", "all that one says, and what is known of its model")
    add = verb("add", "a model of a provider; what is missing is taken from the usual variables, or asked for")
    add.add_argument("name", metavar="NAME", help="what to call it")
    add.add_argument("--provider", metavar="NAME", help="such as openai or azure; any other word lists them all")
    add.add_argument("--model", metavar="MODEL", help="the model as the provider calls it; for Azure, the deployment")
    add.add_argument("--from-env", action="store_true", help="take the LLM_* variables, as OpenHands reads them")
    edit = named("edit", "change fields, or the key; without words in your editor")
    edit.add_argument("--new-key", action="store_true", help="ask for another key")
    for each in (add, edit):
        each.add_argument(
            "--set",
            dest="fields",
            action="append",
            default=[],
            metavar="FIELD=VALUE",
            help="such as temperature=0.2, as often as needed; FIELD= takes it out, and a wrong one lists all that there are",
        )
        keys = each.add_mutually_exclusive_group()
        keys.add_argument("--key-stdin", action="store_true", help="the key comes as one line on stdin")
        keys.add_argument("--key-file", type=_path, metavar="FILE", help="the key is in this file, which is yours alone")
    use = named("use", "tell an agent of it")
    use.add_argument("--agent", default="openhands", metavar="NAME", help="which agent (openhands)")
    use.add_argument(
        "--openhands",
        choices=("v0", "v1", "cli", "profile", "all"),
        help="this generation, its files made if need be (default: those that are found)",
    )
    use.add_argument("--config-file", type=Path, metavar="FILE", help="the config.toml to write (./config.toml, else our own)")
    use.add_argument("--register-only", action="store_true", help="add [llm.NAME] to config.toml and leave its [llm] alone")
    use.add_argument("--docker", action="store_true", help="the agent runs in a container: this machine has another name there")
    use.add_argument(
        "--agent-server",
        nargs="?",
        const=USUAL_AGENT_SERVER,
        metavar="URL",
        help=f"have a running agent server try it and use it ({USUAL_AGENT_SERVER})",
    )
    use.add_argument("--no-proof", dest="proof", action="store_false", help="do not ask a local model to call a tool first")
    use.add_argument("--dry-run", action="store_true", help="show the edits; touch nothing")
    named("test", "ask it, as OpenHands does: answer, stream, tool call, vision, window")
    serve = named("serve", "let the gateway answer for a provider's model too, under its own name")
    serve.add_argument("--remove", action="store_true", help="it is not served any more")
    named("rm", "forget one and its key")
    env = named("env", "as variables: lines for a shell, a file, or words for docker run")
    env.add_argument(
        "--for",
        dest="client",
        type=_client,
        default="openhands",
        metavar="PROGRAM",
        help="whose variables, LLM_* of OpenHands if nobody's: openai, anthropic, litellm, copilot, open-webui, zed",
    )
    env.add_argument("--docker", action="store_true", help="write a file of yours alone, and print the words of `docker run`")
    env.add_argument("--file", type=_path, metavar="FILE", help="write a file of yours alone, with the key in it")
    env.add_argument("--show-key", action="store_true", help="print the key too")


def _add_offline(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--offline", action="store_true", help="use only what is on this machine already")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL", help=_WHERE)


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", type=_engine, metavar="NAME", help="serve with this engine")
    parser.add_argument("--variant", metavar="NAME", help="a variant of the profile (bf16, fp8, ...)")
    parser.add_argument("--context", type=_context, metavar="TOKENS", help="the context length, as 65536 or 64k")
    parser.add_argument("--gpus", type=_indexes, metavar="LIST", help="use only these GPUs, as 0,1")
    size = _number(1, 64)
    parser.add_argument("--tensor", type=size, metavar="N", help="split each layer over N GPUs")
    parser.add_argument("--pipeline", type=size, metavar="N", help="split the layers over N groups of GPUs, one after another")
    parser.add_argument("--sessions", type=_number(1, 1024), metavar="N", help="sequences of the context that must fit (2)")
    parser.add_argument("--memory-share", type=_share, metavar="0.9", help="the share of each GPU that may be taken")
    parser.add_argument("--kv-dtype", choices=("fp8",), metavar="fp8", help="keep the KV cache in 8 bits: twice the tokens")
    parser.add_argument(
        "--speculative",
        action=argparse.BooleanOptionalAction,
        help="let the model's own heads draft, or not (default: where its profile says so and they fit)",
    )
    parser.add_argument("--can-sleep", action="store_true", help="start it so that it can give the GPU's memory back later")
    parser.add_argument(
        "--engine-arg",
        action="append",
        default=[],
        metavar="OPTION",
        help="an option for the engine itself, with --engine; --engine-arg=--name=value, as often as needed",
    )
    _add_trust(parser)


def _add_replicas(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--replicas", type=_number(1, 64), metavar="N", help="so many servers of it behind the one address; they share requests"
    )
    parser.add_argument(
        "--on-cluster", default="", metavar="ADDRESS", help="on nodes of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT"
    )
    parser.add_argument("--nodes", type=_number(1, 64), metavar="N", help="each server over so many nodes of the cluster")


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust-remote-code",
        type=_commit,
        metavar="COMMIT",
        help="let the code of this commit of the model's repository run with your rights",
    )


def _add_on(parser: argparse.ArgumentParser, *, default: str | None = None) -> None:
    machine = "2xA100-80GB, RTX-4090, 2xNAME:48GiB, '4x(8xH100-80GB)', or a file made by `gpus --json`"
    parser.add_argument("--on", default=default, metavar="MACHINE", help=machine)


def _engine(text: str) -> str:
    from launcher.engines.registry import ENGINES

    if text not in ENGINES:
        raise argparse.ArgumentTypeError(f"unknown engine {text!r}; known: {', '.join(ENGINES)}")
    return text


def _client(text: str) -> str:
    from launcher.client_env import CLIENTS

    if text not in CLIENTS:
        raise argparse.ArgumentTypeError(f"no variables are known of {text!r}; known: {', '.join(CLIENTS)}")
    return text


def _form(text: str) -> str:
    from launcher.exporting.registry import EXPORTERS

    if text not in EXPORTERS:
        raise argparse.ArgumentTypeError(f"unknown form {text!r}; known: {', '.join(EXPORTERS)}")
    return text


def _base_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?/v1", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an address such as http://gpu-box:8000/v1")
    return text


def _version(text: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)*([a-z]+\d+)?(\.(post|dev)\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a version such as 0.31.0")
    return text


def _commit(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{40}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a commit in full, 40 hexadecimal digits")
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


def _address(text: str) -> str:
    from launcher import exposure

    try:
        return exposure.address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address such as 192.168.1.5 or 0.0.0.0") from None


def _host_name(text: str) -> str:
    from launcher import exposure

    try:
        return exposure.host_name(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a name such as gpu-box.example.org, without a port") from None


def _origin(text: str) -> str:
    from launcher import exposure

    try:
        return exposure.origin(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an origin such as https://chat.example.org:8443") from None


def _context(text: str) -> int:
    digits, factor = (text[:-1], 1024) if text.lower().endswith("k") else (text, 1)
    if not digits.isdecimal() or int(digits) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of tokens such as 65536 or 64k")
    return int(digits) * factor


def _share(text: str) -> float:
    if not re.fullmatch(r"0?\.\d{1,3}|1(\.0+)?", text) or float(text) < LEAST_SHARE:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from {LEAST_SHARE} to 1, such as 0.9")
    return float(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,5}(\.\d+)?|\.\d+", text) or not float(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds such as 2 or 0.5")
    return float(text)


def _duration(text: str) -> float:
    found = re.fullmatch(r"(\d{1,5}(?:\.\d+)?)(s|m|h|d)", text)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90s, 30m or 2h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def _indexes(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of GPU numbers such as 0,1")
    return tuple(sorted({int(part) for part in parts}))
