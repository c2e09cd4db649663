"""What is counted of each model's requests: plain numbers on the hot path, made into metrics when somebody asks."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

# Seconds. A first token takes from a cached prompt's moment to a whole start; the next one, from a draft's to a stall.
WHOLE = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
FIRST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
BETWEEN = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)

# What engines tell of a finished request: OpenAI's names, and Anthropic's and the Responses API's.
_ASKED = re.compile(rb'"(?:prompt|input)_tokens"\s*:\s*(\d+)')
_ANSWERED = re.compile(rb'"(?:completion|output)_tokens"\s*:\s*(\d+)')
_COMMON, _BEFORE = b'_tokens"', len('"completion')


_SERVERS_ERROR = 500


class Spread:
    """A histogram: how often each bucket was met, and the sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class Tally:
    """One model's numbers. `statuses` counts answers; 499 is a client that went away before its answer's end.

    `diverted` counts requests that went to a fallback, by its name: their answers are among that one's numbers.
    """

    statuses: dict[int, int] = field(default_factory=dict)
    diverted: dict[str, int] = field(default_factory=dict)
    asked_tokens: int = 0
    answered_tokens: int = 0
    waited: Spread = field(default_factory=lambda: Spread(FIRST))
    first: Spread = field(default_factory=lambda: Spread(FIRST))
    between: Spread = field(default_factory=lambda: Spread(BETWEEN))
    whole: Spread = field(default_factory=lambda: Spread(WHOLE))

    @property
    def failed(self) -> int:
        """Answers with a server's error."""
        return sum(count for status, count in list(self.statuses.items()) if status >= _SERVERS_ERROR)


def tokens(piece: bytes) -> tuple[int, int] | None:
    """The tokens of the prompt and of the answer, where this piece of an answer tells them."""
    # Found first by what both have in common, which takes a tenth of the time: a plain answer may be long.
    start = max(0, piece.find(_COMMON) - _BEFORE)
    answered = _ANSWERED.search(piece, start)
    if answered is None:
        return None
    asked = _ASKED.search(piece, start)
    return int(asked[1]) if asked else 0, int(answered[1])
