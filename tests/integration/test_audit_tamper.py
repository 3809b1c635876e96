"""Whatever is changed in the database by hand, verification notices and names it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.audit import ORIGIN, KeySigner, Log, encoded, make_record, vkey_of
from vault.audit.checkpoint import parse_and_verify, sign
from vault.audit.merkle import leaf_hash
from vault.audit.tree import TreeBuilder
from vault.audit.verify import VerifyReport, verify

SIZE = 300
UNSIGNED = 2
LAST = 299


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database file with checkpoints at 5, 257 and 300, and two records that no checkpoint covers yet."""
    folder = tmp_path_factory.mktemp("template")
    log = Log(folder)
    log.grow(5, 252, 43)
    log.append(UNSIGNED)
    log.sql("DELETE FROM outbox")
    log.database.close()
    return log.database.path.read_bytes()


@pytest.fixture
def log(tmp_path: Path, template: bytes) -> Iterator[Log]:
    (tmp_path / "audit.db").write_bytes(template)
    log = Log(tmp_path)
    yield log
    log.database.close()


def report_of(log: Log, **options: object) -> VerifyReport:
    with log.database.read() as connection:
        return verify(connection, log.id, vkey_of(), **options)  # type: ignore[arg-type]


def named(report: VerifyReport) -> tuple[int | None, str]:
    assert not report.ok
    problem = report.first_problem
    assert problem is not None
    return problem.index, problem.what


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def bits(data: bytes, step: int = 1) -> Iterator[bytes]:
    return (flip(data, bit) for bit in range(0, len(data) * 8, step))


def test_untouched_log_verifies(log: Log) -> None:
    """A log that nobody touched is whole: all records, all checkpoints, and what is signed is said."""
    report = report_of(log)
    assert report.problems == []
    assert (report.size, report.checkpoints, report.signed_size) == (SIZE + UNSIGNED, 3, SIZE)


@pytest.mark.parametrize("index", [0, 4, 5, 255, 256, LAST, SIZE, SIZE + 1])
def test_flipped_record_is_named(log: Log, index: int) -> None:
    """A bit flipped anywhere in a record, also an unsigned one, names its index and id, and nothing else."""
    ((entry, record_id),) = log.sql('SELECT entry, record_id FROM log_entry WHERE "index" = ?', index)
    assert isinstance(entry, bytes)
    for bit in range(index % 7, len(entry) * 8, 97):
        log.sql('UPDATE log_entry SET entry = ? WHERE "index" = ?', flip(entry, bit), index)
        report = report_of(log, contents=False)
        assert named(report) == (index, "the record is not the one whose hash was stored")
        assert report.problems[0].record_id == record_id
        assert {problem.index for problem in report.problems} == {index}


def test_every_bit_of_one_record_is_guarded(log: Log) -> None:
    """Every single bit of one record."""
    ((entry,),) = log.sql('SELECT entry FROM log_entry WHERE "index" = ?', LAST)
    assert isinstance(entry, bytes)
    start = parse_and_verify(
        str(log.sql("SELECT note FROM log_checkpoint WHERE size = 257")[0][0]), vkey_of()
    )
    for changed in bits(entry):
        log.sql('UPDATE log_entry SET entry = ? WHERE "index" = ?', changed, LAST)
        assert named(report_of(log, contents=False, from_checkpoint=start))[0] == LAST


@pytest.mark.parametrize("index", [0, 256, LAST, SIZE + 1])
def test_flipped_leaf_hash_is_named(log: Log, index: int) -> None:
    """A changed leaf hash is named by the index of its record."""
    ((leaf,),) = log.sql('SELECT leaf_hash FROM log_entry WHERE "index" = ?', index)
    assert isinstance(leaf, bytes)
    for changed in [*bits(leaf, 37), leaf[:-1], leaf + b"\0", b""]:
        log.sql('UPDATE log_entry SET leaf_hash = ? WHERE "index" = ?', changed, index)
        assert named(report_of(log))[0] == index


@pytest.mark.parametrize("index", [3, 256, LAST])
def test_record_and_leaf_hash_changed_together_are_named(log: Log, index: int) -> None:
    """A record rewritten with its hash no longer fits the tile, and is named."""
    forged = encoded(make_record(index, caller="somebody-else")).entry
    log.sql(
        'UPDATE log_entry SET entry = ?, leaf_hash = ? WHERE "index" = ?', forged, leaf_hash(forged), index
    )
    assert named(report_of(log, contents=False))[0] == index


@pytest.mark.parametrize(("index", "signed"), [(3, 5), (256, 257), (LAST, SIZE)])
def test_record_hash_and_tiles_rewritten_are_found_by_the_signature(
    log: Log, index: int, signed: int
) -> None:
    """Where the whole tree was computed anew, the first checkpoint that covers the change does not fit."""
    forged = encoded(make_record(index, caller="somebody-else")).entry
    log.sql(
        'UPDATE log_entry SET entry = ?, leaf_hash = ? WHERE "index" = ?', forged, leaf_hash(forged), index
    )
    rebuild_tiles(log)
    assert named(report_of(log, contents=False)) == (
        signed - 1,
        f"checkpoint {signed}: the records up to here are not those that were signed",
    )


@pytest.mark.parametrize(("level", "tile"), [(0, 0), (0, 1), (1, 0)])
def test_flipped_tile_is_named(log: Log, level: int, tile: int) -> None:
    """A changed hash tile is named, at the record whose hash it is."""
    ((hashes,),) = log.sql('SELECT hashes FROM log_tile WHERE level = ? AND "index" = ?', level, tile)
    assert isinstance(hashes, bytes)
    for bit in range(0, len(hashes) * 8, 1_501):
        changed = flip(hashes, bit)
        log.sql('UPDATE log_tile SET hashes = ? WHERE level = ? AND "index" = ?', changed, level, tile)
        index, what = named(report_of(log, contents=False))
        assert f"hash tile {level}/{tile}" in what
        assert index == (None if level else tile * 256 + bit // 256)
    for changed in (hashes[:-32], hashes + bytes(32), b""):
        log.sql('UPDATE log_tile SET hashes = ? WHERE level = ? AND "index" = ?', changed, level, tile)
        assert f"hash tile {level}/{tile}" in named(report_of(log, contents=False))[1]


def test_every_bit_of_root_and_note_is_guarded(log: Log) -> None:
    """Any bit of a stored root, or of a checkpoint with its signature, names that checkpoint."""
    ((root, note),) = log.sql("SELECT root, note FROM log_checkpoint WHERE size = ?", SIZE)
    assert isinstance(root, bytes)
    start = parse_and_verify(
        str(log.sql("SELECT note FROM log_checkpoint WHERE size = 257")[0][0]), vkey_of()
    )

    def check() -> None:
        index, what = named(report_of(log, contents=False, from_checkpoint=start))
        assert index == LAST
        assert what.startswith(f"checkpoint {SIZE}: ")

    for changed in bits(root):
        log.sql("UPDATE log_checkpoint SET root = ? WHERE size = ?", changed, SIZE)
        check()
    log.sql("UPDATE log_checkpoint SET root = ? WHERE size = ?", root, SIZE)
    for changed in bits(str(note).encode()):
        log.sql("UPDATE log_checkpoint SET note = CAST(? AS TEXT) WHERE size = ?", changed, SIZE)
        check()


@pytest.mark.parametrize("bit", range(0, 40, 3))
def test_flipped_head_is_noticed(log: Log, bit: int) -> None:
    """Any change of the head's size or integrated count is noticed."""
    for column, value in (("size", SIZE + UNSIGNED), ("integrated", SIZE)):
        log.sql(f"UPDATE log SET {column} = ?", value ^ 1 << bit)
        assert not report_of(log, contents=False).ok
        log.sql(f"UPDATE log SET {column} = ?", value)


def test_changed_origin_is_noticed(log: Log) -> None:
    """Checkpoints belong to their origin."""
    log.sql("UPDATE log SET origin = 'bank.example/datavaulu'")
    assert not report_of(log).ok


CHANGES: list[tuple[str, str, int | None]] = [
    ('DELETE FROM log_entry WHERE "index" = 7', "the record is missing", 7),
    ('UPDATE log_entry SET "index" = 900 WHERE "index" = 7', "the record is missing", 7),
    ("UPDATE log_entry SET record_id = 'x' WHERE \"index\" = 7", "under another id", 7),
    ("UPDATE log_entry SET record_id = CAST(x'ff' AS TEXT) WHERE \"index\" = 7", "under another id", 7),
    ("UPDATE log_entry SET entry = 'text' WHERE \"index\" = 7", "is not the one", 7),
    ('UPDATE audit_index SET time = time + 1 WHERE "index" = 9', "query index", 9),
    ("UPDATE audit_index SET tenant = 'x' WHERE \"index\" = 9", "query index", 9),
    ("UPDATE audit_index SET caller = 'x' WHERE \"index\" = 9", "query index", 9),
    ("UPDATE audit_index SET subject = 'x' WHERE \"index\" = 9", "query index", 9),
    ("UPDATE audit_index SET purpose = 'x' WHERE \"index\" = 9", "query index", 9),
    ("UPDATE audit_index SET action = 'x' WHERE \"index\" = 9", "query index", 9),
    ("UPDATE audit_index SET outcome = 'x' WHERE \"index\" = 9", "query index", 9),
    ("UPDATE audit_index SET caller = CAST(x'ff' AS TEXT) WHERE \"index\" = 9", "query index", 9),
    ('DELETE FROM audit_index WHERE "index" = 9', "query index", 9),
    ('UPDATE audit_index SET "index" = 301 WHERE "index" = 299', "query index", LAST),
    ("INSERT INTO log_tile VALUES (1, 2, 0, x'00')", "hash tiles are stored", None),
    ("DELETE FROM log_tile WHERE level = 1", "hash tile 1/0", None),
    ("UPDATE log_checkpoint SET size = 258 WHERE size = 257", "belongs to another place", 257),
    ("UPDATE log_checkpoint SET size = 303 WHERE size = 300", "signed for 303 records", None),
    ("UPDATE log_checkpoint SET size = -3 WHERE size = 300", "signed for -3 records", None),
]


@pytest.mark.parametrize(("statement", "what", "index"), CHANGES)
def test_change_by_hand_is_named(log: Log, statement: str, what: str, index: int | None) -> None:
    """Each way of changing rows by hand is noticed, with its index."""
    log.sql(statement)
    problem = next(problem for problem in report_of(log).problems if what in problem.what)
    assert problem.index == index


def test_index_rows_swapped_between_records_are_noticed(log: Log) -> None:
    """Two index rows exchanged, all values known, are still those of the wrong records."""
    log.sql('UPDATE audit_index SET time = ? - time WHERE "index" IN (9, 10)', 2 * make_record(0).time + 19)
    assert {problem.index for problem in report_of(log).problems} == {9, 10}


def test_record_that_was_never_canonical_is_named(log: Log) -> None:
    """A record whose bytes are no canonical record is named, though hashed and signed."""
    with log.database.write() as connection:
        item = encoded(make_record(900))
        log.appender.append(connection, [item._replace(entry=item.entry + b" ")])
    log.integrator().run_once()
    assert named(report_of(log)) == (302, "the record is not a canonical audit record")
    assert report_of(log, contents=False).ok


def test_deleted_tail_is_noticed(log: Log) -> None:
    """A log cut back, head included, no longer reaches its last checkpoint."""
    cut_back(log, 280)
    assert any("signed for 300 records" in problem.what for problem in report_of(log).problems)


def test_tail_deleted_and_appended_again_is_noticed(log: Log) -> None:
    """Records deleted and others appended in their place do not fit what was signed."""
    cut_back(log, 280)
    with log.database.write() as connection:
        log.appender.append(connection, [encoded(make_record(n, caller="other")) for n in range(280, 302)])
    assert not report_of(log).ok
    rebuild_tiles(log)
    assert named(report_of(log, contents=False)) == (
        LAST,
        "checkpoint 300: the records up to here are not those that were signed",
    )


def test_log_signed_again_with_another_key_is_noticed(log: Log) -> None:
    """A history rewritten and signed by any other key is not signed by ours."""
    thief = KeySigner(bytes(32))
    tree = TreeBuilder()
    for (leaf,) in log.sql('SELECT leaf_hash FROM log_entry ORDER BY "index" LIMIT 5'):
        tree.add([bytes(leaf)])  # type: ignore[call-overload]
    note = sign(ORIGIN, 5, tree.root(), thief)
    log.sql("UPDATE log_checkpoint SET note = ? WHERE size = 5", note)
    assert named(report_of(log)) == (
        4,
        "checkpoint 5: the checkpoint is not signed by a known key of this log",
    )


def test_kept_checkpoint_is_held_against_the_log(log: Log) -> None:
    """From a kept checkpoint on, only what follows is read; a log that does not extend it is refused."""
    kept = parse_and_verify(str(log.sql("SELECT note FROM log_checkpoint WHERE size = 257")[0][0]), vkey_of())
    report = report_of(log, from_checkpoint=kept)
    assert report.ok
    assert (report.first, report.checkpoints) == (257, 1)
    bad: list[tuple[Callable[[], object], str]] = [
        (lambda: replace(kept, root=bytes(32)), "does not extend"),
        (lambda: replace(kept, size=258), "does not extend"),
        (lambda: replace(kept, size=400), "shorter than the kept checkpoint"),
        (lambda: replace(kept, origin="other.example"), "other.example"),
    ]
    for make, what in bad:
        assert what in report_of(log, from_checkpoint=make()).problems[0].what


def test_progress_is_told_up_to_the_end(log: Log) -> None:
    """Progress ends at the number of records."""
    told: list[tuple[int, int]] = []
    report_of(log, progress=lambda done, size: told.append((done, size)))
    assert told[-1] == (SIZE + UNSIGNED, SIZE + UNSIGNED)


def test_many_problems_are_cut_short(log: Log) -> None:
    """A log that is wrong everywhere gives a short report."""
    log.sql("UPDATE log_entry SET leaf_hash = x'00'")
    assert len(report_of(log).problems) == 20


def rebuild_tiles(log: Log) -> None:
    """What someone would do who hides a change: compute all tiles anew from the entries."""
    tree = TreeBuilder()
    leaves = log.sql('SELECT leaf_hash FROM log_entry ORDER BY "index" LIMIT ?', SIZE)
    tiles = tree.add(bytes(leaf) for (leaf,) in leaves)  # type: ignore[call-overload]
    for (level, index), hashes in tiles.items():
        log.sql('UPDATE log_tile SET hashes = ? WHERE level = ? AND "index" = ?', hashes, level, index)


def cut_back(log: Log, size: int) -> None:
    log.sql('DELETE FROM log_entry WHERE "index" >= ?', size)
    log.sql("UPDATE log SET size = ?", size)
