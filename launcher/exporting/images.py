"""What all forms share that start an engine in its makers' image: when they cannot, its size, its patience, its name."""

import math
import re

from launcher.exporting.base import Export
from launcher.gpu import GIB
from launcher.profile_weights import HubWeights

PORT = 8000
# Where the hub's cache lies in the container, and what engines compile: as root's, whom both images run as.
MODELS, CACHES = "/models", "/root/.cache"
# Seconds that an engine may take before it answers, beside the download: imports, compilation, CUDA graphs; and the slowest
# download that is waited for, in bytes a second.
START, SLOWEST = 1800, 50 << 20
# How long requests that run may go on when it is told to end (seconds): Kubernetes' own default is 30.
GRACE = 60


def fault(export: Export) -> str | None:
    """Why no image can serve this; None if one can."""
    plan = export.plan
    if not plan.gpus:
        return "the engine's image is built for GPUs, and this plan has none: name a machine that has with --on"
    if not isinstance(plan.variant.weights, HubWeights):
        return "a container fetches its weights from the Hugging Face hub, and these lie elsewhere: `export systemd` serves it"
    return None


def alone(export: Export) -> str | None:
    """The same for what starts containers on one machine alone."""
    if export.replicas > 1:
        return "it starts one server: `export systemd` starts several behind one address, and `export kubernetes`"
    if export.plan.nodes > 1:
        return f"it starts containers on one machine, and this plan takes {export.plan.nodes}: `launcher export kubernetes`"
    return fault(export)


def hub(export: Export) -> HubWeights:
    """The repository that is served; of an export without fault."""
    weights = export.plan.variant.weights
    if not isinstance(weights, HubWeights):
        raise TypeError(weights)
    return weights


def size(export: Export) -> int:
    """Bytes of the weights in the hub's cache, as far as they are known."""
    return export.plan.variant.size or export.plan.memory.weights * len(export.plan.gpus)


def disk(export: Export) -> int:
    """GiB of disk for them: a quarter more, and what engines compile."""
    return 10 * math.ceil((size(export) * 1.25 / GIB + 10) / 10)


def patience(export: Export) -> int:
    """Seconds until the first answer."""
    return START + size(export) // SLOWEST


def name(export: Export) -> str:
    """The model's name as a DNS label (RFC 1035), which all of them take."""
    label = re.sub(r"[^a-z0-9]+", "-", export.plan.profile.name.lower()).strip("-")
    return (label if label[:1].isalpha() else f"m-{label}")[:40].rstrip("-")


def heading(export: Export, form: str) -> tuple[str, ...]:
    """What a reader should know first."""
    plan = export.plan
    return (
        f"{plan.profile.title}: {plan.variant.name} on {plan.engine}, {plan.devices}, {plan.context:,} tokens of context.",
        f"Made by `launcher export {form}`; the plan was for these GPUs and no others.",
    )
