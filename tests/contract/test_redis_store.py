"""What only the store in Redis has: its faults as sentences, its warnings, its private server."""

import asyncio
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import exceptions

from lab.root import ensure_root
from recovery.adapters.private_redis import private_redis
from recovery.adapters.redis_client import RIGHTS
from recovery.adapters.redis_store import _DEADLINE_S, CONNECTIONS, RedisStore
from recovery.engine import LEASE_TTL_S
from recovery.errors import JournalUnreadable, SettingsProblem, StoreUnavailable, Unverified
from recovery.model import ClusterName, RunId
from recovery.ports import Lease
from recovery.signing import SigningKey
from tests.contract.redis_server import DURABLE, connect, running_redis
from tests.contract.runs import ABORTED, ENDED, OPENED, UNLOCKED, proposed

PROD = ClusterName("prod")
R1 = RunId("r1")
PASSWORD = "correct-horse/battery"


def _text(key: bytes | str) -> str:
    return key if isinstance(key, str) else key.decode()


async def tell(store: RedisStore, *command: str) -> None:
    """Send a command of Redis as this store's user."""
    await store._client.execute_command(*command)  # type: ignore[no-untyped-call]


@pytest.fixture
def locked_redis() -> Iterator[Path]:
    """A Redis that asks for a password."""
    with running_redis(*DURABLE, "--requirepass", PASSWORD) as path:
        yield path


async def test_a_redis_that_is_not_there_is_told_in_one_sentence() -> None:
    """A Redis out of reach is named by its address, with what was not done and what to do, without password."""
    store = connect(f"redis://bot:{PASSWORD.replace('/', '%2F')}@127.0.0.1:1/0")
    with pytest.raises(StoreUnavailable) as caught:
        await store.decide(PROD, R1, ABORTED, expected_length=1)
    await store.aclose()
    assert str(caught.value) == (
        "Redis at 127.0.0.1:1 cannot be reached; the decision was not recorded."
        " Check that Redis runs and that this machine reaches it, then ask for the status."
    )
    assert caught.value.__cause__ is None


async def test_a_wrong_password_is_told_without_it(locked_redis: Path) -> None:
    """A wrong password is called that, and appears nowhere in the message."""
    store = connect(f"unix://{locked_redis}", password="wrong-" + PASSWORD)
    with pytest.raises(StoreUnavailable, match="does not accept our user or password") as caught:
        await store.active(PROD)
    await store.aclose()
    assert PASSWORD not in str(caught.value)
    assert "redis.password_file" in str(caught.value)


async def test_a_missing_password_is_asked_for(locked_redis: Path) -> None:
    """Without a password the message says which setting to write."""
    store = connect(f"unix://{locked_redis}")
    with pytest.raises(StoreUnavailable, match=r"password.*redis\.password_file"):
        await store.active(PROD)
    await store.aclose()


async def test_the_right_password_lets_us_in(locked_redis: Path) -> None:
    """A password beside the URL is used, also with characters that a URL cannot hold."""
    store = connect(f"unix://{locked_redis}", password=PASSWORD)
    assert await store.active(PROD) is None
    await store.aclose()


@pytest.mark.parametrize("url", ["http://cache:6379", "redis://:pa/ss@cache:6379", "cache"])
def test_a_broken_url_is_refused_without_showing_it(url: str) -> None:
    """What is not a Redis URL is a problem of the settings; the URL is not repeated, it may hold a password."""
    with pytest.raises(SettingsProblem, match="rediss:// for TLS") as caught:
        connect(url)
    assert "cache" not in str(caught.value)
    assert "pa/ss" not in str(caught.value)


async def test_a_user_without_rights_is_told_which_rights_it_needs(redis_socket: Path) -> None:
    """With exactly the rights that the message names an ACL user can do everything, with fewer it is told so."""
    admin = connect(f"unix://{redis_socket}")
    await tell(admin, "ACL", "SETUSER", "poor", "on", ">pw", "~consul-recovery:*", "+get")
    await tell(admin, "ACL", "SETUSER", "bot", "on", ">pw", *RIGHTS.split())
    cluster = ClusterName("acl")
    poor = connect(f"unix://{redis_socket}", username="poor", password="pw")
    with pytest.raises(StoreUnavailable, match="does not allow our user") as caught:
        await poor.propose(cluster, R1, proposed(cluster))
    assert RIGHTS in str(caught.value)
    # A Redis that knows our scripts already would not ask for the right to load them.
    await admin._client.script_flush()
    bot = connect(f"unix://{redis_socket}?db=1", username="bot", password="pw")
    assert await bot.propose(cluster, R1, proposed(cluster)) == R1
    assert await bot.active(cluster) == R1
    assert await bot.runs(cluster) == (R1,)
    assert await bot.once("acl", ttl_s=60)
    await bot.remember(cluster, "card", "C1")
    assert await bot.recall(cluster, "card") == "C1"
    lease = await bot.take_lease(cluster, R1, owner="bot-1", ttl_s=60, above_epoch=0)
    assert isinstance(lease, Lease)
    await bot.renew_lease(lease, ttl_s=60)
    await bot.decide(cluster, R1, ABORTED, expected_length=1)
    await bot.wait(cluster, R1, length=1, timeout_s=1)
    await bot.append(lease, ENDED, expected_length=2)
    await bot.release_lease(lease)
    assert await bot.epoch(cluster) == 1
    assert len(await bot.events(cluster, R1)) == 3
    assert await bot.check_persistence() == []
    for forbidden in (("FLUSHALL",), ("SET", "other", "1"), ("CONFIG", "SET", "save", "")):
        with pytest.raises(exceptions.NoPermissionError):
            await tell(bot, *forbidden)
    for store in (admin, poor, bot):
        await store.aclose()


async def test_scripts_are_loaded_again_after_redis_forgot_them(redis_socket: Path) -> None:
    """A Redis that lost its script cache (a restart, a failover) is served without an error."""
    store = connect(f"unix://{redis_socket}")
    assert await store.once("before", ttl_s=60)
    await store._client.script_flush()
    assert await store.once("after", ttl_s=60)
    await store.aclose()


async def test_a_broken_connection_is_made_again(redis_socket: Path) -> None:
    """A Redis that closed our connections (a restart, a firewall) costs nothing but a moment."""
    admin, store = connect(f"unix://{redis_socket}"), connect(f"unix://{redis_socket}")
    assert await store.active(ClusterName("cut")) is None
    await admin._client.client_kill_filter(_type="normal", skipme=True)
    assert await store.propose(ClusterName("cut"), R1, proposed(ClusterName("cut"))) == R1
    for each in (admin, store):
        await each.aclose()


async def test_a_lease_asked_for_twice_by_one_call_is_one(redis_socket: Path) -> None:
    """The same call sent again, because its answer was lost, gets the lease that it got; another call does not."""
    store = connect(f"unix://{redis_socket}")
    keys = ["consul-recovery:{twice}:lease", "consul-recovery:{twice}:epoch"]
    for _ in range(2):
        assert await store._take_lease(keys=keys, args=["bot-1", 60_000, 0, "nonce-1"]) == [b"ok", b"1"]
    assert await store._take_lease(keys=keys, args=["bot-1", 60_000, 0, "nonce-2"]) == [
        b"held",
        b"bot-1",
        b"1",
    ]
    for _ in range(2):
        assert await store._once(keys=["consul-recovery:once:twice"], args=["nonce-1", 60_000]) == [b"ok"]
    assert await store._once(keys=["consul-recovery:once:twice"], args=["nonce-2", 60_000]) == [b"seen"]
    await store.aclose()


async def test_a_crowd_waits_in_line_and_takes_no_drivers_lease(redis_socket: Path) -> None:
    """600 calls at once all succeed over few connections; the driver renews and records all the while."""
    people, driver = connect(f"unix://{redis_socket}"), connect(f"unix://{redis_socket}")
    cluster = ClusterName("crowd")
    await people.propose(cluster, R1, proposed(cluster))
    lease = await driver.take_lease(cluster, R1, owner="bot-1", ttl_s=1.0, above_epoch=0)
    assert isinstance(lease, Lease)
    over = asyncio.Event()

    async def renew() -> int:
        renewed = 0
        while not over.is_set():
            await driver.renew_lease(lease, ttl_s=1.0)
            renewed += 1
            await asyncio.sleep(0.001)
        return renewed

    async def one_of_the_crowd(number: int) -> bool:
        first = await people.once(f"crowd:{number // 2}", ttl_s=60)
        await people.active(cluster)
        await people.events(cluster, R1)
        await people.remember(cluster, "card", str(number))
        return first

    renewing = asyncio.create_task(renew())
    for wave in range(4):
        firsts = await asyncio.gather(*(one_of_the_crowd(wave * 600 + number) for number in range(600)))
        assert sum(firsts) == 300
    over.set()
    assert await renewing > 4
    await driver.append(lease, OPENED, expected_length=1)
    connections = [one for one in await people._client.client_list() if int(one["age"]) >= 0]
    assert len(connections) <= 2 * CONNECTIONS + 10  # Other tests' stores, of which each has few.
    for each in (people, driver):
        await each.aclose()


async def test_a_line_that_does_not_move_is_given_up_in_time(redis_socket: Path) -> None:
    """Where Redis answers nobody, those in line learn it within the deadline of their own call."""
    store = connect(f"unix://{redis_socket}")

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    store._client.get = never  # type: ignore[method-assign]
    began_s = asyncio.get_running_loop().time()
    answers = await asyncio.gather(
        *(store.active(PROD) for _ in range(3 * CONNECTIONS)), return_exceptions=True
    )
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    assert asyncio.get_running_loop().time() - began_s < LEASE_TTL_S
    await store.aclose()


async def test_all_keys_of_a_cluster_share_a_hash_tag(redis_socket: Path) -> None:
    """Every key carries our prefix, and a cluster's keys its name in braces, so that a script may touch them."""
    store = connect(f"unix://{redis_socket}")
    cluster = ClusterName("tagged")
    await store.propose(cluster, R1, proposed(cluster))
    await store.take_lease(cluster, R1, owner="bot-1", ttl_s=60, above_epoch=0)
    await store.remember(cluster, "card", "C1")
    keys = {_text(key) for key in await store._client.keys("*tagged*")}
    assert keys == {
        f"consul-recovery:{{tagged}}:{rest}"
        for rest in ("active", "lease", "epoch", "run:r1", "runs", "memo:card")
    }
    await store.aclose()


async def test_only_the_lease_expires(redis_socket: Path) -> None:
    """Lock, epoch and journal have no end of life: an expired lock would let a second run begin."""
    store = connect(f"unix://{redis_socket}")
    cluster = ClusterName("lasting")
    await store.propose(cluster, R1, proposed(cluster))
    await store.take_lease(cluster, R1, owner="bot-1", ttl_s=60, above_epoch=0)
    expiring = {
        _text(key) for key in await store._client.keys("*lasting*") if await store._client.pttl(key) != -1
    }
    assert expiring == {"consul-recovery:{lasting}:lease"}
    await store.aclose()


async def test_a_lock_a_lease_or_a_journal_of_another_type_can_be_unlocked(redis_socket: Path) -> None:
    """Whatever somebody made of the keys: the lock is seen, and taken away; what was the journal stays."""
    store = connect(f"unix://{redis_socket}")
    cluster = ClusterName("types")
    for key in ("active", "lease"):
        await store._client.rpush(f"consul-recovery:{{types}}:{key}", "x")
    run = await store.active(cluster)
    assert run is not None
    assert await store.driver(cluster) is None
    await store._client.set(f"consul-recovery:{{types}}:run:{run}", "x")
    assert (await store.journal(cluster, run)).fault is not None
    await store.unlock(cluster, run, UNLOCKED, expected_length=0)
    assert await store.active(cluster) is None
    assert await store._client.get(f"consul-recovery:{{types}}:run:{run}") == b"x"
    assert await store.propose(cluster, R1, proposed(cluster)) == R1
    await store.aclose()


@pytest.mark.parametrize("held", [b"", b"r1\n", b"\xff\xfe", b"r" * 5000, b"<!channel>"])
async def test_a_lock_that_names_no_run_can_be_unlocked(redis_socket: Path, held: bytes) -> None:
    """What is no name of a run gets one that a person can type."""
    store = connect(f"unix://{redis_socket}")
    cluster = ClusterName("garbage")
    await store._client.set("consul-recovery:{garbage}:active", held)
    run = await store.active(cluster)
    assert run is not None
    assert run.startswith("unknown-")
    await store.unlock(cluster, run, UNLOCKED, expected_length=0)
    assert await store.active(cluster) is None
    await store.aclose()


async def test_an_epoch_that_is_no_number_is_said(redis_socket: Path) -> None:
    """A fault of the store is told in one sentence, also where somebody wrote nonsense into it."""
    store = connect(f"unix://{redis_socket}")
    await store._client.set("consul-recovery:{noepoch}:epoch", "many")
    with pytest.raises(StoreUnavailable, match="no number"):
        await store.epoch(ClusterName("noepoch"))
    await store.aclose()


async def test_the_key_and_nothing_of_it_is_in_redis(redis_socket: Path) -> None:
    """Another key verifies nothing, and shows in no message."""
    secret = "0123456789abcdef" * 4
    store = connect(f"unix://{redis_socket}", key=SigningKey(secret.encode()))
    other = connect(f"unix://{redis_socket}")
    cluster = ClusterName("keys")
    await store.propose(cluster, R1, proposed(cluster))
    await store.remember(cluster, "members", "[]")
    assert len(await store.events(cluster, R1)) == 1
    with pytest.raises(JournalUnreadable, match=r"line 1 .* signed with another key") as caught:
        await other.events(cluster, R1)
    with pytest.raises(Unverified):
        await other.recall(cluster, "members")
    [kept] = await store._client.lrange("consul-recovery:{keys}:run:r1", 0, -1)
    assert secret not in _text(kept) + str(caught.value) + repr(store._key)
    for each in (store, other):
        await each.aclose()


async def test_a_durable_redis_has_no_warnings(redis_socket: Path) -> None:
    """With appendonly on and no eviction there is nothing to warn of."""
    store = connect(f"unix://{redis_socket}")
    assert await store.check_persistence() == []
    await store.aclose()


async def test_a_redis_for_the_bot_alone_lets_nobody_else_write() -> None:
    """With just the rights of the settings' example, and no other user that may write, nothing is to warn of."""
    others = {
        "bot": f"{RIGHTS} +acl",
        "reader": "~* +@read +acl|whoami",
        "other": "~cache:* +@all -@admin -@dangerous",
        "selector": "(%R~* +get) (~cache:* +set)",
        "sentinel": "&* +multi +slaveof +ping +exec +config|rewrite",
    }
    with running_redis(*DURABLE) as path:
        admin = connect(f"unix://{path}")
        for name, rights in others.items():
            await tell(admin, "ACL", "SETUSER", name, "on", ">pw", *_parts(rights))
        await tell(admin, "ACL", "SETUSER", "left", "off", ">pw", "~*", "+@all")
        await tell(admin, "ACL", "SETUSER", "default", "off")
        bot = connect(f"unix://{path}", username="bot", password="pw")
        said, *more = (await bot.check_access()).warnings
        assert more == []
        assert "Our user bot" in said, "the right to ask is more than it needs"
        assert "(+acl)" in said
        await tell(bot, "ACL", "SETUSER", "bot", "-acl")
        unseen = (await bot.check_access()).unseen
        assert "our user may not ask, which is as it should be" in unseen
        assert "redis-cli ACL LIST" in unseen
        for store in (admin, bot):
            await store.aclose()


@pytest.mark.parametrize(
    "rights",
    [
        "~* +@all",
        "~* +@write",
        "~consul-recovery:* +set",
        "~consul-* +@string",
        "%W~* +del",
        "~cache:* +get (~* +rpush)",
        "~c* +@all -@dangerous",
        "+acl|setuser",
        "+config",
        "+flushall",
    ],
)
async def test_whoever_else_may_write_the_keys_of_the_bot_is_named(rights: str) -> None:
    """By whatever pattern, category or selector, or by a command that needs no key."""
    with running_redis(*DURABLE) as path:
        admin = connect(f"unix://{path}")
        await tell(admin, "ACL", "SETUSER", "eve", "on", ">pw", *_parts(rights))
        warnings = (await admin.check_access()).warnings
        await admin.aclose()
    assert [
        each
        for each in warnings
        if each.startswith("The user eve of Redis") and "write the bot's keys" in each
    ]


def _parts(rights: str) -> list[str]:
    return re.findall(r"\([^)]*\)|\S+", rights)


async def test_a_redis_without_users_is_one_that_everybody_may_write() -> None:
    """As it comes: the default user, who may do all, with or without a password; what to run instead is said."""
    with running_redis(*DURABLE) as path:
        store = connect(f"unix://{path}")
        (no_password,) = (await store.check_access()).warnings
        await tell(store, "ACL", "SETUSER", "default", ">pw")
        (excess,) = (await store.check_access()).warnings
        await store.aclose()
    assert "asks for no password of our user default" in no_password
    assert "Our user default of Redis" in excess
    assert "may do more than the bot needs (~*, +@all)" in excess
    for told in (no_password, excess):
        assert f"ACL SETUSER consul-recovery reset on >PASSWORD {RIGHTS}, then set redis.username" in told


async def test_a_redis_that_hides_its_settings_is_said_to(redis_socket: Path) -> None:
    """Where CONFIG is not allowed, as with a hosted Redis, it is said what could not be checked."""
    admin = connect(f"unix://{redis_socket}")
    rights = [right for right in RIGHTS.split() if right != "+config|get"]
    await tell(admin, "ACL", "SETUSER", "hosted", "on", ">pw", *rights)
    hosted = connect(f"unix://{redis_socket}", username="hosted", password="pw")
    (warning,) = await hosted.check_persistence()
    assert "could not be checked" in warning
    assert "`appendfsync always`" in warning
    for store in (admin, hosted):
        await store.aclose()


@pytest.mark.parametrize(
    ("fsync", "told"),
    [("everysec", "the last second of a run"), ("no", "half minute, perhaps more, of a run")],
)
async def test_a_redis_that_answers_before_it_has_written_is_warned_of(fsync: str, told: str) -> None:
    """Appended but not on the disk yet: what a dead machine forgets is said."""
    with running_redis("--appendonly", "yes", "--appendfsync", fsync) as path:
        store = connect(f"unix://{path}")
        (warning,) = await store.check_persistence()
        await store.aclose()
    assert told in warning
    assert "`appendfsync always`" in warning


@pytest.mark.virtual_time
async def test_a_call_ends_before_somebody_else_may_take_over() -> None:
    """A Redis that takes everything and answers nothing is given up while the driver still has its lease."""
    store = connect("unix:///nobody/is/asked")
    longest_s = _DEADLINE_S + LEASE_TTL_S / 3

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    assert longest_s < LEASE_TTL_S
    store._client.get = never  # type: ignore[method-assign]
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(StoreUnavailable, match="gave no answer in time; the run was not looked up"):
        await store.active(PROD)
    assert asyncio.get_running_loop().time() - began_s < LEASE_TTL_S
    await store.aclose()


async def test_a_forgetful_redis_is_warned_of() -> None:
    """No appendonly file, no snapshots and an evicting memory limit are each told, with what to set."""
    options = ("--save", "", "--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")
    with running_redis(*options) as path:
        store = connect(f"unix://{path}")
        persistence, eviction = await store.check_persistence()
        await store.aclose()
    assert "appendonly off" in persistence
    assert "no snapshots either" in persistence
    assert "`appendonly yes`" in persistence
    assert "allkeys-lru" in eviction
    assert "noeviction" in eviction


# --- The private Redis ----------------------------------------------------------------------------------


@pytest.fixture
def redis_program(tmp_path: Path) -> str:
    """redis-server of the lab's tree under this machine's kernel, in a network namespace without a way out."""
    root = ensure_root()
    libraries = root / "usr/lib/x86_64-linux-gnu"
    program = tmp_path / "redis-server"
    program.write_text(
        "#!/bin/sh\n"
        f"exec unshare --net {root}/lib64/ld-linux-x86-64.so.2 --library-path {libraries}"
        f' {root}/usr/bin/redis-server "$@"\n'
    )
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def state_folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


async def use(url: str) -> RedisStore:
    store = connect(url)
    await store.check_persistence()
    return store


async def test_the_private_redis_keeps_what_it_was_told(redis_program: str, state_folder: Path) -> None:
    """A run written to the private Redis is there after it was stopped and started again."""
    async with private_redis(state_folder, program=redis_program) as url:
        store = await use(url)
        await store.propose(PROD, R1, proposed(PROD))
        assert await store.check_persistence() == []
        await store.aclose()
    async with private_redis(state_folder, program=redis_program) as url:
        store = await use(url)
        assert await store.active(PROD) == R1
        await store.aclose()


async def test_the_private_redis_is_shared_and_the_last_one_stops_it(
    redis_program: str, state_folder: Path
) -> None:
    """The second user finds the first one's server; it stays when its starter leaves and ends with the last."""
    bot = private_redis(state_folder, program=redis_program)
    terminal = private_redis(state_folder, program="/nonexistent/redis-server")
    url = await bot.__aenter__()
    assert await terminal.__aenter__() == url
    await bot.__aexit__(None, None, None)
    store = await use(url)
    await store.remember(PROD, "card", "C1")
    await store.aclose()
    await terminal.__aexit__(None, None, None)
    store = connect(url)
    with pytest.raises(StoreUnavailable):
        await store.recall(PROD, "card")
    await store.aclose()


async def test_the_private_redis_has_no_tcp_and_a_closed_folder(
    redis_program: str, state_folder: Path
) -> None:
    """Nobody but its user can reach the private Redis."""
    async with private_redis(state_folder, program=redis_program) as url:
        store = await use(url)
        assert (await store._client.config_get("port"))["port"] == "0"
        assert (await store._client.config_get("appendfsync"))["appendfsync"] == "always"
        await store.aclose()
        assert stat.S_IMODE(state_folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((state_folder / "redis.sock").stat().st_mode) == 0o700


async def test_a_folder_open_to_others_is_refused(redis_program: str, state_folder: Path) -> None:
    """A state folder that others can enter is not used, and the message has the command that closes it."""
    state_folder.mkdir(mode=0o755)
    with pytest.raises(SettingsProblem, match=f"chmod 700 {state_folder}"):
        async with private_redis(state_folder, program=redis_program):
            pass


async def test_a_folder_of_somebody_else_is_refused(redis_program: str, state_folder: Path) -> None:
    """A state folder of another user is not used: its Redis would not be ours to trust."""
    state_folder.mkdir(mode=0o700)
    os.chown(state_folder, 12345, 12345)
    with pytest.raises(SettingsProblem, match="12345"):
        async with private_redis(state_folder, program=redis_program):
            pass


async def test_without_redis_server_the_message_says_what_to_install(state_folder: Path) -> None:
    """A machine without redis-server is told both ways out."""
    with pytest.raises(SettingsProblem, match=r"apt-get install redis-server.*redis\.url"):
        async with private_redis(state_folder, program="no-such-redis-server"):
            pass


async def test_a_private_redis_that_cannot_start_says_where_to_read(
    redis_program: str, state_folder: Path
) -> None:
    """A damaged journal keeps the private Redis from starting; the message names its log and the last line."""
    async with private_redis(state_folder, program=redis_program) as url:
        store = await use(url)
        await store.remember(PROD, "card", "C1")
        await store.aclose()
    (state_folder / "appendonlydir" / "appendonly.aof.1.incr.aof").write_bytes(b"this is no journal")
    with pytest.raises(StoreUnavailable, match=r"redis\.log") as caught:
        async with private_redis(state_folder, program=redis_program):
            pass
    assert "AOF" in str(caught.value)
