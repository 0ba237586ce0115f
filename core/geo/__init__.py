"""Places and times of arrival: pure. `sphere` measures, the rest builds on it."""
