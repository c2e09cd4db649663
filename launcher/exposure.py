"""Who may reach the gateway from beyond loopback: what is wished, and what that comes to on the interfaces there are."""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

Whence = Literal["here", "containers", "network", "internet"]
# How any address of a family is written: of IPv4, and of both.
ANY_4, ANY = "0.0.0.0", "::"  # noqa: S104 - a word that a person types, and nothing is bound to it
NO_BRIDGE = "there is no bridge of Docker's on this machine (no interface docker0)"


@dataclass(frozen=True, slots=True)
class Exposure:
    """What is wished beside loopback's port, which is always there and always plain HTTP.

    `hosts` are addresses, ANY_4 and ANY among them; `docker`: the address of Docker's bridge; `names`: what a Host header may
    say besides; `tls`: the certificate's file and its key's for `hosts`, or nothing; `origins`: whose pages a browser lets ask
    (CORS), `*` for all.
    """

    hosts: tuple[str, ...] = ()
    docker: bool = False
    names: tuple[str, ...] = ()
    tls: tuple[Path, ...] = ()
    origins: tuple[str, ...] = ()

    @property
    def beyond(self) -> bool:
        """Whether any address beside loopback's is wished."""
        return bool(self.hosts or self.docker)


@dataclass(frozen=True, slots=True)
class Change:
    """What a person typed of it: None leaves a part as it was kept, an empty one takes it back."""

    hosts: tuple[str, ...] | None = None
    docker: bool | None = None
    names: tuple[str, ...] | None = None
    tls: tuple[Path, ...] | None = None
    origins: tuple[str, ...] | None = None

    def of(self, kept: Exposure) -> Exposure:
        """What is wished from now on."""
        typed = {each.name: getattr(self, each.name) for each in fields(self)}
        return replace(kept, **{name: value for name, value in typed.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Interfaces:
    """The addresses of the network interfaces by their names; `bridge` is the address of Docker's, "" where there is none."""

    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    bridge: str = ""


@dataclass(frozen=True, slots=True)
class Opening:
    """An address beyond loopback that is listened on, or, with a `fault`, why it is not; `whence` it can be reached."""

    address: str
    whence: Whence
    tls: bool = False
    fault: str = ""

    def url(self, port: int) -> str:
        """What a client there is given."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{'https' if self.tls else 'http'}://{host}:{port}/v1"

    def text(self, port: int) -> str:
        """Who can reach what, and who can read along, in one line."""
        if self.fault:
            return f"not reachable: {self.fault}; it is tried again"
        return f"{self.url(port)} is reachable with a key from {_FROM[self.whence]}, {self._secrecy}"

    @property
    def is_overheard(self) -> bool:
        """Whether keys and answers go over a network in clear text."""
        return not self.fault and not self.tls and self.whence not in {"here", "containers"}

    @property
    def _secrecy(self) -> str:
        if self.tls:
            return "over TLS"
        if not self.is_overheard:
            return "in clear text that does not leave this machine"
        return "in clear text: who listens on the way reads keys and answers (--tls-cert and --tls-key prevent it)"


def openings(exposure: Exposure, interfaces: Interfaces) -> tuple[Opening, ...]:
    """What is to be listened on, in the order of the wishes, each address once.

    Docker's bridge stays plain HTTP also where there is a certificate: containers are told `http://host.docker.internal`, for
    which no certificate is made, and what they say does not leave this machine.
    """
    found: dict[str, Opening] = {}
    if exposure.docker:
        bridge = interfaces.bridge
        found[bridge] = Opening(bridge, "containers", fault="" if bridge else NO_BRIDGE)
    here = [address for each in interfaces.addresses.values() for address in each]
    for host in exposure.hosts:
        for address in _meant(host, here):
            whence = _whence(address)
            fault = "" if address in here or whence == "here" else _absent(address)
            found.setdefault(address, Opening(address, whence, tls=bool(exposure.tls) and whence != "here", fault=fault))
    return tuple(found.values())


def address(text: str) -> str:
    """An address as `--host` takes it, "" for loopback's usual one, which is there anyway; raises ValueError."""
    plain = text.strip("[]")
    if plain.lower() in {"localhost", "127.0.0.1"}:
        return ""
    return str(ipaddress.ip_address(plain))


def host_name(text: str) -> str:
    """A name as a Host header has it, in lower case and without a port; raises ValueError."""
    plain = text.strip("[]").lower().removesuffix(".")
    if ":" in plain:
        return str(ipaddress.ip_address(plain))
    if not re.fullmatch(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?", plain):
        raise ValueError(f"{text!r} is no name")
    return plain


def origin(text: str) -> str:
    """An origin as browsers send it (https://example.org:8443), or `*`; raises ValueError."""
    plain = text.lower().removesuffix("/")
    if plain != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[a-z0-9._:\[\]-]+", plain):
        raise ValueError(f"{text!r} is no origin")
    return plain


_FROM: Mapping[Whence, str] = MappingProxyType(
    {
        "here": "this machine",
        "containers": "this machine's containers (there: host.docker.internal)",
        "network": "its network",
        "internet": "the internet, as far as no firewall stands before it",
    }
)


def _meant(host: str, here: Iterable[str]) -> list[str]:
    """The addresses that a wish is for: itself, or all that have a place beyond this machine and its cable."""
    if host not in {ANY_4, ANY}:
        return [host]
    each = [ipaddress.ip_address(address) for address in here]
    wide = [str(a) for a in each if not a.is_loopback and not a.is_link_local and (host == ANY or a.version == 4)]  # noqa: PLR2004 - IPv4
    return wide or [host]


def _absent(address: str) -> str:
    if address in {ANY_4, ANY}:
        return "no network interface has an address"
    return f"{address} is no address of this machine now"


def _whence(address: str) -> Whence:
    found = ipaddress.ip_address(address)
    if found.is_loopback:
        return "here"
    return "internet" if found.is_global else "network"
