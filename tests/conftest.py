"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# The same examples in every run, and no deadline: a busy machine is no fault of an example.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
