"""Every agent that can be wired, once: a new one is its module and a line here."""

from launcher.wiring import (
    aider,
    claude,
    codex,
    continue_,
    kilo,
    litellm,
    llm,
    opencode,
    openhands_cli,
    openhands_profile,
    openhands_settings,
    openhands_toml,
    pi,
    qwen,
)
from launcher.wiring.base import Target

TARGETS: dict[str, Target] = {
    openhands_profile.NAME: openhands_profile,
    openhands_toml.NAME: openhands_toml,
    openhands_settings.NAME: openhands_settings,
    openhands_cli.NAME: openhands_cli,
    opencode.NAME: opencode,
    litellm.NAME: litellm,
    codex.NAME: codex,
    llm.NAME: llm,
    aider.NAME: aider,
    claude.NAME: claude,
    pi.NAME: pi,
    qwen.NAME: qwen,
    continue_.NAME: continue_,
    kilo.NAME: kilo,
}
