"""What the tests of scripts share."""

from pathlib import Path

import pytest
from script_feed import Script


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Runs a script's text on dgrams in this process, as a worker would."""
    return Script(tmp_path)
