"""Real `launcher serve` processes in a network of their own: where they listen, and what becomes of addresses that go."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher import keys, store
from launcher.exposure import NO_BRIDGE, Exposure, Opening
from tests.certificates import certificate
from tests.homestead import Homestead, awaited, homestead
from tests.own_network import BRIDGE, LAN, Network, own_network


@dataclass
class Place:
    """A home in a network that has an address, and one of Docker's bridge."""

    made: Homestead
    network: Network
    port: int
    key: str

    def serve(self, *words: str) -> "subprocess.Popen[str]":
        return self.made.run([*self.network.enter, sys.executable, "-m", "launcher", "serve", *words])

    def awaits(self, *expected: Opening) -> None:
        awaited(lambda: store.openings(self.made.home) == expected)

    def ask(self, address: str, path: str = "/v1/models", **fields: str) -> str:
        return self.network.ask(address, self.port, path, **fields)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with own_network() as network, homestead(tmp_path) as made:
        network.ip("address", "add", f"{LAN}/24", "dev", "lo")
        network.ip("link", "add", "docker0", "type", "bridge")
        network.ip("address", "add", f"{BRIDGE}/16", "dev", "docker0")
        yield Place(made, network, store.port(made.home) or 0, keys.ensure(made.home.key))


CONTAINERS = Opening(BRIDGE, "containers")
CLEAR, ENCRYPTED = Opening(LAN, "network"), Opening(LAN, "network", tls=True)


def test_each_address_is_served_as_it_was_wished_and_lets_in_who_has_a_key_and_a_name(place: Place, tmp_path: Path) -> None:
    ca, private = certificate(tmp_path, LAN)
    words = ["--host", LAN, "--docker", "--allow-host", "box.example", "--tls-cert", str(ca), "--tls-key", str(private)]
    place.serve(*words)
    place.awaits(CONTAINERS, ENCRYPTED)
    key, trusted = place.key, str(ca)
    asked = {
        "loopback": place.ask("127.0.0.1", key=key),
        "loopback, no key": place.ask("127.0.0.1"),
        "loopback's metrics": place.ask("127.0.0.1", "/metrics"),
        "bridge": place.ask(BRIDGE, key=key),
        "bridge, by its name": place.ask(BRIDGE, key=key, host="host.docker.internal"),
        "bridge, no key": place.ask(BRIDGE),
        "bridge's metrics, no key": place.ask(BRIDGE, "/metrics"),
        "network": place.ask(LAN, key=key, ca=trusted),
        "network, another name": place.ask(LAN, key=key, ca=trusted, host="box.example"),
        "network, a stranger's name": place.ask(LAN, key=key, ca=trusted, host="evil.example"),
        "network, no key": place.ask(LAN, ca=trusted),
        "network, without TLS": place.ask(LAN, key=key),
    }
    assert asked == {
        "loopback": "200",
        "loopback, no key": "401",
        "loopback's metrics": "200",
        "bridge": "200",
        "bridge, by its name": "200",
        "bridge, no key": "401",
        "bridge's metrics, no key": "401",
        "network": "200",
        "network, another name": "200",
        "network, a stranger's name": "403",
        "network, no key": "401",
        "network, without TLS": "RemoteDisconnected",
    }


def test_what_was_wished_outlives_the_process_until_it_is_taken_back(place: Place) -> None:
    first = place.serve("--host", LAN, "--docker")
    place.awaits(CONTAINERS, CLEAR)
    first.kill()
    first.wait()
    store.keep_listening(place.made.home, 0, "nobody listens")
    second = place.serve()
    place.awaits(CONTAINERS, CLEAR)
    assert place.ask(LAN, key=place.key) == "200"
    second.terminate()
    _, said = second.communicate(timeout=30)
    assert CLEAR.text(place.port) in said
    place.serve("--no-host")
    place.awaits(CONTAINERS)
    assert (place.ask(LAN, key=place.key), place.ask(BRIDGE, key=place.key)) == ("ConnectionRefusedError", "200")


def test_what_is_changed_beside_addresses_holds_at_once(place: Place) -> None:
    place.serve()
    awaited(lambda: store.listening(place.made.home) == (place.port, ""))
    asked = {"method": "OPTIONS", "origin": "https://chat.example"}
    assert place.ask("127.0.0.1", **asked) == "405"
    assert place.ask("127.0.0.1", key=place.key, host="box.example") == "403"
    store.expose(place.made.home, Exposure(names=("box.example",), origins=("https://chat.example",)))
    awaited(lambda: place.ask("127.0.0.1", **asked) == "204")
    assert place.ask("127.0.0.1", key=place.key, host="box.example") == "200"


def test_an_address_that_goes_is_told_and_served_again_when_it_is_back_and_loopback_goes_on(place: Place) -> None:
    process = place.serve("--host", LAN, "--docker")
    place.awaits(CONTAINERS, CLEAR)
    place.network.ip("address", "del", f"{LAN}/24", "dev", "lo")
    place.network.ip("link", "del", "docker0")
    gone = Opening(LAN, "network", fault=f"{LAN} is no address of this machine now")
    place.awaits(Opening("", "containers", fault=NO_BRIDGE), gone)
    assert place.ask("127.0.0.1", key=place.key) == "200"
    place.network.ip("address", "add", f"{LAN}/24", "dev", "lo")
    place.awaits(Opening("", "containers", fault=NO_BRIDGE), CLEAR)
    assert place.ask(LAN, key=place.key) == "200"
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert next(line for line in said.splitlines() if gone.fault in line).endswith("it is tried again")


def test_an_address_comes_under_tls_and_its_certificate_is_renewed_without_a_restart(place: Place, tmp_path: Path) -> None:
    place.serve("--host", LAN)
    place.awaits(CLEAR)
    ca, private = certificate(tmp_path, LAN)
    home = place.made.home
    store.expose(home, Exposure((LAN,), tls=(ca, private)))
    place.awaits(ENCRYPTED)
    old = tmp_path / "old.pem"
    old.write_bytes(ca.read_bytes())
    assert (place.ask(LAN, key=place.key, ca=str(old)), place.ask(LAN, key=place.key)) == ("200", "RemoteDisconnected")
    certificate(tmp_path, LAN)
    deadline = time.monotonic() + 20
    while place.ask(LAN, key=place.key, ca=str(ca)) != "200":
        assert time.monotonic() < deadline
    assert place.ask(LAN, key=place.key, ca=str(old)) == "SSLCertVerificationError"


def test_a_certificate_that_is_gone_opens_nothing_in_clear_text(place: Place, tmp_path: Path) -> None:
    ca, private = certificate(tmp_path, LAN)
    store.expose(place.made.home, Exposure((LAN,), tls=(ca, private)))
    private.unlink()
    place.serve()
    place.awaits(Opening(LAN, "network", tls=True, fault=f"there is no file {private}"))
    assert place.ask(LAN, key=place.key) == "ConnectionRefusedError"
    assert place.ask("127.0.0.1", key=place.key) == "200"


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        pytest.param(["--host", "192.168.88.8"], "192.168.88.8 is no address of this machine now", LAN, id="a wrong address"),
        pytest.param(["--tls-cert", "c.pem"], "--tls-cert and --tls-key go together", "", id="half a pair"),
        pytest.param(
            ["--host", LAN, "--tls-cert", "c.pem", "--tls-key", "k.pem"],
            "there is no file",
            "PEM",
            id="files that are not there",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_and_not_kept(place: Place, words: list[str], message: str, hint: str) -> None:
    process = place.serve(*words)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, message in said, hint in said) == (1, True, True), said
    assert not place.made.home.exposure.exists()


def test_without_a_bridge_docker_is_refused_in_so_many_words(place: Place) -> None:
    place.network.ip("link", "del", "docker0")
    process = place.serve("--docker")
    _, said = process.communicate(timeout=30)
    assert (process.returncode, NO_BRIDGE in said) == (1, True)


def test_a_certificate_without_an_address_beyond_this_machine_is_refused(place: Place, tmp_path: Path) -> None:
    ca, private = certificate(tmp_path, LAN)
    process = place.serve("--docker", "--tls-cert", str(ca), "--tls-key", str(private))
    _, said = process.communicate(timeout=30)
    assert (process.returncode, "the certificate is for addresses beyond this machine" in said) == (1, True)
