"""The named LLM configurations on disk: settings as TOML, each secret in a 0600 file of its own beside them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from launcher import atomic, keys, llm_env, llm_settings
from launcher.client_env import CLIENTS
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.llm import SECRETS
from launcher.llm_settings import Settings


@dataclass(frozen=True, slots=True)
class Kept:
    """What is on disk of one configuration."""

    settings: Settings
    secrets: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Traits:
    """What an agent must know of a model that was served here, beside where and how much: it is kept for when nothing runs."""

    native_tool_calling: bool
    vision: bool
    reasoning_effort: str | None


def names(home: Home) -> tuple[str, ...]:
    """The names of all configurations that have a file."""
    return tuple(path.stem for path in sorted(home.llm.glob("*.toml")))


def path(home: Home, name: str) -> Path:
    """Where the settings of a configuration lie."""
    return home.llm / f"{name}.toml"


def secret_path(home: Home, name: str, secret: str) -> Path:
    """Where a secret of a configuration lies."""
    return home.llm / f"{name}.{secret}"


def load(home: Home, name: str) -> Kept | None:
    """What is kept of a configuration, None if nothing; raises LauncherError for a file that is damaged."""
    try:
        text = path(home, name).read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LauncherError(f"cannot read {path(home, name)}: {error}", hint="mend it, or remove it") from None
    found = {secret: keys.read(secret_path(home, name, secret)) for secret in SECRETS}
    secrets = {secret: text for secret, text in found.items() if text is not None}
    return Kept(llm_settings.read(text, str(path(home, name))), secrets)


def save(home: Home, name: str, settings: Settings, secrets: Mapping[str, str]) -> None:
    """Keep a configuration; secrets that are not given stay as they are. Raises LauncherError if it cannot be written."""
    try:
        home.make().llm.mkdir(mode=0o700, exist_ok=True)
        for secret, text in secrets.items():
            atomic.write(secret_path(home, name, secret), text + "\n")
        atomic.write(path(home, name), llm_settings.write(settings))
    except OSError as error:
        raise LauncherError(f"cannot keep {path(home, name)}: {error.strerror}", hint="mend its permissions") from None


def remove(home: Home, name: str) -> None:
    """Forget a configuration and its secrets."""
    for secret in SECRETS:
        secret_path(home, name, secret).unlink(missing_ok=True)
    for client in CLIENTS:
        env_path(home, name, client).unlink(missing_ok=True)
    path(home, name).unlink(missing_ok=True)


def traits(home: Home, name: str) -> Traits | None:
    """What was noted of a local model; None if nothing, or if the note is damaged: the next `up` makes it again."""
    try:
        return Traits(**json.loads(_traits_path(home, name).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def note(home: Home, name: str, traits: Traits) -> None:
    """Note what is known of a local model; raises LauncherError if it cannot be written."""
    try:
        home.make().llm.mkdir(mode=0o700, exist_ok=True)
        atomic.write(_traits_path(home, name), json.dumps(asdict(traits)) + "\n")
    except OSError as error:
        raise LauncherError(f"cannot write in {home.llm}: {error.strerror}", hint="mend its permissions") from None


def _traits_path(home: Home, name: str) -> Path:
    return home.llm / f"{name}.traits.json"


def env_path(home: Home, name: str, client: str = llm_env.CLIENT) -> Path:
    """Where the environment file of a configuration is written for `docker run --env-file`."""
    return home.llm / (f"{name}.env" if client == llm_env.CLIENT else f"{name}.env-{client}")


def key_in(path: Path) -> str:
    """The key in a file that a person names; raises LauncherError if others may read it, or it holds no key."""
    try:
        open_to_others = path.stat().st_mode & 0o077
    except OSError as error:
        raise LauncherError(f"cannot read the key {path}: {error.strerror}", hint="name a file that holds the key") from None
    if open_to_others:
        raise LauncherError(
            f"{path} may be read by others", hint=f"chmod 600 {path}, and have a new key made if others use this machine"
        )
    try:
        key = keys.read(path)
    except LauncherError as fault:
        raise LauncherError(fault.message, hint="the file must hold the key alone") from None
    return key or ""
