"""A command that does not run yet: argv, environment and secrets, and how to show it to a person."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

# Parts of a name that tell of a secret. `--tokenizer-mode` and TOKENIZERS_PARALLELISM have none of them.
_SECRET = frozenset({"key", "apikey", "token", "password", "passwd", "secret", "credential", "credentials"})


def is_secret(name: str) -> bool:
    """Whether an option or a variable of this name holds a secret, as far as its name tells."""
    return bool(_SECRET & set(re.split(r"[._-]", name.lower())))


def inheritable(env: Mapping[str, str]) -> dict[str, str]:
    """What an engine gets of a person's environment: all but secrets, none of which are its business."""
    return {name: value for name, value in sorted(env.items()) if not is_secret(name)}


@dataclass(frozen=True, slots=True)
class Beneath:
    """The interpreters that a Python program starts itself: what they import, and the variables that each start has anew.

    None of these may be read by an import.
    """

    imports: tuple[str, ...] = ()
    late: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """What to execute. `env` is added to the environment; `secrets` too, but is never shown, logged or kept in a state file.

    `imports` are the modules of a Python program that take long to import and do nothing else, or the program's own path for
    its first level: a spare may import them ahead. `beneath`: the same for the interpreters that it starts.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    imports: tuple[str, ...] = ()
    beneath: Beneath = Beneath()

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
