"""SkyPilot: a task that rents the plan's GPUs wherever they are cheapest (docs.skypilot.co, "Task YAML")."""

import re
import shlex

from launcher.engines.base import Container
from launcher.exporting import images
from launcher.exporting.base import Export, yaml

NAME = "skypilot"

# What the driver calls a card, and what SkyPilot does (its list of accelerators, `sky gpus list --all`); the first that fits.
_CARDS = (
    (r"A100.*80GB", "A100-80GB"),
    (r"A100", "A100"),
    (r"H200", "H200"),
    (r"H100", "H100"),
    (r"B300", "B300"),
    (r"B200", "B200"),
    (r"L40S", "L40S"),
    (r"L40", "L40"),
    (r"L4\b", "L4"),
    (r"A10G", "A10G"),
    (r"A10\b", "A10"),
    (r"V100.*32GB", "V100-32GB"),
    (r"V100", "V100"),
    (r"\bT4\b", "T4"),
    (r"RTX PRO 6000", "RTXPRO6000"),
    (r"RTX 6000 Ada", "RTX6000-Ada"),
    (r"RTX A6000", "RTXA6000"),
    (r"RTX (3090|4090|5090)", r"RTX\1"),
)
_RANK, _LEADER = "${SKYPILOT_NODE_RANK}", "${LEADER}"


def refuses(export: Export) -> str | None:
    """A card that nobody rents out is no accelerator's name."""
    if reason := images.fault(export):
        return reason
    if export.replicas > 1:
        return "a task is one server: launch it under several names, and `export litellm` makes the entry of each in a proxy"
    card = export.plan.gpus[0].name
    return None if _accelerator(card) else f"SkyPilot knows no {card}: name a machine that is rented out with --on"


def text(export: Export) -> str:
    """The task; the key is given when it is launched."""
    name, plan, key = images.name(export), export.plan, export.engine.IMAGE.key
    task = {
        "name": name,
        "resources": {
            "accelerators": f"{_accelerator(plan.gpus[0].name)}:{len(plan.gpus) // plan.nodes}",
            "image_id": f"docker:{export.engine.IMAGE.name}",
            "disk_size": images.disk(export) + 50,  # the image too
            "ports": images.PORT,
        },
        **({"num_nodes": plan.nodes} if plan.nodes > 1 else {}),
        # Null: it has to be given.
        "secrets": {key: None},
        "run": _run(export),
    }
    comments = (
        *images.heading(export, NAME),
        f"The key: export {key}=$(openssl rand -hex 32); then: sky launch --secret {key} -c {name} FILE",
        f"The port is open to whom the cloud lets in, and asks for that key: http://$(sky status --ip {name}):{images.PORT}/v1",
    )
    return yaml(task, comments=comments)


def _run(export: Export) -> str:
    plan, hub = export.plan, images.hub(export)

    def line(rank: str) -> str:
        leader = _LEADER if plan.nodes > 1 else ""
        here = Container(hub.repo, images.PORT, hub.revision or "", plan.nodes, rank, leader)
        command = export.engine.contained(plan, here)
        env = " ".join(f"{variable}={shlex.quote(value)}" for variable, value in command.env.items())
        return f"env {env} {' '.join(map(_word, command.argv))}"

    if plan.nodes == 1:
        return line("0") + "\n"
    # SKYPILOT_NODE_IPS has one address a line, the first node's first.
    head = 'LEADER=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)\n'
    return f'{head}if [ "$SKYPILOT_NODE_RANK" = 0 ]; then\n  exec {line("0")}\nfi\nexec {line(_RANK)}\n'


def _word(word: str) -> str:
    return f'"{word}"' if any(each in word for each in (_RANK, _LEADER)) else shlex.quote(word)


def _accelerator(card: str) -> str:
    for pattern, name in _CARDS:
        if found := re.search(pattern, card):
            return found.expand(name)
    return ""
