"""What an exporter is: the same plan in the form by which another program keeps servers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from launcher.engines.base import Engine
from launcher.llm import LLMConfig
from launcher.plan import Plan
from launcher.unit import Unit


@dataclass(frozen=True, slots=True)
class Export:
    """A plan, and all that a text about it may say: nothing of it is a secret.

    `up` are the words behind `launcher up` that make the same plan, `unit` what systemd starts for this home. `llm` is what an
    agent is told, with any text for a key; `key_file` holds the key that is meant, None where that is not this machine's.
    So many `replicas` are to share the requests.
    """

    plan: Plan
    engine: Engine
    up: tuple[str, ...]
    unit: Unit
    llm: LLMConfig
    key_file: Path | None
    replicas: int = 1


class Exporter(Protocol):
    """One form; a module meets it with constants and functions."""

    @property
    def NAME(self) -> str:
        """The word behind `launcher export`."""

    def refuses(self, export: Export) -> str | None:
        """Why this form cannot say it; None if it can."""

    def text(self, export: Export) -> str:
        """The file's whole text, without a secret in it."""


def yaml(*documents: object, comments: tuple[str, ...]) -> str:
    """YAML 1.1 as PyYAML writes and quotes it, with comment lines above."""
    import yaml as pyyaml

    above = "".join(f"# {line}\n" for line in comments)
    # Without aliases: a reader that knows none would fail, and people would wonder.
    dumped = (pyyaml.dump(_plain(each), Dumper=_dumper(), sort_keys=False, width=1000) for each in documents)
    return above + "---\n".join(dumped)


def _plain(value: Any) -> Any:
    """Tuples as lists, which safe YAML has alone."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _dumper() -> Any:
    import yaml as pyyaml

    class Dumper(pyyaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
        def ignore_aliases(self, _: object) -> bool:
            return True

        def represent_str(self, text: str) -> object:
            """A program of several lines stays one."""
            return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)

    Dumper.add_representer(str, Dumper.represent_str)
    return Dumper
