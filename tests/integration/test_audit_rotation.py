"""The log gets another key: who knew the old one follows, and nobody else brings in a key of their own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.test_audit_integrator import Killed, Saboteur
from tests.support.audit import (
    NOW,
    ORIGIN,
    SEED,
    KeySigner,
    Log,
    Signers,
    announce,
    encoded,
    make_record,
    quiet,
    vkey_of,
)
from vault.audit import receipt
from vault.audit.announcement import ACTION, announcement_detail
from vault.audit.checkpoint import Checkpoint, parse_and_verify, sign, signed_by, vkey
from vault.audit.integration import Integration
from vault.audit.key_chain import follow
from vault.audit.log_keys import LogKey, add_key, read_keys
from vault.audit.merkle import leaf_hash
from vault.audit.restore import Operator, adopt_restores, finish_adoption
from vault.audit.startup import check_outside, open_log, provider_vkeys
from vault.audit.tree import TreeBuilder
from vault.audit.verify import VerifyReport, verify
from vault.domain.errors import IntegrityError, KeysUnavailableError, StartRefusedError
from vault.testing import FixedRandomness

SECOND, THIRD, THIEF = (bytes([number] * 32) for number in (1, 2, 3))
OLD, NEW, NEWEST, STOLEN = (vkey_of(seed=seed) for seed in (SEED, SECOND, THIRD, THIEF))
PLACE = 8
"""Where the announcement stands in the log of `rotated`."""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path)
    yield log
    log.database.close()


def rotated(log: Log) -> Log:
    """Checkpoints at 5, 11 (which announces) and 14."""
    log.grow(5)
    log.append(3)
    assert log.rotate(SECOND) == PLACE
    log.grow(2, 3)
    return log


def report_of(log: Log, *vkeys: str, **options: object) -> VerifyReport:
    with log.database.read() as connection:
        return verify(connection, log.id, *vkeys, **options)  # type: ignore[arg-type]


def signers_of(log: Log) -> dict[int, list[str]]:
    """By checkpoint, which of the test's keys signed it."""
    names = {OLD: "old", NEW: "new", NEWEST: "newest", STOLEN: "thief"}
    return {
        size: sorted(names[key] for key in signed_by(str(note), *names)[1])  # type: ignore[misc]
        for size, note in log.sql("SELECT size, note FROM log_checkpoint ORDER BY size")
    }


def kept(log: Log, size: int, *vkeys: str) -> Checkpoint:
    ((note,),) = log.sql("SELECT note FROM log_checkpoint WHERE size = ?", size)
    return parse_and_verify(str(note), *vkeys)


# --- what signs -------------------------------------------------------------------------------------------


def test_one_checkpoint_carries_both_signatures(log: Log) -> None:
    """The first checkpoint over the announcement is signed by both keys, the others by one."""
    assert signers_of(rotated(log)) == {5: ["old"], 11: ["new", "old"], 14: ["new"]}


@pytest.mark.parametrize("known", [(OLD,), (NEW,), (OLD, NEW), (NEW, STOLEN)])
def test_any_of_the_keys_verifies_the_whole_log(log: Log, known: tuple[str, ...]) -> None:
    """Who kept the first key, or only has the newest, verifies all of the log with it alone."""
    report = report_of(rotated(log), *known)
    assert report.problems == []
    assert (report.checkpoints, report.signed_size) == (3, 14)


def test_another_key_verifies_nothing(log: Log) -> None:
    """A key that is none of the log's leads to none of them."""
    assert report_of(rotated(log), STOLEN).signed_size == 0


@pytest.mark.parametrize(("size", "signer"), [(5, OLD), (11, OLD), (11, NEW), (14, NEW)])
@pytest.mark.parametrize("known", [OLD, NEW])
def test_checkpoint_kept_at_any_time_is_gone_on_from(log: Log, size: int, signer: str, known: str) -> None:
    """From a checkpoint of before, at or after the rotation, with either key."""
    start = kept(rotated(log), size, signer)
    report = report_of(log, known, from_checkpoint=start)
    assert report.problems == []
    assert (report.first, report.signed_size) == (size, 14)


def test_rotations_between_two_checkpoints(log: Log) -> None:
    """Keys that were announced and replaced before any checkpoint are vouched for by the same one."""
    log.grow(2)
    log.rotate(SECOND)
    log.rotate(THIRD)
    log.grow(1, 1)
    assert signers_of(log) == {2: ["old"], 5: ["new", "newest", "old"], 6: ["newest"]}
    for known in (OLD, NEW, NEWEST):
        assert report_of(log, known).problems == []


def test_rotation_after_rotation(log: Log) -> None:
    """Each key leads to the next; the keys are told oldest first."""
    rotated(log)
    log.rotate(THIRD)
    log.grow(1)
    assert signers_of(log)[16] == ["new", "newest"]
    with log.database.read() as connection:
        for known in (OLD, NEW, NEWEST):
            assert follow(connection, log.id, ORIGIN, [known]).vkeys == (OLD, NEW, NEWEST)


def test_announcement_before_its_checkpoint_changes_nothing_yet(log: Log) -> None:
    """Until a checkpoint covers it, the old key alone counts, and the log verifies."""
    log.grow(3)
    log.rotate(SECOND)
    assert report_of(log, OLD).problems == []
    with log.database.read() as connection:
        assert follow(connection, log.id, ORIGIN, [OLD]).vkeys == (OLD,)


def test_version_made_by_hand_signs_nothing(log: Log) -> None:
    """A new version at the provider that nothing announced does not become the log's key."""
    log.grow(1)
    log.signers.rotate(SECOND)
    log.grow(1)
    assert open_log(log.database, ORIGIN, log.signers, log.clock).log == log.id
    log.grow(1)
    assert signers_of(log) == {1: ["old"], 2: ["old"], 3: ["old"]}


def test_integrator_killed_at_every_step_of_a_rotation_goes_on(log: Log) -> None:
    """Ended at any step between announcement and checkpoint, the next pass signs with both keys."""
    kill_at, finished, seed = 0, False, 10
    log.grow(3)
    while not finished:
        log.append(260)
        place = log.rotate(bytes([seed] * 32))
        seed += 1
        saboteur = Saboteur(log, kill_at)
        try:
            Integration(saboteur, saboteur, log.clock, saboteur).run_once()
            finished = True
        except Killed:
            kill_at += 1
        log.grow(1)
        assert report_of(log, OLD, contents=False).problems == []
        ((note,),) = log.sql("SELECT note FROM log_checkpoint WHERE size > ? ORDER BY size LIMIT 1", place)
        assert str(note).count("\n— ") == 2
    assert kill_at > 15


def test_key_that_does_not_answer_delays_the_checkpoint(log: Log) -> None:
    """Where one of the two keys cannot sign there is no checkpoint, and no record is lost."""
    log.grow(1)
    log.rotate(SECOND)
    log.signers.keys[0].fail = KeysUnavailableError("sealed")
    with pytest.raises(KeysUnavailableError):
        log.integrator().run_once()
    assert log.sql("SELECT max(size) FROM log_checkpoint") == [(1,)]
    log.signers.fail = None
    log.grow(1)
    assert report_of(log, OLD).problems == []


def test_receipts_go_on_across_a_rotation(log: Log) -> None:
    """A record's receipt is under the first checkpoint that covers it, whichever keys signed that."""
    rotated(log)
    with log.database.read() as connection:
        for index, known in ((2, OLD), (PLACE, OLD), (PLACE, NEW), (12, NEW)):
            assert receipt.verify(receipt.receipt(connection, log.id, index), known).index == index
        with pytest.raises(IntegrityError):
            receipt.verify(receipt.receipt(connection, log.id, 12), OLD)


# --- starting ---------------------------------------------------------------------------------------------


def start(log: Log) -> None:
    opened = open_log(log.database, ORIGIN, log.signers, log.clock)
    with log.database.read() as connection:
        check_outside(connection, opened, log.outside, *provider_vkeys(opened, log.signers))


def test_service_starts_at_every_moment_of_a_rotation(log: Log) -> None:
    """Before the announcement, before and after its checkpoint, and later."""
    for step in (
        lambda: log.grow(2),
        lambda: log.rotate(SECOND),
        lambda: log.grow(1),
        lambda: log.grow(1),
    ):
        step()
        start(log)


def test_log_of_an_earlier_release_pins_the_key_that_signed_last(log: Log) -> None:
    """Versions made by hand since then do not matter; those who verify know the one that signed."""
    log.grow(2)
    log.sql("DELETE FROM log_key")
    log.signers.rotate(SECOND)
    start(log)
    with log.database.read() as connection:
        (key,) = read_keys(connection, log.id)
    assert (key.number, key.version, key.announced) == (1, 1, -1)
    log.grow(1)
    assert report_of(log, OLD).problems == []


def test_log_of_an_earlier_release_without_checkpoints_pins_the_newest_key(log: Log) -> None:
    """Nobody has seen a signature yet."""
    log.sql("DELETE FROM log_key")
    log.signers.rotate(SECOND)
    start(log)
    log.grow(1)
    assert signers_of(log) == {1: ["new"]}


def test_log_of_an_earlier_release_without_its_key_is_not_served(log: Log) -> None:
    """No version at the provider signed the last checkpoint: another key would begin a history of its own."""
    log.grow(2)
    log.sql("DELETE FROM log_key")
    with pytest.raises(StartRefusedError, match="no version of the log key signed the last checkpoint"):
        open_log(log.database, ORIGIN, Signers(KeySigner(SECOND)), log.clock)
    assert log.sql("SELECT count(*) FROM log_key") == [(0,)]


def test_pinned_key_that_is_another_one_by_now_refuses_the_start(log: Log) -> None:
    """A provider that was set up anew has a version of that number, and it is not the log's key."""
    with pytest.raises(StartRefusedError, match="not the log key of this database"):
        open_log(log.database, ORIGIN, Signers(KeySigner(SECOND)), log.clock)


def test_key_at_another_provider_refuses_the_start(log: Log) -> None:
    """The message says which provider, and the command that moves keys."""
    log.sql("UPDATE log_key SET provider = 'transit'")
    with pytest.raises(StartRefusedError, match=r"DATAVAULT_KEYS=transit.*datavault keys migrate"):
        open_log(log.database, ORIGIN, log.signers, log.clock)


def test_restore_to_before_a_rotation_is_adopted(log: Log) -> None:
    """The lost checkpoint was signed by a key that the backup has not heard of: the provider has it."""
    log.grow(5)
    backup = log.database.path.read_bytes()
    wal = log.database.path.with_name("audit.db-wal").read_bytes()
    log.rotate(SECOND)
    log.grow(2, 2)
    log.database.close()
    log.database.path.write_bytes(backup)
    log.database.path.with_name("audit.db-wal").write_bytes(wal)
    log.database.path.with_name("audit.db-shm").unlink(missing_ok=True)
    log.database = type(log.database)(log.database.path)
    with pytest.raises(StartRefusedError, match="adopt-restore"):
        start(log)
    with quiet():
        randomness = FixedRandomness()
    operator = Operator("retail", "operator", "local:root")
    (adoption,) = adopt_restores(
        log.database, {ORIGIN: operator}, log.outside, log.signers, log.clock, randomness
    )
    assert (adoption.lost_size, adoption.restored_size) == (10, 5)
    with log.database.write() as connection:
        finish_adoption(connection, adoption.log.log)
        (key,) = read_keys(connection, adoption.log.log)
    assert (key.number, key.version, key.announced) == (1, 2, -1)
    Integration(log.database, log.signers, log.clock, log.outside).run_once()
    with log.database.read() as connection:
        successor = vkey_of(f"{ORIGIN}/r2", SECOND)
        assert verify(connection, adoption.log.log, successor).problems == []


def test_restore_past_a_change_of_provider_is_adopted_with_its_key(log: Log) -> None:
    """A lost log that went on under a key which this provider never had: the operator names that key."""
    log.grow(2)
    elsewhere = KeySigner(THIRD)
    log.outside.put(f"{ORIGIN}/checkpoints/{9:020d}", sign(ORIGIN, 9, bytes(32), elsewhere).encode())
    with quiet():
        randomness = FixedRandomness()
    families = {ORIGIN: Operator("retail", "operator", "local:root")}
    arguments = (log.database, families, log.outside, log.signers, log.clock, randomness)
    with pytest.raises(IntegrityError, match="cannot be trusted"):
        adopt_restores(*arguments)
    assert [each.lost_size for each in adopt_restores(*arguments, (NEWEST,))] == [9]


# --- somebody with the database ---------------------------------------------------------------------------


def announce_falsely(log: Log, old: KeySigner, new: KeySigner) -> int:
    """What somebody with the database can do: append a record that announces a key."""
    detail = announcement_detail(ORIGIN, old, new)
    with log.database.write() as connection:
        place = log.appender.head(connection)
        record = make_record(place, action=ACTION, outcome="authorised", attributes={}, detail=detail)
        log.appender.append(connection, [encoded(record)])
    return place


def insert_key(log: Log, key: LogKey) -> None:
    with log.database.write() as connection:
        add_key(connection, log.id, key, NOW)


def add_signature(log: Log, size: int, thief: KeySigner) -> None:
    """Anybody can add a line of their own to a note that others signed."""
    ((root, note),) = log.sql("SELECT root, note FROM log_checkpoint WHERE size = ?", size)
    line = sign(ORIGIN, size, bytes(root), thief).split("\n\n")[1]  # type: ignore[call-overload]
    log.sql("UPDATE log_checkpoint SET note = ? WHERE size = ?", f"{note}{line}", size)


def test_announcement_put_in_by_hand_brings_no_key(log: Log) -> None:
    """The service signs a tree that holds a false announcement, the thief adds a signature and a row: whoever
    knows the log's key still knows no other, and the record is named."""
    thief = KeySigner(THIEF)
    log.grow(3)
    forged = announcement_detail(ORIGIN, thief, thief) | {"previous": OLD}
    with log.database.write() as connection:
        record = make_record(3, action=ACTION, outcome="authorised", attributes={}, detail=forged)
        log.appender.append(connection, [encoded(record)])
    log.grow(2)
    problem = report_of(log, OLD).first_problem
    assert problem is not None
    assert (problem.index, problem.what) == (3, "the record announces a log key that is not the log's")
    add_signature(log, 6, thief)
    insert_key(log, LogKey(2, "local", 2, thief.public_key(), 3))
    with log.database.read() as connection:
        chain = follow(connection, log.id, ORIGIN, [OLD])
    assert chain.known == {OLD}
    assert [(fault.index, "not signed by both" in fault.what) for fault in chain.faults] == [(3, True)]
    assert not report_of(log, OLD).ok


def note_of(log: Log, size: int) -> object:
    return log.sql("SELECT note FROM log_checkpoint WHERE size = ?", size)[0][0]


@pytest.mark.parametrize(
    ("version", "seed", "place", "what"),
    [
        (2, SECOND, 3, "announces no log key"),
        (2, SECOND, 4, "announces no log key"),
        (2, SECOND, 2, "announces no log key"),
        (2, SECOND, -1, "not a canonical audit record"),
        (1, THIEF, 2, "announces no log key"),
    ],
)
def test_row_put_in_by_hand_stops_the_signing(
    log: Log, version: int, seed: bytes, place: int, what: str
) -> None:
    """A key that no record announces, or that is not the provider's, signs nothing, and nothing is signed."""
    log.grow(3)
    log.signers.rotate(SECOND)
    insert_key(log, LogKey(2, "local", version, KeySigner(seed).public_key(), place))
    log.append(2)
    with pytest.raises(IntegrityError, match=what):
        log.integrator().run_once()
    assert log.sql("SELECT max(size) FROM log_checkpoint") == [(3,)]
    assert not report_of(log, OLD).ok


def test_pinned_row_changed_by_hand_stops_the_signing(log: Log) -> None:
    """Another public key, or another version, than the provider's signs nothing."""
    log.grow(3)
    log.signers.rotate(SECOND)
    for change in ("public_key = x'00'", "version = 2"):
        log.append(1)
        log.sql(f"UPDATE log_key SET {change}")
        with pytest.raises(IntegrityError, match="not the key that the log has pinned"):
            log.integrator().run_once()


def test_own_chain_before_the_log_s_key_is_not_believed(log: Log) -> None:
    """A false first key that announces the true one, in a record that the true key's tree holds."""
    thief = KeySigner(THIEF)
    log.grow(2)
    place = announce_falsely(log, thief, thief_s_partner(log))
    log.grow(1)
    add_signature(log, 4, thief)
    log.sql("UPDATE log_key SET public_key = ?", thief.public_key())
    insert_key(log, LogKey(2, "local", 1, KeySigner().public_key(), place))
    with log.database.read() as connection:
        assert follow(connection, log.id, ORIGIN, [OLD]).known == {OLD}
    assert not report_of(log, OLD).ok


def thief_s_partner(log: Log) -> KeySigner:
    """Signs as the thief and passes for the log's key: that is all that can be had without the key."""

    class Mask(KeySigner):
        def public_key(self) -> bytes:
            return log.signers.keys[0].public_key()

    return Mask(THIEF)


def strip(note: str, line: int) -> str:
    lines = note.split("\n")
    del lines[4 + line]
    return "\n".join(lines)


CHANGES: list[tuple[str, Callable[[Log], object]]] = [
    ("old signature taken off", lambda log: set_note(log, 11, strip(str(note_of(log, 11)), 0))),
    ("new signature taken off", lambda log: set_note(log, 11, strip(str(note_of(log, 11)), 1))),
    ("later signed by the old key", lambda log: set_note(log, 14, signed_again(log, 14, KeySigner()))),
    ("both signed by the thief", lambda log: set_note(log, 11, signed_again(log, 11, KeySigner(THIEF)))),
    ("both checkpoint gone", lambda log: log.sql("DELETE FROM log_checkpoint WHERE size = 11")),
    ("row gone", lambda log: log.sql("DELETE FROM log_key WHERE number = 2")),
    ("all rows gone", lambda log: log.sql("DELETE FROM log_key")),
    ("row elsewhere", lambda log: log.sql("UPDATE log_key SET announced = 7 WHERE number = 2")),
    ("row later", lambda log: log.sql("UPDATE log_key SET announced = 12 WHERE number = 2")),
    ("row beyond", lambda log: log.sql("UPDATE log_key SET announced = 99 WHERE number = 2")),
    ("first row changed", lambda log: set_key(log, 1, KeySigner(THIEF))),
    ("second row changed", lambda log: set_key(log, 2, KeySigner(THIEF))),
    (
        "rows exchanged",
        lambda log: log.sql("UPDATE log_key SET number = 3 - number + 10 * (number = 1)"),
    ),
]


def set_note(log: Log, size: int, note: str) -> None:
    log.sql("UPDATE log_checkpoint SET note = ? WHERE size = ?", note, size)


def set_key(log: Log, number: int, key: KeySigner) -> None:
    log.sql("UPDATE log_key SET public_key = ? WHERE number = ?", key.public_key(), number)


def signed_again(log: Log, size: int, *keys: KeySigner) -> str:
    ((root,),) = log.sql("SELECT root FROM log_checkpoint WHERE size = ?", size)
    return sign(ORIGIN, size, bytes(root), *keys)  # type: ignore[call-overload]


@pytest.mark.parametrize(("what", "change"), CHANGES, ids=[what for what, _ in CHANGES])
@pytest.mark.parametrize("known", [(OLD,), (NEW,), (OLD, NEW)], ids=["old", "new", "both"])
def test_change_by_hand_is_noticed(
    log: Log, what: str, change: Callable[[Log], object], known: tuple[str, ...]
) -> None:
    """Whatever is changed of a rotation, verification notices with either key, and with both."""
    rotated(log)
    change(log)
    assert not report_of(log, *known).ok


def known_from(log: Log, *vkeys: str) -> frozenset[str]:
    with log.database.read() as connection:
        return follow(connection, log.id, ORIGIN, vkeys).known


@pytest.mark.parametrize("line", [0, 1], ids=["old", "new"])
def test_announcement_needs_a_checkpoint_by_both(log: Log, line: int) -> None:
    """A true announcement under a checkpoint that one of the two keys did not sign leads nowhere."""
    rotated(log)
    assert known_from(log, OLD) == {OLD, NEW}
    set_note(log, 11, strip(str(note_of(log, 11)), line))
    assert known_from(log, OLD) == {OLD}
    assert known_from(log, NEW) == {NEW}


def test_announcement_must_be_in_the_tree(log: Log) -> None:
    """A true announcement that stands where the signed tree has another record leads nowhere, also to whoever
    goes on from a later checkpoint and does not read it again."""
    log.grow(5)
    log.append(3)
    log.grow(2)
    new = KeySigner(SECOND)
    detail = announcement_detail(ORIGIN, log.signers.keys[0], new)
    entry = encoded(
        make_record(PLACE, action=ACTION, outcome="authorised", attributes={}, detail=detail)
    ).entry
    log.sql('UPDATE log_entry SET entry = ? WHERE "index" = ?', entry, PLACE)
    set_note(log, 10, signed_again(log, 10, log.signers.keys[0], new))
    insert_key(log, LogKey(2, "local", 2, new.public_key(), PLACE))
    assert known_from(log, OLD) == {OLD}
    assert not report_of(log, OLD, from_checkpoint=kept(log, 10, OLD)).ok


def test_key_is_announced_once(log: Log) -> None:
    """A key that the log had before is not taken again, though the newest key announces it: who found the
    old one could otherwise bring it back."""
    rotated(log)
    log.signers.keys.append(KeySigner(SEED))
    with log.database.write() as connection:
        announce(connection, log.id, log.signers, 3)
    log.grow(1, 1)
    problem = next(problem for problem in report_of(log, OLD).problems if "announced again" in problem.what)
    assert problem.index == 14


def named(report: VerifyReport) -> int | None:
    assert report.first_problem is not None
    return report.first_problem.index


def test_every_byte_of_the_announcement_is_guarded(log: Log) -> None:
    """A changed announcement is named at its place, whichever key one knows."""
    rotated(log)
    ((entry,),) = log.sql('SELECT entry FROM log_entry WHERE "index" = ?', PLACE)
    data = bytes(entry)  # type: ignore[call-overload]
    for place in range(0, len(data), 23):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        log.sql('UPDATE log_entry SET entry = ? WHERE "index" = ?', changed, PLACE)
        assert named(report_of(log, OLD)) == PLACE
        assert PLACE in {problem.index for problem in report_of(log, NEW).problems}


def test_rewritten_announcement_needs_both_keys(log: Log) -> None:
    """A log rewritten from the announcement on, all hashes anew, in favour of a thief's key: the old key
    signed neither that announcement nor that tree."""
    rotated(log)
    thief, masked = KeySigner(THIEF), announcement_detail(ORIGIN, thief_s_partner(log), KeySigner(THIEF))
    forged = encoded(
        make_record(PLACE, action=ACTION, outcome="authorised", attributes={}, detail=masked)
    ).entry
    log.sql(
        'UPDATE log_entry SET entry = ?, leaf_hash = ? WHERE "index" = ?', forged, leaf_hash(forged), PLACE
    )
    set_key(log, 2, thief)
    leaves = [bytes(leaf) for (leaf,) in log.sql('SELECT leaf_hash FROM log_entry ORDER BY "index"')]  # type: ignore[call-overload]
    for (level, index), hashes in TreeBuilder().add(leaves).items():
        log.sql('UPDATE log_tile SET hashes = ? WHERE level = ? AND "index" = ?', hashes, level, index)
    for size in (11, 14):
        tree = TreeBuilder()
        tree.add(leaves[:size])
        note = sign(ORIGIN, size, tree.root(), thief)
        log.sql("UPDATE log_checkpoint SET root = ?, note = ? WHERE size = ?", tree.root(), note, size)
    report = report_of(log, OLD, contents=False)
    assert (report.signed_size, report.ok) == (5, False)
    with log.database.read() as connection:
        assert follow(connection, log.id, ORIGIN, [OLD]).known == {OLD}


def test_keys_of_another_origin_do_not_count(log: Log) -> None:
    """The same public key under another name is another key."""
    rotated(log)
    other = vkey("other.example/log", KeySigner(SECOND).public_key())
    assert report_of(log, other).signed_size == 0
