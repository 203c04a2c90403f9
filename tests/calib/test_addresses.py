"""Addresses of stores and services that are none: each is one clear error, before anything is asked."""

from __future__ import annotations

import pytest

from calib import CalibError, open_source


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:abc",
        "http://127.0.0.1:99999999",
        "http://[::1",
        "http://127.0.0.1/\x01",
        "http://",
        "postgresql+psycopg://u@h:abc/x",
        "foo://x",
    ],
)
def test_what_is_no_address_is_told_as_such(url: str) -> None:
    with pytest.raises(CalibError, match=r"no address|cannot be kept"):
        open_source(url)
