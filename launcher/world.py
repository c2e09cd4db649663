"""All that lies outside, in one value: what a command may look at, run and write. Tests pass in another one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.derive import Facts
from launcher.engines.base import Engine
from launcher.gpu import Inventory
from launcher.home import Home
from launcher.plan import Plan
from launcher.prepared import Prepared
from launcher.profile_weights import Found
from launcher.progress import Progress
from launcher.recipe_site import Answer
from launcher.release import Releases
from launcher.runners import ray
from launcher.runners.base import Clusters, Runner


@dataclass(frozen=True, slots=True)
class World:
    """The doors to everything outside.

    `inventory` looks at the hardware each time it is called; `releases` says which release of each engine serves; `expect` says
    where a plan's environment and weights will be, and `prepare` brings them there; `facts` reads what a repository or a folder
    tells of its model, `recipe` what vLLM's people say of a repository, or why they do not; `attend` sees to it that a
    supervisor is at work in this world's home, and raises LauncherError where none can be; `env` is the user's environment;
    `user_home` is where agents keep their files and `cwd` where the user stands; `profiles` are the folders of profiles, the
    user's own last; `clusters` are Ray's.
    """

    home: Home
    env: Mapping[str, str]
    user_home: Path
    cwd: Path
    profiles: Sequence[Path]
    engines: Mapping[str, Engine]
    inventory: Callable[[], Inventory]
    releases: Callable[[], Releases]
    facts: Callable[[Found], Facts]
    recipe: Callable[[str], Answer | str]
    expect: Callable[[Plan], Prepared]
    prepare: Callable[[Plan, Progress], Prepared]
    attend: Callable[["World"], None]
    runner: Runner
    progress: Progress
    clusters: Clusters = ray
