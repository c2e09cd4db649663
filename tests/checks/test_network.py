from dataclasses import replace

import pytest

from launcher.checks.network import HubSeen, IndexSeen, PortSeen, hub, index, port, reach
from launcher.exposure import Opening
from tests.checks.test_graphics import is_told

PORTS: dict[str, tuple[PortSeen, str, str, str]] = {
    "free": (PortSeen(8400), "pass", "127.0.0.1:8400 is free", ""),
    "free, and known to agents": (PortSeen(8405, kept=True), "pass", "the one that agents know", ""),
    "ours": (PortSeen(8400, kept=True, server="tiny"), "pass", "tiny's, which runs here", ""),
    "taken before one was chosen": (PortSeen(8400, holder="nginx (pid 3)", next_free=8401), "pass", "8401 would be used", ""),
    "taken, and known to agents": (
        PortSeen(8400, kept=True, holder="nginx (pid 3)", next_free=8401),
        "fail",
        "is taken by nginx (pid 3)",
        "launcher up --port N",
    ),
    "taken like all above it": (PortSeen(8400, holder="nginx (pid 3)"), "fail", "no higher port is free", "--port"),
    "no loopback": (PortSeen(8400, fault="127.0.0.1 is not an address of this machine"), "fail", "not an address", "ip link"),
}


@pytest.mark.parametrize(("seen", "level", "detail", "remedy"), PORTS.values(), ids=PORTS.keys())
def test_the_port(seen: PortSeen, level: str, detail: str, remedy: str) -> None:
    assert is_told(port(seen), level, detail, remedy), port(seen)


BRIDGE, LAN = Opening("172.17.0.1", "containers"), Opening("192.168.1.5", "network")
REACHES: dict[str, tuple[tuple[Opening, ...], str, str, str]] = {
    "loopback alone": ((), "pass", "this machine alone", ""),
    "containers too": (
        (BRIDGE,),
        "pass",
        "http://172.17.0.1:8400/v1 is reachable with a key from this",
        "",
    ),
    "a network, over TLS": ((replace(LAN, tls=True),), "pass", "https://192.168.1.5:8400/v1", ""),
    "a network, in clear text": ((BRIDGE, LAN), "warn", "http://192.168.1.5:8400/v1 is reachable", "--tls-cert"),
    "an address that is away": (
        (replace(LAN, fault="192.168.1.5 is no address of this machine now"),),
        "warn",
        "no address",
        "--no-host",
    ),
}


@pytest.mark.parametrize(("seen", "level", "detail", "remedy"), REACHES.values(), ids=REACHES.keys())
def test_who_can_reach_it(seen: tuple[Opening, ...], level: str, detail: str, remedy: str) -> None:
    assert is_told(reach(seen, 8400), level, detail, remedy), reach(seen, 8400)


OPEN = HubSeen("https://hub.example", status=401, seconds=0.31)
GONE = HubSeen("https://hub.example", reason="Name or service not known")
HUBS: dict[str, tuple[HubSeen, str, str, str]] = {
    "it answers, and there is no token": (OPEN, "pass", "https://hub.example answers in 0.3 s; no token", ""),
    "it knows the token": (replace(OPEN, token=True, status=200, user="ada"), "pass", "the token is ada's", ""),
    "it refuses the token": (replace(OPEN, token=True), "fail", "does not accept the token", "`hf auth login` anew"),
    "a mirror that knows no users": (replace(OPEN, token=True, status=404), "pass", "does not tell whose", ""),
    "it is broken": (replace(OPEN, status=503), "warn", "it answered 503", "HF_ENDPOINT"),
    "nobody answers, and all weights are here": (GONE, "warn", "cannot reach https://hub.example: Name or", "HTTPS_PROXY"),
    "nobody answers, and weights are missing": (replace(GONE, needed=True), "fail", "cannot reach", "HTTPS_PROXY"),
    "offline on purpose": (HubSeen(offline=True), "pass", "HF_HUB_OFFLINE is set", ""),
    "offline, and weights are missing": (HubSeen(offline=True, needed=True), "fail", "still to be fetched", "unset"),
}


@pytest.mark.parametrize(("seen", "level", "detail", "remedy"), HUBS.values(), ids=HUBS.keys())
def test_the_hub(seen: HubSeen, level: str, detail: str, remedy: str) -> None:
    assert is_told(hub(seen), level, detail, remedy), hub(seen)


AWAY = IndexSeen("https://index.example/simple", reason="Connection refused")
INDEXES: dict[str, tuple[IndexSeen, str, str, str]] = {
    "it answers": (IndexSeen(seconds=0.2), "pass", "the default index serves packages, in 0.2 s", ""),
    "one of several": (IndexSeen(more=2), "pass", "the default index or one of 2 more serves", ""),
    "one of the user's own": (IndexSeen("https://index.example/simple"), "pass", "https://index.example/simple serves", ""),
    "away, and nothing is to be installed": (AWAY, "warn", "does not serve: Connection refused", "UV_DEFAULT_INDEX"),
    "away, and an engine is to be installed": (replace(AWAY, needed=True), "fail", "Connection refused", "HTTPS_PROXY"),
    "forbidden by pip's settings": (IndexSeen(forbidden=True, needed=True), "pass", "find-links alone", ""),
    "offline on purpose": (IndexSeen(offline=True), "pass", "UV_OFFLINE is set", ""),
    "offline, and an engine is to be installed": (IndexSeen(offline=True, needed=True), "warn", "UV_OFFLINE", "unset"),
}


@pytest.mark.parametrize(("seen", "level", "detail", "remedy"), INDEXES.values(), ids=INDEXES.keys())
def test_the_index(seen: IndexSeen, level: str, detail: str, remedy: str) -> None:
    assert is_told(index(seen), level, detail, remedy), index(seen)
