"""Real clusters, proxies and loads of the drills."""

from tests.support.fixtures import binary, no_secret_in_logs, pytest_runtest_makereport, serve

__all__ = ["binary", "no_secret_in_logs", "pytest_runtest_makereport", "serve"]
