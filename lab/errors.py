"""The one error the laboratory raises towards people."""


class LabError(Exception):
    """Something the lab needs is missing or did not happen; the text says what, and what to do next."""
