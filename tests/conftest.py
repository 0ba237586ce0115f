"""What all tests share: random examples are judged by what they find, never by how long the machine took for them."""

from hypothesis import HealthCheck, settings

settings.register_profile("readback", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("readback")
