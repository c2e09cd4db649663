"""Every agent that can be wired, once: a new one is its module and a line here."""

from launcher.wiring import (
    aider,
    claude,
    codex,
    continue_,
    goose,
    hermes,
    kilo,
    litellm,
    llm,
    openclaw,
    opencode,
    openhands_cli,
    openhands_profile,
    openhands_settings,
    openhands_toml,
    pi,
    qwen,
    zed,
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
    goose.NAME: goose,
    zed.NAME: zed,
    hermes.NAME: hermes,
    openclaw.NAME: openclaw,
}
