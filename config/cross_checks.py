"""What no section can tell alone: one account of two people, one host of two clusters, unknown names."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from config.schema import (
    ApprovalSection,
    ClientSection,
    ClusterSection,
    PersonSection,
    RedisSection,
    ServerSection,
)


def cross_check(parsed: Mapping[str, Any], *, people_given: bool) -> list[str]:
    """Give a sentence for each contradiction among the sections that could be read.

    ``people_given`` is False where people are named but could not be read: then
    nobody is called unknown.
    """
    people: tuple[PersonSection, ...] = parsed.get("people", ())
    problems = [*_people(people)]
    if people_given and "approvals" in parsed:
        problems += _unknown_people(parsed["approvals"], [one.name for one in people])
    if "redis" in parsed:
        problems += _redis(parsed["redis"])
    problems += _clusters(parsed.get("clusters", {}))
    return problems


def _people(people: tuple[PersonSection, ...]) -> Iterator[str]:
    """Nobody may be two people: whoever is could approve what they asked for."""
    names: dict[str, int] = {}
    accounts: dict[tuple[str, str], str] = {}
    for index, one in enumerate(people):
        if (first := names.setdefault(one.name.casefold(), index)) != index:
            yield (
                f"people.{index}.name: {one.name} is people.{first} already; write all accounts of a person"
                " into one entry"
            )
            continue
        owned = [("slack", account) for account in one.slack]
        owned += [("terminal", account) for account in one.terminal]
        for kind, account in owned:
            if (owner := accounts.setdefault((kind, account), one.name)) != one.name:
                yield (
                    f"people.{index}.{kind}: {account} belongs to {owner} already; one account is one"
                    " person, so take it out of one of them"
                )


def _unknown_people(approvals: ApprovalSection, known: list[str]) -> Iterator[str]:
    for key, names in (("approvers", approvals.approvers), ("requesters", approvals.requesters or ())):
        for index, name in enumerate(names):
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                instead = f"did you mean {close[0]}?" if close else "add this person to people"
                yield f"approvals.{key}.{index}: nobody in people is named {name}; {instead}"


def _redis(redis: RedisSection) -> Iterator[str]:
    given = redis.model_fields_set
    ways = [
        name
        for name, there in (
            ("url", redis.url is not None),
            ("sentinel", redis.sentinel is not None),
            ("private", redis.private),
        )
        if there
    ]
    if not ways:
        yield (
            "redis: neither url nor sentinel nor private is given; write `url: redis://HOST:6379/0`, or"
            " sentinel with addresses and master, or `private: true` for a Redis that the bot starts itself"
            " (only for a bot on one machine)"
        )
    if len(ways) > 1:
        yield f"redis: {' and '.join(ways)} are given; keep one of them"
    if redis.private:
        for key in sorted(given & {"username", "password", *_TLS}):
            yield f"redis.{key}: the private Redis has none (only its user reaches its socket); take it out"
    elif "state_folder" in given:
        yield "redis.state_folder: belongs to the private Redis; take it out, or write private: true"
    else:
        yield from _redis_tls(redis)


_TLS = ("tls_ca_file", "tls_cert_file", "tls_key_file")


def _redis_tls(redis: RedisSection) -> Iterator[str]:
    used = [key for key in _TLS if getattr(redis, key) is not None]
    if used and redis.url is not None and not redis.url.reveal().startswith("rediss://"):
        yield f"redis.{used[0]}: the url does not use TLS; write rediss:// or take it out"
    if used and redis.sentinel is not None and not redis.sentinel.tls:
        yield f"redis.{used[0]}: sentinel does not use TLS; write tls: true under it or take it out"
    if (redis.tls_cert_file is None) != (redis.tls_key_file is None):
        missing = "tls_key_file" if redis.tls_key_file is None else "tls_cert_file"
        yield f"redis.{missing}: missing; a certificate and its key are given together"


def _clusters(clusters: Mapping[str, ClusterSection]) -> Iterator[str]:
    """One host under two names would be stopped by one run while another counts on it."""
    hosts: dict[str, str] = {}
    for cluster, section in clusters.items():
        names: set[str] = set()
        named: tuple[tuple[str, tuple[ServerSection | ClientSection, ...]], ...] = (
            ("servers", section.servers),
            ("clients", section.clients),
        )
        for key, agents in named:
            for index, agent in enumerate(agents):
                place = f"clusters.{cluster}.{key}.{index}"
                if agent.name in names:
                    yield f"{place}.name: {agent.name} is there twice; write each {key.removesuffix('s')} once"
                names.add(agent.name)
                known = f"{agent.name} of {cluster}"
                if (other := hosts.setdefault(agent.address.lower(), known)) != known:
                    yield (
                        f"{place}.address: this is the address of {other} too; write the address of {agent.name}"
                    )
        if section.http.scheme == "http" and section.http.ca_file is not None:
            yield f"clusters.{cluster}.http.ca_file: the scheme is http; write scheme: https or take it out"
