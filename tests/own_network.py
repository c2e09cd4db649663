"""A network of one's own (network_namespaces(7)): its addresses come and go without touching the machine's."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

LAN, BRIDGE = "192.168.77.1", "172.17.0.1"
_ASK = """
import http.client, json, ssl, sys
address, port, path, key, host, ca, method, origin = sys.argv[1:]
kind = http.client.HTTPSConnection if ca else http.client.HTTPConnection
way = kind(address, int(port), timeout=5, **({"context": ssl.create_default_context(cafile=ca)} if ca else {}))
headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **({"Host": host} if host else {})}
if origin:
    headers |= {"Origin": origin, "Access-Control-Request-Method": "POST"}
try:
    way.request(method, path, headers=headers)
    print(way.getresponse().status)
except OSError as error:
    print(type(error).__name__)
except http.client.HTTPException as error:
    print(type(error).__name__)
"""


@dataclass
class Network:
    """`enter` are the words before a command that is to run in it."""

    enter: list[str]

    def ip(self, *words: str) -> None:
        subprocess.run([*self.enter, "ip", *words], check=True, capture_output=True, timeout=10)

    def ask(
        self,
        address: str,
        port: int,
        path: str = "/v1/models",
        *,
        key: str = "",
        host: str = "",
        ca: str = "",
        method: str = "GET",
        origin: str = "",
    ) -> str:
        """The status of an answer, or the name of what went wrong; `ca` is the certificate that is trusted, for TLS."""
        argv = [*self.enter, sys.executable, "-c", _ASK, address, str(port), path, key, host, ca, method, origin]
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=20).stdout.strip()


@contextmanager
def own_network() -> Iterator[Network]:
    """One with loopback alone; the test is skipped where a user may not make one."""
    words = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as within:
        try:
            assert within.stdout
            if within.stdout.readline() != "ready\n":
                pytest.skip("this user may make no network of its own")
            yield Network(["nsenter", "--target", str(within.pid), "--user", "--preserve-credentials", "--net"])
        finally:
            within.kill()
