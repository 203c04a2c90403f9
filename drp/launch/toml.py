"""Writing a plan as TOML, which `cnf.read_plan` reads back as the same plan."""

from __future__ import annotations

import json

from drp.launch.plan import LOCAL, Plan, Process


def plan_to_toml(plan: Plan) -> str:
    """Return the plan as a TOML document."""
    lines = [f"platform = {plan.platform}"]
    if plan.station:
        lines.append(f"station = {plan.station}")
    for one in plan.processes:
        lines += ["", "[[process]]", *_keys(one)]
    return "\n".join(lines) + "\n"


def _keys(one: Process) -> list[str]:
    rows: list[tuple[str, str | int | None]] = [("id", one.id), ("cmd", one.cmd)]
    rows += [("host", one.host)] if one.host != LOCAL else []
    rows += [("flags", one.flags or None), ("cores", one.cores), ("rtprio", one.rtprio), *one.unused]
    lines = [f"{key} = {_value(value)}" for key, value in rows if value is not None]
    if one.env:
        pairs = ", ".join(f"{name} = {_value(value)}" for name, value in one.env)
        lines.append(f"env = {{ {pairs} }}")
    return lines


def _value(value: str | int) -> str:
    """Return a number, or a basic string; JSON escapes as TOML does, but for DEL."""
    if isinstance(value, int):
        return str(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
