"""Properties are not timed: a machine that others use as well would fail them now and then."""

from hypothesis import Phase, settings

settings.register_profile("untimed", deadline=None)
# As many as the exact undo of agents' files is promised for: pytest --hypothesis-profile=all tests/wiring. It takes minutes,
# and a failure is not made smaller.
settings.register_profile("all", deadline=None, max_examples=2_000, phases=[Phase.explicit, Phase.reuse, Phase.generate])
settings.load_profile("untimed")
