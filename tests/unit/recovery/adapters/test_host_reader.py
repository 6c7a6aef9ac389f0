"""What host.sh makes of a stopped unit: systemd's words, wrappers, flags, files of every form, versions."""

from pathlib import Path

import pytest

from tests.builders.host_program import HostProgram


class Host:
    """A folder with configuration files, and host.sh's reader for units that name them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.etc = folder / "etc"
        self.etc.mkdir()
        self.program = HostProgram(folder / "program", version="1.8.7")
        self.consul = str(self.program.consul)

    def old(self, version: str) -> "Host":
        self.program = HostProgram(self.folder / version, version=version)
        self.consul = str(self.program.consul)
        return self

    def file(self, name: str, text: str) -> Path:
        path = self.etc / name
        path.write_text(text)
        return path

    def read(self, *flags: str) -> dict[str, str]:
        return self.program.read([self.consul, "agent", *flags], directory=str(self.folder))

    def hcl(self, text: str) -> dict[str, str]:
        self.file("a.hcl", text)
        return self.read(f"-config-dir={self.etc}")

    def json(self, text: str) -> dict[str, str]:
        self.file("a.json", text)
        return self.read(f"-config-dir={self.etc}")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ('data_dir = "/d" # data_dir = "/x"', "data_dir", "/d"),
        ('data_dir = "/d" // data_dir = "/x"', "data_dir", "/d"),
        ('/* data_dir = "/x"\n*/ data_dir = "/d" /* a **/', "data_dir", "/d"),
        ('data_dir = "/d#x//y/*z"', "data_dir", "/d#x//y/*z"),
        ('data_dir = "/a\\u0062\\x63\\144\\"e"', "data_dir", '/abcd"e'),
        ('data_dir = "/a${b "c" }d"', "data_dir", '/a${b "c" }d'),
        ('data_dir = "/a"\ndata_dir = "/b"', "data_dir", "/b"),
        ('DATA_dir = "/d"', "data_dir", "/d"),
        ('"data_dir" = "/d"', "data_dir", "/d"),
        ('data_dir = "/d/"', "data_dir", "/d"),
        ('data_dir = "/d" server = true', "server", "true"),
        ('data_dir = "/d", server = true,', "server", "true"),
        ('data_dir = "/d"\nserver=\n# so\ntrue', "server", "true"),
        ('data_dir = "/d"\nports { server = 8300 }\nserver = false', "server", "false"),
        ('data_dir = "/d"\nnode_meta { data_dir = "/x" }', "data_dir", "/d"),
        ('data_dir = "/d"\nservice "x" { data_dir = "/x" }\nservice "y" {}', "data_dir", "/d"),
        ('service { meta = <<EOF\n}\ndata_dir = "/x"\n  EOF\n}\ndata_dir = "/d"\n', "data_dir", "/d"),
        ('data_dir = "/d"\nx = <<-EOF\n  data_dir = "/x"\n  EOF\n', "data_dir", "/d"),
        ('data_dir = "/d"\nports = { http = 0x2134, https = 010 }', "port_http", "8500"),
        ('data_dir = "/d"\nports = { http = 1, https = 010 }', "port_https", "8"),
        ('data_dir = "/d"\nencrypt = "pUqJrVyVRj5jsiYEkM/tFQ=="', "encrypt", "yes"),
        ('data_dir = "/d"\nretry_join = ["a", # b\n"c",]\nretry_join = ["d"]', "retry_join", "3"),
        (
            'data_dir = "/d"\nraft_logstore { backend = "wal" wal { segment_size_mb = 8 } }',
            "raft_logstore",
            "wal",
        ),
        ('{"data_dir": "/d", "server": true}', "server", "true"),
        ('data_dir = "/d"\r\nnode_name = "s1"\r\n', "node_name", "s1"),
        ('data_dir = "/d"\nnode_id = "ABCD"', "node_id", "abcd"),
        (
            'data_dir = "/d"\naddresses { http = "unix:///run/c.sock" }',
            "addresses_http",
            "unix:///run/c.sock",
        ),
        ('data_dir = "/d"\nx = [[1, 2] [3], {data_dir = "/x"}]', "data_dir", "/d"),
    ],
)
def test_hcl_is_read_by_its_own_grammar(host: Host, text: str, name: str, value: str) -> None:
    """HCL 1: comments, escapes, heredocs, blocks; only the top level is the agent's own."""
    read = host.hcl(text)
    assert (read["config_problem"], read.get(name)) == ("", value)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ('{"data_dir": "\\/d\\u0065", "a": {"data_dir": "/x"}}', "data_dir", "/de"),
        ('{"data_dir": "/d", "data_dir": "/e"}', "data_dir", "/e"),
        ('{"Data_Dir": "/d"}', "data_dir", "/d"),
        ('{"data_dir": "/d", "server": null}', "server", "false"),
        ('{"data_dir": "/d", "ports": {"http": 1}, "ports": {"https": 2}}', "port_http", "8500"),
        ('{"data_dir": "/d", "bootstrap_expect": 3.0}', "bootstrap_expect", "3"),
        ('{"data_dir": "/\\ud83d\\ude00"}', "data_dir", "/\U0001f600"),
        ('{"a": "\\"data_dir\\": \\"/x\\"", "data_dir":"/d"}', "data_dir", "/d"),
        ('{"a": [{"data_dir": "/x"}], "data_dir":"/d"}', "data_dir", "/d"),
    ],
)
def test_json_is_read_by_its_own_grammar(host: Host, text: str, name: str, value: str) -> None:
    """As Go takes it: the last of two keys counts, whole."""
    read = host.json(text)
    assert (read["config_problem"], read.get(name)) == ("", value)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('data_dir = "/d"\nx = "no end\n', "a.hcl, line 2: a string does not end on its line"),
        ('data_dir = "/d"\n\nserver = tru\n', "a.hcl, line 3: a value was expected"),
        ('data_dir = "/d"\n/* no end', "a comment does not end"),
        ('data_dir = "/d"\nports {', "a block does not end"),
        ('data_dir = "/d"\nx = <<EOF\nno end', "the text after <<EOF does not end"),
        ('data_dir = "/d"\nports { http = 1 }\nports { https = 2 }', "the key ports stands there twice"),
        ('data_dir = "/d"\nDATA_DIR = "/e"', "the key data_dir stands there in two spellings"),
        ('data_dir = "/d"\nserver = "true"', "the value of server is no bool"),
        ('data_dir = ["/d", "/e"]', "the value of data_dir is no string"),
        ('data_dir = "/d"\n}', "a key was expected"),
        ("data_dir = \"/d\"\n'x' = 1", "this character cannot stand here"),
        ('data_dir = "/d\\q"', "an escape in a string is wrong"),
        ("data_dir = <<EOF\n/d\nEOF\n", "the value of data_dir has blanks at its ends or control characters"),
        ('node_name = "s1"', "neither its flags nor its configuration files name a data_dir"),
    ],
)
def test_what_consul_would_not_take_is_unknown_with_the_line(host: Host, text: str, where: str) -> None:
    """No part of a file that cannot be read to its end is believed."""
    read = host.hcl(text)
    assert where in read["config_problem"]
    assert read["data_dir"] == ""


@pytest.mark.parametrize(
    "text",
    [
        '{"data_dir": "/d", // a comment\n"server": true}',
        '{"data_dir": "/d",}',
        '{"data_dir": "/d"} x',
        "[]",
        '{"data_dir": "/d\n"}',
        "{\"data_dir\": '/d'}",
        '{"data_dir": "/d", "bootstrap_expect": 03}',
        "",
    ],
)
def test_what_is_no_json_for_consul_is_none_for_us(host: Host, text: str) -> None:
    """A comment in a .json file keeps Consul from starting; nothing is guessed from it."""
    host.file("b.hcl", "")
    assert host.json(text)["data_dir"] == ""


def test_files_are_read_in_the_order_of_their_names_and_no_others(host: Host) -> None:
    """Bytes order the names; hidden ones count; folders, other endings and what they hold do not."""
    for name, data in (
        ("B.hcl", "/1"),
        (".z.json", "/0"),
        ("a.json", "/3"),
        ("Z.hcl", "/2"),
        ("b.conf", "/x"),
    ):
        text = f'{{"data_dir": "{data}"}}' if name.endswith("json") else f'data_dir = "{data}"'
        host.file(name, text)
    (host.etc / "sub.hcl").mkdir()
    (host.etc / "sub.hcl" / "x.hcl").write_text('data_dir = "/x"')
    assert host.read(f"-config-dir={host.etc}")["data_dir"] == "/3"


def test_a_link_is_read_by_the_name_of_what_it_leads_to(host: Host) -> None:
    """A link consul.hcl to a file without that ending is skipped, as Consul skips it; one to nothing stops it."""
    (host.folder / "plain").write_text('data_dir = "/x"')
    (host.folder / "real.hcl").write_text('data_dir = "/d"')
    (host.etc / "z.hcl").symlink_to(host.folder / "plain")
    (host.etc / "link").symlink_to("../real.hcl")
    assert host.read(f"-config-dir={host.etc}")["data_dir"] == "/d"
    (host.etc / "broken").symlink_to("/nowhere")
    assert "is a link to nothing" in host.read(f"-config-dir={host.etc}")["config_problem"]


@pytest.mark.parametrize(
    ("flags", "right"),
    [
        (("-data-dir=/f", "-config-dir=etc"), "/f"),
        (("--data-dir", "/f", "-config-dir", "etc"), "/f"),
        (("-config-dir=etc", "-data-dir=/f", "-hcl", 'data_dir = "/h"'), "/h"),
        (('-hcl=data_dir = "/h"\nserver = true', "-config-dir=etc"), "/h"),
        (("-config-file=etc/",), "/d"),
        (("-config-dir=etc/a.hcl",), "/d"),
        (("-data-dir=one", "-data-dir=data"), "{folder}/data"),
        (("-data-dir", "-x"), "{folder}/-x"),
    ],
)
def test_flags_are_taken_as_consul_takes_them(host: Host, flags: tuple[str, ...], right: str) -> None:
    """Both forms; flags over files, fragments over flags; relative to the working directory."""
    host.file("a.hcl", 'data_dir = "/d"')
    read = host.read(*flags)
    assert (read["config_problem"], read["data_dir"]) == ("", right.format(folder=host.folder))


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("-data-dir=/d", "-config-dir=/nowhere"), "/nowhere is not there"),
        (("-data-dir=/d", "-server", "true"), "is no flag"),
        (("-data-dir=/d", "-dev"), "-dev"),
        (("-data-dir=/d", "-server=maybe"), "neither true nor false"),
        (("-data-dir=/d", "-config-format=yaml"), "neither hcl nor json"),
        (("-data-dir",), "the last flag of the agent has no value"),
        (("-data-dir=/d", "-hcl=x = "), "-hcl, line 1"),
    ],
)
def test_a_command_line_that_consul_refuses_is_unknown(
    host: Host, flags: tuple[str, ...], problem: str
) -> None:
    """It would not start with these either."""
    assert problem in host.read(*flags)["config_problem"]


@pytest.mark.parametrize(
    ("argv", "environment", "right"),
    [
        (["agent", "-data-dir=${D}"], ["D=/with blank"], "/with blank"),
        (["agent", "$F"], ["F=-data-dir '/a b'  -server"], "/a b"),
        (["agent", "-data-dir=/d", "$NONE"], [], "/d"),
        (["agent", "-data-dir=/d$$x"], [], "/d$x"),
        (["agent", "-data-dir=/d$x"], ["x=no"], "/d$x"),
        (["agent", "-data-dir", "${A}${B}"], ["A=/a", "B=b"], "/ab"),
        (["agent", "-data-dir=/a\tb c"], [], None),
        (["agent", "-data-dir=/\u00e4 \"q\" 'r'"], [], "/\u00e4 \"q\" 'r'"),
    ],
)
def test_variables_of_the_unit_become_what_systemd_makes_of_them(
    host: Host, argv: list[str], environment: list[str], right: str | None
) -> None:
    """$NAME as a word is split, with quotes; ${NAME} is not; $$ is a dollar."""
    read = host.program.read([host.consul, *argv], environment=environment)
    assert read["data_dir"] == (right or "")
    assert bool(read["config_problem"]) == (right is None)


ENVIRONMENT_FILE = """
# a comment
; another
NOT A LINE
  PLAIN =  /plain   words  \t
DOUBLE="a \\"b\\" \\$c \\d \\
e"  'f'g
SINGLE='x "y" \t'
CONTINUED=one \\
  two
EMPTY=
export BAD=1
"""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PLAIN", "/plain   words"),
        ("DOUBLE", 'a "b" $c \\d efg'),
        ("CONTINUED", "one   two"),
        ("EMPTY", ""),
        ("BAD", ""),
    ],
)
def test_an_environment_file_is_read_as_systemd_reads_it(host: Host, name: str, value: str) -> None:
    """Quotes, escapes, comments, lines that go on; not by a shell."""
    file = host.file("env", ENVIRONMENT_FILE)
    read = host.program.read(
        [host.consul, "agent", "-data-dir=/d", f"-node=<${{{name}}}>"],
        environment=["PLAIN=overridden"],
        environment_files=[(file, False)],
    )
    assert (read["config_problem"], read["node_name"]) == ("", f"<{value}>")


def test_an_environment_file_may_be_missing_where_the_unit_says_so(host: Host) -> None:
    """With the dash it is as if it were empty; without, the unit would not start."""
    argv, missing = [host.consul, "agent", "-data-dir=/d", "$OPTS"], host.folder / "missing"
    assert host.program.read(argv, environment_files=[(missing, True)])["data_dir"] == "/d"
    assert (
        "missing is not there"
        in host.program.read(argv, environment_files=[(missing, False)])["config_problem"]
    )


@pytest.mark.parametrize(
    "argv",
    [
        ["/usr/bin/env", "-i", "A=b", "{consul}", "agent", "-data-dir=/d"],
        ["/usr/bin/nice", "-n", "5", "{consul}", "agent", "-data-dir=/d"],
        ["/bin/sh", "-c", "exec {consul} agent -data-dir=/d"],
        ["/bin/sh", "-c", "{consul} agent -data-dir='/d' >>/var/log/consul.log 2>&1"],
        ["/bin/bash", "-ec", 'exec env A=b {consul} agent $D -data-dir /"d";'],
        ["/bin/sh", "-c", "GOMAXPROCS=2 exec {consul} agent $F"],
    ],
)
def test_a_wrapper_is_followed_where_that_is_certain(host: Host, argv: list[str]) -> None:
    """env, nice, and a shell that is given one plain command."""
    read = host.program.read(
        [word.format(consul=host.consul) for word in argv], environment=["F=-data-dir  /d"]
    )
    assert (read["config_problem"], read["data_dir"]) == ("", "/d")


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["/opt/start.sh", "agent", "-data-dir=/d"], "/opt/start.sh"),
        (["/bin/sh", "/opt/start.sh"], "a script (sh /opt/start.sh)"),
        (["/bin/sh", "-c", "cd /x && exec consul agent -data-dir=d"], "the shell a &"),
        (["/bin/sh", "-c", "exec consul agent -data-dir=$(cat /x)"], "a $ that is no plain variable"),
        (["/bin/sh", "-c", "exec consul agent -data-dir=`cat /x`"], "the shell a `"),
        (["/bin/sh", "-c", "exec consul agent -data-dir=/d*"], "the shell a *"),
        (["/bin/sh", "-lc", "exec consul agent -data-dir=/d"], "a script (sh -lc)"),
        (["/usr/bin/consul-template", "-exec", "consul agent -data-dir=/d"], "/usr/bin/consul-template"),
        (["/usr/bin/podman", "run", "consul", "agent", "-data-dir=/d"], "container"),
        (
            ["/usr/bin/consul", "agent", "-data-dir=${STATE_DIRECTORY}"],
            "$STATE_DIRECTORY, which systemd sets itself",
        ),
        (["/usr/bin/env", "A=b", "-i", "consul", "agent", "-data-dir=/d"], "the unit runs -i"),
        (["/usr/bin/env", "-S", "consul agent -data-dir=/d"], "env with -S"),
    ],
)
def test_a_start_that_cannot_be_followed_is_unknown_with_the_word_that_stopped_us(
    host: Host, argv: list[str], word: str
) -> None:
    """What only a shell or another program would know is not guessed."""
    read = host.program.read(argv)
    assert word in read["config_problem"]
    assert read["data_dir"] == ""


def test_a_path_of_which_the_unit_has_its_own_is_not_the_hosts(host: Host) -> None:
    """BindPaths=/disk:/var/lib/consul: what lies at that path for us is something else."""
    mounts = 'a(ssbt) 1 "/disk" "/var/lib" false 16384'
    argv = [host.consul, "agent", "-data-dir=/var/lib/consul"]
    assert "has a /var/lib of its own" in host.program.read(argv, mounts=mounts)["config_problem"]
    argv[-1] = "-data-dir=/var/library"
    assert host.program.read(argv, mounts=mounts)["data_dir"] == "/var/library"


def test_without_busctl_a_plain_unit_is_still_read(host: Host) -> None:
    """`systemctl show` does not tell where words end; it is taken where the files leave no doubt."""
    (host.folder / "program" / "shown").write_text(
        "{ path=/usr/bin/consul ; argv[]=/usr/bin/consul agent -data-dir=/d ; ignore_errors=no ; start_time=[n/a] }"
    )
    assert host.program.read([host.consul], bus=False)["data_dir"] == "/d"


@pytest.mark.parametrize(
    ("version", "files", "name", "value"),
    [
        ("0.6.4", {"a.json": '{"data_dir":"/d","leave_on_terminate":true}', "b.json": '{"leave_on_terminate":false}'},
         "leave_on_terminate", "true"),
        ("0.7.5", {"a.json": '{"data_dir":"/d","leave_on_terminate":true}', "b.json": '{"leave_on_terminate":false}'},
         "leave_on_terminate", "false"),
        ("0.7.5", {"a.json": '{"data_dir":"/d","server":true}', "b.json": '{"server":false}'}, "server", "true"),
        ("1.8.7", {"a.json": '{"data_dir":"/d","server":true}', "b.json": '{"server":false}'}, "server", "false"),
        ("0.9.3", {"a.json": '{"data_dir":"/d"}', "b.hcl": 'data_dir = "/x"'}, "data_dir", "/d"),
        ("1.0.0", {"a.json": '{"data_dir":"/d"}', "b.hcl": 'data_dir = "/x"'}, "data_dir", "/x"),
        ("0.6.4", {"a.json": '{"data_dir":"/d"} {"data_dir":"/x"}'}, "data_dir", "/d"),
        ("0.6.4", {"a.json": '{"data_dir":"/d"}', "b.json": '{"data_dir":""}'}, "data_dir", "/d"),
    ],
)  # fmt: skip
def test_where_versions_read_differently_the_program_is_asked_for_its_own(
    host: Host, version: str, files: dict[str, str], name: str, value: str
) -> None:
    """Below 1.0 only JSON is read, and a value of nothing takes no other's place (but leave_on_terminate, from 0.7)."""
    for file, text in files.items():
        host.file(file, text)
    read = host.old(version).read(f"-config-dir={host.etc}")
    assert (read["config_problem"], read[name]) == ("", value)


def test_where_it_matters_and_the_version_is_not_told_nothing_is_guessed(host: Host) -> None:
    """A program that does not start, or tells nothing."""
    host.file("a.json", '{"data_dir":"/d"}')
    host.file("b.hcl", 'data_dir = "/x"')
    assert "does not tell its version" in host.old("").read(f"-config-dir={host.etc}")["config_problem"]


def test_no_secret_shows_in_a_problem(host: Host) -> None:
    """Words of the command line and values of files may be keys and tokens."""
    secret = "pUqJrVyVRj5jsiYEkM/tFQ=="
    for flags in (
        ("-data-dir=/d", "-encrypt", secret, secret),
        ("-data-dir=/d", f"-hcl=encrypt = {secret}"),
        ("-data-dir=/d", f'-hcl=encrypt = "{secret}'),
        ("-data-dir=/d", f"-encrypt={secret}", "-dev"),
    ):
        problem = host.read(*flags)["config_problem"]
        assert problem
        assert secret[:8] not in problem


def test_a_large_configuration_is_read_in_time(host: Host) -> None:
    """Thousands of services in one line of JSON, as machines write it."""
    services = ",".join(f'{{"name":"s{n}","port":{n},"meta":{{"data_dir":"/x"}}}}' for n in range(5000))
    read = host.json(f'{{"services":[{services}],"data_dir":"/d"}}')
    assert (read["config_problem"], read["data_dir"]) == ("", "/d")
