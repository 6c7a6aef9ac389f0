"""Configurations of Consul agents as people write them, made from a seed: flags, files, folders, HCL and JSON.

Each says the same things in another way: comments that hold what a search would find, keys in any case, quoted or
not, blocks, nested keys of the same names, duplicates, links, files that are not read, and one source over another.
"""

import base64
import json
import random
import string
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path

Value = str | bool | int | list[str]
Nested = dict[str, "Value | Nested"]

PORTS = (8500, 18500, 28501)
"""Where such an agent may answer."""
ADDRESSES = ("127.0.0.1", "127.0.0.2", "0.0.0.0", "127.0.0.2 127.0.0.1")


@dataclass
class Configuration:
    """A command line, and the files that it names already written."""

    argv: list[str]
    """What follows the program."""
    directory: Path
    """The agent's working directory."""


class _Maker:
    def __init__(self, seed: int, folder: Path, version: tuple[int, ...]) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.version = version
        self.old = version < (1, 0)
        """JSON only, and a value of nothing takes no other's place."""
        forced = not self.old and self.random.random() < 0.12
        self.only_format = self.random.choice(["hcl", "json"]) if forced else ""
        """What -config-format says: then every file counts, whatever its name."""

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def make(self) -> Configuration:
        etc = self.folder / "etc"
        etc.mkdir(parents=True)
        argv = ["agent"]
        sources = [self._settings(share=0.55) for _ in range(self.random.randint(1, 4))]
        flags = self._settings(share=0.2)
        # It has to start: a server, its own data, the loopback, and no call home.
        base: Nested = {"bind_addr": "127.0.0.1", "disable_update_check": True, "server": True}
        base["data_dir"] = self._path()
        sources[0] = {**base, **{k: v for k, v in sources[0].items() if k != "server"}}
        paths: list[list[str]] = []
        while sources:
            paths.append(self._place(etc, len(paths), sources))
        options = [option for path in paths for option in path]
        pieces = [self._flag(name, value) for name, value in self._as_flags(flags)]
        if not self.old and self.chance(0.25):
            pieces.append(self._flag("hcl", self._hcl(self._settings(share=0.25), inline=True)))
        if self.chance(0.3):
            pieces.append(
                [self.random.choice(["-server", "--server", "-server=true", "-server=1", "-server=T"])]
            )
        if self.only_format:
            pieces.append(self._flag("config-format", self.only_format))
        self.random.shuffle(pieces)
        at = self.random.randint(0, len(pieces))
        # The folders keep their order; what stands between them does not matter.
        argv += [w for p in pieces[:at] for w in p] + options + [w for p in pieces[at:] for w in p]
        return Configuration(argv, self.folder)

    def _path(self) -> str:
        name = self.random.choice(
            ["data", "Data.d", "consul data", "da#ta", "d//ata", "däta", "data-1.8", "a=b", "x{y}"]
        )
        if self.chance(0.2):
            return name.replace("//", "/")
        return f"{self.folder}/{name}" + ("/" if self.chance(0.2) else "")

    def _settings(self, *, share: float) -> Nested:
        take = partial(self.chance, share)
        found: Nested = {}
        if take():
            found["data_dir"] = self._path()
        if take():
            found["node_name"] = self.random.choice(["s1", "Server-2", "n" * 30, "s.1"])
        if self.version >= (0, 7, 3) and take():
            text = str(uuid.UUID(int=self.random.getrandbits(128), version=4))
            found["node_id"] = self.random.choice([text, text.upper()]) if self.chance(0.5) else text
        if take():
            found["leave_on_terminate"] = self.chance(0.5)
        if take():
            found["skip_leave_on_interrupt"] = self.chance(0.5)
        if take():
            found["bootstrap_expect"] = self.random.choice([0, 1, 3, 5])
        if self.chance(share / 4):
            # Below 1.0 that it is none in a later file changes nothing.
            found["server"] = not self.old or self.chance(0.5)
        if take():
            found["retry_join"] = [f"127.0.0.{9 + n}" for n in range(self.random.randint(0, 2))]
        if self.chance(share / 2):
            found["encrypt"] = base64.b64encode(self.random.randbytes(16)).decode()
        if self.chance(share / 2):
            found["client_addr"] = self.random.choice(self._addresses())
        if take():
            ports: Nested = {"http": self.random.choice(PORTS)}
            found["ports"] = {**ports, "dns": 8600} if take() else ports
        if self.chance(share / 2):
            found["addresses"] = {"http": self.random.choice(self._addresses())}
        if self.version >= (1, 15) and take():
            found["raft_logstore"] = {"backend": self.random.choice(["boltdb", "wal"])}
        if self.version >= (0, 7) and take():
            found["performance"] = {"raft_multiplier": 1}
        if self.version >= (0, 7, 3) and take():
            found["node_meta"] = {"data_dir": "/wrong", "server": "false", "note": "a # b // c /* d"}
        if self.chance(0.3):
            found["service"] = {
                "name": "pg",
                "port": 5432,
                "meta": {"data_dir": "/wrong", "leave_on_terminate": "yes", "bootstrap_expect": "9"},
                "tags": ['data_dir = "/wrong"', "node_name"],
            }
        names = list(found)
        self.random.shuffle(names)
        return {name: found[name] for name in names}

    def _as_flags(self, settings: Nested) -> list[tuple[str, str]]:
        known = {
            "data_dir": "data-dir",
            "node_name": "node",
            "node_id": "node-id",
            "client_addr": "client",
            "encrypt": "encrypt",
            "bootstrap_expect": "bootstrap-expect",
        }
        flags = [(flag, str(settings[key])) for key, flag in known.items() if key in settings]
        ports = settings.get("ports")
        if isinstance(ports, dict):
            flags.append(("http-port", str(ports["http"])))
        join = settings.get("retry_join")
        if isinstance(join, list):
            flags += [("retry-join", each) for each in join]
        return flags

    def _flag(self, name: str, value: str) -> list[str]:
        dashes = self.random.choice(["-", "--"])
        return [f"{dashes}{name}={value}"] if self.chance(0.5) else [f"{dashes}{name}", value]

    def _place(self, etc: Path, number: int, sources: list[Nested]) -> list[str]:
        """Write one or more sources to a file or a folder, and give the flag that names it."""
        kind = self.random.choice(["config-dir", "config-file"])
        if self.chance(0.4):
            form = self._format()
            path = etc / f"{number}-main.{self._ending(form, named=True)}"
            self._write(path, sources.pop(0), form)
        else:
            path = etc / f"{number}.d"
            path.mkdir()
            for _ in range(self.random.randint(1, len(sources))):
                form = self._format()
                name = self.random.choice(["Z", "a", "m", ".hidden", "10-", "9-", "_"]) + self.random.choice(
                    "abcxyz"
                )
                file = path / f"{name}{len(list(path.iterdir()))}.{self._ending(form)}"
                self._write(file, sources.pop(0), form)
                if self.chance(0.15):
                    real = etc / f"real-{number}-{file.name}"
                    file.rename(real)
                    file.symlink_to(real)
            if not self.only_format:
                self._litter(path)
        given = str(path) + ("/" if path.is_dir() and self.chance(0.3) else "")
        if self.chance(0.2):
            given = str(path.relative_to(self.folder))
        return self._flag(kind, given)

    def _addresses(self) -> tuple[str, ...]:
        return tuple(each for each in ADDRESSES if not self.old or " " not in each)

    def _format(self) -> str:
        return "json" if self.old else self.only_format or self.random.choice(["hcl", "json"])

    def _ending(self, form: str, *, named: bool = False) -> str:
        any_name = self.only_format or (named and self.old)
        return self.random.choice(["conf", "hcl", "json", "x"]) if any_name else form

    def _litter(self, path: Path) -> None:
        """Write what is in such folders and is not read."""
        wrong = 'data_dir = "/wrong"\nleave_on_terminate = true\n'
        for name in (
            "consul.conf",
            "consul.hcl.bak",
            "README",
            "a.HCL",
            "x.json~",
            *(["old.hcl"] if self.old else []),
        ):
            if self.chance(0.3):
                (path / name).write_text(wrong)
        if self.chance(0.3):
            (path / "sub.hcl").mkdir()
            (path / "sub.hcl" / "deep.hcl").write_text(wrong)
        if self.chance(0.2):
            (path / ("empty.json" if self.old else "empty.hcl")).write_text("")

    def _write(self, path: Path, settings: Nested, form: str) -> None:
        if form == "json":
            text = self._json(settings)
            if self.old and self.chance(0.1):
                # What follows the first value was not looked at then.
                text += '{"data_dir": "/wrong"}'
        elif self.chance(0.12):
            text = json.dumps(settings, indent=1, ensure_ascii=False)
        else:
            text = self._hcl(settings, inline=False)
            if self.chance(0.15):
                text = text.replace("\n", "\r\n")
        path.write_bytes(text.encode())

    # --- JSON

    def _json(self, settings: Nested) -> str:
        items = [f"{self._json_string(self._cased(k))}: {self._json_value(v)}" for k, v in settings.items()]
        if settings and self.chance(0.3):
            # A key twice: the last one counts, all of it.
            name = self.random.choice(list(settings))
            first = {"ports": '{"http": 1}', "retry_join": '["127.0.0.99"]'}.get(
                name, json.dumps(settings[name])
            )
            if not isinstance(settings[name], dict):
                key = next(
                    i
                    for i in items
                    if i.lower().startswith(f'"{name}"') or json.loads(i.split(": ")[0]).lower() == name
                )
                items.insert(0, f"{key.split(': ')[0]}: {first}")
        blank = self.random.choice(["", " ", "\n  ", "\t"])
        return (
            "{"
            + blank
            + f",{blank}".join(items)
            + self.random.choice(["", "\n"])
            + "}"
            + self.random.choice(["", "\n\n"])
        )

    def _json_value(self, value: "Value | Nested") -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{json.dumps(k)}:{self._json_value(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list):
            return "[" + " , ".join(self._json_string(each) for each in value) + "]"
        return self._json_string(value) if isinstance(value, str) else json.dumps(value)

    def _json_string(self, text: str) -> str:
        out = json.dumps(text, ensure_ascii=self.chance(0.5))
        if self.chance(0.15) and text and text[0] in string.ascii_letters:
            out = f'"\\u{ord(text[0]):04x}{out[2:]}'
        return out.replace("/", "\\/") if self.chance(0.1) else out

    # --- HCL

    def _cased(self, key: str) -> str:
        if self.chance(0.85):
            return key
        return self.random.choice([key.upper(), key.title(), key.capitalize()])

    def _hcl(self, settings: Nested, *, inline: bool) -> str:
        if inline:
            line = " ".join(self._item(k, v, inline=True) for k, v in settings.items())
            return line if self.chance(0.6) else line.replace(" ", "\n", 1) if line.count('"') == 0 else line
        lines: list[str] = [self._comment()] if self.chance(0.5) else []
        for key, value in settings.items():
            if self.chance(0.15) and not isinstance(value, (dict, list)):
                lines.append(self._item(key, value, inline=False, exact=True))
                lines.append(self._item(key, value, inline=False, exact=True))
                continue
            lines.append(self._item(key, value, inline=False))
            if self.chance(0.3):
                lines[-1] += "  " + self._comment()
            elif self.chance(0.2):
                lines.append(self._comment())
        if self.chance(0.3):
            mark = self.random.choice(["EOF", "<<-END", "DOC1"])
            dash, mark = ("-", mark[3:]) if mark.startswith("<<-") else ("", mark)
            indent = self.random.choice(["", "   "])
            # With a dash the parser wants the end mark to be one longer than it is, so it has to be indented.
            indent = indent or (" " if dash else "")
            lines.append(
                f'service {{\n  name = "x"\n  meta = {{ note = <<{dash}{mark}\n{indent}data_dir = "/wrong"\n'
                f'{indent}}} server = false # "\n{indent}{mark}\n  }}\n}}'
                if "service" not in {k.lower() for k in settings}
                else ""
            )
        return "\n".join(lines) + "\n"

    def _item(self, key: str, value: "Value | Nested", *, inline: bool, exact: bool = False) -> str:
        name = key if exact else self._cased(key)
        name = f'"{name}"' if self.chance(0.2) else name
        gap = self.random.choice(["", " ", "  "])
        if isinstance(value, dict):
            body = (" " if inline else self.random.choice([" ", "\n  "])).join(
                self._item(k, v, inline=inline, exact=True) for k, v in value.items()
            )
            opening = f"{name}{gap}{{" if self.chance(0.6) else f"{name} ={gap}{{"
            between = " " if inline or self.chance(0.5) else "\n"
            if not inline and self.chance(0.3):
                between = f" {self._comment()}\n"
            return f"{opening}{between}{body}{self.random.choice([' ', '' if inline else chr(10)])}}}"
        if isinstance(value, list):
            comma = ", " if inline or self.chance(0.6) else f", {self._comment()}\n  "
            last = self.random.choice(["", ","]) if value else ""
            return f"{name}{gap}={gap}[{comma.join(self._string(each) for each in value)}{last}]"
        if isinstance(value, bool):
            return f"{name}{gap}={gap}{str(value).lower()}"
        if isinstance(value, int):
            number = str(value) if value < 8 or self.chance(0.8) else hex(value)
            return f"{name}{gap}={gap}{number}"
        return f"{name}{gap}={gap}{self._string(value)}"

    def _string(self, text: str) -> str:
        out = text.replace("\\", "\\\\").replace('"', '\\"')
        if self.chance(0.15) and text and text[0] in string.ascii_letters:
            first = self.random.choice(
                [f"\\u{ord(text[0]):04x}", f"\\x{ord(text[0]):02x}", f"\\{ord(text[0]):03o}"]
            )
            out = first + out[1:]
        return f'"{out}"'

    def _comment(self) -> str:
        said = self.random.choice(
            [
                'data_dir = "/wrong"',
                "leave_on_terminate = true",
                "was: server = false",
                "it's \"quoted",
                "} ports { http = 1",
                "",
            ]
        )
        return self.random.choice(
            [f"# {said}", f"// {said}", f"/* {said} */", f"/* {said}\n {said} **/", f"#{said}"]
        ) + ("\n" if self.chance(0.9) else "\n\n")


def make_configuration(seed: int, folder: Path, version: tuple[int, ...]) -> Configuration:
    """Write a configuration for this version of Consul into an empty folder; the same seed makes the same one."""
    return _Maker(seed, folder, version).make()
