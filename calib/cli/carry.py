"""`calib export` and `calib import`: constants in one file, from one store to another."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from calib.cli import options
from calib.errors import ServiceError, StoreError
from calib.model import Constant, DetectorId
from calib.service.client import Service
from calib.service.token import read_token
from calib.store import Record, Store, check_put, has_store, open_store, read_archive, write_archive


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommands."""
    export = commands.add_parser(
        "export",
        help="write constants to one file",
        description="Write constants to one zip file to carry elsewhere.",
    )
    export.add_argument("file", type=Path, metavar="FILE")
    export.add_argument("--detector", metavar="DET", help="of this one only: a name, a type or a short name")
    export.add_argument("--ctype", metavar="CTYPE", help="of this type only")
    export.add_argument("--experiment", metavar="NAME", help="of this experiment only")
    export.add_argument("--id", type=int, action="append", metavar="ID", help="this one; may come again")
    options.add_store(export)
    export.set_defaults(call=_export)
    carry_in = commands.add_parser(
        "import",
        help="add the constants of such a file",
        description="Add the constants of a file that calib export made, all or none; those that are there are left out.",
    )
    carry_in.add_argument("file", type=Path, metavar="FILE")
    options.add_store(carry_in)
    options.add_token(carry_in)
    carry_in.set_defaults(call=_import)


def _export(arguments: argparse.Namespace) -> int:
    with options.open_own(arguments) as store:
        records = store.history(
            name=arguments.detector, ctype=arguments.ctype, experiment=arguments.experiment
        )
        if arguments.id:
            records = [record for record in records if record.id in arguments.id]
        if not records:
            raise StoreError("nothing fits, so nothing is exported", where=store.url)
        with _appearing(arguments.file) as file:
            count = write_archive(file, _items(store, records))
    print(f"{count} constants in {arguments.file}")
    return 0


def _items(store: Store, records: list[Record]) -> Iterator[tuple[DetectorId, Constant]]:
    for record in records:
        detector = DetectorId(record.detname, record.detector.dettype, record.panels)
        yield detector, store.get(record.id)


@contextmanager
def _appearing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name when it is whole."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
    except OSError as error:
        raise StoreError(f"it cannot be made: {error.strerror}", where=str(path)) from error
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _import(arguments: argparse.Namespace) -> int:
    url = options.store_url(arguments)
    with arguments.file.open("rb") as file:
        if options.is_service(url):
            if arguments.token_file is None:
                raise ServiceError(
                    "writing through a service needs its token", where=url, hint="Say --token-file FILE."
                )
            service = Service(url, token=read_token(arguments.token_file))
            try:
                numbers = service.send_archive(file)
            finally:
                service.close()
            print(f"{len(numbers)} constants are new in {service.url}")
            return 0
        if not has_store(url):  # none is made for an archive that turns out to be no good
            for detector, constant in read_archive(file, str(arguments.file)):
                check_put(detector, constant)
            file.seek(0)
        with open_store(url, create=True) as store:
            records = store.put_all(read_archive(file, str(arguments.file)), again=False)
    print(f"{len(records)} constants are new in {url}")
    return 0
