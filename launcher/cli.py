"""Parse, dispatch, print, exit: the only print, the only exit code, the only place where faults are caught."""

import argparse
import errno
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from launcher import words
from launcher.errors import LauncherError
from launcher.home import Home

if TYPE_CHECKING:
    from launcher.derive import Facts
    from launcher.exposure import Change
    from launcher.gpu import Inventory
    from launcher.plan import Plan
    from launcher.prepared import Prepared
    from launcher.profile_weights import Found
    from launcher.progress import Progress
    from launcher.recipe_site import Answer
    from launcher.release import Releases
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
        typed = words.parse(argv)
    except words.UsageError as error:
        return _usage(error, as_json="--json" in argv)
    _end_alike()
    try:
        return _VERBS[typed.verb](typed)
    except LauncherError as fault:
        return _fault(fault, as_json=typed.json)
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        return _fault(_system_fault(error), as_json=typed.json)
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


# -- verbs: each turns what was typed into values, calls its command and shows the result --


def _spread(spec: "ServerSpec", typed: argparse.Namespace) -> "ServerSpec":
    """Where it runs, and how often; raises LauncherError for nodes of no cluster, and a cluster's GPUs by number."""
    from dataclasses import replace

    if typed.nodes and not typed.on_cluster:
        raise LauncherError("--nodes are those of a cluster", hint="--on-cluster ADDRESS names it")
    if typed.on_cluster and typed.gpus:
        raise LauncherError("--gpus are those of this machine", hint="on a cluster Ray chooses them: leave --gpus out")
    return replace(spec, replicas=typed.replicas, cluster=typed.on_cluster, nodes=typed.nodes)


def _up(typed: argparse.Namespace) -> int:
    from launcher import host
    from launcher.commands import up, wire
    from launcher.wiring.registry import TARGETS

    host.refuse_platform()
    request = up.UpRequest(
        spec=_spread(_packed(typed) if typed.pack else _spec(typed), typed),
        targets={} if typed.no_wire else wire.named(("openhands", *typed.wire), TARGETS),
        chosen=frozenset(typed.wire),
        known={} if typed.no_wire else TARGETS,
        config_file=typed.config_file,
        register_only=typed.register_only,
        port=typed.port,
        spare=typed.spare,
        idle_stop=typed.idle_stop,
        keep=typed.keep,
        proof=typed.proof,
        exposure=_exposure(typed),
        fallback=typed.fallback,
    )
    if typed.dry_run:
        with _world(offline=typed.offline, pack=typed.pack) as world:
            result: Result = up.dry_run(world, request)
        return _show(result, as_json=typed.json)
    with _world(offline=typed.offline, pack=typed.pack) as world:
        result = up.run(world, request)
    if not typed.foreground:
        return _show(result, as_json=typed.json)

    def show() -> None:
        _show(result, as_json=typed.json)
        _tell("It runs in the foreground: ^C stops it.")

    with _world() as world:
        up.stay(world, result.endpoint.model, show)
    return result.exit_code


def _packed(typed: argparse.Namespace) -> "ServerSpec":
    """What a pack holds, taken in; options that were typed too must suit it."""
    from dataclasses import replace

    from launcher import packing

    with _world(pack=typed.pack) as world:
        holds = packing.take_in(world, typed.pack.absolute())
    if typed.model not in {None, holds.model}:
        raise LauncherError(f"the pack in {typed.pack} holds {holds.model}", hint="leave the model's name out")
    return replace(_spec(typed), model=holds.model, variant=holds.variant, engine=holds.engine)


def _pack(typed: argparse.Namespace) -> int:
    from launcher import host
    from launcher.commands import pack
    from launcher.server import ServerSpec

    host.refuse_platform()
    spec = ServerSpec(model=typed.model, variant=typed.variant, engine=typed.engine)
    with _world() as world:
        result = pack.run(world, spec, typed.folder.absolute(), _inventory(typed.on))
    return _show(result, as_json=typed.json)


def _down(typed: argparse.Namespace) -> int:
    from launcher.commands import down

    with _world() as world:
        result = down.run(world, typed.name)
    return _show(result, as_json=typed.json)


def _swap(typed: argparse.Namespace) -> int:
    from launcher import host
    from launcher.commands import swap

    host.refuse_platform()
    request = swap.SwapRequest(typed.what, alias=typed.alias, context=typed.context, variant=typed.variant)
    with _world() as world:
        result = swap.run(world, request)
    return _show(result, as_json=typed.json)


def _sleep(typed: argparse.Namespace) -> int:
    from launcher.commands import sleep

    with _world() as world:
        result = sleep.sleep(world, typed.name, level=typed.level)
    return _show(result, as_json=typed.json)


def _wake(typed: argparse.Namespace) -> int:
    from launcher.commands import sleep

    with _world() as world:
        result = sleep.wake(world, typed.name)
    return _show(result, as_json=typed.json)


def _alias(typed: argparse.Namespace) -> int:
    from launcher.commands import alias

    with _world() as world:
        result = alias.run(world, typed.alias, typed.model, remove=typed.remove)
    return _show(result, as_json=typed.json)


def _ps(typed: argparse.Namespace) -> int:
    from launcher.commands import ps

    with _world() as world:
        if typed.watch is None:
            return _show(ps.run(world), as_json=typed.json)
        with suppress(KeyboardInterrupt):  # how one leaves it
            _show_each(ps.watch(world, every=typed.watch), as_json=typed.json)
    return 0


def _serve(typed: argparse.Namespace) -> int:
    from launcher import host
    from launcher.commands import serve

    host.refuse_platform()
    change = _exposure(typed)
    with _world() as world:
        result = serve.run(world, stay=not typed.background, exposure=change)
    return _show(result, as_json=typed.json)


def _enable(typed: argparse.Namespace) -> int:
    from launcher import host
    from launcher.commands import enable

    host.refuse_platform()
    with _world() as world:
        result: Result = enable.dry_run(world) if typed.dry_run else enable.run(world)
    return _show(result, as_json=typed.json)


def _disable(typed: argparse.Namespace) -> int:
    from launcher import host
    from launcher.commands import disable

    host.refuse_platform()
    with _world() as world:
        result = disable.run(world)
    return _show(result, as_json=typed.json)


def _logs(typed: argparse.Namespace) -> int:
    from launcher.commands import logs

    with _world() as world:
        if not typed.follow:
            return _show(logs.run(world, typed.name, lines=typed.lines, previous=typed.previous), as_json=typed.json)
        with suppress(KeyboardInterrupt):  # how one leaves it
            for line in logs.follow(world, typed.name, lines=typed.lines):
                if not _print(json.dumps({"line": line}) if typed.json else line):
                    break
    return 0


def _explain(typed: argparse.Namespace) -> int:
    from launcher.commands import explain

    with _world() as world:
        result = explain.run(world, typed.log, stdin=sys.stdin, engine=typed.engine)
    return _show(result, as_json=typed.json)


def _plan(typed: argparse.Namespace) -> int:
    from launcher.commands import plan

    with _world() as world:
        result = plan.run(world, _spec(typed), _inventory(typed.on))
    return _show(result, as_json=typed.json)


def _export(typed: argparse.Namespace) -> int:
    from dataclasses import replace

    from launcher.commands import export
    from launcher.exporting.registry import EXPORTERS

    with _world() as world:
        spec = replace(_spec(typed), replicas=typed.replicas)
        result = export.run(world, spec, _inventory(typed.on), EXPORTERS[typed.form], base_url=typed.base_url)
    return _show(result, as_json=typed.json)


def _gpus(typed: argparse.Namespace) -> int:
    from launcher.commands import gpus

    if typed.watch is None:
        return _show(gpus.run(_inventory(None)), as_json=typed.json)
    with suppress(KeyboardInterrupt):  # how one leaves it
        _show_each(gpus.watch(lambda: _inventory(None), every=typed.watch), as_json=typed.json)
    return 0


def _models(typed: argparse.Namespace) -> int:
    from launcher.commands import models

    with _world() as world:
        result = models.run(world, _inventory(typed.on))
    return _show(result, as_json=typed.json)


def _models_show(typed: argparse.Namespace) -> int:
    from launcher.commands import models_show

    with _world() as world:
        result = models_show.run(world, typed.model, _inventory(typed.on))
    return _show(result, as_json=typed.json)


def _models_check(typed: argparse.Namespace) -> int:
    from launcher.commands import models_check

    return _show(models_check.run(typed.file), as_json=typed.json)


def _models_add(typed: argparse.Namespace) -> int:
    from launcher.commands import models_add

    with _world() as world:
        result = models_add.run(world, typed.model, with_recipe=typed.recipe)
    return _show(result, as_json=typed.json)


def _pull(typed: argparse.Namespace) -> int:
    from launcher.commands import pull
    from launcher.server import ServerSpec

    spec = ServerSpec(model=typed.model, variant=typed.variant, trust_remote_code=typed.trust_remote_code or "")
    with _world(offline=typed.offline, events=typed.json) as world:
        result: Result = (pull.dry_run if typed.dry_run else pull.run)(world, spec, _inventory(None))
    if typed.json:
        _print(json.dumps(result.json(), ensure_ascii=False))
        return result.exit_code
    return _show(result, as_json=False)


def _models_verify(typed: argparse.Namespace) -> int:
    from launcher.commands import models_verify

    with _world(offline=typed.offline) as world:
        result = models_verify.run(world, typed.model)
    return _show(result, as_json=typed.json)


def _models_rm(typed: argparse.Namespace) -> int:
    from launcher.commands import clean, models_rm

    with _world() as world:
        chosen = models_rm.run(world, typed.model)
    agreed = typed.yes
    if not agreed:
        _show(chosen, as_json=typed.json)
        agreed = not typed.json and sys.stdin.isatty() and _agreed(chosen.question)
    if not agreed:
        return 0
    with _world() as world:
        result = clean.free(world, chosen)
    return _show(result, as_json=typed.json)


def _engines(typed: argparse.Namespace) -> int:
    from launcher.commands import engines

    with _world() as world:
        result = engines.run(world)
    return _show(result, as_json=typed.json)


def _engines_install(typed: argparse.Namespace) -> int:
    from launcher import host
    from launcher.commands import engines_install

    host.refuse_platform()
    with _world(offline=typed.offline) as world:
        install = engines_install.run_image if typed.image else engines_install.run
        result = install(world, typed.engine, version=typed.version, accelerator=typed.build)
    return _show(result, as_json=typed.json)


def _engines_remove(typed: argparse.Namespace) -> int:
    from launcher.commands import engines_remove

    with _world() as world:
        result = engines_remove.run(world, typed.name)
    return _show(result, as_json=typed.json)


def _engines_use(typed: argparse.Namespace) -> int:
    from launcher.commands import engines_use

    with _world() as world:
        result = engines_use.run(world, typed.name)
    return _show(result, as_json=typed.json)


def _engines_add(typed: argparse.Namespace) -> int:
    from launcher.commands import engines_add

    if bool(typed.image) != bool(typed.engine):
        raise LauncherError("--image and --engine go together", hint="launcher engines add NAME --image IMAGE --engine vllm")
    with _world() as world:
        if typed.image:
            result = engines_add.run_image(world, typed.name, typed.image, typed.engine)
        else:
            result = engines_add.run(world, typed.name, typed.python)
    return _show(result, as_json=typed.json)


def _engines_check(typed: argparse.Namespace) -> int:
    from launcher.commands import engines_check

    with _world() as world:
        result = engines_check.run(world, typed.name)
    return _show(result, as_json=typed.json)


def _keys(typed: argparse.Namespace) -> int:
    from launcher.commands import keys

    home, _user, _cwd = _folders()
    return _show(keys.run(home), as_json=typed.json)


def _keys_add(typed: argparse.Namespace) -> int:
    from launcher.commands import keys_add

    home, _user, _cwd = _folders()
    return _show(keys_add.run(home.make(), typed.name, show=typed.show or sys.stdout.isatty()), as_json=typed.json)


def _keys_remove(typed: argparse.Namespace) -> int:
    from launcher.commands import keys_remove

    home, _user, _cwd = _folders()
    return _show(keys_remove.run(home, typed.name), as_json=typed.json)


def _run(typed: argparse.Namespace) -> int:
    from launcher import host
    from launcher.commands import run
    from launcher.running.registry import AGENTS

    host.refuse_platform()
    request = run.RunRequest(agent=typed.agent, words=typed.words, model=typed.model)
    if typed.dry_run:
        with _world() as world:
            result = run.dry_run(world, request, AGENTS)
        return _show(result, as_json=typed.json)
    # The agent has the terminal for itself: nothing of ours is on the screen any more.
    with _world() as world:
        ready = run.ready(world, request, AGENTS)
    return run.run(world, ready)


def _chat(typed: argparse.Namespace) -> int:
    from launcher.commands import chat

    with _world() as world:
        where = chat.endpoint(world, typed.model)
    if not sys.stdin.isatty():
        return _show(chat.run(where, sys.stdin.read()), as_json=typed.json)
    if typed.json:
        raise LauncherError("with --json the question comes on stdin", hint='echo "What is 2 + 2?" | launcher chat --json')
    _tell(f"Talking to {where.model}: ^C stops an answer, ^D ends.")
    for piece in chat.talk(where, lambda: input("> ")):
        print(piece, end="", flush=True)
    print()
    return 0


def _doctor(typed: argparse.Namespace) -> int:
    from launcher import host
    from launcher.commands import doctor

    host.refuse_platform()
    with _world() as world:
        result = doctor.run(world)
    return _show(result, as_json=typed.json)


def _clean(typed: argparse.Namespace) -> int:
    from launcher.commands import clean

    with _world() as world:
        found = clean.run(world)
    if not typed.kind:
        return _show(found, as_json=typed.json)
    chosen = clean.chosen(found, typed.kind, typed.names)
    if chosen.items and not typed.yes:
        if typed.json or not sys.stdin.isatty():
            raise LauncherError(f"{chosen.question} Nobody can be asked here", hint="--yes frees it without asking")
        _show(chosen, as_json=False)
        if not _agreed(chosen.question):
            _tell("Nothing was removed.")
            return 0
    with _world() as world:
        result = clean.free(world, chosen)
    return _show(result, as_json=typed.json)


def _agreed(question: str) -> bool:
    """What a person answers; what was typed before the question came is no answer."""
    import termios

    termios.tcflush(sys.stdin, termios.TCIFLUSH)
    try:
        return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:
        return False


def _llm(typed: argparse.Namespace) -> int:
    from launcher.commands import llm
    from launcher.wiring.registry import TARGETS

    with _world() as world:
        result = llm.run(world, TARGETS)
    return _show(result, as_json=typed.json)


def _llm_show(typed: argparse.Namespace) -> int:
    from launcher.commands import llm_show

    with _world() as world:
        result = llm_show.run(world, typed.name)
    return _show(result, as_json=typed.json)


def _llm_add(typed: argparse.Namespace) -> int:
    from launcher import person
    from launcher.commands import llm_add

    request = llm_add.AddRequest(
        name=typed.name,
        provider=typed.provider,
        model=typed.model,
        words=tuple(typed.fields),
        key_file=typed.key_file,
        key=_key_on_stdin() if typed.key_stdin else None,
        from_env=typed.from_env,
    )
    with _world() as world:
        result = llm_add.run(world, request, person.somebody(typed.json))
    return _show(result, as_json=typed.json)


def _llm_edit(typed: argparse.Namespace) -> int:
    from launcher import configurations, person
    from launcher.commands import llm_edit
    from launcher.wiring.registry import TARGETS

    somebody = person.somebody(typed.json)
    key = _key_on_stdin() if typed.key_stdin else configurations.key_in(typed.key_file) if typed.key_file else None
    if typed.new_key and (key := somebody.secret("New API key")) is None:
        raise LauncherError("nobody can be asked for the key here", hint="--key-stdin or --key-file FILE")
    editor = None if typed.fields or key else somebody.editor(os.environ)
    if not typed.fields and key is None and editor is None:
        raise LauncherError("nothing to change", hint=f"launcher llm edit {typed.name} --set FIELD=VALUE")
    request = llm_edit.EditRequest(typed.name, tuple(typed.fields), key, editor)
    with _world() as world:
        result = llm_edit.run(world, request, TARGETS)
    return _show(result, as_json=typed.json)


def _llm_serve(typed: argparse.Namespace) -> int:
    from launcher import host
    from launcher.commands import llm_serve

    host.refuse_platform()
    with _world() as world:
        result = llm_serve.run(world, typed.name, remove=typed.remove)
    return _show(result, as_json=typed.json)


def _llm_rm(typed: argparse.Namespace) -> int:
    from launcher.commands import llm_rm
    from launcher.wiring.registry import TARGETS

    with _world() as world:
        result = llm_rm.run(world, typed.name, TARGETS)
    return _show(result, as_json=typed.json)


def _llm_env(typed: argparse.Namespace) -> int:
    from launcher.commands import llm_env

    form: llm_env.Form = "docker" if typed.docker else "file" if typed.file else "shell"
    with _world() as world:
        result = llm_env.run(world, typed.name, form=form, client=typed.client, file=typed.file, show_key=typed.show_key)
    return _show(result, as_json=typed.json)


def _llm_test(typed: argparse.Namespace) -> int:
    from launcher.commands import llm_test

    with _world() as world:
        result = llm_test.run(world, typed.name)
    return _show(result, as_json=typed.json)


def _llm_use(typed: argparse.Namespace) -> int:
    from launcher.commands import llm_use
    from launcher.wiring.registry import TARGETS

    request = llm_use.UseRequest(
        name=typed.name,
        agent=typed.agent,
        generation=typed.openhands,
        config_file=typed.config_file,
        register_only=typed.register_only,
        docker=typed.docker,
        proof=typed.proof,
        agent_server=typed.agent_server,
    )
    with _world() as world:
        result = (llm_use.dry_run if typed.dry_run else llm_use.run)(world, request, TARGETS)
    return _show(result, as_json=typed.json)


def _key_on_stdin() -> str:
    """The key that somebody pipes in; raises LauncherError for none, and for more than one line."""
    key = sys.stdin.readline(4096).strip()
    if not key or sys.stdin.read(1).strip() or not key.isprintable():
        raise LauncherError("stdin holds no key", hint="one line with the key alone")
    return key


def _wire(typed: argparse.Namespace) -> int:
    from launcher.commands import wire, wire_check
    from launcher.wiring.registry import TARGETS

    request = wire.WireRequest(
        agents=tuple(typed.agents),
        model=typed.model,
        default=typed.default,
        config_file=typed.config_file,
        docker=typed.docker,
        proof=typed.proof,
    )
    with _world() as world:
        if typed.check:
            result: Result = wire_check.run(world, wire.named(request.agents, TARGETS))
        else:
            result = (wire.dry_run if typed.dry_run else wire.run)(world, request, TARGETS)
    return _show(result, as_json=typed.json)


def _wires(typed: argparse.Namespace) -> int:
    from launcher.commands import wires
    from launcher.wiring.registry import TARGETS

    with _world() as world:
        result = wires.run(world, TARGETS)
    return _show(result, as_json=typed.json)


def _unwire(typed: argparse.Namespace) -> int:
    from launcher.commands import unwire
    from launcher.wiring.registry import TARGETS

    with _world() as world:
        result = unwire.run(world, TARGETS, tuple(typed.agents))
    return _show(result, as_json=typed.json)


_VERBS: Mapping[str, Callable[[argparse.Namespace], int]] = MappingProxyType(
    {
        "up": _up,
        "down": _down,
        "swap": _swap,
        "sleep": _sleep,
        "wake": _wake,
        "alias": _alias,
        "ps": _ps,
        "serve": _serve,
        "enable": _enable,
        "disable": _disable,
        "logs": _logs,
        "explain": _explain,
        "chat": _chat,
        "run": _run,
        "plan": _plan,
        "export": _export,
        "gpus": _gpus,
        "models": _models,
        "models show": _models_show,
        "models check": _models_check,
        "models add": _models_add,
        "models verify": _models_verify,
        "models rm": _models_rm,
        "pull": _pull,
        "pack": _pack,
        "engines": _engines,
        "engines install": _engines_install,
        "engines remove": _engines_remove,
        "engines use": _engines_use,
        "engines add": _engines_add,
        "engines check": _engines_check,
        "keys": _keys,
        "keys add": _keys_add,
        "keys remove": _keys_remove,
        "doctor": _doctor,
        "clean": _clean,
        "llm": _llm,
        "llm list": _llm,
        "llm show": _llm_show,
        "llm add": _llm_add,
        "llm edit": _llm_edit,
        "llm use": _llm_use,
        "llm test": _llm_test,
        "llm rm": _llm_rm,
        "llm serve": _llm_serve,
        "llm env": _llm_env,
        "wire": _wire,
        "wires": _wires,
        "unwire": _unwire,
    }
)


# -- from words to values --


@contextmanager
def _world(*, offline: bool = False, pack: Path | None = None, events: bool = False) -> Iterator["World"]:
    """Everything outside, with a screen on stderr while the work goes on; offline, all that is fetched is what is here.

    `pack`: packages come from this folder alone. `events`: what goes on is told on stdout, as JSON.
    """
    from launcher import catalogue, screen
    from launcher.engines.registry import ENGINES
    from launcher.runners.docker import Docker
    from launcher.world import World

    home, user_home, cwd = _folders()
    env = {**os.environ, **(_OFFLINE if offline else {})}
    if pack:
        from launcher import packing

        env = packing.environment(env, pack.absolute())

    # What these need is imported when they are called: verbs that only read never do.
    def facts(weights: "Found") -> "Facts":
        from launcher import model_facts

        return model_facts.read(weights, home=home, progress=progress, env=env)

    def releases() -> "Releases":
        from launcher import environments

        return environments.releases(home, ENGINES)

    def recipe(repo: str) -> "Answer | str":
        from launcher import recipe_site

        return recipe_site.fetch(repo, env=env)

    def expect(plan: "Plan") -> "Prepared":
        from launcher import preparing

        return preparing.expect(home, env, ENGINES, plan)

    def attend(_: "World") -> None:
        from launcher import background, systemd

        background.attend(home, env, unit_file=lambda: systemd.place(home, env, user_home))

    def prepare(plan: "Plan", progress: "Progress") -> "Prepared":
        from launcher import preparing

        return preparing.prepare(home, env, ENGINES, plan, progress)

    with screen.Events(sys.stdout) if events else screen.open_screen(sys.stderr) as progress:
        yield World(
            home=home,
            env=env,
            user_home=user_home,
            cwd=cwd,
            profiles=(catalogue.shipped(), home.profiles),
            engines=ENGINES,
            inventory=lambda: _inventory(None),
            releases=releases,
            facts=facts,
            recipe=recipe,
            expect=expect,
            prepare=prepare,
            attend=attend,
            runner=Docker(env),
            progress=progress,
        )


# Each program that fetches has a word of its own for it.
_OFFLINE = {"UV_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}


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

    return host.inventory(os.environ) if on is None else machines.inventory_on(on)


def _spec(typed: argparse.Namespace) -> "ServerSpec":
    from launcher.server import ServerSpec

    return ServerSpec(
        model=typed.model or "",
        engine=typed.engine,
        variant=typed.variant,
        context=typed.context,
        gpus=typed.gpus or (),
        tensor=typed.tensor,
        pipeline=typed.pipeline,
        memory_share=typed.memory_share,
        kv_dtype=typed.kv_dtype,
        sessions=typed.sessions,
        speculative=typed.speculative,
        can_sleep=typed.can_sleep,
        engine_args=tuple(typed.engine_arg),
        trust_remote_code=typed.trust_remote_code or "",
    )


def _exposure(typed: argparse.Namespace) -> "Change":
    """What was typed of who may reach the gateway; raises LauncherError for half a pair of files."""
    from launcher.exposure import Change

    files = (typed.tls_cert, typed.tls_key)
    if any(files) and (typed.no_tls or not all(files)):
        raise LauncherError("--tls-cert and --tls-key go together, and --no-tls without them")
    pair = tuple(path.absolute() for path in files) if all(files) else () if typed.no_tls else None

    def several(values: list[str] | None) -> tuple[str, ...] | None:
        return None if values is None else tuple(dict.fromkeys(filter(None, values)))

    return Change(
        hosts=several(typed.host),
        docker=typed.docker,
        names=several(typed.allow_host),
        tls=pair,
        origins=several(typed.cors),
    )


# -- from results to the terminal --


def _show(result: "Result", *, as_json: bool) -> int:
    _print(json.dumps(result.json(), indent=2, ensure_ascii=False) if as_json else _drawn(result))
    return result.exit_code


def _drawn(result: "Result") -> str:
    """The result for people, as lines of text."""
    shown = result.text()
    if isinstance(shown, str):
        return shown
    from rich.console import Console

    console = Console(highlight=False)
    with console.capture() as captured:
        # Not cropped: a line that must not be wrapped, since it will be copied, goes beyond the edge.
        console.print(shown, crop=False)
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())


def _show_each(results: "Iterator[Result]", *, as_json: bool) -> None:
    """Each result in the place of the one before; one after another where stdout is no terminal, a JSON value a line."""
    if as_json or not sys.stdout.isatty():
        for result in results:
            shown = json.dumps(result.json(), ensure_ascii=False) if as_json else f"{_drawn(result)}\n"
            if not _print(shown):
                return
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        for result in results:
            live.update(result.text(), refresh=True)


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


def _usage(error: words.UsageError, *, as_json: bool) -> int:
    if as_json:
        _print(json.dumps({"error": {"message": str(error), "hint": error.help_line}}, ensure_ascii=False))
    else:
        _tell(f"error: {error}\nhint:  {error.help_line}")
    return WRONG_USAGE
