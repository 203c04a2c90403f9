"""Keep all events, and send those with an event code to the monitors it is meant for.

teb -p "fex_scripts/monitor_router.py --route 256:ami --route 30:acr"
"""

import argparse
import itertools

from psdaq.trigger import tebTrigger
from psdaq.trigger.TimingTebData import TimingTebData


def route(text: str) -> tuple[int, str]:
    """Read CODE:NAME."""
    code, _, name = text.partition(":")
    return int(code), name


parser = argparse.ArgumentParser(
    description="Route events to monitors by event code.",
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
)
option = parser.add_argument
option("--timing", default="timing_0", help="the contributor that has the event codes")
option(
    "--route",
    type=route,
    action="append",
    metavar="CODE:NAME",
    required=True,
    help="event code, and what the aliases of its monitors hold; of several monitors each gets one in turn",
)
option("--share", type=int, default=1, help="send every Nth event of a code")
args = parser.parse_args()

ds = tebTrigger.TriggerDataSource()
timing = ds.detector(args.timing, TimingTebData)
routes = []
for code, name in args.route:
    mask = ds.mebs(name)
    turns = [1 << bit for bit in range(mask.bit_length()) if mask >> bit & 1]
    if not turns:
        print(f"event code {code}: no monitor is called {name!r}", flush=True)
    routes.append((code, itertools.cycle(turns or [0]), itertools.count()))

for evt in ds.events():
    codes = timing.trigger(evt)
    monitors = 0
    for code, turns, count in routes:
        if codes is not None and codes.has_eventcode(code) and next(count) % args.share == 0:
            monitors |= next(turns)
    ds.result(True, monitors)
