"""Log lines as Consul 0.6 wrote them, on standard output: systemd's journal takes them from there."""

import time


def log(level: str, message: str) -> None:
    """Write one line: time, level (INFO, WARN, ERR) and message."""
    print(f"    {time.strftime('%Y/%m/%d %H:%M:%S')} [{level}] {message}", flush=True)


def say(message: str) -> None:
    """Write one line to the person who started the program."""
    print(f"==> {message}", flush=True)


def duration(seconds: float) -> str:
    """Write a duration as Go does: 28.684231ms, 12.059168082s."""
    if seconds < 1.0:
        return f"{seconds * 1e3:.6f}".rstrip("0").rstrip(".") + "ms"
    minutes, rest = divmod(seconds, 60.0)
    text = f"{rest:.9f}".rstrip("0").rstrip(".") + "s"
    hours, minutes = divmod(int(minutes), 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + text
