"""What a user has told pip, as settings of uv: uv reads neither pip's files nor its variables."""

import configparser
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import LauncherError


@dataclass(frozen=True, slots=True)
class _Setting:
    """pip's `name` sets uv's variables `sets`, unless the user set one of `own`, all that uv reads for the same thing."""

    name: str
    sets: tuple[str, ...]
    own: tuple[str, ...]
    translate: Callable[[str], str] = str.strip


def uv_environment(env: Mapping[str, str], pip_config: Mapping[str, str], *, cpu_build: bool) -> dict[str, str]:
    """The variables to add to uv's environment; what the user told uv itself wins.

    Variables, never arguments: addresses can hold passwords. Wheels of `find-links` may be CPU builds of PyTorch, so that they
    are for CPU builds only, unless pip may use nothing else.
    """
    pip = _pip_options(env, pip_config)
    no_index = _forbids_indexes(pip)
    settings = [*_NETWORK]
    if not no_index:
        settings += _INDEXES
    if cpu_build or no_index:
        settings.append(_FIND_LINKS)
    return {
        variable: setting.translate(pip[setting.name])
        for setting in settings
        if pip.get(setting.name) and not any(env.get(name) for name in setting.own)
        for variable in setting.sets
    }


def uv_options(env: Mapping[str, str], pip_config: Mapping[str, str]) -> tuple[str, ...]:
    """The arguments to add to uv's: what pip knows and uv has no variable for."""
    chosen = any(env.get(name) for setting in _INDEXES for name in setting.own)
    return ("--no-index",) if _forbids_indexes(_pip_options(env, pip_config)) and not chosen else ()


def read_pip_config(env: Mapping[str, str], home: Path, prefix: Path, *, etc: Path = Path("/etc")) -> dict[str, str]:
    """The files of pip's configuration as one mapping of option names to values, [install] above [global].

    `prefix` is the interpreter's. Raises LauncherError for a file that cannot be understood.
    """
    merged: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for path in _files(env, home, prefix, etc):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            # The text of the error may quote a line with a password.
            message = f"pip's configuration {path} cannot be read"
            raise LauncherError(message, hint="`pip config debug` says what is wrong with it") from None
        for section, options in merged.items():
            if parser.has_section(section):
                options.update({_name(key): value for key, value in parser.items(section) if value})
    return merged["global"] | merged["install"]


def _files(env: Mapping[str, str], home: Path, prefix: Path, etc: Path) -> Iterator[Path]:
    """The files that pip reads, the weakest first (pip/_internal/configuration.py, iter_config_files)."""
    chosen = env.get("PIP_CONFIG_FILE", "")
    if chosen == os.devnull:
        return
    yield from (etc / "xdg" / "pip" / "pip.conf", etc / "pip.conf")
    if not (chosen and Path(chosen).exists()):
        yield home / ".pip" / "pip.conf"
        yield Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    yield prefix / "pip.conf"
    if chosen:
        yield Path(chosen)


def _pip_options(env: Mapping[str, str], pip_config: Mapping[str, str]) -> dict[str, str]:
    variables = {_name(key.removeprefix("PIP_")): value for key, value in env.items() if key.startswith("PIP_") and value}
    return {**pip_config, **variables}


def _name(key: str) -> str:
    return key.lower().replace("_", "-").removeprefix("--").replace("default-timeout", "timeout")


def _forbids_indexes(pip: Mapping[str, str]) -> bool:
    return pip.get("no-index", "").lower() in {"1", "true", "yes", "on", "y", "t"}


def _words(text: str) -> str:
    return " ".join(text.split())


def _places(text: str) -> str:
    return ",".join(_place(each) for each in text.split())


def _place(entry: str) -> str:
    """One place of wheels; a relative path is made absolute, since uv runs in another folder."""
    return entry.replace(",", "%2C") if "://" in entry else str(Path(entry).expanduser().absolute())


def _seconds(text: str) -> str:
    """Whole seconds, the only ones that uv takes."""
    try:
        return str(max(1, round(float(text))))
    except ValueError:
        raise LauncherError(f"pip's timeout {text!r} is not a number", hint="mend PIP_TIMEOUT or pip's configuration") from None


# uv 0.13, `uv help pip install` and its EnvVars: UV_FIND_LINKS is split at commas, UV_INDEX and UV_INSECURE_HOST at blanks.
_FIND_LINKS = _Setting("find-links", ("UV_FIND_LINKS",), ("UV_FIND_LINKS",), _places)
_INDEXES = (
    _Setting("index-url", ("UV_DEFAULT_INDEX",), ("UV_DEFAULT_INDEX", "UV_INDEX_URL")),
    _Setting("extra-index-url", ("UV_INDEX",), ("UV_INDEX", "UV_EXTRA_INDEX_URL"), _words),
)
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_NETWORK = (
    _Setting("trusted-host", ("UV_INSECURE_HOST",), ("UV_INSECURE_HOST",), _words),
    _Setting("cert", ("SSL_CERT_FILE",), ("SSL_CERT_FILE",)),
    _Setting("timeout", ("UV_HTTP_TIMEOUT",), ("UV_HTTP_TIMEOUT", "UV_REQUEST_TIMEOUT", "HTTP_TIMEOUT"), _seconds),
    _Setting("proxy", _PROXIES, (*_PROXIES, *map(str.lower, _PROXIES))),
)
