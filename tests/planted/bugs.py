"""The planted bugs: each a mistake that a driver of risky steps is likely to have, and the tests that see it."""

from __future__ import annotations

from dataclasses import dataclass

ENGINE = "recovery/engine.py"
JOURNAL = "recovery/journal.py"


@dataclass(frozen=True, slots=True)
class Edit:
    """One text in one file that is replaced by another; it has to be there exactly once."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedBug:
    """A bug as edits of a copy of the source, and the tests of which at least one has to fail then."""

    name: str
    says: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


STARTED = """        await self._record(
            StepStarted(at_s=self._clock.now_s(), step=step.id, attempt=attempt, epoch=self._lease.epoch)
        )
        await self._act(step, attempt)
"""

BUGS = (
    PlantedBug(
        name="skip-preconditions",
        says="A step is begun although what has to hold before it does not.",
        edits=(
            Edit(
                ENGINE,
                "        if obstacles:\n            await self._record(StepBlocked(",
                "        if False:\n            await self._record(StepBlocked(",
            ),
        ),
        tests=("tests/unit/recovery/test_engine.py", "tests/sweeps/test_by_hand.py"),
    ),
    PlantedBug(
        name="one-approver-for-destructive",
        says="Steps without a way back ask for as many people as those with one.",
        edits=(
            Edit(
                "recovery/policy.py",
                "people=policy.irreversible_people if worst is Risk.IRREVERSIBLE else policy.reversible_people",
                "people=policy.reversible_people",
            ),
        ),
        tests=("tests/unit/recovery/test_engine.py", "tests/scenarios/slack/test_who_may.py"),
    ),
    PlantedBug(
        name="interrupted-step-worked",
        says="A step that was begun and whose end nobody saw is taken for done.",
        edits=(
            Edit(
                ENGINE,
                '                await self._verify(step, "", deadline_s, resolved=True)\n'
                "                return\n"
                "            receipt =",
                "                pass\n"
                "            await self._record(\n"
                "                StepVerified(at_s=self._clock.now_s(), step=step.id, evidence='', resolved=True)\n"
                "            )\n"
                "            return\n"
                "            receipt =",
            ),
        ),
        tests=("tests/unit/recovery/test_engine.py", "tests/sweeps/test_killed.py"),
    ),
    PlantedBug(
        name="approval-of-another-plan",
        says="An approval counts whatever plan it was given for.",
        edits=(
            Edit(
                "recovery/policy.py",
                "if not state.digest.startswith(digest_prefix):",
                "if not digest_prefix:",
            ),
        ),
        tests=("tests/unit/recovery/test_engine.py", "tests/scenarios/slack/test_clicks_and_faults.py"),
    ),
    PlantedBug(
        name="click-of-an-earlier-attempt",
        says="Whoever answers a step's first failure answers its second one as well, unseen.",
        edits=(
            Edit(
                "recovery/service.py",
                "            if question and question != state.question:\n",
                "            if question and question.split('@')[0] != state.question.split('@')[0]:\n",
            ),
        ),
        tests=("tests/unit/recovery/test_engine.py", "tests/scenarios/slack/test_clicks_and_faults.py"),
    ),
    PlantedBug(
        name="login-uid-of-anybody",
        says="A process that writes bob's uid to its own login uid is bob.",
        edits=(
            Edit(
                "bot/terminal_user.py",
                "            if seen.slice_uid != seen.login_uid:\n",
                "            if False:\n",
            ),
        ),
        tests=("tests/unit/bot/test_terminal_user.py",),
    ),
    PlantedBug(
        name="settings-of-anybody",
        says="Settings count whoever wrote them: a file of one's own makes an approver of whoever names it.",
        edits=(
            Edit(
                "config/ownership.py",
                "        if status.st_uid not in {0, self._uid}:\n",
                "        if False:\n",
            ),
        ),
        tests=("tests/unit/config/test_ownership.py",),
    ),
    PlantedBug(
        name="unknown-holds",
        says="What could not be seen counts as if it held.",
        edits=(
            Edit(
                ENGINE,
                'problems.append(f"could not be seen: {reason}")',
                "assert reason is not None",
            ),
            Edit(
                ENGINE,
                "    if not all(isinstance(fact, Holds) for fact in facts):\n",
                "    if any(isinstance(fact, Fails) for fact in facts):\n",
            ),
        ),
        tests=("tests/unit/recovery/test_engine.py", "tests/sweeps/test_unreachable_hosts.py"),
    ),
    PlantedBug(
        name="roll-back-forwards",
        says="What was done first is taken back first.",
        edits=(
            Edit(
                JOURNAL,
                "in reversed(list(zip(state.plan.steps, state.steps, strict=True))):",
                "in zip(state.plan.steps, state.steps, strict=True):",
            ),
        ),
        tests=("tests/unit/recovery/test_engine.py", "tests/sweeps/test_failed_steps.py"),
    ),
    PlantedBug(
        name="append-before-legality",
        says="An event is made durable before anybody looks whether the history allows it.",
        edits=(
            Edit(
                ENGINE,
                "            try:\n                new = apply(self._state, event)\n            except IllegalEvent:\n"
                "                # A neighbour",
                "            await self._store.append(self._lease, event, expected_length=self._state.length)\n"
                "            try:\n                new = apply(self._state, event)\n            except IllegalEvent:\n"
                "                # A neighbour",
            ),
            Edit(
                ENGINE,
                "                    await self._store.append(self._lease, event, expected_length=self._state.length)\n"
                "                    break\n",
                "                    break\n",
            ),
        ),
        tests=("tests/unit/recovery/test_engine.py",),
    ),
    PlantedBug(
        name="stale-epoch-accepted",
        says="Whoever drove before may go on writing the journal.",
        edits=(
            Edit(
                "recovery/adapters/redis_scripts.py",
                "if held[1] ~= ARGV[5] or held[2] ~= ARGV[6] then return {'lost', held[1] or '', held[2] or ''} end\n"
                "local length = redis.call('LLEN', KEYS[1])\n"
                "local expected = tonumber(ARGV[3])\n",
                "local length = redis.call('LLEN', KEYS[1])\nlocal expected = tonumber(ARGV[3])\n",
            ),
        ),
        tests=("tests/contract/test_run_store.py",),
    ),
    PlantedBug(
        name="failure-does-not-wait",
        says="After a failed step the next one is begun, and no person is asked.",
        edits=(
            Edit(
                JOURNAL,
                "        if step.optional and step_state.status in WAITS_FOR_PERSON:\n            continue\n"
                "        match",
                "        if step_state.status in WAITS_FOR_PERSON:\n            continue\n        match",
            ),
            Edit(
                JOURNAL,
                "passed_over = earlier.optional and earlier_state.status in WAITS_FOR_PERSON",
                "passed_over = earlier_state.status in WAITS_FOR_PERSON",
            ),
        ),
        tests=("tests/unit/recovery/test_engine.py", "tests/sweeps/test_failed_steps.py"),
    ),
    PlantedBug(
        name="act-before-recording",
        says="A host is changed before the journal says that it will be.",
        edits=(
            Edit(
                ENGINE,
                STARTED,
                "        await self._world.perform(\n"
                "            step.action, key=self._key(step, attempt, undo=False), timeout_s=step.timeout_s\n"
                "        )\n" + STARTED,
            ),
        ),
        tests=("tests/unit/recovery/test_engine.py", "tests/sweeps/test_killed.py"),
    ),
    PlantedBug(
        name="leader-by-its-index",
        says="A leader is believed as soon as its log is long enough, whatever it holds there.",
        edits=(
            Edit(
                "recovery/adapters/leader_checks.py",
                "    if term != at_least.term:",
                "    if term < 0:",
            ),
        ),
        tests=("tests/unit/recovery/adapters/test_leader_checks.py",),
    ),
    PlantedBug(
        name="blank-one-put-back",
        says="After an unanswered approval a server without data is started again too: it votes for anybody.",
        edits=(Edit(JOURNAL, "    if None in logs:\n", "    if not logs:\n"),),
        tests=("tests/unit/recovery/test_expiry.py", "tests/sweeps/test_expired.py"),
    ),
    PlantedBug(
        name="late-approval-counts",
        says="An approval counts although the run has expired and puts back what it stopped.",
        edits=(
            Edit(
                JOURNAL,
                '    if state.expired:\n        raise IllegalEvent("the time to approve is over")\n',
                "",
            ),
        ),
        tests=("tests/unit/recovery/test_expiry.py",),
    ),
    PlantedBug(
        name="a-forged-line-counts",
        says="What does not carry the bot's signature is read all the same.",
        edits=(Edit("recovery/signing.py", "            raise Unverified(NOT_OURS)", "            pass"),),
        tests=("tests/scenarios/test_unreadable_runs.py",),
    ),
    PlantedBug(
        name="an-old-approval-counts",
        says="An approval of long ago counts again once the lines behind it were taken away.",
        edits=(Edit(ENGINE, "*outdated(state, clock.now_s())", "*()"),),
        tests=("tests/unit/recovery/test_forgotten.py",),
    ),
    PlantedBug(
        name="founded-over-an-old-cluster",
        says="Empty directories are called a new cluster although somebody knows of data that was there.",
        edits=(
            Edit(
                "recovery/diagnosis/without_peers.py",
                "    if known:\n        return _empty_where_data_was",
                "    if False:\n        return _empty_where_data_was",
            ),
        ),
        tests=("tests/unit/recovery/test_past.py",),
    ),
    PlantedBug(
        name="founded-without-a-word",
        says="Nobody vouches for the servers of a founding by typing their names.",
        edits=(Edit("recovery/procedures/found.py", "        held_nothing=everyone,\n", ""),),
        tests=("tests/unit/recovery/test_past.py", "tests/scenarios/test_founding.py"),
    ),
    PlantedBug(
        name="silence-of-the-unasked",
        says="A store or a host that could not be asked counts as one that knows of no data.",
        edits=(
            Edit(
                "recovery/diagnosis/without_peers.py",
                "    if unknown:\n        return OutOfSight(",
                "    if False:\n        return OutOfSight(",
            ),
        ),
        tests=("tests/unit/recovery/test_past.py",),
    ),
    PlantedBug(
        name="late-acts-after-the-end",
        says="A run ends although an older driver, or its own lost act, may still change a host.",
        edits=(
            Edit(
                ENGINE,
                "        await self._bar_older_drivers()\n        while True:",
                "        while True:",
            ),
            Edit(ENGINE, "if not await self._nothing_comes_late(outcome):", "if not outcome:"),
        ),
        tests=("tests/unit/recovery/test_interrupted.py", "tests/sweeps/test_old_driver.py"),
    ),
    PlantedBug(
        name="held-server-runs",
        says="That somebody else started a server which the run holds is not looked at.",
        edits=(
            Edit(
                ENGINE,
                "        seen = await self._world.running(asked) if asked else ()\n",
                "        seen: tuple[Sighting, ...] = ()\n",
            ),
        ),
        tests=("tests/unit/recovery/test_held_servers.py", "tests/sweeps/test_rogue.py"),
    ),
)
