"""What a supervisor knows, told by several threads at once."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from launcher.books import Books
from launcher.lifecycle import Use
from launcher.server import Server, State, Wanted
from tests.test_lifecycle import was
from tests.world import POLICY, little_world


@dataclass
class SlowGate:
    """Takes its time with what starts."""

    begun: threading.Event = field(default_factory=threading.Event)
    told: list[State] = field(default_factory=list)

    def publish(self, wanted: Sequence[Wanted], servers: Sequence[Server], engine_keys: Mapping[str, str]) -> None:
        assert not wanted
        assert set(engine_keys) == {"m"}
        (server,) = servers
        if server.state == "starting":
            self.begun.set()
            threading.Event().wait(0.3)
        self.told.append(server.state)

    def use(self, server: Server, key: str) -> Use:  # noqa: ARG002 - the protocol's
        return Use()


def test_what_was_seen_earlier_is_not_told_later(tmp_path: Path) -> None:
    gate = SlowGate()
    books = Books(replace(little_world(tmp_path), attend=lambda _: None), policy=POLICY, say=print, gate=gate)
    slow = threading.Thread(target=books.record, args=(was("starting"),))
    slow.start()
    gate.begun.wait(5)
    books.record(was("ready"))
    slow.join()
    assert gate.told == ["starting", "ready"]
