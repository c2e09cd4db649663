"""Every agent that `launcher run` starts, once: a new one is its module and a line here."""

from launcher.running import aider, claude, codex, goose, llm, opencode, openhands, qwen
from launcher.running.base import Agent

AGENTS: dict[str, Agent] = {
    aider.NAME: aider,
    claude.NAME: claude,
    codex.NAME: codex,
    goose.NAME: goose,
    llm.NAME: llm,
    opencode.NAME: opencode,
    openhands.NAME: openhands,
    qwen.NAME: qwen,
}
