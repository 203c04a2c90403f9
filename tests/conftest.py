"""What all tests share: where the real data lies, and the checkout on the path so that test helpers can be
imported.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

ROOT = Path(__file__).resolve().parent.parent
NO_DATA = "no real data: set DRP_TEST_DATA, or put it in shared/data beside the checkout"

# Test modules have no packages; helpers are imported as `tests.<package>.<module>`, however pytest starts.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what the slow tests that go by chance can be asked for."""
    parser.addoption(
        "--times", type=int, default=1, help="how many times as much random tests do under -m slow"
    )


@pytest.fixture
def times(request: pytest.FixtureRequest) -> int:
    """How many times as much a slow test that goes by chance is to do; its time limit is not raised with it."""
    count: int = request.config.getoption("--times")
    return count


def find_test_data() -> Path | None:
    """Return the folder of real data: DRP_TEST_DATA, or `shared/data` beside the checkout; None where neither
    is there.
    """
    given = os.environ.get("DRP_TEST_DATA")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    return folder if (folder / "xtc2").is_dir() else None


def goldens() -> list[ParameterSet]:
    """Return what real files must say, as parameters of a test: each golden, or one that is skipped where there is no real data."""
    data = find_test_data()
    found = sorted((data / "xtc2" / "golden").glob("*.json")) if data else []
    named = [pytest.param(path, id=path.name.removesuffix(".xtc2.json")) for path in found]
    return named or [pytest.param(None, id="none", marks=pytest.mark.skip(reason=NO_DATA))]


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data; the test is skipped where it is absent."""
    folder = find_test_data()
    if folder is None:
        pytest.skip(NO_DATA)
    return folder


@pytest.fixture(scope="session")
def xtc2_data(test_data: Path) -> Path:
    """The folder of real xtc2 files and their goldens."""
    return test_data / "xtc2"
