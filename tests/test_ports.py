"""Real sockets on loopback: what counts as taken, and who is named."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from launcher import ports
from launcher.errors import LauncherError


@contextmanager
def bound(address: str, *, port: int = 0, listening: bool = True, only_ipv6: bool = False) -> Iterator[int]:
    """A socket as engines make theirs; yields its port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only_ipv6))
        server.bind((address, port))
        if listening:
            server.listen()
        yield server.getsockname()[1]


def unused() -> int:
    with bound("127.0.0.1", listening=False) as port:
        return port


def test_the_port_that_was_asked_for_is_taken_if_it_is_free() -> None:
    port = unused()
    assert ports.free(port) == port


TAKEN = [
    pytest.param("127.0.0.1", True, False, id="a listener on loopback"),
    pytest.param("0.0.0.0", True, False, id="a listener on all addresses"),  # noqa: S104  what is to be noticed
    pytest.param("127.0.0.1", False, False, id="an engine that still loads its model and does not listen yet"),
    pytest.param("::", True, False, id="a listener on all addresses, old and new"),
    pytest.param("::", True, True, id="a listener on all IPv6 addresses"),
    pytest.param("::1", True, True, id="a listener on IPv6 loopback, which localhost may mean"),
]


@pytest.mark.parametrize(("address", "listening", "only_ipv6"), TAKEN)
def test_a_taken_port_is_passed_over(address: str, listening: bool, only_ipv6: bool) -> None:  # noqa: FBT001  a table's columns
    with bound(address, listening=listening, only_ipv6=only_ipv6) as port:
        assert not ports.is_free(port)
        assert ports.free(port) > port
    assert ports.is_free(port)


@pytest.mark.parametrize("listening", [True, False], ids=["listening", "loading"])
def test_one_address_does_not_hide_another(listening: bool) -> None:  # noqa: FBT001  a table's column
    with bound("127.0.0.1", listening=listening) as port:
        assert not ports.is_free(port, host="0.0.0.0")  # noqa: S104  what an engine would be told


def test_what_remains_of_ended_connections_does_not_count() -> None:
    with bound("127.0.0.1") as port:
        listener = next(c for c in psutil.Process().net_connections("tcp") if c.laddr and c.laddr.port == port)
        server = socket.socket(fileno=os.dup(listener.fd))
        with server, socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            # Who closes first keeps the port in TIME_WAIT.
            accepted.close()
            assert client.recv(1) == b""
    remains = [c for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port]
    assert [c.status for c in remains] == [psutil.CONN_TIME_WAIT]
    assert ports.free(port) == port
    assert ports.holder(port) is None


def test_no_port_left_is_a_known_fault() -> None:
    with bound("127.0.0.1", port=65_535), pytest.raises(LauncherError, match="no port from 65535 to 65535 is free"):
        ports.free(65_535)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"], ids=["not ours", "not ours, IPv6"])
def test_a_host_that_is_not_this_machine_is_a_known_fault(host: str) -> None:
    with pytest.raises(LauncherError, match=f"{host} is not an address of this machine"):
        ports.free(8400, host=host)


def test_who_listens_is_named() -> None:
    with bound("127.0.0.1") as port:
        assert ports.holder(port) == f"{psutil.Process().name()} (pid {os.getpid()})"
    assert ports.holder(port) is None


def test_who_took_a_port_and_does_not_listen_cannot_be_named() -> None:
    with bound("127.0.0.1", listening=False) as port:
        assert ports.holder(port) == "a process that cannot be seen"
