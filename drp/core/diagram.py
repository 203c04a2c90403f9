"""Draw a state table as a Mermaid state diagram, so that the picture in the docs is never a second account
of the table.
"""

from __future__ import annotations

from collections.abc import Iterable


def mermaid(edges: Iterable[tuple[str, str, str]], start: str) -> str:
    """Return the Mermaid text of `edges`, each (state, what happens, next state), that begins in the state
    `start`.

    Edges between the same two states share one arrow, labelled in the order given.
    """
    labels: dict[tuple[str, str], list[str]] = {}
    for state, event, after in edges:
        labels.setdefault((state, after), []).append(event)
    lines = ["stateDiagram-v2", f"    [*] --> {start}"]
    lines += [f"    {state} --> {after}: {', '.join(events)}" for (state, after), events in labels.items()]
    return "\n".join(lines) + "\n"
