"""The demo: a real cluster loses its leader, and a Slack channel brings it back. `python -m lab.demo` plays it."""
