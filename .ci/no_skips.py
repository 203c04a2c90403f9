"""pytest plugin for CI: a skipped test fails, since CI installs whatever a test may ask for.

A strict xfail is a known hole and stays one.
"""

from collections.abc import Generator
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Turn the report of a skipped test into a failure."""
    return fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """Turn the report of a skipped module into a failure."""
    return fail_if_skipped((yield))


def fail_if_skipped(report: Any) -> Any:
    """Return the report, failed where it said skipped."""
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but in CI nothing may be missing: {report.longrepr}"
    return report
