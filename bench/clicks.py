"""From a click to the ack and to the card, over one and over three processes of the bot.

Nothing is changed on a host: alice asks for a recovery, bob aborts it, again and again.
"""

import statistics
import time
from collections.abc import Sequence

from bench.page import Section, table
from bench.people import press, propose, until_it_says
from lab.breakage import stop_one
from lab.datacentre import Lab
from lab.fleet import fleet

TIMES = 100
REPLICAS = (1, 3)


async def measure(lab: Lab) -> Section:
    """Propose and abort, with one bot and with three."""
    await lab.up(servers=3)
    await stop_one(lab)
    rows: list[tuple[str, ...]] = []
    for count in REPLICAS:
        async with fleet(lab, count=count) as bots:
            took_s: dict[str, list[float]] = {
                "command to ack": [],
                "command to card": [],
                "click to ack": [],
                "click to card": [],
            }
            for trial in range(TIMES + 1):
                began_s = time.monotonic()
                typed, card = await propose(bots)
                carded_s = time.monotonic() - began_s
                await until_it_says(bots, card, "waiting for approval")
                began_s = time.monotonic()
                clicked = await press(bots, card, "run_abort")
                await until_it_says(bots, card, "aborted by bob")
                if trial:  # The first one makes the SSH connections.
                    took_s["command to ack"].append(typed.ms / 1000)
                    took_s["command to card"].append(carded_s)
                    took_s["click to ack"].append(clicked.ms / 1000)
                    took_s["click to card"].append(time.monotonic() - began_s)
        rows += [
            (f"{count} process{'' if count == 1 else 'es'}, {what}", *_quantiles(each))
            for what, each in took_s.items()
        ]
        print(f"clicks over {count}: done", flush=True)
    text = (
        f"From a person's act to the acknowledgement that Slack gets and to the card that shows it: `/consul recover` "
        f"and then *Abort*, {TIMES} times, a local Slack, three servers of which one is stopped, so a command looks at "
        "every host before its card. With several processes Slack sends each act to any of them, and the one that "
        "drives the run shows it. Run it with `python -m bench clicks`.\n\n" + table(("", "p50", "p99"), rows)
    )
    return Section("clicks", text)


def _quantiles(times_s: Sequence[float]) -> tuple[str, str]:
    cuts = statistics.quantiles(times_s, n=100, method="inclusive")
    return f"{cuts[49]:.3f}", f"{cuts[98]:.3f}"
