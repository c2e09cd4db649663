"""How fast bytes come, and how long the rest will take: from what was seen in the last seconds."""

from collections.abc import Sequence

# A rate is that of so many seconds: long enough not to jump, short enough to show that a line became slow.
WINDOW = 10.0
Seen = tuple[float, int]


def recent(seen: Sequence[Seen], now: Seen) -> tuple[Seen, ...]:
    """What was seen, with this added and what is too old left out; a counter that fell begins anew."""
    if seen and now[1] < seen[-1][1]:
        return (now,)
    return (*(each for each in seen if now[0] - each[0] <= WINDOW), now)


def rate(seen: Sequence[Seen]) -> float:
    """Bytes a second; 0 before two looks."""
    if len(seen) < 2 or seen[-1][0] <= seen[0][0]:  # noqa: PLR2004  # two looks make a difference
        return 0.0
    return (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])


def left(missing: int, rate: float) -> float | None:
    """The seconds that so many bytes will take at that rate; None where nothing moves."""
    return missing / rate if rate else None
