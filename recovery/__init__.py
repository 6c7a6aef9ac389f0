"""Consul recovery: collect, diagnose, plan, approve, execute, verify. Knows no Slack and no settings file."""
