"""`python -m lab.slack`: the local Slack alone, to play with. Ends with Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import signal

from lab.slack.server import LocalSlack


async def run(port: int) -> None:
    """Serve until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with LocalSlack(port=port) as slack:
        print(
            f"Page: {slack.public_url}/\n\nFor the bot (the tokens are worth nothing outside of this page):"
        )
        print(f"SLACK_API_URL={slack.api_url}")
        print(f"SLACK_BOT_TOKEN={slack.bot_token}\nSLACK_APP_TOKEN={slack.app_token}", flush=True)
        await stop.wait()


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m lab.slack", description=__doc__)
    parser.add_argument(
        "--port", type=int, default=3999, help="port on 127.0.0.1 (default 3999, 0: any free one)"
    )
    asyncio.run(run(parser.parse_args().port))


if __name__ == "__main__":
    main()
