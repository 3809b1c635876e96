"""Somebody changes the database beside the service: what was moved, swapped or damaged never opens.

Each test reads the attribute that was tampered with beside one that was not: the first answers `integrity`,
the second its value, and nobody else notices.
"""

import zlib
from typing import Any

import grpc
import pytest

from tests.support import wire
from tests.support.service import RunningService
from vault.v1 import data_service_pb2 as data
from vault.v1 import values_pb2

INTEGRITY = "integrity"
NAMES = ["given-name", "family-name", "email", "iban"]
"""Two attributes of the class identity, one of contact, one of financial."""


class Customer:
    """One customer's rows, looked at and changed from outside."""

    def __init__(self, service: RunningService, name: str) -> None:
        self.service = service
        self.number = service.customer()
        iban = f"PT50{zlib.crc32(self.number.encode()):021}"
        self.values = {
            "given-name": name,
            "family-name": f"{name}-family",
            "email": f"{name.lower()}@b.example",
            "iban": iban,
        }
        before = {row[0] for row in service.sql("SELECT subject FROM subject")}
        service.client("importer").write_attributes(self.number, self.values, jurisdictions=["EU"])
        after = {row[0] for row in service.sql("SELECT subject FROM subject")}
        (self.subject,) = after - before

    def read(self) -> dict[str, Any]:
        """By attribute: the value, or the reason of the denial."""
        answer = self.service.client("privacy-office").read_attributes(
            self.number, purpose="subject-rights", attributes=NAMES
        )
        given = {name: each.value for name, each in answer.attributes.items()}
        return given | {name: str(each.reason) for name, each in answer.denied.items()}

    def unharmed(self, *damaged: str) -> dict[str, Any]:
        """What a read should say when only `damaged` do not open."""
        return {name: INTEGRITY if name in damaged else value for name, value in self.values.items()}

    def ciphertext(self, attribute: str) -> bytes:
        ((found,),) = self.service.sql(
            "SELECT ciphertext FROM attribute_value WHERE subject = ? AND attribute = ?",
            self.subject,
            attribute,
        )
        return bytes(found)

    def set_ciphertext(self, attribute: str, ciphertext: bytes) -> None:
        self.service.sql(
            "UPDATE attribute_value SET ciphertext = ? WHERE subject = ? AND attribute = ?",
            ciphertext,
            self.subject,
            attribute,
        )

    def key(self, key_class: str) -> tuple[bytes, bytes]:
        """The DEK's id and wrapped bytes."""
        ((dek_id, wrapped),) = self.service.sql(
            "SELECT dek_id, wrapped FROM subject_key WHERE subject = ? AND key_class = ?",
            self.subject,
            key_class,
        )
        return bytes(dek_id), bytes(wrapped)

    def set_wrapped(self, key_class: str, wrapped: bytes) -> None:
        self.service.sql(
            "UPDATE subject_key SET wrapped = ? WHERE subject = ? AND key_class = ?",
            wrapped,
            self.subject,
            key_class,
        )


@pytest.fixture
def ana(service: RunningService) -> Customer:
    return Customer(service, "Ana")


@pytest.fixture
def rui(service: RunningService) -> Customer:
    return Customer(service, "Rui")


def test_untouched_everything_opens(ana: Customer) -> None:
    """What the other tests expect of the attributes that were left alone."""
    assert ana.read() == ana.values


def test_a_ciphertext_moved_to_another_field_does_not_open(ana: Customer) -> None:
    """Same customer, same key, another attribute: the associated data do not fit."""
    ana.set_ciphertext("given-name", ana.ciphertext("family-name"))
    assert ana.read() == ana.unharmed("given-name")


def test_a_ciphertext_moved_to_a_field_of_another_class_does_not_open(ana: Customer) -> None:
    """The key it names is one of the customer's, and of another class."""
    ana.set_ciphertext("email", ana.ciphertext("given-name"))
    assert ana.read() == ana.unharmed("email")


def test_a_ciphertext_of_another_customer_does_not_open(ana: Customer, rui: Customer) -> None:
    """The key it names is none of this customer's."""
    ana.set_ciphertext("email", rui.ciphertext("email"))
    assert ana.read() == ana.unharmed("email")
    assert rui.read() == rui.values


def test_a_ciphertext_moved_with_its_key_does_not_open(ana: Customer, rui: Customer) -> None:
    """Even with the other customer's wrapped key beside it: the key is bound to its subject."""
    dek_id, wrapped = rui.key("contact")
    ana.set_ciphertext("email", rui.ciphertext("email"))
    ana.service.sql(
        "INSERT INTO subject_key (tenant, subject, dek_id, key_class, wrapped, created_at) "
        "VALUES ('retail', ?, ?, 'contact', ?, 1)",
        ana.subject,
        dek_id,
        wrapped,
    )
    assert ana.read() == ana.unharmed("email")


def test_all_rows_of_another_customer_do_not_open(ana: Customer, rui: Customer) -> None:
    """Keys and values exchanged as a whole: nothing of the one is read under the number of the other."""
    for attribute in NAMES:
        ana.set_ciphertext(attribute, rui.ciphertext(attribute))
    for key_class in ("identity", "contact", "financial"):
        dek_id, wrapped = rui.key(key_class)
        ana.service.sql(
            "UPDATE subject_key SET wrapped = ?, dek_id = ? WHERE subject = ? AND key_class = ?",
            wrapped,
            dek_id,
            ana.subject,
            key_class,
        )
    assert ana.read() == ana.unharmed(*NAMES)


def test_a_wrapped_key_of_another_customer_does_not_unwrap(ana: Customer, rui: Customer) -> None:
    """The context it was wrapped under names the subject."""
    ana.set_wrapped("contact", rui.key("contact")[1])
    assert ana.read() == ana.unharmed("email")


def test_a_wrapped_key_of_another_class_does_not_unwrap(ana: Customer) -> None:
    """The context it was wrapped under names the class, and each class has a key of its own."""
    ana.set_wrapped("contact", ana.key("identity")[1])
    assert ana.read() == ana.unharmed("email")


def test_a_key_declared_to_be_of_another_class_does_not_unwrap(ana: Customer) -> None:
    """Changing the class column does not make a key of another class."""
    ana.service.sql(
        "UPDATE subject_key SET key_class = 'special' WHERE subject = ? AND key_class = 'contact'",
        ana.subject,
    )
    assert ana.read() == ana.unharmed("email")


@pytest.mark.parametrize("place", [0, 8, 20, 40, -1])
def test_a_corrupted_wrapped_key_does_not_unwrap(ana: Customer, place: int) -> None:
    """One byte changed anywhere in the wrapped DEK."""
    wrapped = bytearray(ana.key("contact")[1])
    wrapped[place] = ord("A") if wrapped[place] != ord("A") else ord("B")
    ana.set_wrapped("contact", bytes(wrapped))
    assert ana.read() == ana.unharmed("email")


def test_a_key_under_another_id_is_not_used(ana: Customer) -> None:
    """The id commits to the key: a row whose id was changed opens nothing, not even what names that id."""
    dek_id, _ = ana.key("contact")
    changed = bytes([dek_id[0] ^ 1]) + dek_id[1:]
    ana.service.sql(
        "UPDATE subject_key SET dek_id = ? WHERE subject = ? AND key_class = 'contact'", changed, ana.subject
    )
    ciphertext = ana.ciphertext("email")
    ana.set_ciphertext("email", ciphertext[:4] + changed + ciphertext[36:])
    assert ana.read() == ana.unharmed("email")


def test_a_deleted_key_leaves_values_that_do_not_open(ana: Customer) -> None:
    """Without the DEK the ciphertext is noise: that is what erasure rests on."""
    ana.service.sql("DELETE FROM subject_key WHERE subject = ? AND key_class = 'contact'", ana.subject)
    assert ana.read() == ana.unharmed("email")


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(0, id="magic"),
        pytest.param(2, id="format"),
        pytest.param(3, id="algorithm"),
        pytest.param(4, id="key id"),
        pytest.param(36, id="nonce"),
        pytest.param(48, id="ciphertext"),
        pytest.param(-1, id="tag"),
    ],
)
def test_a_flipped_bit_does_not_open(ana: Customer, place: int) -> None:
    """In every part of the envelope."""
    ciphertext = bytearray(ana.ciphertext("email"))
    ciphertext[place] ^= 1
    ana.set_ciphertext("email", bytes(ciphertext))
    assert ana.read() == ana.unharmed("email")


@pytest.mark.parametrize("size", [0, 1, 47, 63])
def test_a_truncated_ciphertext_does_not_open(ana: Customer, size: int) -> None:
    """However little is left."""
    ana.set_ciphertext("email", ana.ciphertext("email")[:size])
    assert ana.read() == ana.unharmed("email")


@pytest.mark.parametrize("column", ["version", "type_version"])
def test_a_row_that_says_another_version_does_not_open(ana: Customer, column: str) -> None:
    """Versions are part of what is authenticated; another type version is not even tried."""
    ana.service.sql(
        f"UPDATE attribute_value SET {column} = {column} + 1 WHERE subject = ? AND attribute = 'email'",
        ana.subject,
    )
    assert ana.read() == ana.unharmed("email") | ({"email": "not-set"} if column == "type_version" else {})


def test_an_old_ciphertext_under_the_new_version_does_not_open(ana: Customer) -> None:
    """Putting the old bytes back into the current row is noticed."""
    old = ana.ciphertext("email")
    ana.service.client("importer").write_attributes(ana.number, {"email": "new@b.example"})
    ana.set_ciphertext("email", old)
    assert ana.read() == ana.unharmed("email")


def test_a_number_that_leads_to_another_customer_answers_nothing(ana: Customer, rui: Customer) -> None:
    """Two lookup rows exchanged: neither number shows the other's data, for each subject holds its number."""
    lookup = "UPDATE subject_lookup SET subject = ? WHERE subject = ? AND tenant = 'retail'"
    aside = bytes(16)
    for to, found in ((aside, ana.subject), (ana.subject, rui.subject), (rui.subject, aside)):
        ana.service.sql(lookup, to, found)
    for each in (ana, rui):
        request = wire.read_request(each.number, "subject-rights", NAMES)
        stub = wire.data_stub(each.service.channel("privacy-office"))
        failure = wire.refused(lambda: stub.ReadAttributes(request, timeout=20))  # noqa: B023 - called at once
        assert (failure.code, failure.reason) == (grpc.StatusCode.DATA_LOSS, "INTEGRITY")


def test_a_corrupted_value_is_logged_without_the_value(service: RunningService, ana: Customer) -> None:
    """Operators see the event and the attribute; nobody sees what was in it."""
    ana.set_ciphertext("iban", ana.ciphertext("iban")[:-1])
    ana.read()
    lines = [line for line in service.log_lines() if "integrity_failure" in line]
    assert any('"attribute": "iban"' in line for line in lines)
    assert all(ana.values["iban"] not in line and ana.number not in line for line in service.log_lines())


def test_one_corrupted_value_in_a_group_is_that_customers_alone(service: RunningService) -> None:
    """In a batch of five, the third answers `integrity` for one attribute and all else is as it was."""
    group = [Customer(service, name) for name in ("Ana", "Rui", "Eva", "Gil", "Ivo")]
    group[2].set_ciphertext("email", group[2].ciphertext("email")[:-1] + b"\x00")
    stub = wire.data_stub(service.channel("privacy-office"))
    asked = data.BatchReadAttributesRequest(
        customer_numbers=[each.number for each in group],
        purpose="subject-rights",
        attributes=["given-name", "email"],
    )
    results = [
        result
        for response in stub.BatchReadAttributes(iter([asked]), timeout=30)
        for result in response.results
    ]
    for each, result in zip(group, results, strict=True):
        name, email = result.answer.attributes
        assert name.value.string_value == each.values["given-name"]
        if each is group[2]:
            assert email.denial.reason == values_pb2.DENIAL_REASON_INTEGRITY
        else:
            assert email.value.string_value == each.values["email"]


def test_a_denial_for_integrity_is_on_record(ana: Customer) -> None:
    """The record says what was denied and why."""
    ana.set_ciphertext("email", b"")
    answer = ana.service.client("privacy-office").read_attributes(
        ana.number, purpose="subject-rights", attributes=["email", "iban"]
    )
    record = ana.service.records()[answer.position]
    assert record["attributes"]["email"]["reason"] == INTEGRITY
    assert record["outcome"] == "partial"


def test_exists_is_answered_without_opening(ana: Customer) -> None:
    """A value that does not open is there all the same: `exists` decrypts nothing."""
    ana.set_ciphertext("email", ana.ciphertext("email")[:-1])
    answer = ana.service.client("fraud-detection").read_attributes(
        ana.number, purpose="fraud-detection", attributes=["email"], max_form="exists"
    )
    assert answer["email"].form == "exists"
