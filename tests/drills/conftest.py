"""Real clusters, proxies and loads of the drills."""

from tests.support.fixtures import binary, pytest_runtest_makereport, serve

__all__ = ["binary", "pytest_runtest_makereport", "serve"]
