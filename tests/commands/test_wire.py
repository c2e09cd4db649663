"""`launcher wire` in a little world: real files, a stub engine behind the real gateway."""

import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import introducing, keys
from launcher.commands import down, unwire, up, wire, wire_check
from launcher.commands.up import UpRequest
from launcher.commands.up_result import UpResult
from launcher.commands.wire import WireRequest
from launcher.errors import LauncherError
from launcher.server import ServerSpec
from launcher.wiring.diff import diff
from launcher.wiring.registry import TARGETS
from launcher.world import World
from tests.ports_for_tests import own_port
from tests.stub_engine import ANSWER
from tests.world import little_world

OPENHANDS = {name: target for name, target in TARGETS.items() if target.AGENT == "openhands"}
THEIRS = '{\n  // mine\n  "provider": {\n    "a": {"options": {"apiKey": "sk-theirs-12345678"}}\n  },\n}\n'


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = little_world(tmp_path, models=("tiny", "other"), context=32_768)
    yield made
    down.run(made, None)


def opencode(world: World, text: str | None = None) -> Path:
    path = world.user_home / ".config" / "opencode" / "opencode.json"
    if text is not None:
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return path


def upped(world: World, port: int, model: str = "tiny") -> UpResult:
    return up.run(world, UpRequest(ServerSpec(model), targets=OPENHANDS, known=TARGETS, port=port))


def test_an_agent_is_told_while_nothing_runs_and_the_proof_is_still_to_come(world: World) -> None:
    result = wire.run(world, WireRequest(("opencode",), model="tiny"), TARGETS)
    path = opencode(world)
    told = json.loads(path.read_text())["provider"]["launcher"]
    assert (result.exit_code, result.proof) == (0, None)
    assert "proof is still to come" in result.why
    assert told["options"]["apiKey"] == keys.read(world.home.key)
    assert list(told["models"]) == ["tiny"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert result.starts == ("opencode -m launcher/tiny",)
    assert [each.how for each in unwire.run(world, TARGETS).undone] == ["removed"]
    assert not (world.user_home / ".config").exists()


def test_only_agents_that_are_found_are_told_unasked(world: World) -> None:
    opencode(world, THEIRS)
    result = wire.run(world, WireRequest(model="tiny"), TARGETS)
    assert {edit.agent for edit in result.edits} == {"openhands", "opencode"}


def test_a_dry_run_writes_nothing_and_shows_no_key_of_anybodys(world: World) -> None:
    path = opencode(world, THEIRS)
    result = wire.dry_run(world, WireRequest(("opencode",), model="tiny"), TARGETS)
    shown = diff(result.edits)
    assert '+    "launcher": {' in shown
    assert "sk-theirs" not in shown
    assert path.read_text() == THEIRS
    assert not world.home.root.exists()


def test_a_file_that_cannot_be_understood_is_that_agents_fault_alone(world: World) -> None:
    path = opencode(world, "{ broken")
    result = wire.run(world, WireRequest(("opencode", "pi"), model="tiny"), TARGETS)
    assert (result.exit_code, [fault.agent for fault in result.faults]) == (1, ["opencode"])
    assert "left alone" in result.faults[0].message
    assert path.read_text() == "{ broken"
    assert (world.user_home / ".pi" / "agent" / "models.json").exists()


def test_what_nobody_knows_is_refused_with_what_there_is(world: World) -> None:
    with pytest.raises(LauncherError, match="unknown agent 'cursor'") as fault:
        wire.run(world, WireRequest(("cursor",)), TARGETS)
    assert "opencode" in fault.value.hint
    with pytest.raises(LauncherError, match="opencode can only be told on this machine"):
        wire.run(world, WireRequest(("openhands", "opencode"), docker=True), TARGETS)
    with pytest.raises(LauncherError, match="opencode is not wired"):
        unwire.run(replace(world, home=world.home.make()), TARGETS, ("opencode",))


def test_the_default_is_ours_on_demand_and_theirs_again(world: World) -> None:
    before = '{"model": "a/b"}'
    path = opencode(world, before)
    wire.run(world, WireRequest(("opencode",), model="tiny", default=True), TARGETS)
    assert json.loads(path.read_text())["model"] == "launcher/tiny"
    wire.run(world, WireRequest(("opencode",), model="tiny"), TARGETS)
    assert json.loads(path.read_text())["model"] == "a/b"
    unwire.run(world, TARGETS)
    assert path.read_text() == before


def test_one_agent_is_unwired_and_the_other_stays(world: World) -> None:
    wire.run(world, WireRequest(("opencode", "pi"), model="tiny"), TARGETS)
    undone = unwire.run(world, TARGETS, ("pi",)).undone
    assert [each.target for each in undone] == ["pi"]
    assert opencode(world).exists()


def test_files_follow_the_address_and_answer_with_what_stands_in_them(world: World) -> None:
    first, second = own_port(), own_port()
    path = opencode(world, THEIRS)
    result = upped(world, first)
    assert result.offered == ("opencode",)
    assert path.read_text() == THEIRS
    told = wire.run(world, WireRequest(("opencode", "claude"), default=True), TARGETS)
    assert told.proof is not None
    checked = wire_check.run(world, TARGETS)
    assert {each.target: each.words for each in checked.checked} == dict.fromkeys(
        ["openhands-profile", "openhands-toml", "opencode", "claude"], ANSWER
    )
    path.write_text(path.read_text().replace("// mine", "// mine and yours"))

    moved = upped(world, second)
    assert path in {edit.path for edit in moved.edits}
    assert moved.offered == ()
    assert f"http://127.0.0.1:{second}/v1" in path.read_text()
    assert "// mine and yours" in path.read_text()
    assert '"model": "launcher/tiny"' in path.read_text()
    assert wire_check.run(world, TARGETS).exit_code == 0
    settings = world.user_home / ".claude" / "settings.json"
    assert json.loads(settings.read_text())["env"]["ANTHROPIC_BASE_URL"] == f"http://127.0.0.1:{second}"

    path.write_text(path.read_text().replace(f":{second}/", ":9/"))
    checked = wire_check.run(world, {"opencode": TARGETS["opencode"]})
    assert (checked.exit_code, checked.checked[0].base_url) == (1, "http://127.0.0.1:9/v1")


def test_files_follow_the_key_and_what_is_wired_well_is_not_touched(world: World) -> None:
    path = opencode(world)
    upped(world, own_port())
    wire.run(world, WireRequest(("opencode", "pi", "zed"), proof=False), TARGETS)
    zed = world.user_home / ".config" / "zed" / "settings.json"
    zed.write_text(zed.read_text().replace('"images": false', '"images": true'))
    theirs = path.read_text().replace('"tool_call": true', '"tool_call": false')
    path.write_text(theirs)
    assert introducing.again(world, TARGETS).edits == ()
    assert path.read_text() == theirs
    assert '"images": true' in zed.read_text()

    world.home.key.write_text("sk-local-another-0123456789\n")
    stale = wire_check.run(world, TARGETS)
    assert stale.exit_code == 1
    faults = {each.target: each.fault for each in stale.checked if each.target != "zed"}  # its key stands elsewhere
    assert set(faults.values()) == {"the key of this launcher does not stand in it: wire it again"}
    assert {edit.agent for edit in introducing.again(world, TARGETS).edits} == {"openhands", "opencode", "pi"}
    assert '"apiKey": "sk-local-another-0123456789"' in path.read_text()


def test_a_damaged_record_costs_no_server(world: World) -> None:
    wire.run(world, WireRequest(("opencode",), model="tiny"), TARGETS)
    [record] = world.home.wired.iterdir()
    record.write_text("{")
    result = upped(world, own_port())
    assert [fault.message for fault in result.faults if str(record) in fault.message]
    assert (result.exit_code, result.endpoint.model, result.offered) == (1, "tiny", ())


DOCKER = """#!/bin/sh
echo "$@" >>"$0.words"
case "$1" in
ps) printf 'web\\tnginx\\noh-app\\tghcr.io/openhands/openhands:1.16\\n' ;;
exec) sed 's/host.docker.internal/127.0.0.1/' | curl --silent --show-error --config - ;;
esac
"""


def test_an_agent_in_a_container_is_asked_for_from_there(world: World, tmp_path: Path) -> None:
    upped(world, own_port())
    told = wire.run(world, WireRequest(("openhands-toml",), docker=True), TARGETS)
    assert "Start the container with --add-host host.docker.internal:host-gateway" in told.notes
    toml = {"openhands-toml": TARGETS["openhands-toml"]}
    nowhere = wire_check.run(replace(world, env={**world.env, "PATH": str(tmp_path)}), toml)
    assert (nowhere.exit_code, "none of openhands runs here" in nowhere.checked[0].fault) == (1, True)

    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    [checked] = wire_check.run(replace(world, env={**world.env, "PATH": f"{docker.parent}:/usr/bin:/bin"}), toml).checked
    assert (checked.container, checked.words, checked.fault) == ("oh-app", ANSWER, "")
    key = keys.read(world.home.key)
    assert key
    assert key not in docker.with_suffix(".words").read_text()
