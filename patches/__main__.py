"""List the patches and their state here; with --probe, check that each shows its fault and mends it."""

import argparse
import sys

from rich.console import Console
from rich.progress import track
from rich.table import Table

from patches.probing import probe_all
from patches.registry import MODULES, states
from qi_ext.utils.command_line import run_command


def main(arguments=None):
    """Run the command; returns its exit code: 0 done, 1 where a patch does not mend its fault, 2 for a wrong command line."""
    parser = argparse.ArgumentParser("python -m patches", description=__doc__, allow_abbrev=False)
    parser.add_argument("libraries", nargs="*", metavar="LIBRARY", help=f"{', '.join(MODULES)} [all]")
    parser.add_argument("--probe", action="store_true", help="run every probe without and with its patch, in fresh processes")
    options = parser.parse_args(arguments)
    try:
        found = states(*options.libraries)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False, emoji=False)
    console.print(_listing(found))
    if not options.probe:
        return 0
    table = Table("library", "patch", "before", "after", "seen before")
    failed = []
    n_probes = sum(state.state not in ("library not installed", "unknown version") for state in found)
    if not n_probes:
        console.print("none of these can be probed here")
        return 0
    waiting = Console(stderr=True)
    for probed in track(probe_all(*options.libraries), "probing", n_probes, console=waiting, disable=not waiting.is_terminal):
        patch = probed.state.patch
        table.add_row(patch.library, patch.name, *map(_verdict, (probed.before, probed.after)), (probed.before or "")[:120])
        if not probed.holds:
            failed.append(probed)
    console.print(table)
    for probed in failed:
        seen = probed.error or f"before: {probed.before or 'no fault'}; after: {probed.after or 'no fault'}"
        console.print(f"{probed.state.patch.full_name}: {seen}", highlight=False)
    return 1 if failed else 0


def _listing(found):
    table = Table("library", "version", "patch", "state", "changes results")
    for state in found:
        patch, version = state.patch, state.version or "not installed"
        if state.state == "unknown version":
            version += f" (not {' or '.join(patch.versions)})"
        table.add_row(patch.library, version, patch.name, state.state, "yes" if patch.changes_results else "no")
    return table


def _verdict(seen):
    return "error" if seen is None else "fails" if seen else "passes"


if __name__ == "__main__":
    run_command("python -m patches", main)
