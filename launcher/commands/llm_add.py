"""`launcher llm add`: a configuration of a provider's model, from what was typed, the usual variables, and questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from launcher import configurations, litellm_list, llm_env, llm_settings, store
from launcher.commands.llm_show import remarks
from launcher.errors import LauncherError
from launcher.llm import SECRETS
from launcher.llm_settings import Settings, Value, configured, refuses_name
from launcher.providers import PROVIDERS, Provider, address_fault, guess, with_prefix
from launcher.results import copied
from launcher.verified import VERIFIED, beginning_with, said_of
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


class Person(Protocol):
    """Who can be asked; without a terminal nobody answers, and None comes back."""

    def say(self, question: str, choices: Sequence[str] = ()) -> str | None:
        """What a person types; `choices` are completed."""

    def secret(self, question: str) -> str | None:
        """What a person types without its being shown."""


@dataclass(frozen=True, slots=True)
class AddRequest:
    """What was typed: `words` are FIELD=VALUE; `key_file` is a file that holds the key alone, `key` came on stdin."""

    name: str
    provider: str | None = None
    model: str | None = None
    words: tuple[str, ...] = ()
    key_file: Path | None = None
    key: str | None = field(default=None, repr=False)
    from_env: bool = False


@dataclass(frozen=True, slots=True)
class LLMAddResult:
    """What was kept, and what a person should know of it."""

    name: str
    model: str
    path: Path
    secrets: Mapping[str, str]
    notes: tuple[str, ...]
    exit_code: int = 0

    def json(self) -> object:
        keys = dict(self.secrets)
        return {"name": self.name, "model": self.model, "file": str(self.path), "secrets": keys, "notes": list(self.notes)}

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        head = Text.assemble(("✓ ", "green"), (self.name, "bold"), f": {self.model}")
        kept = [Text(f"  {secret} {where}", "dim") for secret, where in self.secrets.items()]
        lines = [Text(f"! {note}", "yellow") for note in self.notes]
        after = [copied(f"  launcher llm test {self.name}"), copied(f"  launcher llm use {self.name} --agent openhands")]
        return Group(head, copied(f"  {self.path}"), *kept, *lines, *after)


def run(world: World, request: AddRequest, person: Person) -> LLMAddResult:
    """Keep a new configuration; raises LauncherError for what is missing and cannot be asked for."""
    _refuse_name(world, request.name)
    env = llm_env.read(world.env) if request.from_env else llm_env.FromEnv({}, {}, ())
    said: dict[str, Value] = {**env.fields, **{key: llm_settings.cast(key, text) for key, text in _typed(request)}}
    key, provider = _provider(request, said, person)
    said["model"] = _model(provider, request.model or str(said.get("model", "")), person)
    said |= _needs(world.env, provider, said, person)
    secrets, where = _secrets(world, request, provider, env.secrets, person)
    if fault := address_fault(key, str(said.get("base_url", ""))) if said.get("base_url") else None:
        raise LauncherError(fault, hint=f"base_url is {provider.address or 'left out'}; see {provider.guide}")
    settings = Settings(key, said)
    configured(request.name, settings, secrets)
    configurations.save(world.home, request.name, settings, secrets)
    model = str(said["model"])
    listed = litellm_list.look_up(model)
    notes = (*(f"{each} was ignored" for each in env.ignored), *_doubts(provider, model, known=listed is not None))
    return LLMAddResult(
        request.name,
        model,
        configurations.path(world.home, request.name),
        where,
        (*notes, *remarks(provider, listed, said_of(model))),
    )


def known_models(provider: Provider) -> tuple[str, ...]:
    """The models that may be meant: those that OpenHands verified, the newest list first, then LiteLLM's own list."""
    newest_first = sorted(VERIFIED, key=lambda each: each.date, reverse=True)
    verified = [each.model for each in newest_first if each.model.startswith(f"{provider.prefix}/")]
    return tuple(dict.fromkeys([*verified, *litellm_list.models(provider.prefix)]))


def _refuse_name(world: World, name: str) -> None:
    if fault := refuses_name(name):
        raise LauncherError(fault, hint="such as cloud, or gpt-6")
    if configurations.path(world.home, name).exists():
        raise LauncherError(
            f"there is a configuration {name} already", hint=f"launcher llm edit {name}, or launcher llm rm {name}"
        )
    if any(server.name == name for server in store.look(world.home)[0]):
        raise LauncherError(
            f"{name} is a model that is served here", hint="another name, or `launcher llm edit` for its settings"
        )


def _typed(request: AddRequest) -> list[tuple[str, str]]:
    return list(llm_settings.pairs(request.words))


def _provider(request: AddRequest, said: Mapping[str, Value], person: Person) -> tuple[str, Provider]:
    model = request.model or str(said.get("model", ""))
    own = "compatible" if said.get("base_url") and model.startswith("openai/") else guess(model)
    key = request.provider or own or person.say("Provider", tuple(PROVIDERS))
    if key is None:
        raise LauncherError("which provider?", hint=f"--provider, one of {', '.join(PROVIDERS)}")
    if key not in PROVIDERS:
        closest = get_close_matches(key, PROVIDERS, n=1)
        hint = f"closest: {closest[0]}; " if closest else ""
        raise LauncherError(f"unknown provider {key!r}", hint=f"{hint}known: {', '.join(PROVIDERS)}")
    return key, PROVIDERS[key]


def _model(provider: Provider, typed: str, person: Person) -> str:
    known = known_models(provider)
    typed = typed or person.say(f"Model ({provider.model})", [each.removeprefix(f"{provider.prefix}/") for each in known]) or ""
    if not typed:
        some = ", ".join(each.removeprefix(f"{provider.prefix}/") for each in known[:5])
        raise LauncherError("which model?", hint=f"--model, {provider.model}" + (f", such as {some}" if some else ""))
    return with_prefix(provider, typed)


def _needs(env: Mapping[str, str], provider: Provider, said: Mapping[str, Value], person: Person) -> dict[str, Value]:
    """The fields that a provider needs, or usually has a variable for; what nobody says is missing."""
    found: dict[str, Value] = {}
    for key in dict.fromkeys([*provider.needs, *provider.usual]):
        if key in said or key in SECRETS:
            continue
        text = next((env[name] for name in provider.usual.get(key, ()) if env.get(name)), None)
        if text is None and key in provider.needs:
            text = person.say(provider.address if key == "base_url" and provider.address else key)
            if not text:
                variables = " or ".join(provider.usual.get(key, ()))
                hint = (
                    f"--set {key}=..."
                    + (f", or {variables} in the environment" if variables else "")
                    + f"; see {provider.guide}"
                )
                raise LauncherError(f"{provider.title} needs {key}", hint=hint)
        if text:
            found[key] = llm_settings.cast(key, text)
    return found


def _secrets(
    world: World, request: AddRequest, provider: Provider, from_env: Mapping[str, str], person: Person
) -> tuple[dict[str, str], dict[str, str]]:
    """The secrets and, for each, where it came from."""
    found: dict[str, str] = dict(from_env)
    where = dict.fromkeys(from_env, "from LLM_* in the environment")
    for secret, variables in provider.usual.items():
        variable = next((each for each in variables if world.env.get(each)), None)
        if secret in SECRETS and secret not in found and variable:
            found[secret], where[secret] = world.env[variable], f"from {variable} in the environment"
    if request.key_file:
        found["api_key"], where["api_key"] = configurations.key_in(request.key_file), f"from {request.key_file}"
    elif request.key:
        found["api_key"], where["api_key"] = request.key, "from stdin"
    elif provider.key and "api_key" not in found and (typed := person.secret(f"API key of {provider.title}")):
        found["api_key"], where["api_key"] = typed, "as you typed it"
    if provider.key and not found.get("api_key"):
        usual = " or ".join(provider.usual.get("api_key", ()))
        hint = f"--key-stdin, --key-file FILE, or {usual} in the environment: a key is never an option"
        raise LauncherError(f"{provider.title} needs a key", hint=hint)
    return found, {secret: f"{text}, kept in a file of its own (0600)" for secret, text in where.items()}


def _doubts(provider: Provider, model: str, *, known: bool) -> list[str]:
    """A name that no list has may be new, or wrong."""
    if known or said_of(model) or not provider.paid or provider.prefix in {"azure", "openhands"}:
        return []
    bare = model.removeprefix(f"{provider.prefix}/")
    models = [each.removeprefix(f"{provider.prefix}/") for each in known_models(provider)]
    close = beginning_with(bare, tuple(models))[:3] or tuple(get_close_matches(bare, models, n=3))
    return [f"no list has {model}" + (f"; close to it: {', '.join(close)}" if close else "") + "."]
