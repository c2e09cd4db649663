"""Where an agent's files lead: the address and the key that stand now where ours were put."""

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from launcher.errors import LauncherError
from launcher.keys import PREFIX
from launcher.llm import docker_url
from launcher.wiring.apply import Wired
from launcher.wiring.jsonc import JSON
from launcher.wiring.slots import read
from launcher.wiring.yaml_rows import YAML

# Before a key that is a header.
_BEARER = "Bearer "
_Step = str | None
"""A key, or any item of a list: others may have put theirs before ours."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """What an agent would ask with; `base_url` ends in /v1."""

    model: str
    base_url: str
    api_key: str = field(repr=False)


def pointer(wired: Iterable[Wired], texts: Iterable[str | None], key: str) -> Pointer | str:
    """Where the files of one target, wired together, lead now; or why that cannot be said.

    `texts` is what is in them, `key` the one that was put into them. Raises LauncherError for what cannot be understood.
    """
    files = [(each, _tree(each, each.after), _tree(each, text)) for each, text in zip(wired, texts, strict=True)]
    first = files[0][0]
    origin = first.base_url.removesuffix("/v1")
    forms = {first.base_url, origin, docker_url(first.base_url), docker_url(origin)}
    address = next(_there_now(files, forms), None)
    if address is None:
        return "our address is gone from it"
    keys = {key, f"{_BEARER}{key}"}
    secret = next(_there_now(files, keys), None)
    if not any(_is_key(value, keys) for _, after, _ in files for _, value in _leaves(after, ())):
        secret = key  # one that none of its files takes comes from where the person has put it
    if secret is None:
        return "the key of this launcher does not stand in it: wire it again"
    return Pointer(first.name, address if address.endswith("/v1") else f"{address}/v1", secret.removeprefix(_BEARER))


def _is_key(value: str, keys: set[str]) -> bool:
    """Whether a value is a key of a launcher: this one, or one from before."""
    return value in keys or value.removeprefix(_BEARER).startswith(PREFIX)


def _there_now(files: Iterable[tuple[Wired, Any, Any]], values: set[str]) -> Iterator[str]:
    """What stands now where these values were put: themselves first."""
    found = [
        each for _, after, now in files for path, value in _leaves(after, ()) if value in values for each in _at(now, path)
    ]
    yield from sorted(found, key=lambda value: value not in values)


def _tree(wired: Wired, text: str | None) -> Any:
    suffix = wired.path.suffix
    if text is None or suffix == ".txt":
        return {}
    if suffix == ".toml":
        try:
            return tomllib.loads(text)
        except ValueError as error:
            raise LauncherError(f"{wired.path} cannot be understood: {error}", hint="mend it") from None
    return read(YAML() if suffix in {".yaml", ".yml"} else JSON(json5=True), wired.path, text).value


def _leaves(tree: Any, path: tuple[_Step, ...]) -> Iterator[tuple[tuple[_Step, ...], str]]:
    if isinstance(tree, str):
        yield path, tree
    elif isinstance(tree, dict):
        for key, inner in tree.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(tree, list):
        for inner in tree:
            yield from _leaves(inner, (*path, None))


def _at(tree: Any, path: tuple[_Step, ...]) -> Iterator[str]:
    if not path:
        if isinstance(tree, str):
            yield tree
        return
    step, rest = path[0], path[1:]
    if step is None:
        for inner in tree if isinstance(tree, list) else ():
            yield from _at(inner, rest)
    elif isinstance(tree, dict) and step in tree:
        yield from _at(tree[step], rest)
