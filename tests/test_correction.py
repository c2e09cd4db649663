from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.correction import LOWERED_BY, NOISE, ROUNDING, corrected
from launcher.engines.base import Budget
from launcher.gpu import GIB
from launcher.starts import Setup, Start
from tests.starts_for_tests import SETUP, size, start


def budget(claim: float = 72, *, weights: float = 15, overhead: float = 2) -> Budget:
    return Budget(claim=size(claim), overhead=size(overhead), kv=size(claim) - size(weights) - size(overhead))


def of(model: str, overhead: float, *, modelled: float = 2.0, **more: object) -> Start:
    """A start of another model, whose rules said `modelled` GiB of overhead."""
    return start(replace(SETUP, model=model, **more), weights=8, overhead=overhead, modelled=modelled)  # type: ignore[arg-type]


NOISE_GIB = NOISE / GIB


@pytest.mark.parametrize(
    ("starts", "weights", "overhead", "note"),
    [
        pytest.param([], 15, 2, "", id="no start"),
        pytest.param(
            [start(weights=14, overhead=1.5)],
            14,
            1.5 + NOISE_GIB,
            "weights and overhead as measured here on 2026-11-22",
            id="this very setup: its figures, and noise on top",
        ),
        pytest.param(
            [start(weights=16, overhead=4)],
            16,
            4 + NOISE_GIB,
            "weights and overhead as measured here on 2026-11-22",
            id="more than the rules said",
        ),
        pytest.param(
            [start(weights=14, overhead=2.5), start(weights=14, overhead=1.5)],
            14,
            2.5 + NOISE_GIB,
            "weights and overhead as measured here on 2026-11-22",
            id="the worst of several",
        ),
        pytest.param(
            [start(weights=14, kv=10, peak=25)],
            14,
            2,
            "weights as measured here on 2026-11-22",
            id="nothing profiled: what was held is no reason to plan on less",
        ),
        pytest.param(
            [start(weights=14, kv=10, peak=27)],
            14,
            3,
            "weights and overhead as measured here on 2026-11-22",
            id="nothing profiled: what was held is a reason to plan on more",
        ),
        pytest.param(
            [start(peak=26.5)],
            15,
            2,
            "a start here on 2026-11-22 took 26.5 GiB, no more than planned",
            id="a peak that the plan foresaw",
        ),
        pytest.param(
            [start(peak=28)], 15, 3, "overhead as measured here on 2026-11-22", id="a peak that the plan did not foresee"
        ),
        pytest.param(
            [start(weights=14, overhead=1.5), start(weights=20, peak=40)],
            14,
            1.5 + NOISE_GIB,
            "weights and overhead as measured here on 2026-11-22",
            id="a start whose overhead was told says more than one of which it was not",
        ),
        pytest.param([start()], 15, 2, "started so here on 2026-11-22", id="a start that told nothing"),
        pytest.param(
            [of("a", 2.4)], 15, 2.4, "overhead +0.40 GiB, as another start on this kind of GPU showed", id="another took more"
        ),
        pytest.param(
            [of("a", 2.1), of("b", 2.2), of("c", 9)],
            15,
            2.2,
            "overhead +0.20 GiB, as 3 other starts on this kind of GPU showed",
            id="others took more: by the middle one, whatever disturbed the last",
        ),
        pytest.param([of("a", 12)], 15, 4, "overhead +2.00 GiB", id="others took much more: no more than twice the rule's"),
        pytest.param([of("a", 1), of("b", 1)], 15, 2, "", id="two that had some to spare are too few"),
        pytest.param([of("a", 1), of("b", 1), of("c", 2)], 15, 2, "", id="three, of which one had none"),
        pytest.param(
            [of("a", 1), of("b", 1.2), of("c", 1.7)],
            15,
            1.7 + NOISE_GIB,
            "overhead -0.15 GiB, as 3 other starts on this kind of GPU showed",
            id="three that had some: by the least of it, but for the noise",
        ),
        pytest.param(
            [of("a", 0.1), of("b", 0.1), of("c", 0.1)],
            15,
            2 * (1 - LOWERED_BY),
            "overhead -0.50 GiB",
            id="three that had much: by a quarter at most",
        ),
        pytest.param([of("a", 9), of("a", 2.4)], 15, 2.4, "overhead +0.40 GiB", id="of one model the newest counts"),
        pytest.param([of("a", 5, modelled=4.5)], 15, 2.5, "overhead +0.50 GiB", id="the difference to that model's own rule"),
        pytest.param([of("a", 3, device="GPU, 24 GiB")], 15, 2, "", id="another GPU tells nothing"),
        pytest.param([of("a", 3, version="0.31.0")], 15, 2, "", id="another version tells nothing"),
        pytest.param([of("a", 3, engine="sglang")], 15, 2, "", id="another engine tells nothing"),
        pytest.param([of("a", 3, tensor=2)], 15, 2, "", id="a group of another size tells nothing"),
        pytest.param([start(replace(SETUP, model="a"), peak=70)], 15, 2, "", id="another that profiled nothing tells nothing"),
        pytest.param(
            [start(weights=14, overhead=1.5), of("a", 9)],
            14,
            1.5 + NOISE_GIB,
            "weights and overhead as measured here",
            id="its own start tells more than others do",
        ),
    ],
)
def test_what_earlier_starts_say(starts: list[Start], weights: float, overhead: float, note: str) -> None:
    learnt = corrected(size(15), budget(), SETUP, starts, growing=False)
    assert learnt.weights / GIB == pytest.approx(weights)
    assert learnt.budget.overhead / GIB == pytest.approx(overhead, abs=1e-6)
    assert learnt.budget.claim == learnt.weights + learnt.budget.overhead + learnt.budget.kv == size(72)
    assert learnt.note.startswith(note)
    assert bool(learnt.note) == bool(note)


def test_an_overhead_that_grows_with_the_context_is_not_lowered_by_one_start() -> None:
    less, more = ([start(weights=14, overhead=overhead)] for overhead in (1.5, 4))
    learnt = corrected(size(15), budget(), SETUP, less, growing=True)
    assert (learnt.weights, learnt.budget.overhead) == (size(14), size(2))
    assert learnt.note == "weights as measured here on 2026-11-22"
    assert corrected(size(15), budget(), SETUP, more, growing=True).budget.overhead == size(4) + NOISE


@pytest.mark.parametrize(
    ("claim", "kv"),
    [
        pytest.param(27.0, 10.0, id="with the memory of then"),
        pytest.param(26.9, 26.9 - 15 - 2.2 - NOISE_GIB, id="not with less"),
        pytest.param(28.0, 28 - 15 - 2.2 - NOISE_GIB, id="with more, what is left of it"),
    ],
)
def test_what_was_proven_once_is_planned_again(claim: float, kv: float) -> None:
    # Planned with 10 GiB of KV cache and 2 of overhead, and the engine took 2.2, and still had what it needed.
    before = start(claim=27, weights=15, overhead=2.2, kv=10)
    learnt = corrected(size(15), budget(claim), SETUP, [before], growing=False)
    assert learnt.budget.kv / GIB == pytest.approx(kv, abs=1e-6)


def test_of_a_cache_that_came_out_smaller_than_planned_no_more_is_promised_again() -> None:
    before = start(claim=27, weights=15, overhead=3, kv=9)
    assert corrected(size(15), budget(27), SETUP, [before], growing=False).budget.kv == size(9) + ROUNDING


sizes = st.floats(0.1, 60)
told = st.none() | sizes
records = st.lists(
    st.builds(
        start,
        st.sampled_from([SETUP, replace(SETUP, model="a"), replace(SETUP, model="b"), replace(SETUP, model="c")]),
        claim=sizes,
        weights=told,
        overhead=told,
        kv=told,
        peak=told,
        planned_kv=st.floats(0, 60),
        modelled=sizes,
    ),
    max_size=6,
)


@given(records, sizes, sizes, st.booleans())
def test_no_start_makes_a_plan_claim_more_or_leave_nothing_for_the_engine(
    starts: list[Start],
    claim: float,
    overhead: float,
    growing: bool,  # noqa: FBT001 - drawn
) -> None:
    plain = budget(claim, overhead=overhead)
    learnt = corrected(size(15), plain, SETUP, starts, growing=growing)
    assert learnt.budget.claim == plain.claim
    assert learnt.weights + learnt.budget.overhead + learnt.budget.kv == plain.claim
    assert learnt.weights > 0
    assert learnt.budget.overhead >= 0


@given(records, sizes, sizes, st.floats(0, 20), st.booleans())
def test_more_memory_never_leaves_less_for_the_kv_cache(
    starts: list[Start],
    claim: float,
    overhead: float,
    more: float,
    growing: bool,  # noqa: FBT001 - drawn
) -> None:
    small, large = (
        corrected(size(15), budget(each, overhead=overhead), SETUP, starts, growing=growing) for each in (claim, claim + more)
    )
    assert small.budget.kv <= large.budget.kv


@given(records, sizes)
def test_other_models_lower_the_overhead_by_a_quarter_at_most_and_raise_it_to_twice(
    starts: list[Start], overhead: float
) -> None:
    others = [each for each in starts if each.setup != SETUP]
    plain = budget(overhead=overhead)
    learnt = corrected(size(15), plain, SETUP, others, growing=False)
    assert plain.overhead * (1 - LOWERED_BY) <= learnt.budget.overhead <= 2 * plain.overhead
    assert learnt.weights == size(15)


@given(records)
def test_starts_elsewhere_say_nothing(starts: list[Start]) -> None:
    elsewhere: Setup = replace(SETUP, device="another GPU, 79 GiB")
    assert corrected(size(15), budget(), elsewhere, starts, growing=False) == corrected(
        size(15), budget(), elsewhere, [], growing=False
    )
