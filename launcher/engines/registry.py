"""The engines there are, each named once."""

from collections.abc import Mapping
from types import MappingProxyType

from launcher.engines import vllm
from launcher.engines.base import Engine

ENGINES: Mapping[str, Engine] = MappingProxyType({vllm.NAME: vllm})
