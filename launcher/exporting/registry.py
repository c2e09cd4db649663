"""The forms in which a plan is exported: the one place that names them."""

from collections.abc import Mapping
from types import MappingProxyType

from launcher.exporting import compose, env, kubernetes, litellm, ray, skypilot, systemd
from launcher.exporting.base import Exporter

EXPORTERS: Mapping[str, Exporter] = MappingProxyType(
    {each.NAME: each for each in (systemd, compose, kubernetes, skypilot, ray, env, litellm)}
)
