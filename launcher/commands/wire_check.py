"""`launcher wire --check`: each agent's file asked with what stands in it, from where the agent would ask."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from launcher import containers, keys, probe
from launcher.endpoint import Endpoint
from launcher.errors import LauncherError
from launcher.llm import DOCKER_HOST
from launcher.results import copied
from launcher.wiring import apply
from launcher.wiring.apply import Wired
from launcher.wiring.base import Target
from launcher.wiring.pointing import Pointer, pointer
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class Checked:
    """One target: the file that leads somewhere, what answered, or why nothing did; `container` is where it was asked from."""

    target: str
    path: Path
    base_url: str
    container: str
    words: str
    fault: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class WireCheckResult:
    """What came of each."""

    checked: tuple[Checked, ...]

    @property
    def exit_code(self) -> int:
        return 1 if any(each.fault for each in self.checked) else 0

    def json(self) -> object:
        return [
            {
                "target": each.target,
                "file": str(each.path),
                "base_url": each.base_url,
                "container": each.container or None,
                "answered": not each.fault,
                "words": each.words,
                "fault": each.fault or None,
                "hint": each.hint or None,
            }
            for each in self.checked
        ]

    def text(self) -> "RenderableType":
        from rich.console import Group

        lines = []
        for each in self.checked:
            where = f" from inside {each.container}" if each.container else ""
            said = f"“{' '.join(each.words.split())}”" if not each.fault else each.fault
            hint = f" ({each.hint})" if each.hint else ""
            lines.append(copied(f"{'✓' if not each.fault else '✗'} {each.path}: {each.base_url}{where}: {said}{hint}"))
        return Group(*lines) if lines else copied("No agent's file is wired.")


def run(world: World, targets: Mapping[str, Target]) -> WireCheckResult:
    """Ask for each target that is wired; nothing is changed."""
    groups: dict[str, list[Wired]] = {}
    for each in apply.wired(targets, world.home):
        if each.target in targets:
            groups.setdefault(each.target, []).append(each)
    return WireCheckResult(tuple(_checked(world, files) for files in groups.values()))


def _checked(world: World, files: list[Wired]) -> Checked:
    first = files[0]

    def told(base_url: str = "", *, container: str = "", words: str = "", fault: str = "", hint: str = "") -> Checked:
        return Checked(first.target, first.path, base_url or first.base_url, container, words, fault, hint)

    try:
        found = pointer(files, [apply.text_of(each.path) for each in files], keys.read(world.home.key) or "")
    except LauncherError as fault:
        return told(fault=fault.message, hint=fault.hint)
    if isinstance(found, str):
        return told(fault=found)
    container = _container(world, first.agent, found)
    if container == "":
        hint = "start the agent, and check again"
        return told(found.base_url, fault=f"it is for a container, and none of {first.agent} runs here", hint=hint)
    try:
        if container:
            words = containers.ask(container, found.base_url, found.api_key, found.model, world.env)
        else:
            words = probe.prove(Endpoint(found.model, found.base_url, found.api_key, 0)).text
    except LauncherError as fault:
        return told(found.base_url, container=container or "", fault=fault.message, hint=fault.hint)
    return told(found.base_url, container=container or "", words=words)


def _container(world: World, agent: str, found: Pointer) -> str | None:
    """The container that an address is for, "" where none runs; None for an address of this machine."""
    if urlsplit(found.base_url).hostname != DOCKER_HOST:
        return None
    return containers.of_agent(agent, world.env) or ""
