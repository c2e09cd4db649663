"""Letting others reach the gateway: a person's words checked against this machine, kept, and followed until they hold."""

import shlex
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from launcher import interfaces, ports, store
from launcher.errors import LauncherError
from launcher.exposure import NO_BRIDGE, Change, Exposure, Interfaces, Opening, openings
from launcher.gateway import tls
from launcher.home import Home
from launcher.llm_env import TO_THIS_MACHINE

# The gateway looks four times a second, and asks Docker where it must.
_PATIENCE = 8.0
_TURN = 0.05


def meant(home: Home, change: Change) -> Exposure:
    """What is wished once this was typed; raises LauncherError for an address or a certificate that cannot be had.

    What was kept may be away today, as a VPN is; what is typed now is more likely a slip.
    """
    exposure = change.of(store.exposure(home))
    if change.tls:
        tls.context(*change.tls)
        if not exposure.hosts:
            hint = "--host ADDRESS; this machine and its containers are served plain HTTP, which does not leave it"
            raise LauncherError("the certificate is for addresses beyond this machine, and none is open", hint=hint)
    typed = Exposure(hosts=change.hosts or (), docker=bool(change.docker))
    if typed.beyond:
        found = interfaces.read(docker=typed.docker)
        for opening in openings(typed, found):
            if opening.fault == NO_BRIDGE:
                raise LauncherError(NO_BRIDGE, hint="start Docker once, or name the address with --host")
            if opening.fault:
                there = ", ".join(address for each in found.addresses.values() for address in each)
                raise LauncherError(opening.fault, hint=f"this machine has {there}; 0.0.0.0 is all of them")
    return exposure


@contextmanager
def kept(home: Home, change: Change) -> Iterator[None]:
    """Wish it from now on; what was wished before comes back where the work inside comes to nothing."""
    before = store.exposure(home)
    wished = meant(home, change)
    try:
        if wished != before:
            store.expose(home, wished)
        yield
    except BaseException:
        if wished != before:
            store.expose(home, before)
        raise


def for_containers(home: Home, found: Interfaces, *, dry: bool = False) -> tuple[str, ...]:
    """Let this machine's containers reach the gateway from now on; what a person has to know of it, and to type for them."""
    line = f"Start the container with {shlex.join(TO_THIS_MACHINE)}"
    exposure = store.exposure(home)
    if not found.bridge:
        away = f"{NO_BRIDGE}: Docker Desktop needs none, else `launcher up --docker` lets containers in once Docker has run"
        return line, away
    if dry:
        return (line,)
    if not exposure.docker:
        store.expose(home, replace(exposure, docker=True))
    opening = Opening(found.bridge, "containers").text(store.port(home) or ports.FIRST)
    return line, f"{opening}; `launcher up --no-docker` takes that back"


def foreseen(exposure: Exposure) -> tuple[Opening, ...]:
    """What would be listened on now."""
    return openings(exposure, interfaces.read(docker=exposure.docker)) if exposure.beyond else ()


def reached(home: Home) -> tuple[Opening, ...]:
    """What the gateway listens on beyond loopback, as soon as it is what is wished."""
    wished = _whatever_comes_of_it(foreseen(store.exposure(home)))
    deadline = time.monotonic() + _PATIENCE
    while _whatever_comes_of_it(told := store.openings(home)) != wished and time.monotonic() < deadline:
        time.sleep(_TURN)
    return told


def _whatever_comes_of_it(each: Iterable[Opening]) -> set[Opening]:
    return {replace(opening, fault="") for opening in each}
