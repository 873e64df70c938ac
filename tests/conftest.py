"""What all tests share: the event loop, hypothesis' profiles, and servers in folders of their own."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A shared machine is slow at times; a test that hangs is ended by whoever runs the suite, not by an example's deadline.
settings.register_profile("default", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("default"), max_examples=1_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run asynchronous tests on the event loop that the services use."""
    return "asyncio", {"use_uvloop": True}
