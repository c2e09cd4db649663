"""Which LLM configurations there are, local and remote, and where an agent on this machine would read one."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher import configurations, keys, store
from launcher.configurations import Traits
from launcher.endpoint import Endpoint
from launcher.errors import LauncherError
from launcher.llm import LLMConfig, effort
from launcher.llm_settings import configured
from launcher.profile import Profile
from launcher.server import Server, State, state_now
from launcher.wiring.base import Place
from launcher.world import World


@dataclass(frozen=True, slots=True)
class Told:
    """A configuration, and of a local one the state of its server; `said` are the fields that a person set."""

    llm: LLMConfig
    said: tuple[str, ...] = ()
    state: State | None = None


def names(world: World) -> tuple[str, ...]:
    """The names of all configurations: of every model that was ever served here, and of those that a person added."""
    return tuple(sorted({server.name for server in store.look(world.home)[0]} | set(configurations.names(world.home))))


def told(world: World, name: str) -> Told:
    """A configuration by its name; raises LauncherError if there is none, or if what is kept of it is damaged."""
    server = store.find(world.home, name)
    if server is not None:
        kept = configurations.load(world.home, name)
        alive = server.handle is not None and world.runner.alive(server.handle)
        said = tuple(kept.settings.fields) if kept else ()
        return Told(_of_server(world, server), said, state_now(server, alive=alive)[0])
    kept = configurations.load(world.home, name)
    if kept is None or kept.settings.provider == "local":
        there = ", ".join(names(world)) or "none"
        raise LauncherError(
            f"there is no LLM configuration called {name!r}; there are: {there}",
            hint="`launcher up MODEL` makes a local one, `launcher llm add NAME` one of a provider",
        )
    return Told(configured(name, kept.settings, kept.secrets), tuple(kept.settings.fields))


def traits(profile: Profile, engine: str) -> Traits:
    """What a profile says of a model on an engine."""
    return Traits(engine in profile.tool_parser, profile.architecture.vision, effort(profile.reasoning_parser))


def local(world: World, endpoint: Endpoint, traits: Traits) -> LLMConfig:
    """What agents are told of a model that is served here, with what a person said of it."""
    base = LLMConfig.of(
        endpoint,
        native_tool_calling=traits.native_tool_calling,
        vision=traits.vision,
        reasoning_effort=traits.reasoning_effort,
    )
    kept = configurations.load(world.home, endpoint.model)
    if kept is None or kept.settings.provider != "local":
        return base
    return configured(endpoint.model, kept.settings, {}, base)


def place(
    world: World,
    *,
    config_file: Path | None = None,
    register_only: bool = False,
    chosen: frozenset[str] = frozenset(),
    docker: bool = False,
    default: bool = False,
) -> Place:
    """Where agents are configured; OpenHands in the config.toml that was named, the one of this folder, or one of our own."""
    here = world.cwd / "config.toml"
    file = config_file or (here if here.exists() else world.home.openhands_config)
    return Place(
        home=world.user_home,
        config_file=world.cwd / file,
        register_only=register_only,
        env=world.env,
        programs=_programs(world.env),
        chosen=chosen,
        docker=docker,
        default=default,
        named=world.cwd / config_file if config_file else None,
        own=world.home.agents,
    )


def _of_server(world: World, server: Server) -> LLMConfig:
    endpoint = Endpoint(
        server.name, store.address(world.home), keys.read(world.home.key) or "", store.window(world.home, server)
    )
    known = configurations.traits(world.home, server.name)
    return local(world, endpoint, known or Traits(native_tool_calling=False, vision=False, reasoning_effort=None))


def _programs(env: Mapping[str, str]) -> frozenset[str]:
    from launcher.wiring.registry import TARGETS  # what only asks for a configuration needs no agent's adapter

    names = {name for target in TARGETS.values() for name in target.PROGRAMS}
    return frozenset(name for name in names if shutil.which(name, path=env.get("PATH")))
