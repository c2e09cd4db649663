"""Properties are not timed: a machine that others use as well would fail them now and then."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
