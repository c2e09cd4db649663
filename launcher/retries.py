"""When a request to a model is asked again, and after how long: the rule that OpenHands documents. Decisions only."""

from dataclasses import dataclass
from typing import Literal

from launcher.llm import LLMConfig

# A server that wants to be left alone for longer is not waited for.
LONGEST = 600.0
_TOO_MANY = 429
_SERVER = 500

Kind = Literal["status", "timeout", "connection", "overflow", "quota", "empty"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A request that failed: by an HTTP status, or because nobody answered in time or at all.

    `retry_after` is what the server asked for, in seconds. `quota` is a 429 that says the money is spent; `overflow` a 400 that
    says the prompt is longer than the window; `empty` an answer without one choice.
    """

    kind: Kind
    message: str
    status: int | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """How often and how long: `attempts` counts the first one too, waits are in seconds."""

    attempts: int
    shortest: float
    longest: float
    multiplier: float

    @classmethod
    def of(cls, llm: LLMConfig) -> "Policy":
        """The four fields of a configuration; 0 attempts are one, as in OpenHands."""
        return cls(max(1, llm.num_retries), llm.retry_min_wait, llm.retry_max_wait, llm.retry_multiplier)


def wait(policy: Policy, attempt: int, fault: Fault) -> float | None:
    """The seconds after the failed `attempt` (1 is the first), None for no further one.

    max(min, min(multiplier * 2^(n-1), max)), tenacity's wait_exponential as OpenHands uses it; longer where the server says so.
    """
    if attempt >= policy.attempts or not passes(fault):
        return None
    seconds = max(policy.shortest, min(policy.multiplier * 2.0 ** (attempt - 1), policy.longest))
    if fault.retry_after is None:
        return seconds
    return None if fault.retry_after > LONGEST else max(seconds, fault.retry_after)


def passes(fault: Fault) -> bool:
    """Whether time may mend it: 429, 5xx, no connection, no answer; never 400, 401, 404 and a prompt that is too long."""
    if fault.kind == "status":
        return fault.status is not None and (fault.status == _TOO_MANY or fault.status >= _SERVER)
    return fault.kind in {"timeout", "connection", "empty"}
