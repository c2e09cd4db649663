"""What a plan needs, where it lies on the disk."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Prepared:
    """An engine's environment (the folder, its interpreter, its caches) and a model's weights.

    `version` is the engine's that is in the environment. `pinned` is the hub's REPOSITORY@COMMIT that the weights are, "" for
    others. Where `image` is not "", the engine is that image of the docker at `daemon`, and has no interpreter here.
    """

    environment: Path
    python: Path
    weights: Path
    caches: Path
    version: str
    pinned: str = ""
    image: str = ""
    daemon: str = ""

    @property
    def whole(self) -> bool:
        """Whether all of it is still there; of an image what was noted, since docker says the rest as it starts."""
        return (self.environment.is_dir() if self.image else self.python.is_file()) and self.weights.exists()
