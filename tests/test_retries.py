from dataclasses import replace

import pytest

from launcher.llm import LLMConfig
from launcher.retries import LONGEST, Fault, Policy, wait

DOCUMENTED = Policy.of(LLMConfig("m", "openai/m"))


def status(code: int, retry_after: float | None = None) -> Fault:
    return Fault("status", "", status=code, retry_after=retry_after)


def waits(policy: Policy, fault: Fault) -> list[float]:
    """The waits between the attempts, until no further one is made."""
    found: list[float] = []
    while (seconds := wait(policy, len(found) + 1, fault)) is not None:
        found.append(seconds)
    return found


def test_the_defaults_are_those_that_openhands_documents() -> None:
    # docs.openhands.dev, LLM configuration: LLM_NUM_RETRIES 4, MIN_WAIT 5, MAX_WAIT 30, MULTIPLIER 2.
    assert Policy(4, 5, 30, 2) == DOCUMENTED


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        pytest.param(DOCUMENTED, [5, 5, 8], id="the documented rule waits 18 seconds in all"),
        pytest.param(Policy(5, 8, 64, 8), [8, 16, 32, 64], id="that of OpenHands' code waits 120"),
        pytest.param(Policy(8, 15, 120, 2), [15, 15, 15, 16, 32, 64, 120], id="that of its template waits 277"),
        pytest.param(Policy(1, 5, 30, 2), [], id="one attempt is no retry"),
        pytest.param(Policy(3, 50, 30, 2), [50, 50], id="the shortest wait holds above the longest"),
    ],
)
def test_waits_double_between_the_shortest_and_the_longest(policy: Policy, expected: list[float]) -> None:
    assert waits(policy, status(500)) == expected


@pytest.mark.parametrize(
    ("fault", "attempts"),
    [
        pytest.param(status(429), 4, id="too many requests pass"),
        pytest.param(status(500), 4, id="a server's fault passes"),
        pytest.param(status(502), 4, id="a bad gateway passes"),
        pytest.param(status(503), 4, id="a model that is loaded passes"),
        pytest.param(status(504), 4, id="a gateway's time-out passes"),
        pytest.param(Fault("connection", ""), 4, id="nobody there may come back"),
        pytest.param(Fault("timeout", ""), 4, id="no answer in time may come next time"),
        pytest.param(Fault("empty", ""), 4, id="an answer without words may have some"),
        pytest.param(status(400), 1, id="a wrong request stays wrong"),
        pytest.param(status(401), 1, id="a wrong key stays wrong"),
        pytest.param(status(403), 1, id="what is forbidden stays so"),
        pytest.param(status(404), 1, id="a model that is not there does not appear"),
        pytest.param(Fault("overflow", "", status=400), 1, id="a prompt that is too long gets no shorter"),
        pytest.param(Fault("quota", "", status=429), 1, id="money that is spent does not come back"),
    ],
)
def test_what_time_may_mend_is_asked_again(fault: Fault, attempts: int) -> None:
    assert len(waits(DOCUMENTED, fault)) + 1 == attempts


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        pytest.param(1.0, 5.0, id="a server that wants less waits as long as ever"),
        pytest.param(20.0, 20.0, id="one that wants more gets it"),
        pytest.param(45.0, 45.0, id="beyond the longest wait too"),
        pytest.param(LONGEST + 1, None, id="one that wants minutes and minutes is not waited for"),
    ],
)
def test_retry_after_is_honoured(asked: float, first: float | None) -> None:
    assert wait(DOCUMENTED, 1, status(429, asked)) == first


def test_no_attempts_are_one() -> None:
    assert Policy.of(replace(LLMConfig("m", "openai/m"), num_retries=0)).attempts == 1
