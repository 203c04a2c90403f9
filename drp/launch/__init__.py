"""Starting and stopping what a .cnf file names: `procmgr` and `procstat`."""

from drp.launch.cnf import read_plan
from drp.launch.commands import Command, commands_of
from drp.launch.plan import LaunchError, Plan, Process
from drp.launch.toml import plan_to_toml

__all__ = ["Command", "LaunchError", "Plan", "Process", "commands_of", "plan_to_toml", "read_plan"]
