"""The ends that do I/O: SSH, the Consul API, Redis. Only composition roots import these."""
