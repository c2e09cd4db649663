"""Docker Compose: the engine's image on this machine's GPUs (compose-spec.io)."""

from launcher.engines.base import SHARED, Container
from launcher.exporting import images
from launcher.exporting.base import Export, yaml

NAME = "compose"
refuses = images.alone


def text(export: Export) -> str:
    """A project of one container; the key comes from a file beside it."""
    name, image, hub = images.name(export), export.engine.IMAGE, images.hub(export)
    command = export.engine.contained(export.plan, Container(hub.repo, images.PORT, hub.revision or ""))
    container = {
        "image": image.name,
        "entrypoint": [_literal(command.argv[0])],
        "command": [_literal(word) for word in command.argv[1:]],
        "init": True,
        # Null takes the value that the shell has, if it has one: a token for the hub, which gated models need.
        "environment": {**command.env, "HF_HOME": images.MODELS, "HF_TOKEN": None},
        "env_file": [{"path": f"{name}.env", "required": True}],
        "ports": [f"127.0.0.1:{images.PORT}:{images.PORT}"],
        "volumes": [f"models:{images.MODELS}", f"caches:{images.CACHES}"],
        "shm_size": f"{SHARED}gb",
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        "stop_grace_period": f"{images.GRACE}s",
        "deploy": {"resources": {"reservations": {"devices": [_devices(export)]}}},
        "healthcheck": {
            # Both images have Python; that they have curl is not said anywhere.
            "test": ["CMD", "python3", "-c", _asks(export)],
            "interval": "20s",
            "timeout": "10s",
            "retries": 6,
            "start_period": f"{images.patience(export)}s",
        },
    }
    comments = (
        *images.heading(export, NAME),
        f"The key, once: (umask 077; echo {image.key}=$(openssl rand -hex 32) > {name}.env)",
        f"Then: docker compose -f FILE up -d; it answers at http://127.0.0.1:{images.PORT}/v1",
    )
    return yaml({"name": name, "services": {name: container}, "volumes": {"models": {}, "caches": {}}}, comments=comments)


def _devices(export: Export) -> dict[str, object]:
    """The very GPUs where the plan was made on their machine; as many as it takes where it was not."""
    gpus = export.plan.gpus
    here = all(gpu.uuid.startswith(("GPU-", "MIG-")) for gpu in gpus)
    which: dict[str, object] = {"device_ids": [gpu.uuid for gpu in gpus]} if here else {"count": len(gpus)}
    return {"driver": "nvidia", **which, "capabilities": ["gpu"]}


def _asks(export: Export) -> str:
    path = export.engine.READY_PATH
    return f"import urllib.request as r; r.urlopen('http://127.0.0.1:{images.PORT}{path}', timeout=9)"


def _literal(word: str) -> str:
    """Compose would take what stands behind a dollar for a variable."""
    return word.replace("$", "$$")
