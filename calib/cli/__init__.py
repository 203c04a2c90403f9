"""The `calib` command."""

from calib.cli.main import main

__all__ = ["main"]
