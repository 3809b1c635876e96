"""Queries find what was appended, at once, page by page, and only the tenant's own."""

from pathlib import Path

import pytest

from tests.support.audit import NOW, ORIGIN, TENANT, Log, encoded, make_record
from vault.audit.logbook import LogPlace
from vault.audit.query import AuditQuery, Page, query
from vault.audit.record import AttributeEntry
from vault.domain.errors import IntegrityError, InvalidArgumentError, NotFoundError

CHANGES: list[dict[str, object]] = [
    {},
    {"caller": "call-centre"},
    {"subject": "aa" * 16},
    {"purpose": "fraud-detection"},
    {"outcome": "denied", "attributes": {"email": AttributeEntry("read.mask", reason="objected")}},
    {"action": "write"},
    {"tenant": "private"},
    {"purpose": ""},
]
FILTERS: list[tuple[dict[str, object], list[int]]] = [
    ({}, [0, 1, 2, 3, 4, 5, 7]),
    ({"caller": "call-centre"}, [1]),
    ({"subject": "aa" * 16}, [2]),
    ({"purpose": "fraud-detection"}, [3]),
    ({"outcome": "denied"}, [4]),
    ({"attribute": "email"}, [4]),
    ({"attribute": "income"}, [0, 1, 2, 3, 5, 7]),
    ({"action": "write"}, [5]),
    ({"tenant": "private"}, [6]),
    ({"since": NOW + 4}, [4, 5, 7]),
    ({"until": NOW + 4}, [0, 1, 2, 3]),
    ({"since": NOW + 2, "until": NOW + 3}, [2]),
    ({"caller": "nobody"}, []),
    ({"caller": "call-centre", "outcome": "denied"}, []),
]


def filled(folder: Path, integrated: int) -> Log:
    """A log of one record per CHANGES, of which the first `integrated` are integrated."""
    log = Log(folder)
    batch = [encoded(make_record(number, **changes)) for number, changes in enumerate(CHANGES)]
    with log.database.write() as connection:
        log.appender.append(connection, batch[:integrated])
    log.integrator().run_once()
    with log.database.write() as connection:
        log.appender.append(connection, batch[integrated:])
    return log


def ask(log: Log, **conditions: object) -> Page:
    with log.database.read() as connection:
        return query(connection, [LogPlace(log.id, ORIGIN)], AuditQuery(**({"tenant": TENANT} | conditions)))  # type: ignore[arg-type]


@pytest.mark.parametrize("integrated", [0, 4, 8])
def test_filters_find_integrated_and_fresh_records_alike(tmp_path: Path, integrated: int) -> None:
    """Each condition finds the same records whether they are integrated or just appended."""
    log = filled(tmp_path, integrated)
    for conditions, expected in FILTERS:
        oldest = [item.index for item in ask(log, newest_first=False, **conditions).records]
        newest = [item.index for item in ask(log, **conditions).records]
        assert (oldest, newest) == (expected, expected[::-1]), conditions


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("integrated", [0, 3, 8])
def test_pages_show_each_record_once(tmp_path: Path, newest_first: bool, integrated: int) -> None:
    """Following the tokens shows every record once, also while more is appended."""
    log = filled(tmp_path, integrated)
    seen: list[int] = []
    token = ""
    for turn in range(8):
        page = ask(log, page_size=2, newest_first=newest_first, page_token=token)
        seen += [item.index for item in page.records]
        token = page.next_page_token
        if not token:
            break
        if turn == 0:
            with log.database.write() as connection:
                log.appender.append(connection, [encoded(make_record(100))])
    expected = [0, 1, 2, 3, 4, 5, 7]
    assert seen == (expected[::-1] if newest_first else [*expected, 8])


def test_long_scan_ends_a_page_early_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page looks at a bounded number of records; its token leads on to what it did not look at."""
    monkeypatch.setattr("vault.audit.query._SCANNED_RECORDS", 3)
    log = filled(tmp_path, 4)
    seen: list[int] = []
    page = ask(log, attribute="email", newest_first=False)
    pages = 1
    while page.next_page_token:
        seen += [item.index for item in page.records]
        page = ask(log, attribute="email", newest_first=False, page_token=page.next_page_token)
        pages += 1
    assert [*seen, *(item.index for item in page.records)] == [4]
    assert pages > 1


def test_token_of_another_query_is_refused(tmp_path: Path) -> None:
    """A token works with the query it came from, and nothing else is a token."""
    log = filled(tmp_path, 4)
    token = ask(log, page_size=1).next_page_token
    assert ask(log, page_size=5, page_token=token).records
    for bad in (token[:-1], token + "A", "!", "é", "A" * 22, token.lower()):
        with pytest.raises(InvalidArgumentError):
            ask(log, page_token=bad)
    with pytest.raises(InvalidArgumentError):
        ask(log, page_token=token, tenant="private")
    with pytest.raises(InvalidArgumentError):
        ask(log, page_token=token, newest_first=False)


@pytest.mark.parametrize(
    "conditions",
    [{"tenant": ""}, {"page_size": 0}, {"page_size": 1_001}, {"since": -1}, {"until": 2**63}],
)
def test_conditions_out_of_bounds_are_refused(tmp_path: Path, conditions: dict[str, object]) -> None:
    """No tenant, or numbers out of bounds, are the caller's error."""
    with pytest.raises(InvalidArgumentError):
        ask(Log(tmp_path), **conditions)


def test_changed_index_never_shows_another_tenants_record(tmp_path: Path) -> None:
    """Where the index was made to give another tenant's record, the record itself decides."""
    log = filled(tmp_path, 8)
    log.sql("UPDATE audit_index SET tenant = 'retail'")
    assert 6 not in [item.index for item in ask(log).records]


def test_changed_record_is_an_integrity_error(tmp_path: Path) -> None:
    """A record that is no longer one is named, with the command that tells more."""
    log = filled(tmp_path, 8)
    log.sql("UPDATE log_entry SET entry = x'7b7d' WHERE \"index\" = 3")
    with pytest.raises(IntegrityError, match=r"log entry 3 .*datavault audit verify"):
        ask(log)


def test_unknown_log_is_not_found(tmp_path: Path) -> None:
    """There is nothing to query in a log that is not there."""
    log = Log(tmp_path)
    with pytest.raises(NotFoundError), log.database.read() as connection:
        query(connection, [LogPlace(9, ORIGIN)], AuditQuery(TENANT))
