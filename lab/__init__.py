"""A disposable data centre on one machine: real hosts, real Consul, a local Slack. Start at lab.datacentre."""
