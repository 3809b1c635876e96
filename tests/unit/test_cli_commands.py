"""Commands that go through the client: what they send, what they print."""

import csv
import datetime
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import MemoryVault, event_receipt, failure, run, write
from vault.client import results
from vault.client.errors import InvalidArgument, NotPermitted, Violation
from vault.client.values import Json
from vault.client.words import ConsentState, DenialReason, ErrorReason, Form

RECEIPT = results.WriteReceipt({"email": 2}, True, False, "q1", "r1", 7)


@pytest.fixture
def vault() -> MemoryVault:
    return MemoryVault()


def test_connection_options_reach_the_client_and_nothing_else_does(vault: MemoryVault) -> None:
    """What is not given is left to the environment, which the client reads."""
    vault.answers = {"write_attributes": RECEIPT}
    options = ["--addr", "a.example:1", "--cacert", "ca", "--cert", "c", "--key", "k", "--server-name", "n"]
    run("subject", "write", "4711", "email=a@b", *options, vault=vault)
    run("subject", "write", "4711", "email=a@b", vault=vault)
    assert vault.options == [
        {
            "address": "a.example:1",
            "ca_certificate": "ca",
            "client_certificate": "c",
            "client_key": "k",
            "server_name": "n",
        },
        {},
    ]


def test_write_sends_each_type_as_said(vault: MemoryVault, tmp_path: Path) -> None:
    """Every prefix of `subject write --help`."""
    vault.answers = {"write_attributes": RECEIPT}
    photo = write(tmp_path, "photo", b"\x00\xff")
    note = write(tmp_path, "note", "José")
    values = [
        "email=a@b",
        "contacts:int=-42",
        "balance:decimal=12.50",
        "score:double=0.5",
        "married:bool=true",
        "born:date=1984-05-30",
        "seen:timestamp=2026-01-01T12:00:00+02:00",
        f"photo:bytes=@{photo}",
        f"note=@{note}",
        "at=@@me",
        'holdings:=["a"]',
        "empty=",
        "equation=a=b",
    ]
    assert run("subject", "write", "4711", *values, vault=vault).exit_code == 0
    (_, customer, sent) = vault.calls[0]
    assert customer == "4711"
    assert sent["args"][0] == {
        "email": "a@b",
        "contacts": -42,
        "balance": Decimal("12.50"),
        "score": 0.5,
        "married": True,
        "born": datetime.date(1984, 5, 30),
        "seen": datetime.datetime(2026, 1, 1, 10, tzinfo=datetime.UTC),
        "photo": b"\x00\xff",
        "note": "José",
        "at": "@me",
        "holdings": Json('["a"]'),
        "empty": "",
        "equation": "a=b",
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("secret", "value 1: write name=value"),
        ("x:int=secret", "x: must be an integer"),
        ("x:decimal=1e3", "x: must be a decimal"),
        ("x:bool=secret", "x: must be true or false"),
        ("x:date=secret", "x: must be a date"),
        ("x:timestamp=2026-01-01", "x: must be a moment"),
        ("x:bytes=secret", "x: must be a file"),
        ("x:={secret", "x: must be a JSON document"),
        ("x:colour=secret", "x: unknown type"),
        ("x=@/no/such/file", "x: /no/such/file"),
    ],
)
def test_a_value_that_does_not_fit_is_a_usage_error_without_the_value(
    vault: MemoryVault, value: str, message: str
) -> None:
    """Nothing is sent."""
    result = run("subject", "write", "4711", value, vault=vault)
    assert (result.exit_code, vault.calls) == (2, [])
    assert message in result.stderr
    assert "secret" not in result.stderr


def test_write_passes_versions_clear_and_request_id(vault: MemoryVault) -> None:
    """And shows what the server answered."""
    vault.answers = {"write_attributes": RECEIPT}
    result = run(
        *("subject", "write", "4711", "email=x", "--clear", "phone", "--expect", "email=0"),
        *("--jurisdiction", "EU", "--jurisdiction", "CH", "--request-id", "q1", "--output", "json"),
        vault=vault,
    )
    sent = vault.calls[0][2]
    assert (sent["clear"], sent["expected_versions"]) == (("phone",), {"email": 0})
    assert (sent["jurisdictions"], sent["request_id"]) == (("EU", "CH"), "q1")
    assert json.loads(result.stdout) == {
        "versions": {"email": 2},
        "subject_created": True,
        "replayed": False,
        "request_id": "q1",
        "record_id": "r1",
        "position": 7,
    }


@pytest.mark.parametrize("words", [[], ["email=x", "email=y"], ["email=x", "--expect", "email"]])
def test_a_write_of_nothing_twice_or_on_no_version_is_a_usage_error(
    vault: MemoryVault, words: list[str]
) -> None:
    """Nothing is sent."""
    assert run("subject", "write", "4711", *words, vault=vault).exit_code == 2
    assert vault.calls == []


def disclosure(value: Any = "40000-60000") -> results.Disclosure:
    return results.Disclosure(
        {"income": results.DisclosedAttribute("income", Form.GENERALISE, value, 3)},
        {"iban": results.Denial(DenialReason.NOT_PERMITTED, "no rule")},
        "r1",
        7,
        "abc",
    )


def test_read_shows_forms_values_and_denials(vault: MemoryVault) -> None:
    """A partial answer is an answer: exit code 0."""
    vault.answers = {"read_attributes": disclosure()}
    asked = ("subject", "read", "4711", "income", "iban", "--purpose", "offers", "--max-form", "mask")
    result = run(*asked, vault=vault)
    assert result.exit_code == 0
    assert vault.calls[0][2] == {
        "purpose": "offers",
        "attributes": ("income", "iban"),
        "max_form": "mask",
        "require_all": False,
    }
    for word in ("generalise", "40000-60000", "not-permitted", "r1"):
        assert word in result.stdout
    assert json.loads(run(*asked, "--output", "json", vault=vault).stdout) == {
        "attributes": {"income": {"form": "generalise", "value": "40000-60000", "version": 3}},
        "denied": {"iban": {"reason": "not-permitted", "detail": "no rule"}},
        "record_id": "r1",
        "position": 7,
        "bundle_hash": "abc",
    }


def test_a_stored_value_cannot_steer_the_terminal(vault: MemoryVault) -> None:
    """Escape sequences and markup are shown, not obeyed."""
    vault.answers = {"read_attributes": disclosure("\x1b[2J[red]\u202e\n")}
    result = run("subject", "read", "4711", "income", "--purpose", "offers", vault=vault)
    assert "\\x1b[2J[red]\\u202e\\n" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Decimal("12.50"), "12.50"),
        (datetime.date(1984, 5, 30), "1984-05-30"),
        (datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), "2026-01-01T00:00:00Z"),
        (b"\x00\xff", "AP8="),
        ({"a": [1, None]}, {"a": [1, None]}),
        (True, True),
        (None, None),
    ],
)
def test_values_have_one_form_in_json(vault: MemoryVault, value: Any, shown: Any) -> None:
    """Dates ISO 8601, decimals text, bytes base64, documents as they are."""
    vault.answers = {"read_attributes": disclosure(value)}
    result = run("subject", "read", "4711", "income", "--purpose", "offers", "--output", "json", vault=vault)
    assert json.loads(result.stdout)["attributes"]["income"]["value"] == shown


CONSENT = results.PurposeConsent(
    "offers", False, DenialReason.CONSENT_WITHDRAWN, (), None, 0, True, False, ("contract",)
)


def test_record_sends_the_event_with_moments(vault: MemoryVault) -> None:
    """A date is its first moment in UTC; a duration counts from now."""
    vault.answers = {"record_consent": event_receipt(effective={"offers": CONSENT})}
    result = run(
        *(
            "consent",
            "record",
            "4711",
            "offers",
            "--notice",
            "n",
            "--notice-version",
            "2",
            "--language",
            "en",
        ),
        *("--jurisdiction", "EU", "--channel", "app", "--expires-at", "2027-06-30", "--valid-from", "1h"),
        *("--customer-jurisdiction", "EU", "--output", "json"),
        vault=vault,
    )
    assert result.exit_code == 0, result.output
    (name, customer, sent) = vault.calls[0]
    assert (name, customer, sent["purpose"], sent["state"]) == ("record_consent", "4711", "offers", "given")
    assert sent["expires_at"] == datetime.datetime(2027, 6, 30, tzinfo=datetime.UTC)
    assert sent["valid_from"] < datetime.datetime.now(datetime.UTC)
    assert sent["jurisdictions"] == ("EU",)
    document = json.loads(result.stdout)
    assert document["effective"][0]["reason"] == "consent-withdrawn"
    assert (document["event"], document["seq"]) == ("e1", 1)


def test_withdraw_is_a_call_of_its_own(vault: MemoryVault) -> None:
    """And its table says what is in force now."""
    vault.answers = {"withdraw_consent": event_receipt(effective={"offers": CONSENT})}
    result = run("consent", "withdraw", "4711", "marketing", "--channel", "phone", vault=vault)
    assert vault.calls == [
        (
            "withdraw_consent",
            "4711",
            {"purpose": "marketing", "channel": "phone", "evidence": "", "request_id": None},
        )
    ]
    assert "no: consent-withdrawn" in result.stdout


def test_record_does_not_offer_what_has_a_call_of_its_own(vault: MemoryVault) -> None:
    """Withdrawals and objections."""
    assert run("consent", "record", "1", "offers", "withdrawn", "--channel", "x", vault=vault).exit_code == 2
    assert run("consent", "record", "1", "offers", "objected", "--channel", "x", vault=vault).exit_code == 2


def test_show_gives_what_is_in_force(vault: MemoryVault) -> None:
    """With jurisdictions and restriction."""
    vault.answers = {"get_consent": results.ConsentOverview({"offers": CONSENT}, ("EU",), True, "r1", 7)}
    document = json.loads(run("consent", "show", "4711", "--output", "json", vault=vault).stdout)
    assert (document["jurisdictions"], document["restricted"]) == (["EU"], True)
    assert document["purposes"][0]["objected"] is True
    assert "contract" in run("consent", "show", "4711", vault=vault).stdout


def test_show_events_takes_no_more_than_asked_for(vault: MemoryVault) -> None:
    """The ledger comes in pages without end."""

    def events() -> Any:
        seq = 0
        while True:
            seq += 1
            yield results.ConsentEvent(
                f"e{seq}", seq, "offers", ConsentState.GIVEN, "n", 2, "en", "ff", "EU", {"offers": ("pd:X",)},
                "app", "", None, None, "portal", datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
            )  # fmt: skip

    vault.answers = {"list_consent_events": events()}
    shown = run("consent", "show", "4711", "--events", "--limit", "3", "--output", "json", vault=vault)
    assert [each["seq"] for each in json.loads(shown.stdout)] == [1, 2, 3]
    vault.answers = {"list_consent_events": events()}
    assert "portal" in run("consent", "show", "4711", "--events", "--limit", "1", vault=vault).stdout


def records(count: int) -> Any:
    for position in range(count):
        entry = {
            "id": f"r{position}",
            "time": 1_700_000_000_000_000 + position,
            "caller": "=cmd|' /C calc'!A0",
            "action": "read",
            "purpose": "offers",
            "subject": "s",
            "outcome": "partial",
            "attributes": {
                "iban": {"act": "read.clear", "reason": "not-permitted"},
                "income": {"act": "read.mask"},
            },
        }
        yield results.LogRecord(position, json.dumps(entry).encode())


def test_query_passes_its_filters_and_stops_at_the_limit(vault: MemoryVault) -> None:
    """JSON lines: the exact record with its position."""
    vault.answers = {"query_records": records(10_000)}
    result = run(
        *(
            "audit",
            "query",
            "--caller",
            "engine",
            "--customer",
            "4711",
            "--purpose",
            "offers",
            "--from",
            "2026-01-01",
        ),
        *(
            "--attribute",
            "income",
            "--outcome",
            "denied",
            "--action",
            "read",
            "--newest-first",
            "--limit",
            "2",
        ),
        *("--output", "json"),
        vault=vault,
    )
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["position"], line["id"]) for line in lines] == [(0, "r0"), (1, "r1")]
    assert vault.calls[0][2] == {
        "start_time": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        "end_time": None,
        "caller": "engine",
        "customer_number": "4711",
        "purpose": "offers",
        "attribute": "income",
        "outcome": "denied",
        "action": "read",
        "newest_first": True,
        "page_size": 3,
    }


def test_a_limit_of_zero_gives_all(vault: MemoryVault) -> None:
    """Page after page."""
    vault.answers = {"query_records": records(2_500)}
    result = run("audit", "query", "--limit", "0", "--output", "json", vault=vault)
    assert len(result.stdout.splitlines()) == 2_500


def test_csv_of_the_log_holds_no_formulas(vault: MemoryVault) -> None:
    """A spreadsheet would run them."""
    vault.answers = {"query_records": records(1)}
    result = run("audit", "query", "--output", "csv", vault=vault)
    header, row = list(csv.reader(io.StringIO(result.stdout)))
    found = dict(zip(header, row, strict=True))
    assert found["caller"] == "'=cmd|' /C calc'!A0"
    assert found["attributes"] == "iban!not-permitted income=read.mask"
    assert found["time"] == "2023-11-14T22:13:20.000Z"


def test_the_table_of_the_log_is_for_people(vault: MemoryVault) -> None:
    """One line per record."""
    vault.answers = {"query_records": records(2)}
    assert run("audit", "query", vault=vault).stdout.count("iban!not-permitted") == 2


def test_explain_asks_the_live_policies(vault: MemoryVault) -> None:
    """Without --folder."""
    rule = results.MatchingRule("offers-income", 7, "allow", "read.generalise", "consent", True)
    explanation = results.Explanation(
        "income", Form.GENERALISE, None, "offers-income", (rule,), (), "because"
    )
    vault.answers = {"explain_decision": results.DecisionExplanation((explanation,), "abc", "r1", 7)}
    asked = ("policy", "explain", "engine", "offers", "income", "--basis", "consent", "--max-form", "mask")
    assert "income: generalise\n  because" in run(*asked, vault=vault).stdout
    assert vault.calls[0] == (
        "explain_decision",
        "engine",
        {"purpose": "offers", "attributes": ("income",), "bases": ("consent",), "max_form": "mask"},
    )
    document = json.loads(run(*asked, "--output", "json", vault=vault).stdout)
    assert document["explanations"][0]["rules"] == ["offers-income"]


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (failure(), 1, ["datavault: error: UNREACHABLE: the server cannot be reached", "next: check --addr"]),
        (
            InvalidArgument(
                ErrorReason.INVALID_ARGUMENT, "a field is wrong", violations=[Violation("purpose", "no leaf")]
            ),
            1,
            ["INVALID_ARGUMENT: a field is wrong", "  purpose: no leaf"],
        ),
        (NotPermitted(ErrorReason.NOT_PERMITTED, "no"), 1, ["NOT_PERMITTED: no", "policy explain"]),
        (
            NotPermitted(ErrorReason.CONFIGURATION, "DATAVAULT_ADDR is missing"),
            2,
            ["DATAVAULT_ADDR is missing"],
        ),
    ],
)
def test_client_errors_are_told_with_what_to_do_next(
    vault: MemoryVault, error: Exception, code: int, lines: list[str]
) -> None:
    """On stderr, without a traceback."""
    vault.answers = {"get_consent": error}
    result = run("consent", "show", "4711", vault=vault)
    assert result.exit_code == code
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for line in lines:
        assert line in result.stderr


def test_without_any_connection_the_settings_are_named() -> None:
    """The client itself, with nothing in the environment."""
    result = run("consent", "show", "4711")
    assert result.exit_code == 2
    assert "DATAVAULT_ADDR is missing" in result.stderr
    assert "--addr, --cacert, --cert and --key" in result.stderr
