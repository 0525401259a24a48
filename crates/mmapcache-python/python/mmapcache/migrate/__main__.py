"""The command line of the moves; see ``python -m mmapcache.migrate --help``.

Exit codes: 0 if every entry that has not expired is at the destination, 1 if some were left (each
is named on the standard error stream), 2 if the command could not run.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
from collections.abc import Sequence

from mmapcache import MmapCacheError
from mmapcache.migrate.outcome import Outcome
from mmapcache.migrate.salt_mmap import KEY_SIZE, SLOT_SIZE
from mmapcache.migrate.sqlite_rows import (
    ANY_PICKLE,
    AUTOMATIC_DISK,
    JSON_DISK,
    NO_PICKLE,
    PLAIN_DISK,
    PLAIN_PICKLE,
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mmapcache.migrate",
        description="Moves the data of another cache. The source is only read; both may be in use.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    salt = commands.add_parser(
        "salt", help="from Salt's drivers localfs and mmap_cache to the driver mmapcache"
    )
    salt.add_argument("source", help="the cachedir that has the banks")
    salt.add_argument("destination", help="the cachedir for the driver mmapcache; may be the same")
    salt.add_argument(
        "--bank",
        action="append",
        default=[],
        help="move this bank and those in it; may be repeated",
    )
    salt.add_argument("--slot-size", type=int, default=SLOT_SIZE, help="mmap_cache_slot_size")
    salt.add_argument("--key-size", type=int, default=KEY_SIZE, help="mmap_cache_key_size")
    disk = commands.add_parser("diskcache", help="from diskcache to mmapcache.diskcache")
    disk.add_argument("source", help="the directory of a Cache or FanoutCache of diskcache")
    disk.add_argument("destination", help="the directory for mmapcache.diskcache")
    disk.add_argument(
        "--pickle",
        nargs="?",
        const=ANY_PICKLE,
        default=NO_PICKLE,
        choices=(PLAIN_PICKLE, ANY_PICKLE),
        help="load pickles too: 'plain' those that need no class and cannot run code; "
        "'any', the default of this option, all, which runs whatever code they name",
    )
    disk.add_argument(
        "--disk",
        default=AUTOMATIC_DISK,
        choices=(AUTOMATIC_DISK, PLAIN_DISK, JSON_DISK),
        help="'json' if diskcache.JSONDisk made the source; 'automatic': if its first keys look so",
    )
    disk.add_argument(
        "--codec",
        default="msgpack",
        choices=("msgpack", "json", "bytes", "pickle"),
        help="how the destination encodes values, as in mmapcache.diskcache.Cache(codec=...)",
    )
    disk.add_argument(
        "--overwrite", action="store_true", help="replace what the destination has otherwise"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    chosen = _parser().parse_args(arguments)
    result = Outcome()
    try:
        if chosen.command == "salt":
            from mmapcache.migrate import salt

            layout = salt.Layout(chosen.slot_size, chosen.key_size)
            salt.move(
                chosen.source, chosen.destination, banks=chosen.bank, layout=layout, result=result
            )
        else:
            from mmapcache.migrate import diskcache

            diskcache.move(
                chosen.source,
                chosen.destination,
                pickles=chosen.pickle,
                disk=chosen.disk,
                overwrite=chosen.overwrite,
                codec=chosen.codec,
                result=result,
            )
    except (MmapCacheError, OSError, sqlite3.Error, ValueError) as error:
        print(f"stopped: {error}", file=sys.stderr)
        print(result.summary())
        return 2
    print(result.summary())
    return result.exit_code()


if __name__ == "__main__":
    sys.exit(main())
