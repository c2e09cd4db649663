"""Which of several engines a request goes to: where its prompt's beginning was before, unless that one has too much to do."""

import hashlib
import math
from collections.abc import Sequence

from launcher.gateway.table import Backend, Remote

# How much more than its share of all requests an engine may have before others take its own. Mirrokni, Thorup, Zadimoghaddam,
# "Consistent Hashing with Bounded Loads" (2018), call it c; 1.25 as in HAProxy's hash-balance-factor guide and KubeAI.
BOUND = 1.25
# And how many it may have in any case: two at once cost an engine less than the prompt of one, computed anew elsewhere.
FEW = 2


def choose(
    backends: Sequence[Backend | Remote], loads: Sequence[int | None], *, slots: int = 0, prefix: bytes = b""
) -> int | None:
    """The number of the engine that is asked now, None while none has a place.

    `loads` are the requests at each, None for one that did not answer just now; `slots` how many each may have, 0 for any
    number. Requests of one `prefix` meet again, also after engines came or went: each moves only if its own engine did.
    """
    best = _least(loads, slots)
    if best is None or not prefix or len(backends) == 1:
        return best
    there = [load for load in loads if load is not None]
    bound = max(FEW, math.ceil(BOUND * (sum(there) + 1) / len(there)))
    most = min(bound, slots) if slots else bound
    ranks = ((_score(prefix, backend), number) for number, backend in enumerate(backends) if loads[number] is not None)
    home = max(ranks)[1]
    return home if (loads[home] or 0) < most else best


def _least(loads: Sequence[int | None], slots: int) -> int | None:
    """The one with the least to do that has a slot free."""
    best, least = None, slots or 1 << 60
    for number, load in enumerate(loads):
        if load is not None and load < least:
            best, least = number, load
    return best


def _score(prefix: bytes, backend: Backend | Remote) -> bytes:
    """Highest random weight (Thaler and Ravishankar, 1998): every gateway ranks the engines alike, and keeps no table."""
    return hashlib.blake2b(b"%b %b:%d" % (prefix, backend.host.encode(), backend.port), digest_size=8).digest()
