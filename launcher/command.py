"""A command that does not run yet: argv, environment and secrets, and how to show it to a person."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Command:
    """What to execute. `env` is added to the environment; `secrets` too, but is never shown, logged or kept in a state file."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def shell(self) -> str:
        """The command as one line that a shell would understand, every secret masked."""
        visible = [f"{key}={shlex.quote(value)}" for key, value in sorted(self.env.items())]
        masked = [f"{key}=****" for key in sorted(self.secrets)]
        return " ".join([*visible, *masked, shlex.join(self.argv)])
