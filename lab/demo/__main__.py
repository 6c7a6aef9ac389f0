"""The main job, played: a real cluster loses its leader, and a Slack channel brings it back.

`python -m lab.demo` plays it by itself and ends with a summary; `--play` leaves everything running for a person
at the page; `--staged` is the story of Consul below 0.7.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import sys
from pathlib import Path

from rich.console import Console

from lab.datacentre import Lab
from lab.demo import emptied_peers, lost_majority
from lab.demo.ending import run_to_end
from lab.demo.stage import Stage, Story
from lab.errors import LabError
from lab.slack.server import LocalSlack

PORT = 8765


def _page_socket(lab: Lab) -> socket.socket:
    """The usual port, so that a bookmark works; any other one if somebody has it."""
    try:
        return lab.listen_outside(PORT)
    except OSError:
        return lab.listen_outside()


async def main(story: Story, *, play_by_hand: bool, pictures: Path | None) -> int:
    """Play; 0 when everything was as it should be."""
    console = Console(soft_wrap=True)
    async with Lab.create(name="demo") as lab:
        lab.enter()
        # The page is for a browser on the machine, so its socket is opened in the machine's own network.
        sockets = [_page_socket(lab), socket.create_server(("127.0.0.1", 0))]
        async with LocalSlack(sockets=sockets) as slack:
            console.print(f"\n[bold]Watch it in a browser: {slack.public_url}/[/]\n", highlight=False)
            stage = Stage(lab, slack, lab.folder / "bot", console, pictures=pictures)
            try:
                await story.set_up(stage)
                if play_by_hand:
                    await story.disaster(stage)
                    stage.say(f"Your turn, at the page: {story.by_hand}. Ctrl-C ends it.")
                    await asyncio.Event().wait()
                await stage.type("/consul status demo", user="alice")
                await stage.expect("demo is healthy", timeout_s=60)
                await story.disaster(stage)
                await story.play(stage)
            except (LabError, AssertionError):
                stage.show(stage.bot_log[-6000:])
                raise
            finally:
                with contextlib.suppress(LabError):
                    await stage.stop_bot()
    return 0


def run() -> None:
    """Parse the command line and play."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--staged",
        action="store_true",
        help="Consul below 0.7, restarted one after the other, and the staged bootstrap",
    )
    parser.add_argument("--play", action="store_true", help="break the cluster, then leave it to you")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="also take pictures of the page")
    arguments = parser.parse_args()
    story = emptied_peers.STORY if arguments.staged else lost_majority.STORY
    try:
        sys.exit(run_to_end(main(story, play_by_hand=arguments.play, pictures=arguments.pictures)))
    except KeyboardInterrupt:
        sys.exit(0)
    except (LabError, AssertionError) as error:
        sys.exit(f"The demo did not end as it should: {error}")


if __name__ == "__main__":
    run()
