"""The engines there are, each named once; the first is taken where both will do."""

from collections.abc import Mapping
from types import MappingProxyType

from launcher.engines import sglang, vllm
from launcher.engines.base import Engine

ENGINES: Mapping[str, Engine] = MappingProxyType({vllm.NAME: vllm, sglang.NAME: sglang})
