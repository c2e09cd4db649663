"""Who is next: in order for each key, and the keys in turn, so that no one's crowd keeps another waiting."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Numbered(Protocol):
    """One who came when `number` was counted, by the key `key`."""

    key: str
    number: int


T = TypeVar("T", bound=Numbered)


class Turns(Generic[T]):
    """Those who wait for one model."""

    __slots__ = ("_count", "_lines")

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[T]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        """All of them; they may leave while one goes through."""
        for line in list(self._lines.values()):
            yield from list(line)

    def add(self, who: T) -> None:
        """Take a place in the key's line; one who had a turn already, and lost it, comes before all that came later."""
        line = self._lines.setdefault(who.key, deque())
        if line and line[-1].number > who.number:
            line.insert(next(place for place, other in enumerate(line) if other.number > who.number), who)
        else:
            line.append(who)
        self._count += 1

    def take(self) -> T:
        """Who is next; the key's others come after the other keys' first."""
        key, line = next(iter(self._lines.items()))
        who = line.popleft()
        self._count -= 1
        if line:
            self._lines.move_to_end(key)
        else:
            del self._lines[key]
        return who

    def leave(self, who: T) -> None:
        """Give the place up."""
        line = self._lines.get(who.key)
        if line is not None and who in line:
            line.remove(who)
            self._count -= 1
            if not line:
                del self._lines[who.key]
