"""Ray Serve: a config for `serve deploy`, with Ray's own deployment of vLLM (docs.ray.io, "Serving LLMs")."""

import json
import re
from typing import Any

from launcher.engines.base import Container
from launcher.exporting import images
from launcher.exporting.base import Export, yaml

NAME = "ray"
# Whose options Ray hands on as they are (ray.llm, LLMEngine).
ENGINES = ("vllm",)

# What Ray calls a card (ray.util.accelerators); the first that fits, and none for those that it does not know.
_CARDS = ("A100", "H100", "H200", "B200", "B300", "L40S", "L4", "A10G", "V100", "T4")
# What Ray gives the engine itself.
_RAYS_OWN = frozenset({"served_model_name", "host", "port"})


def refuses(export: Export) -> str | None:
    """Ray starts the engine's own packages on its nodes, and knows the options of one engine."""
    if export.plan.engine not in ENGINES:
        return f"Ray Serve is given options of {' or '.join(ENGINES)}: plan with --engine {ENGINES[0]}"
    return images.fault(export)


def text(export: Export) -> str:
    """One application at /; Ray asks for no key, so that it listens on loopback alone."""
    name, hub = images.name(export), images.hub(export)
    command = export.engine.contained(export.plan, Container(hub.repo, images.PORT, hub.revision or ""))
    card = next((card for card in _CARDS if re.search(rf"\b{card}\b", export.plan.gpus[0].name)), None)
    told: dict[str, Any] = {
        "model_loading_config": {"model_id": export.plan.profile.name, "model_source": hub.repo},
        **({"accelerator_type": card} if card else {}),
        "engine_kwargs": _keywords(command.argv[command.argv.index(hub.repo) + 1 :]),
        "runtime_env": {"env_vars": dict(command.env)},
        "deployment_config": {"num_replicas": export.replicas},
    }
    application = {
        "name": name,
        "route_prefix": "/",
        "import_path": "ray.serve.llm:build_openai_app",
        "args": {"llm_configs": [told]},
    }
    comments = (
        *images.heading(export, NAME),
        f"Ray's nodes need ray[serve,llm] and {export.plan.engine}=={export.engine.VERSION}; then: serve deploy FILE",
        "No key stands here, since Ray Serve asks clients for none: it listens on loopback, and others come through a proxy.",
    )
    content = {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": images.PORT},
        "applications": [application],
    }
    return yaml(content, comments=comments)


def _keywords(words: tuple[str, ...]) -> dict[str, Any]:
    """The engine's options as keywords: `--max-model-len 32768` is max_model_len=32768, and one without a value is true."""
    found: dict[str, Any] = {}
    for place, word in enumerate(words):
        if not word.startswith("--"):
            continue
        option, _, value = word.partition("=")
        after = words[place + 1] if place + 1 < len(words) else "--"
        text = value or (after if not after.startswith("--") else "")
        found[option.removeprefix("--").replace("-", "_")] = _value(text) if text else True
    return {key: value for key, value in found.items() if key not in _RAYS_OWN}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
