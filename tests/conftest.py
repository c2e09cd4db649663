"""Properties are not timed: a machine that others use as well would fail them now and then."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from tests.world import unattend

settings.register_profile("untimed", deadline=None)
# As many as the exact undo of agents' files is promised for: pytest --hypothesis-profile=all tests/wiring. It takes minutes,
# and a failure is not made smaller.
settings.register_profile("all", deadline=None, max_examples=2_000, phases=[Phase.explicit, Phase.reuse, Phase.generate])
settings.load_profile("untimed")


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """pytest's own, which it removes: nobody may be at work in it then, or the next test is told of what failed there."""
    yield tmp_path
    unattend(tmp_path)
