"""Who may reach the gateway from beyond loopback, as values."""

from pathlib import Path

import pytest

from launcher import exposure, store
from launcher.errors import LauncherError
from launcher.exposure import ANY, ANY_4, NO_BRIDGE, Change, Exposure, Interfaces, Opening, openings
from launcher.home import Home

PAIR = (Path("/cert.pem"), Path("/key.pem"))
FULL = Exposure(("192.168.1.5",), docker=True, names=("box.example",), tls=PAIR, origins=("https://chat.example",))
# 192.168/16 and fd00::/8 are for networks of one's own (RFC 1918, RFC 4193), 1.1.1.1 is on the internet.
THERE = Interfaces(
    {
        "lo": ("127.0.0.1", "::1"),
        "eth0": ("192.168.1.5", "fd00::5", "fe80::5%eth0"),
        "wan": ("1.1.1.1",),
        "docker0": ("172.17.0.1",),
    },
    bridge="172.17.0.1",
)
LAN = Opening("192.168.1.5", "network")
BRIDGE = Opening("172.17.0.1", "containers")


@pytest.mark.parametrize(
    ("wished", "there", "expected"),
    [
        pytest.param(Exposure(), THERE, (), id="nothing is opened that nobody wished"),
        pytest.param(Exposure(("192.168.1.5",)), THERE, (LAN,), id="one address"),
        pytest.param(Exposure(("1.1.1.1",)), THERE, (Opening("1.1.1.1", "internet"),), id="one that the internet routes to"),
        pytest.param(Exposure(("127.0.0.9",)), THERE, (Opening("127.0.0.9", "here"),), id="another one of loopback's"),
        pytest.param(
            Exposure(("10.8.0.2",)),
            THERE,
            (Opening("10.8.0.2", "network", fault="10.8.0.2 is no address of this machine now"),),
            id="one that is away, as a VPN's",
        ),
        pytest.param(
            Exposure((ANY_4,)),
            THERE,
            (LAN, Opening("1.1.1.1", "internet"), Opening("172.17.0.1", "network")),
            id="0.0.0.0 is each address of IPv4, and loopback is there anyway",
        ),
        pytest.param(
            Exposure((ANY, "192.168.1.5")),
            THERE,
            (LAN, Opening("fd00::5", "network"), Opening("1.1.1.1", "internet"), Opening("172.17.0.1", "network")),
            id=":: is each of both, once, but for those that hold on one cable only",
        ),
        pytest.param(
            Exposure((ANY_4,)),
            Interfaces({"lo": ("127.0.0.1",)}),
            (Opening(ANY_4, "network", fault="no network interface has an address"),),
            id="0.0.0.0 of a machine without a network",
        ),
        pytest.param(Exposure(docker=True), THERE, (BRIDGE,), id="the bridge"),
        pytest.param(
            Exposure(docker=True), Interfaces(), (Opening("", "containers", fault=NO_BRIDGE),), id="a bridge that is not there"
        ),
        pytest.param(
            Exposure(("192.168.1.5", "172.17.0.1", "::1"), docker=True, tls=PAIR),
            THERE,
            (BRIDGE, Opening("192.168.1.5", "network", tls=True), Opening("::1", "here")),
            id="TLS for what leaves this machine; its containers stay at http",
        ),
    ],
)
def test_what_is_listened_on(wished: Exposure, there: Interfaces, expected: tuple[Opening, ...]) -> None:
    found = openings(wished, there)
    # The whence of a missing ANY says nothing: there is no such address.
    assert [(each.address, each.tls, each.fault) for each in found] == [(e.address, e.tls, e.fault) for e in expected]
    assert [each.whence for each in found if not each.fault] == [each.whence for each in expected if not each.fault]


@pytest.mark.parametrize(
    ("opening", "said"),
    [
        pytest.param(
            LAN,
            "http://192.168.1.5:8400/v1 is reachable with a key from its network, in clear text: who listens on the way reads"
            " keys and answers (--tls-cert and --tls-key prevent it)",
            id="clear text is called so, with the remedy",
        ),
        pytest.param(
            Opening("fd00::5", "network", tls=True),
            "https://[fd00::5]:8400/v1 is reachable with a key from its network, over TLS",
            id="IPv6 over TLS",
        ),
        pytest.param(
            Opening("1.1.1.1", "internet", tls=True),
            "https://1.1.1.1:8400/v1 is reachable with a key from the internet, as far as no firewall stands before it,"
            " over TLS",
            id="the internet",
        ),
        pytest.param(
            BRIDGE,
            "http://172.17.0.1:8400/v1 is reachable with a key from this machine's containers (there: host.docker.internal), in"
            " clear text that does not leave this machine",
            id="containers",
        ),
        pytest.param(
            Opening("", "containers", fault=NO_BRIDGE),
            f"not reachable: {NO_BRIDGE}; it is tried again",
            id="what cannot be had",
        ),
    ],
)
def test_one_line_says_what_is_reachable_from_where_and_whether_in_clear_text(opening: Opening, said: str) -> None:
    assert opening.text(8400) == said


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(Change(), FULL, id="what was not typed stays"),
        pytest.param(
            Change(hosts=("10.0.0.1", "10.0.0.2")),
            Exposure(("10.0.0.1", "10.0.0.2"), FULL.docker, FULL.names, FULL.tls, FULL.origins),
            id="what was typed replaces its part alone",
        ),
        pytest.param(Change((), docker=False, names=(), tls=(), origins=()), Exposure(), id="all of it taken back"),
    ],
)
def test_what_is_typed_changes_what_was_kept(change: Change, expected: Exposure) -> None:
    assert change.of(FULL) == expected


@pytest.mark.parametrize("wished", [pytest.param(Exposure(), id="nothing"), pytest.param(FULL, id="everything")])
def test_what_is_wished_is_kept_as_it_is(tmp_path: Path, wished: Exposure) -> None:
    home = Home(tmp_path)
    assert store.exposure(home) == Exposure()
    store.expose(home, wished)
    assert store.exposure(home) == wished


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("{", id="half a file"),
        pytest.param('{"version": 2, "hosts": []}', id="a part that is missing"),
        pytest.param('{"version": 2, "hosts": null, "docker": false, "names": [], "tls": [], "origins": []}', id="no list"),
    ],
)
def test_a_damaged_record_is_told(tmp_path: Path, content: str) -> None:
    home = Home(tmp_path)
    home.state.mkdir()
    home.exposure.write_text(content)
    with pytest.raises(LauncherError, match=r"the record .*exposure\.json is damaged"):
        store.exposure(home)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("192.168.1.5", "192.168.1.5", id="IPv4"),
        pytest.param("[FD00:0::5]", "fd00::5", id="IPv6 as URLs have it, in its shortest form"),
        pytest.param("localhost", "", id="what is there anyway, by its name"),
        pytest.param("127.0.0.1", "", id="what is there anyway"),
        pytest.param("gpu-box", None, id="a name, which may lead anywhere"),
        pytest.param("192.168.1.5:80", None, id="an address with a port"),
    ],
)
def test_an_address(text: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="address"):
            exposure.address(text)
    else:
        assert exposure.address(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("GPU-Box.Example.org.", "gpu-box.example.org", id="a name, in lower case and without its last dot"),
        pytest.param("[fd00::5]", "fd00::5", id="IPv6"),
        pytest.param("box:8400", None, id="a name with a port"),
        pytest.param("*.example.org", None, id="no wildcards"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_a_host_name(text: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match=r"is no name|does not appear to be"):
            exposure.host_name(text)
    else:
        assert exposure.host_name(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("https://Chat.Example.org:8443/", "https://chat.example.org:8443", id="an origin, as browsers write it"),
        pytest.param("*", "*", id="any"),
        pytest.param("chat.example.org", None, id="no scheme"),
        pytest.param("https://chat.example.org/page", None, id="a page"),
        pytest.param("null", None, id="null, which any page in a frame can be"),
    ],
)
def test_an_origin(text: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="is no origin"):
            exposure.origin(text)
    else:
        assert exposure.origin(text) == expected
