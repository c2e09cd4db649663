"""`launcher export`: the plan of `launcher up` in the form by which another program keeps servers."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import background, deciding, store, systemd, telling, unit
from launcher.child import mask
from launcher.commands.plan import PlanResult
from launcher.endpoint import Endpoint
from launcher.errors import LauncherError
from launcher.exporting.base import Export, Exporter
from launcher.gpu import Inventory
from launcher.plan import DoesNotFit, Plan
from launcher.results import copied
from launcher.server import ServerSpec
from launcher.unit import Unit
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType

# Stands for a key where an agent is told of one; no exporter writes it.
_NO_KEY = "****"


@dataclass(frozen=True, slots=True)
class ExportResult:
    """A file's text, and the plan that it was made from."""

    form: str
    content: str
    plan: Plan
    exit_code: int = 0

    def json(self) -> object:
        return {"form": self.form, "text": self.content, "plan": PlanResult(self.plan).json()}

    def text(self) -> "RenderableType":
        from rich.console import Group

        return Group(*map(copied, self.content.splitlines()))


def run(
    world: World, spec: ServerSpec, inventory: Inventory, exporter: Exporter, *, base_url: str | None = None
) -> ExportResult:
    """The text; nothing is touched. `base_url` is where it will answer, if that is not this machine's own address.

    Raises LauncherError where nothing fits, or where this form cannot say it.
    """
    outcome = deciding.decide(world, spec, inventory)
    if isinstance(outcome, DoesNotFit):
        raise deciding.refusal(world, spec, inventory, outcome)
    export = _export(world, spec, outcome, base_url)
    if reason := exporter.refuses(export):
        raise LauncherError(f"{outcome.profile.name} cannot be exported as {exporter.NAME}", hint=reason)
    return ExportResult(exporter.NAME, exporter.text(export), outcome)


def _export(world: World, spec: ServerSpec, plan: Plan, base_url: str | None) -> Export:
    endpoint = Endpoint(plan.profile.name, base_url or store.address(world.home), _NO_KEY, plan.context)
    return Export(
        plan=plan,
        engine=world.engines[plan.engine],
        up=_words(world, spec, plan),
        unit=_unit(world),
        llm=telling.local(world, endpoint, telling.traits(plan.profile, plan.engine)),
        key_file=None if base_url else world.home.key,
        replicas=spec.replicas or 1,
    )


def _unit(world: World) -> Unit:
    """As `launcher enable` writes it, but for addresses that hold a password: this text is not for this machine alone."""
    return Unit(
        name=systemd.place(world.home, world.env, world.user_home).name,
        root=world.home.root,
        python=Path(sys.executable),
        log=world.home.serve_log,
        paths="" if background.is_installed() else background.import_path(world.env),
        env={name: value for name, value in unit.passed_on(world.env).items() if mask(value) == value},
    )


def _words(world: World, spec: ServerSpec, plan: Plan) -> tuple[str, ...]:
    """What is typed behind `launcher up` for this very plan."""
    said = deciding.meant(world, spec)
    told: Mapping[str, object] = {
        "--engine": plan.engine,
        "--variant": plan.variant.name,
        "--context": plan.context,
        "--gpus": ",".join(map(str, spec.gpus)),
        "--tensor": plan.tensor if plan.gpus else "",
        "--pipeline": plan.pipeline if plan.gpus else "",
        "--memory-share": spec.memory_share,
        "--kv-dtype": spec.kv_dtype,
        "--sessions": spec.sessions,
        "--trust-remote-code": spec.trust_remote_code,
        "--replicas": spec.replicas if (spec.replicas or 1) > 1 else "",
    }
    return (
        said.origin or plan.profile.name,
        *(word for option, value in told.items() if value not in {None, ""} for word in (option, str(value))),
        *({True: ("--speculative",), False: ("--no-speculative",), None: ()}[spec.speculative]),
        *(("--can-sleep",) if spec.can_sleep else ()),
        *(f"--engine-arg={text}" for text in spec.engine_args),
    )
