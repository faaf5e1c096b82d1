"""Hypothesis without deadlines: the machine that runs the tests may be busy with other things."""

from hypothesis import settings

settings.register_profile("slotgate", deadline=None)
settings.load_profile("slotgate")
