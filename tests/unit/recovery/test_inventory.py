"""Ansible's inventory format: what is read out of one, and what is printed as one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.errors import InventoryProblem
from recovery.inventory.groups import InventoryHost, hosts_of, node_name, select
from recovery.inventory.ini import parse_ini
from recovery.inventory.printed import printed_host, printed_list
from recovery.inventory.ranges import expand
from recovery.inventory.trees import parse_listing, parse_yaml, with_variables
from recovery.model import Member, MemberStatus

INI = """
; a comment
jump ansible_host=192.0.2.1

[web]
web[01:03].example.com     # the front row
web9 ansible_host=192.0.2.9 ansible_user="some body"

[db]
db-[a:b]:2222

[consul:children]
web
db

[consul:vars]
ansible_host=not-for-hosts
"""


def test_ini_groups_children_ranges_and_variables() -> None:
    """A group holds its own hosts and those of its children; ranges are spelled out, ports and comments dropped."""
    inventory = parse_ini(INI)
    assert hosts_of(inventory, "web") == (
        "web01.example.com",
        "web02.example.com",
        "web03.example.com",
        "web9",
    )
    assert hosts_of(inventory, "consul") == (*hosts_of(inventory, "web"), "db-a", "db-b")
    assert hosts_of(inventory, "all")[0] == "jump"
    assert InventoryHost("web9", "192.0.2.9") in select(inventory, "consul").hosts
    assert InventoryHost("db-a", "db-a") in select(inventory, "consul").hosts


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("one", ["one"]),
        ("n[1:3]", ["n1", "n2", "n3"]),
        ("n[08:11]", ["n08", "n09", "n10", "n11"]),
        ("n[0:10:5]", ["n0", "n5", "n10"]),
        ("[a:c]x", ["ax", "bx", "cx"]),
        ("r[1:2]-[a:b]:22", ["r1-a", "r1-b", "r2-a", "r2-b"]),
        ("192.0.2.[9:10]", ["192.0.2.9", "192.0.2.10"]),
        ("2001:db8::1", ["2001:db8::1"]),
        ("[2001:db8::1]:22", ["2001:db8::1"]),
    ],
)
def test_host_ranges(pattern: str, names: list[str]) -> None:
    """Each form of a range, as Ansible spells it out."""
    assert list(expand(pattern)) == names


@pytest.mark.parametrize(
    "pattern", ["n[1:", "n1:3]", "n[3:1]", "n[01:100]", "n[a:3]", "n[1]", "n[1:9:0]", "n[1:99999999]"]
)
def test_bad_ranges_are_refused(pattern: str) -> None:
    """A range that cannot be meant is one message, not a guess."""
    with pytest.raises(InventoryProblem):
        expand(pattern)


@given(st.text(alphabet="ab01:[]#;=\"' \n\\{}-", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes the INI or the YAML reader end in anything but an inventory or its one fault."""
    for parse in (parse_ini, parse_yaml):
        try:
            hosts_of(parse(text), "all")
        except InventoryProblem:
            continue


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[web\nx", "line 1"),
        ("[web]\nx y", "line 2: behind a host"),
        ("[web:hosts:x]", "line 1"),
        ("[web:parents]", "not in :parents"),
        ('[web]\nx a="b', "line 2: cannot be split"),
    ],
)
def test_a_bad_ini_line_is_named(text: str, said: str) -> None:
    """The message says which line is wrong and what is wrong with it."""
    with pytest.raises(InventoryProblem, match=said):
        parse_ini(text)


YAML = """
all:
  hosts:
    jump: {ansible_host: 192.0.2.1}
  children:
    consul:
      children:
        web:
          hosts:
            web[01:02].example.com:
            web9:
              ansible_host: 192.0.2.9
              password: !vault |
                $ANSIBLE_VAULT;1.1;AES256
        db:
          hosts: db1
      vars:
        anything: 1
"""


def test_yaml_groups_children_ranges_and_variables() -> None:
    """The same out of YAML; Ansible's own tags stand in nobody's way."""
    inventory = parse_yaml(YAML)
    assert hosts_of(inventory, "consul") == ("web01.example.com", "web02.example.com", "web9", "db1")
    assert set(hosts_of(inventory, "all")) == {"jump", *hosts_of(inventory, "consul")}
    assert InventoryHost("web9", "192.0.2.9") in select(inventory, "web").hosts


@pytest.mark.parametrize(
    "text", ["- a\n- b", "web: [x]", "web: {hosts: [x]}", "a: b: c", "web: {hosts: {x: 1}}"]
)
def test_yaml_that_is_no_inventory_is_refused(text: str) -> None:
    """Lists and plain texts in the wrong place are one message."""
    with pytest.raises(InventoryProblem):
        parse_yaml(text)


def test_a_programs_answer() -> None:
    """Groups as mappings and as bare lists, children, and variables under _meta or asked for one by one."""
    inventory, complete = parse_listing(
        {
            "consul": {"hosts": ["a"], "children": ["more"], "vars": {"x": 1}},
            "more": ["b", "c"],
            "_meta": {"hostvars": {"b": {"ansible_host": "192.0.2.2"}}},
        }
    )
    assert complete
    assert [(host.name, host.address) for host in select(inventory, "consul").hosts] == [
        ("a", "a"),
        ("b", "192.0.2.2"),
        ("c", "c"),
    ]
    bare, complete = parse_listing({"consul": ["a"]})
    assert not complete
    asked = with_variables(bare, {"a": {"ansible_host": "192.0.2.1"}})
    assert select(asked, "consul").hosts == (InventoryHost("a", "192.0.2.1"),)


def test_an_unknown_group_names_the_one_that_was_meant() -> None:
    """A slip in the settings is answered with the group that is there."""
    with pytest.raises(InventoryProblem, match=r"no group consull; did you mean consul\?"):
        hosts_of(parse_ini(INI), "consull")


def test_groups_in_a_ring_end() -> None:
    """Two groups that hold each other are walked once."""
    assert hosts_of(parse_ini("[a:children]\nb\n[b:children]\na\n[b]\nx"), "a") == ("x",)


def test_addresses_that_cannot_serve_are_left_out_with_the_reason() -> None:
    """A template, and a name that Consul's own DNS resolves, are no addresses; the others still count."""
    found = select(
        parse_ini("[c]\na.node.consul\nb ansible_host={{x}}\nd.node.dc1.consul ansible_host=192.0.2.4"), "c"
    )
    assert found.hosts == (InventoryHost("d", "192.0.2.4"),)
    assert len(found.left_out) == 2
    assert "Consul DNS" in found.left_out[0]
    assert "template" in found.left_out[1]


def member(name: str, *, server: bool = False, alive: bool = True, dc: str = "dc1") -> Member:
    """A member at an address of its own."""
    status = MemberStatus.ALIVE if alive else MemberStatus.FAILED
    return Member(name=name, address=f"192.0.2.{len(name)}", status=status, server=server, datacenter=dc)


def test_members_are_printed_as_groups() -> None:
    """Everybody, by kind, those alive, one group a datacenter; an address each under _meta."""
    shown = printed_list([member("s1", server=True), member("web", alive=False)], plain=False)
    assert shown == {
        "_meta": {
            "hostvars": {
                "s1.node.consul": {"ansible_host": "192.0.2.2"},
                "web.node.consul": {"ansible_host": "192.0.2.3"},
            }
        },
        "members": {"hosts": ["s1.node.consul", "web.node.consul"]},
        "server": {"hosts": ["s1.node.consul"]},
        "client": {"hosts": ["web.node.consul"]},
        "alive": {"hosts": ["s1.node.consul"]},
        "dc1": {"hosts": ["s1.node.consul", "web.node.consul"]},
    }


def test_what_is_printed_can_be_read_back() -> None:
    """Our own listing as an inventory gives the nodes by their own names, with their addresses."""
    inventory, complete = parse_listing(printed_list([member("s1", server=True), member("web")], plain=False))
    assert complete
    assert select(inventory, "client").hosts == (InventoryHost("web", "192.0.2.3"),)


def test_a_datacenter_named_like_a_group_gets_a_group_of_its_own() -> None:
    """A datacenter called client does not put its servers among the clients."""
    shown = printed_list([member("s1", server=True, dc="client")], plain=True)
    assert shown["client"] == {"hosts": []}
    assert shown["dc_client"] == {"hosts": ["s1"]}


def test_one_host() -> None:
    """--host takes both names of a node, and knows no stranger."""
    members = [member("web")]
    assert (
        printed_host(members, "web")
        == printed_host(members, "web.node.consul")
        == {"ansible_host": "192.0.2.3"}
    )
    assert printed_host(members, "nobody") is None
    assert node_name("a.node.dc1.consul") == "a"
