"""Every agent that can be wired, once: a new one is its module and a line here."""

from launcher.wiring import openhands_cli, openhands_profile, openhands_settings, openhands_toml
from launcher.wiring.base import Target

TARGETS: dict[str, Target] = {
    openhands_profile.NAME: openhands_profile,
    openhands_toml.NAME: openhands_toml,
    openhands_settings.NAME: openhands_settings,
    openhands_cli.NAME: openhands_cli,
}
