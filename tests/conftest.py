"""What holds for all tests: how long an example of hypothesis takes is not asserted."""

from hypothesis import settings

# A busy machine makes a slow example of a quick one; speed is measured in bench/.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
