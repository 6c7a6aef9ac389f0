"""Units of an agent as people write them, made from a seed: systemd's quotes, specifiers, variables and their files."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """What lies on the host, and nothing of what comes of it."""

    service: str
    """The [Service] lines of the unit."""
    drop_in: str
    """Those of a drop-in, "" for none."""
    environment_file: str
    """What its EnvironmentFile= holds, in any case at the path that it names."""


WORDS = (
    "-data-dir=/var/lib/consul",
    '"-data-dir=/var/lib/with blank"',
    "'-config-dir=/etc/a b'",
    "-node=%H-%N",
    "-node=100%%",
    "-hcl='leave_on_terminate=true'",
    '"-hcl=data_dir = \\"/x\\""',
    "-hcl=a\\x20b",
    "-x=\\\\y",
    "-ta\\tb",
    "-config-file=/%p/%i",
    "-d=$$HOME",
    "-d=$ONE",
    "$ONE",
    "$MANY",
    "$QUOTED",
    "$EMPTY",
    "$UNSET",
    "${ONE}",
    "-d=${MANY}",
    "-d=${EMPTY}${UNSET}x",
    "-d=${FROM_FILE}",
    "$FROM_FILE",
    "${CONTINUED}",
    "$CONTINUED",
    '""',
    "-server",
    "\u00e4\u00f6",
    "a;b",
    "\\;",
)
ENVIRONMENT = (
    "Environment=ONE=1",
    'Environment="MANY=-a -b  -c" EMPTY=',
    "Environment='QUOTED=-a \"b c\" \\\\'d e\\\\' f\"g\"' ONE=2",
    'Environment="ONE=%n $MANY"',
    "Environment=",
)
FILES = (
    "FROM_FILE=a b c\n",
    "# x\nFROM_FILE='a  b' \n; y\nONE=file\n",
    'FROM_FILE="a \\"q\\" \\$x \\y"\nCONTINUED=one \\\n   two\n',
    "  FROM_FILE =  spaced out \t\nexport ONE=no\nMANY\nEMPTY=x",
    "FROM_FILE=a\"b c\"'d e'f\nONE=\n\nMANY=$ONE ${ONE}\n",
    "",
)


def make_unit(seed: int, *, program: str, environment_file: str) -> Unit:
    """Make a unit that starts this program as an agent; the same seed makes the same one."""
    choose = random.Random(seed)
    prefix = choose.choice(["", "", "-", "+", ":", "-+"])
    words = [choose.choice(WORDS) for _ in range(choose.randint(1, 6))]
    wrapper = choose.choice(["", "", "", "/usr/bin/env -u C A=b ", "/usr/bin/nice -n 5 "])
    gap = choose.choice([" ", "  ", " \\\n    "])
    command = gap.join([f"{wrapper}{program}", "agent", *words])
    start = f"ExecStart={prefix}{command}"
    lines = [choose.choice(ENVIRONMENT) for _ in range(choose.randint(0, 4))]
    if choose.random() < 0.6:
        lines.append(f"EnvironmentFile={choose.choice(['', '-'])}{environment_file}")
    if choose.random() < 0.3:
        lines.append("EnvironmentFile=-/nowhere/at/all")
    if choose.random() < 0.2:
        lines.append("UnsetEnvironment=ONE")
    lines.append("WorkingDirectory=/tmp")
    choose.shuffle(lines)
    other = "ExecStart=/bin/false agent consul"
    if choose.random() < 0.3:
        return Unit("\n".join([*lines, other]), f"ExecStart=\n{start}", choose.choice(FILES))
    return Unit("\n".join([*lines, start]), "", choose.choice(FILES))
