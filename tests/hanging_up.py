"""A `launcher up` that never gets ready: python -m tests.hanging_up ROOT PORT."""

import sys
from pathlib import Path

from launcher.commands import up
from launcher.server import ServerSpec
from tests.world import StubEngine, little_world

if __name__ == "__main__":
    world = little_world(Path(sys.argv[1]), engine=StubEngine(flags={"": ("--hang",)}))
    up.run(world, up.UpRequest(spec=ServerSpec(model="tiny"), port=int(sys.argv[2])))
