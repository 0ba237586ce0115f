"""What all tests share: examples are judged by what they find, never by how long the machine took for them.

They are the same in every run, so that a change is judged by itself and not by a draw. ``--hypothesis-profile=explore`` draws
many others (`make test-long`); what it finds becomes an ``@example`` beside its mending.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("readback", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=1_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("readback")
