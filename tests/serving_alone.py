"""A supervisor in a process of its own, of a little world: python -m tests.serving_alone ROOT [FLAG OF THE STUB]..."""

import sys
from dataclasses import replace
from pathlib import Path

from launcher.hosting import Host
from tests.world import POLICY, StubEngine, little_world

if __name__ == "__main__":
    flags = {"": tuple(sys.argv[2:])}
    world = little_world(Path(sys.argv[1]), models=("tiny", "other"))
    world = replace(world, engines={name: StubEngine(flags, name) for name in ("vllm", "sglang")})
    Host(world, policy=POLICY, say=world.progress.say).run(lambda: False)
