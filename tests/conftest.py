"""What all tests share: where the real data lies, and the checkout on the path so that test helpers can be
imported.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Test modules have no packages; helpers are imported as `tests.<package>.<module>`, however pytest starts.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


def find_test_data() -> Path | None:
    """Return the folder of real data: DRP_TEST_DATA, or `shared/data` beside the checkout; None where neither
    is there.
    """
    given = os.environ.get("DRP_TEST_DATA")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    return folder if (folder / "xtc2").is_dir() else None


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data; the test is skipped where it is absent."""
    folder = find_test_data()
    if folder is None:
        pytest.skip("no real data: set DRP_TEST_DATA, or put it in shared/data beside the checkout")
    return folder


@pytest.fixture(scope="session")
def xtc2_data(test_data: Path) -> Path:
    """The folder of real xtc2 files and their goldens."""
    return test_data / "xtc2"
