"""Keep the events in which detectors have found enough, and some of the others.

teb -p "fex_scripts/hit_trigger.py --at-least 15"
"""

import argparse

from drp import TriggerDataSource

parser = argparse.ArgumentParser(
    description="Keep events whose trigger word is high enough.",
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
)
option = parser.add_argument
option("--word", default="peaks", help="the trigger word that is looked at, in all contributors that have it")
option("--at-least", type=float, default=15, help="from which value on it is a hit")
option("--all", action="store_true", help="all of them must have a hit; else one is enough")
option("--keep-every", type=int, default=100, help="keep every Nth event whole, hit or not (0: none)")
option("--show-every", type=int, default=1, help="send every Nth hit to the monitors (0: none)")
args = parser.parse_args()

ds = TriggerDataSource()
mebs = ds.mebs()
who = [alias for alias, words in ds.contributors.items() if args.word in words]
if not who:
    raise SystemExit(f"no contributor has a trigger word {args.word!r}: there are {ds.contributors}")
enough = all if args.all else any
hits = 0
for number, evt in enumerate(ds.events()):
    due = [
        alias for alias in who if alias in evt or alias in evt.missing
    ]  # not a slow detector between its events
    found = [getattr(words, args.word) >= args.at_least for words in map(evt.__getitem__, due) if words]
    # Who gave no words (it did not contribute in time, its script failed) may have had a hit.
    silent = len(due) - len(found)
    hit = bool(due) and (enough(found) or (silent > 0 and (all(found) or not args.all)))
    hits += hit
    show = hit and args.show_every and hits % args.show_every == 0
    ds.result(
        hit,
        mebs if show else 0,
        prescale=bool(args.keep_every) and number % args.keep_every == 0,
    )
