"""`calib put` and `calib rm`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from calib.cli import options
from calib.errors import CalibError, ConstantsMisshapen, ServiceError, StoreError
from calib.model import Constant, DetectorId, known_ctype
from calib.service.client import Service
from calib.service.token import read_token
from calib.store import check_put, open_store

_FORCE = "Say --force if it is to be put nevertheless."


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommands."""
    put = commands.add_parser(
        "put", help="add a constant", description="Add a constant; nothing is replaced."
    )
    options.add_detector(put)
    put.add_argument("ctype", metavar="CTYPE", help=options.ctype_help())
    put.add_argument("file", type=Path, metavar="FILE", help=".npy for arrays, text for geometry")
    put.add_argument(
        "--run",
        type=options.run_range,
        required=True,
        metavar="N[-M]",
        help="runs that it is valid for: from N on, or from N to M",
    )
    put.add_argument(
        "--experiment", default="", metavar="NAME", help="valid in this one first (default: for the detector)"
    )
    put.add_argument("--label", default="", metavar="TEXT", help="a version of yours")
    put.add_argument("--comment", default="", metavar="TEXT", help="a comment")
    put.add_argument(
        "--force",
        action="store_true",
        help="put it even if its shape is not the detector's, most of a panel's pixels cannot be used, or a geometry is broken",
    )
    options.add_store(put)
    options.add_token(put)
    put.set_defaults(call=_put)
    remove = commands.add_parser("rm", help="remove constants by id")
    remove.add_argument("ids", type=int, nargs="+", metavar="ID", help="as calib history shows them")
    remove.add_argument("--yes", action="store_true", help="do it; without, only say what would be removed")
    options.add_store(remove)
    remove.set_defaults(call=_remove)


def _put(arguments: argparse.Namespace) -> int:
    known_ctype(arguments.ctype)
    detector = options.the_detector(arguments)
    if not detector.serials:
        raise StoreError(
            f"which panels of {detector.name} are these constants of?",
            hint="Say --serials A,B,... or --from-config FILE.xtc2.",
        )
    begin, end = arguments.run
    constant = Constant.make(
        arguments.ctype,
        options.load_value(arguments.file, arguments.ctype),
        detector.serials,
        experiment=arguments.experiment,
        run=begin,
        run_end=end,
        version=arguments.label,
        comment=arguments.comment,
    )
    if not arguments.force:
        _refuse_doubtful(detector, constant, arguments)
    if constant.run_end is not None and not constant.experiment:
        print(
            f"calib: without --experiment, runs {begin}-{end} say nothing: the newest of the detector is used for any run",
            file=sys.stderr,
        )
    url = options.store_url(arguments)
    if options.is_service(url):
        if arguments.token_file is None:
            raise ServiceError(
                "writing through a service needs its token", where=url, hint="Say --token-file FILE."
            )
        service = Service(url, token=read_token(arguments.token_file))
        try:
            (number,) = service.put([(detector, constant)])
        finally:
            service.close()
        print(f"id {number} in {service.url}")
        return 0
    check_put(detector, constant)  # before a store is made for it
    with open_store(url, create=True) as store:
        (record,) = store.put(detector, [constant])
    print(f"{record} in {store.url}")
    return 0


def _refuse_doubtful(detector: DetectorId, constant: Constant, arguments: argparse.Namespace) -> None:
    """Raise CalibError for what does not fit the detector or could not be used; say on stderr what is odd about what can."""
    from calib.fitting import check_fit, doubts_of, is_known  # noqa: PLC0415 - numba is heavy for the other subcommands

    file = str(arguments.file)
    known = is_known(detector.dettype)
    frame = None
    if arguments.from_config and not known:
        frame = options.frame_in(arguments.from_config, detector.name)
    try:
        check_fit(detector, constant, frame)
    except CalibError as error:
        raise ConstantsMisshapen(str(error), where=file, hint=_FORCE) from error
    doubts = doubts_of(constant)
    if doubts.grave:
        more = f"; and {len(doubts.grave) - 4} more" if len(doubts.grave) > 4 else ""
        raise ConstantsMisshapen(
            f"{constant.ctype} not put, because the newest constants are those that are used: "
            f"{'; '.join((*doubts.slight, *doubts.grave[:4]))}{more}",
            where=file,
            hint=_FORCE,
        )
    for one in doubts.slight:
        print(f"calib: {file}: {one}", file=sys.stderr)
    if constant.serials and not known and not (arguments.type or arguments.from_config):
        print(
            f"calib: {detector.dettype!r} is no type that calib knows, so the shape was not checked against it; "
            "--type or --from-config says the type, by which constants are found",
            file=sys.stderr,
        )


def _remove(arguments: argparse.Namespace) -> int:
    with options.open_own(arguments) as store:
        if not arguments.yes:
            for one in arguments.ids:
                print(options.describe(store.record(one)))
            print("nothing is removed yet: say --yes")
            return 1
        for record in store.remove(arguments.ids):
            print(f"removed: {record}")
    return 0
