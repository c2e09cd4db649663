"""`LLM_*` environment variables: read as OpenHands reads them, and written so that each of its generations reads the same."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from launcher.llm import DOCKER_HOST, SECRETS, LLMConfig
from launcher.llm_settings import KINDS, Value, fault_of

PREFIX = "LLM_"
# Whose variables these are.
CLIENT = "openhands"
# As openhands-sdk's LLM.load_from_env has them. OpenHands up to 0.62 takes `true` and `1` alone.
_TRUE = ("true", "1", "yes", "on")
# openhands-sdk 1.58 fails on a table in a variable (LLM.load_from_env: a dict's type is not unwrapped).
_UNREADABLE = ("litellm_extra_body",)


# The words of `docker run` that let a container find this machine (docs.docker.com, docker container run: --add-host).
TO_THIS_MACHINE = ("--add-host", f"{DOCKER_HOST}:host-gateway")


@dataclass(frozen=True, slots=True)
class FromEnv:
    """What variables say: fields and secrets, and the names of those that were ignored, with the reason."""

    fields: Mapping[str, Value]
    secrets: Mapping[str, str]
    ignored: tuple[str, ...]


def read(env: Mapping[str, str]) -> FromEnv:
    """Every variable that OpenHands documents, and those it ignores: an empty one, a number that is none, an unknown name."""
    said: dict[str, Value] = {}
    secrets: dict[str, str] = {}
    ignored: list[str] = []
    for variable in sorted(name for name in env if name.startswith(PREFIX)):
        key, text = variable.removeprefix(PREFIX).lower(), env[variable]
        if key in SECRETS and text:
            secrets[key] = text
        elif reason := _ignored(key, text):
            ignored.append(f"{variable} ({reason})")
        else:
            said[key] = _value(key, text)
    return FromEnv(said, secrets, tuple(ignored))


def variables(llm: LLMConfig) -> dict[str, str]:
    """The variables of a configuration, its secrets included, in the order of its fields."""
    told: dict[str, str] = {}
    for each in fields(llm):
        value = getattr(llm, each.name)
        if each.name in KINDS and each.name not in _UNREADABLE and value not in (None, ""):
            told[PREFIX + each.name.upper()] = _text(value)
    if llm.local and llm.reasoning_effort is None:
        told[f"{PREFIX}REASONING_EFFORT"] = "none"  # openhands-sdk's default is "high", and no variable says "send none"
    return told


def secret_names(llm: LLMConfig, variables: Mapping[str, str]) -> frozenset[str]:
    """The variables that hold one of a configuration's secrets."""
    hidden = {getattr(llm, secret) for secret in SECRETS} - {None, ""}
    return frozenset(name for name, text in variables.items() if text in hidden)


def shell(variables: Mapping[str, str], secrets: Mapping[str, str], *, show_key: bool) -> Iterator[str]:
    """Lines for `eval`; `secrets` are the files in which those of the variables lie that are no one else's to see, "" for none.

    Such a one comes out of its file when the shell reads the line, unless it shall be shown.
    """
    for name, text in variables.items():
        if name not in secrets or show_key:
            yield f"export {name}={shlex.quote(text)}"
        elif secrets[name]:
            yield f'export {name}="$(cat {shlex.quote(secrets[name])})"'
        else:
            yield f"# {name} is a secret: --show-key prints it"


def env_file(variables: Mapping[str, str]) -> str:
    """The text that `docker run --env-file` reads: nothing is quoted, a value ends with its line."""
    return "".join(f"{name}={text}\n" for name, text in variables.items())


def docker_words(path: str) -> tuple[str, ...]:
    """The words of `docker run` that give a container these variables and the way to this machine."""
    return (*TO_THIS_MACHINE, "--env-file", path)


def _ignored(key: str, text: str) -> str:
    if key not in KINDS:
        return "OpenHands has no such setting"
    if not text:
        return "it is empty"
    if key in _UNREADABLE:
        return "OpenHands cannot read a table from a variable"
    return fault_of(key, _value(key, text)) or ""


def _value(key: str, text: str) -> Value:
    kind = KINDS[key]
    if kind is bool:
        return text.lower() in _TRUE
    try:
        return kind(text) if kind in {int, float} else text
    except ValueError:
        return text


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
