"""`python -m bench [NAME ...]`: run the benchmarks on a fresh lab and write docs/benchmarks.md.

python -m bench
python -m bench recovery --pairs 10
"""

import argparse
import asyncio
import sys
from pathlib import Path

import structlog

from bench import clicks, durability, ranking, recovery, staged_bootstrap, status
from bench.page import Section, machine, put
from lab.datacentre import Lab
from lab.errors import LabError

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
NAMES = ("recovery", "staged", "status", "durability", "clicks", "ranking")


async def measure(name: str, *, pairs: int) -> Section:
    """Run one benchmark on a lab of its own."""
    async with Lab.create() as lab:
        lab.enter()
        if name == "recovery":
            return await recovery.measure(lab, pairs=pairs)
        if name == "durability":
            return await durability.measure(lab, pairs=pairs)
        if name == "clicks":
            return await clicks.measure(lab)
        if name == "ranking":
            return await ranking.measure(lab)
        if name == "staged":
            return await staged_bootstrap.measure(lab, pairs=pairs)
        return await status.measure(lab)


def main() -> int:
    """Measure what was asked for, print each section, and put it into the page."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)} (default: all)")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of recoveries (default: %(default)s)")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in NAMES]:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    # The driver's log lines would stand between the numbers.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    for name in arguments.names or NAMES:
        try:
            section = asyncio.run(measure(name, pairs=arguments.pairs))
        except LabError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"\n{section.text}\n\n{machine()}")
        put(PAGE, section)
    print(f"\nWritten to {PAGE.relative_to(Path.cwd()) if PAGE.is_relative_to(Path.cwd()) else PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
