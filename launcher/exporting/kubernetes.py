"""Kubernetes: a Deployment of the engine's image, or a LeaderWorkerSet where the plan takes several machines."""

import re
from typing import Any

from launcher.engines.base import SHARED, Container
from launcher.exporting import images
from launcher.exporting.base import Export, yaml

NAME = "kubernetes"
refuses = images.fault

# Seconds between two looks, and how many may fail: a server that does not say that it is well for two minutes is started anew.
_LOOK, _FAILURES = 20, 6
# What the LeaderWorkerSet controller sets in each pod (lws.sigs.k8s.io, "Labels, annotations and environment variables").
_LEADER, _INDEX = "$(LWS_LEADER_ADDRESS)", "$(LWS_WORKER_INDEX)"
_MADE_BY = "kubectl create secret generic {name} --from-file=api-key=/dev/stdin"


def text(export: Export) -> str:
    """A claim for the weights, the workload, and a Service in front of it; the Secret is made apart."""
    name = images.name(export)
    several = export.plan.nodes > 1
    shared = _is_shared(export)
    comments = (
        *images.heading(export, NAME),
        f"The key, once: openssl rand -hex 32 | tr -d '\\n' | {_MADE_BY.format(name=name)}",
        "A gated model also needs a token of the hub in it, as hf-token.",
        "nvidia.com/gpu.product is what NVIDIA's GPU feature discovery calls the cards; a cluster without it has no such label",
        "and needs another nodeSelector.",
    )
    if several:
        comments += (
            "Needs the LeaderWorkerSet controller.",
            "NCCL takes the network between pods that it finds: for InfiniBand add what your cluster's device plugin asks for.",
        )
    if shared:
        comments += ("Needs a storage class that several machines can read at once.",)
    if export.replicas > 1:
        comments += (
            "The Service shares connections out by chance: what sends an agent's turns to their cache stands before it.",
        )
    return yaml(_claim(export, name), (_set if several else _deployment)(export, name), _front(name), comments=comments)


def _claim(export: Export, name: str) -> dict[str, Any]:
    access = "ReadWriteMany" if _is_shared(export) else "ReadWriteOnce"
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": f"{name}-models"},
        "spec": {"accessModes": [access], "resources": {"requests": {"storage": f"{images.disk(export)}Gi"}}},
    }


def _is_shared(export: Export) -> bool:
    """Whether pods on several machines read the weights."""
    return export.plan.nodes > 1 or export.replicas > 1


def _deployment(export: Export, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": _labels(name)},
        "spec": {
            "replicas": export.replicas,
            "selector": {"matchLabels": _labels(name)},
            # One more beside them would wait for GPUs that they hold.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
            if export.replicas > 1
            else {"type": "Recreate"},
            "template": _pod(export, name, _here(export), _labels(name)),
        },
    }


def _set(export: Export, name: str) -> dict[str, Any]:
    nodes = export.plan.nodes
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": name, "labels": _labels(name)},
        "spec": {
            "replicas": export.replicas,
            "leaderWorkerTemplate": {
                "size": nodes,
                # The engine does not outlive one of its ranks.
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": _pod(export, name, _here(export, nodes=nodes), _labels(name)),
                "workerTemplate": _pod(export, name, _here(export, nodes=nodes, rank=_INDEX), {}),
            },
        },
    }


def _front(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": _labels(name)},
        "spec": {"selector": _labels(name), "ports": [{"name": "http", "port": images.PORT, "targetPort": "http"}]},
    }


def _labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name}


def _here(export: Export, *, nodes: int = 1, rank: str = "0") -> Container:
    hub = images.hub(export)
    return Container(hub.repo, images.PORT, hub.revision or "", nodes, rank, _LEADER if nodes > 1 else "")


def _pod(export: Export, name: str, where: Container, labels: dict[str, str]) -> dict[str, Any]:
    command = export.engine.contained(export.plan, where)
    first = where.rank == "0"
    container: dict[str, Any] = {
        "name": "engine",
        "image": export.engine.IMAGE.name,
        "command": [_literal(word, where) for word in command.argv],
        "env": [
            *({"name": key, "value": value} for key, value in {**command.env, "HF_HOME": images.MODELS}.items()),
            _secret(export.engine.IMAGE.key, name, "api-key"),
            _secret("HF_TOKEN", name, "hf-token", optional=True),
        ],
        "resources": {"limits": {"nvidia.com/gpu": len(export.plan.gpus) // export.plan.nodes}},
        "securityContext": {"allowPrivilegeEscalation": False},
        "volumeMounts": [
            {"name": "models", "mountPath": images.MODELS},
            {"name": "caches", "mountPath": images.CACHES},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - not a file of ours
        ],
    }
    if first:
        container |= {"ports": [{"name": "http", "containerPort": images.PORT}], **_probes(export)}
    return {
        **({"metadata": {"labels": labels}} if labels else {}),
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": images.GRACE,
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "nodeSelector": {"nvidia.com/gpu.product": _product(export)},
            "containers": [container],
            "volumes": [
                {"name": "models", "persistentVolumeClaim": {"claimName": f"{name}-models"}},
                {"name": "caches", "emptyDir": {}},
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{SHARED}Gi"}},
            ],
        },
    }


def _probes(export: Export) -> dict[str, Any]:
    """Nobody is sent to it before it says that it is well; until it first did, nobody ends it either."""
    asked = {"httpGet": {"path": export.engine.READY_PATH, "port": "http"}, "timeoutSeconds": 10}
    return {
        "startupProbe": {**asked, "periodSeconds": _LOOK, "failureThreshold": -(-images.patience(export) // _LOOK)},
        "readinessProbe": {**asked, "periodSeconds": 5, "failureThreshold": 2},
        "livenessProbe": {**asked, "periodSeconds": _LOOK, "failureThreshold": _FAILURES},
    }


def _secret(variable: str, name: str, key: str, *, optional: bool = False) -> dict[str, Any]:
    reference = {"name": name, "key": key, **({"optional": True} if optional else {})}
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def _product(export: Export) -> str:
    """As GPU feature discovery makes a label of the driver's name: words joined by dashes."""
    return re.sub(r"\s+", "-", export.plan.gpus[0].name)


def _literal(word: str, where: Container) -> str:
    """Kubernetes would replace $(NAME) where there is such a variable: only the controller's own are meant."""
    meant = {_INDEX, where.leader} if where.nodes > 1 else set()
    return word if any(each and each in word for each in meant) else word.replace("$(", "$$(")
