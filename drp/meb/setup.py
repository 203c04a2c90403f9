"""The Configure of all contributors in one, and how each one's NamesIds are shown in it."""

from __future__ import annotations

from drp.meb._merge import Nodes, merge, nodes_of

N_NODES = 4096


class Setup:
    """What contributors are configured with, as they say it at each BeginRun."""

    def __init__(self) -> None:
        self._configures: dict[int, bytes] = {}
        self._nodes: dict[int, Nodes] = {}
        self.merged = b""

    def take(self, configures: dict[int, memoryview], *, all_of_them: bool) -> bool:
        """Take the Configures of contributors, `all_of_them` or beside those known; returns whether the merged one has changed but for its time."""
        if all_of_them:
            self._configures.clear()
        self._configures |= {one: bytes(dgram) for one, dgram in configures.items()}
        self._nodes = _assign(self._configures)
        before, self.merged = self.merged, b""
        if self._configures:
            self.merged = bytes(
                merge([(self._configures[one], self._nodes[one]) for one in sorted(self._configures)])
            )
        return before[8:] != self.merged[8:]

    def nodes(self, contributor: int) -> Nodes | None:
        """Return how the contributor's NamesIds are shown; None: it has told no Configure, and nothing of it can be read."""
        return self._nodes.get(contributor)

    def forget(self) -> None:
        """There is no Configure."""
        self._configures.clear()
        self._nodes.clear()
        self.merged = b""


def _assign(configures: dict[int, bytes]) -> dict[int, Nodes]:
    """Give each contributor's nodes numbers of their own, the lowest contributor those it has; others keep theirs where nobody has them."""
    out: dict[int, Nodes] = {}
    own = {one: nodes_of(dgram) for one, dgram in configures.items()}
    everybody = set().union(*own.values())
    taken: set[int] = set()
    free = iter(node for node in range(1, N_NODES) if node not in everybody)
    for one in sorted(configures):
        changes = {node: next(free) for node in sorted(own[one] & taken)}
        out[one] = Nodes(changes)
        taken |= own[one]
    return out
