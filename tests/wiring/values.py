"""What the tests of this folder tell agents."""

from dataclasses import replace
from pathlib import Path

from launcher.endpoint import Endpoint
from launcher.llm import LLMConfig
from launcher.wiring.base import Place

KEY = "launcher-key-0123456789"
LARGE = LLMConfig.of(Endpoint("qwen2.5-coder", "http://127.0.0.1:8400/v1", KEY, 32_768), native_tool_calling=True)
SMALL = LLMConfig.of(Endpoint("smollm2-135m", "http://127.0.0.1:8400/v1", KEY, 8_192), native_tool_calling=False)
OTHER = replace(LARGE, name="devstral", model="openai/devstral")


def place(root: Path, *, register_only: bool = False) -> Place:
    return Place(home=root / "user", config_file=root / "config.toml", register_only=register_only)
