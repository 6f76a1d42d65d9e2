"""Do our commands survive being killed? `make survival` kills each of them some dozen times and prints a table.

Every command is first run undisturbed, with the steps counted in which it changes anything on disk. Then it is killed
(SIGKILL, with its children) before steps spread over all of them and at random moments, run again to its end, and
compared. What went wrong is told, and its folder stays; the exit code is then 1.
"""

import argparse
import sys
from pathlib import Path
from tempfile import mkdtemp

from tools.survival.harness import Server, Tally, survive
from tools.survival.victims import VICTIMS

HEADER = (
    "| command | steps | killed at steps | killed at random moments | a reader saw whole / refused | faults | seconds |"
)


def row(tally: Tally) -> str:
    """A line of the table in docs/reliability.md."""
    whole, refused = tally.reads["whole"], tally.reads["refused"]
    counts = (tally.steps, tally.at_steps, tally.at_moments)
    return (
        f"| {tally.victim} | {' | '.join(map(str, counts))} | {whole:,} / {refused:,} | {len(tally.faults)} | "
        f"{tally.seconds:,.0f} |"
    )


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tools.survival", description=__doc__.splitlines()[0])
    parser.add_argument("victims", nargs="*", metavar="COMMAND", help=f"of {', '.join(VICTIMS)}; all if none is named")
    parser.add_argument("--at-steps", type=int, default=30, help="kills before steps of each command")
    parser.add_argument("--at-moments", type=int, default=15, help="kills at random moments of each command")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="where it all happens; a new temporary folder by default")
    given = parser.parse_args()
    if unknown := sorted(set(given.victims) - set(VICTIMS)):
        parser.error(f"no {unknown[0]!r}; there are {', '.join(VICTIMS)}")
    folder = given.folder or Path(mkdtemp(prefix="medi-survival-"))
    server, tallies = Server(), []
    print(HEADER, "|---|" + "--:|" * 6, sep="\n", flush=True)
    for name in given.victims or VICTIMS:
        place = folder / name.replace(" ", "-")
        tallies.append(survive(VICTIMS[name], place, given.at_steps, given.at_moments, seed=given.seed, runner=server))
        print(row(tallies[-1]), flush=True)
        for fault in tallies[-1].faults:
            print(f"  {fault}", file=sys.stderr, flush=True)
    server.close()
    faults = sum(len(tally.faults) for tally in tallies)
    print(f"\n{sum(tally.kills for tally in tallies)} kills, {faults} faults; {folder}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
