"""LAUNCHER_HOME: the one directory that holds environments, weights, state, keys, logs and backups."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import LauncherError


@dataclass(frozen=True, slots=True)
class Home:
    """The directory and the names in it; nothing is created before `make`."""

    root: Path

    @classmethod
    def find(cls, env: Mapping[str, str]) -> "Home":
        """The directory that LAUNCHER_HOME names, or the platform's directory for a user's data."""
        if chosen := env.get("LAUNCHER_HOME"):
            return cls(Path(chosen).expanduser().absolute())
        import platformdirs

        return cls(Path(platformdirs.user_data_dir("model-launcher")))

    def make(self) -> "Home":
        """Create the directory for this user alone; raises LauncherError if it cannot be written."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error.strerror or str(error)) from None
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise self._unwritable("Permission denied")
        return self

    def _unwritable(self, reason: str) -> LauncherError:
        hint = "set LAUNCHER_HOME to a directory that you may write to"
        return LauncherError(f"cannot write to {self.root}: {reason}", hint=hint)

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def serving(self) -> Path:
        """The lock that the one background process of this home holds."""
        return self.root / "serve.lock"

    def engine_key(self, name: str) -> Path:
        """The key that the engine of a model asks for, which the gateway alone knows."""
        return self.root / "keys" / "engines" / f"{name}.key"

    @property
    def serve_log(self) -> Path:
        return self.logs / "serve.log"

    @property
    def access_log(self) -> Path:
        """Who asked the gateway for what."""
        return self.logs / "access.log"

    @property
    def key(self) -> Path:
        """The key that agents send, mode 0600."""
        return self.root / "keys" / "agent.key"

    @property
    def named_keys(self) -> Path:
        """The other keys that the gateway takes: NAME.key each, mode 0600."""
        return self.root / "keys" / "named"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def exposure(self) -> Path:
        """What is wished of the gateway beyond loopback."""
        return self.state / "exposure.json"

    @property
    def starts(self) -> Path:
        """What earlier starts were planned to take and took: one line of JSON each."""
        return self.state / "starts.jsonl"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def environments(self) -> Path:
        return self.root / "environments"

    @property
    def locks(self) -> Path:
        """The locks of versions that are not shipped with one."""
        return self.root / "locks"

    @property
    def caches(self) -> Path:
        """What engines compile, a folder for each environment."""
        return self.root / "caches"

    @property
    def weights(self) -> Path:
        return self.root / "weights"

    @property
    def profiles(self) -> Path:
        """The user's own profiles, which hide those of the same name that are shipped."""
        return self.root / "profiles"

    @property
    def wired(self) -> Path:
        """What was written into agents' files, and what stood there before: one 0600 file for each."""
        return self.root / "wired"

    @property
    def llm(self) -> Path:
        """Named LLM configurations, and a 0600 file for each of their secrets."""
        return self.root / "llm"

    @property
    def agents(self) -> Path:
        """Files that agents are pointed to by a person, where they look for none themselves."""
        return self.root / "agents"

    @property
    def running(self) -> Path:
        """A folder for each agent that `launcher run` has started, for as long as it runs."""
        return self.root / "running"

    @property
    def spares(self) -> Path:
        """The pipe and the record of a warm spare."""
        return self.root / "spare"

    @property
    def clusters(self) -> Path:
        """A folder for each server on a cluster: its place, and the pipe for its orders."""
        return self.root / "clusters"

    @property
    def openhands_config(self) -> Path:
        """A config.toml of our own, for an OpenHands that has none."""
        return self.root / "openhands" / "config.toml"
