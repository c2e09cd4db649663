"""`launcher llm edit`: change what a configuration says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import configurations, llm_settings, telling
from launcher.configurations import Kept
from launcher.errors import LauncherError
from launcher.llm_settings import Settings, Value
from launcher.providers import PROVIDERS, address_fault
from launcher.wiring import apply
from launcher.wiring.base import Target
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class LLMEditResult:
    """Which fields changed."""

    name: str
    changed: tuple[str, ...]
    path: Path
    wired: tuple[str, ...]
    exit_code: int = 0

    def json(self) -> object:
        return {"name": self.name, "changed": list(self.changed), "file": str(self.path), "wired": list(self.wired)}

    def text(self) -> "RenderableType":
        told = f"{self.name}: {', '.join(self.changed) or 'nothing'} changed."
        if self.changed and self.wired:
            told += f"\nAgents have the old one still: launcher llm use {self.name} --agent openhands"
        return told


@dataclass(frozen=True, slots=True)
class EditRequest:
    """FIELD=VALUE words, an empty value takes the field out; a new key; or an editor that is given the file's text."""

    name: str
    words: tuple[str, ...] = ()
    key: str | None = field(default=None, repr=False)
    editor: Callable[[str], str] | None = None


def run(world: World, request: EditRequest, targets: Mapping[str, Target]) -> LLMEditResult:
    """Change a configuration; raises LauncherError, and changes nothing, where it would not be sound."""
    told = telling.told(world, request.name)
    kept = configurations.load(world.home, request.name) or Kept(Settings("local", {}), {})
    if told.llm.local and request.key:
        raise LauncherError(f"{request.name} is served here", hint=f"its key is the launcher's own, in {world.home.key}")
    settings = _edited(request, kept.settings)
    if settings.provider != kept.settings.provider and "local" in {settings.provider, kept.settings.provider}:
        raise LauncherError("a configuration does not become local, or remote", hint="launcher llm add another one")
    secrets = {"api_key": request.key} if request.key else {}
    base = replace(told.llm) if told.llm.local else None
    llm_settings.configured(request.name, settings, {**kept.secrets, **secrets}, base)
    if settings.fields.get("base_url") and (fault := address_fault(settings.provider, str(settings.fields["base_url"]))):
        raise LauncherError(fault, hint=f"see {PROVIDERS[settings.provider].guide}" if settings.provider in PROVIDERS else "")
    changed = _differing(kept.settings.fields, settings.fields) + tuple(secrets)
    if changed or settings.provider != kept.settings.provider:
        configurations.save(world.home, request.name, settings, secrets)
    wired = tuple(each.target for each in apply.wired(targets, world.home) if each.present and each.name == request.name)
    return LLMEditResult(request.name, changed, configurations.path(world.home, request.name), wired)


def _edited(request: EditRequest, settings: Settings) -> Settings:
    if request.editor is not None:
        return llm_settings.read(request.editor(llm_settings.write(settings)), request.name)
    fields: dict[str, Value] = dict(settings.fields)
    for key, text in llm_settings.pairs(request.words):
        if text == "" and key in llm_settings.KINDS:
            fields.pop(key, None)
        else:
            fields[key] = llm_settings.cast(key, text)
    return Settings(settings.provider, fields)


def _differing(old: Mapping[str, Value], new: Mapping[str, Value]) -> tuple[str, ...]:
    return tuple(key for key in {**old, **new} if old.get(key) != new.get(key))
