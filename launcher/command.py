"""A command that does not run yet: argv, environment and secrets, and how to show it to a person."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Command:
    """What to execute. `env` is added to the environment; `secrets` too, but is never shown, logged or kept in a state file.

    `imports` are the modules of a Python program that take long to import and do nothing else, or the program's own path for
    its first level: a spare may import them ahead.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    imports: tuple[str, ...] = ()

    def keeping(self, caches: Mapping[str, str], folder: Path) -> "Command":
        """The same, with its caches in `folder`: `caches` are the variables and the folders in it."""
        return replace(self, env={**self.env, **{variable: str(folder / name) for variable, name in caches.items()}})

    def shell(self, separator: str = " ") -> str:
        """The command as a shell would understand it, every secret masked; `separator` stands before each of its options."""
        visible = [f"{key}={shlex.quote(value)}" for key, value in sorted(self.env.items())]
        masked = [f"{key}=****" for key in sorted(self.secrets)]
        parts = [" ".join([*visible, *masked])] if visible or masked else []
        for number, word in enumerate(self.argv):
            if number == 0 or word.startswith("--"):
                parts.append(shlex.quote(word))
            else:
                parts[-1] += f" {shlex.quote(word)}"
        return separator.join(parts)
