"""The front ends: Slack, and a terminal for when Slack is down. Nothing here knows how a recovery works."""
