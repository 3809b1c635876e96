"""`--propose-map`: a map to begin with, guessed from header and rows, that fits the file it was made from."""

from pathlib import Path

import pytest

from tests.support.cli import CANARY, attributes, policies, run, write
from vault.cli.importing.mapping import ImportMap, load_map
from vault.cli.importing.proposal import propose

NAMES = ["Ana", "Rui", "Eva", "Leo", "Mia", "Ivo", "Zoe", "Gil"]


def proposed(
    tmp_path: Path, content: str | bytes, name: str = "a.csv", encoding: str = "utf-8"
) -> tuple[str, ImportMap]:
    text = propose(write(tmp_path, name, content, encoding), attributes())
    return text, load_map(write(tmp_path, "proposed.yaml", text)).map


def table(header: str, line: str, count: int = 200) -> str:
    """Rows from a template over n and name."""
    body = [line.format(n=n, name=NAMES[n % 8], yes=("yes", "no")[n % 2]) for n in range(1, count + 1)]
    return "\n".join([header, *body, ""])


@pytest.mark.parametrize(("delimiter", "shown"), [(",", ","), (";", ";"), ("\t", "\t"), ("|", "|")])
def test_the_delimiter_is_seen(tmp_path: Path, delimiter: str, shown: str) -> None:
    """Also where other candidates stand inside of values."""
    content = table("id,first_name,email", "C{n},{name} x,a{n}@b.example").replace(",", delimiter)
    _, found = proposed(tmp_path, content)
    assert found.file.delimiter == shown
    assert found.customer_number.column == "id"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_the_encoding_is_seen_wherever_the_first_accent_stands(tmp_path: Path, encoding: str) -> None:
    """A file is often plain ASCII for megabytes."""
    content = table("id,first_name", "C{n},{name}", 30_000) + "C0,José\n"
    _, found = proposed(tmp_path, content, encoding=encoding)
    assert found.file.encoding == {"utf-8-sig": "utf-8"}.get(encoding, encoding)


def test_attributes_are_found_by_name_alias_and_fit(tmp_path: Path) -> None:
    """With the conversion that makes their values fit."""
    header = "cust_no;given name;zip;job;married;Balance;date of birth"
    line = "C{n};{name};0{n:04d};baker;{yes};1.{n:03d},50;{n}"
    _, found = proposed(tmp_path, table(header, line))
    assert {name: source.column for name, source in found.attributes.items()} == {
        "balance": "Balance",
        "given-name": "given name",
        "married": "married",
        "occupation": "job",
        "postcode": "zip",
    }
    assert found.attributes["balance"].convert.number is not None
    assert found.attributes["balance"].convert.number.point == ","
    assert found.attributes["married"].convert.boolean == {"yes": True, "no": False}
    # a column whose texts are no dates is not date-of-birth, whatever its name
    assert found.ignore == ("date of birth",)


@pytest.mark.parametrize(
    ("text", "form"), [("19840{n:03d}", None), ("198405{n:02d}", "%Y%m%d"), ("{n:02d}.05.1984", "%d.%m.%Y")]
)
def test_date_formats_are_seen(tmp_path: Path, text: str, form: str | None) -> None:
    """Some impossible dates among them do not matter; mostly impossible ones do."""
    _, found = proposed(tmp_path, table("id,job,birth_date", "C{n},baker," + text, 31))
    source = found.attributes.get("birth-date")
    assert (source.convert.date if source else None) == ((form,) if form else None)


def test_minus_one_is_missing_only_where_it_is_the_only_negative_number(tmp_path: Path) -> None:
    """`pdays` and `balance`."""
    lines = [f"C{n},{-1 if n % 3 else n},{n - 50},{'unknown' if n % 5 else 'baker'}" for n in range(100)]
    text, found = proposed(tmp_path, "id,contacts,balance,job\n" + "\n".join(lines))
    assert found.attributes["contacts"].missing == ("-1",)
    assert found.attributes["balance"].missing == ()
    assert found.attributes["occupation"].missing == ("unknown",)
    assert "CHECK: the only negative number" in text


def test_what_happens_late_in_a_sorted_file_is_seen(tmp_path: Path) -> None:
    """The sample reaches beyond the first rows."""
    lines = [f"C{n},{'baker' if n < 15_000 else 'unknown'}" for n in range(20_000)]
    _, found = proposed(tmp_path, "id,job\n" + "\n".join(lines))
    assert found.attributes["occupation"].missing == ("unknown",)


def test_without_a_column_for_customers_the_row_number_is_proposed(tmp_path: Path) -> None:
    """A number that comes twice names nobody."""
    text, found = proposed(tmp_path, table("id,first_name", "C{n},{name}", 50) + "C1,Ana\n")
    assert found.customer_number.template is not None
    assert found.customer_number.template.counts_rows
    assert "CHECK: no column names a customer" in text


def test_columns_without_attribute_get_entries_of_their_type(tmp_path: Path) -> None:
    """As comments: the security team chooses category and key class."""
    header = "id;job;vip;visits;ratio;opened;shoe colour;code"
    line = "C{n};baker;{yes};{n};0.{n:03d};2020-01-01;{name};0{n}"
    text, found = proposed(tmp_path, table(header, line))
    for entry in (
        "#   vip:\n#     type: bool\n",
        "#   visits:\n#     type: int64\n",
        "#   ratio:\n#     type: decimal\n#     scale: 3\n",
        "#   opened:\n#     type: date\n",
        "#   shoe-colour:\n#     type: string  # 8 different words",
        "#   code:\n#     type: string\n",
        '#   vip: {column: vip, convert: {boolean: {"yes": true, "no": false}}}\n',
    ):
        assert entry in text
    assert found.ignore == ("vip", "visits", "ratio", "opened", "shoe colour", "code")


def test_json_lines_are_proposed_too(tmp_path: Path) -> None:
    """The format is seen by the content."""
    content = "".join(f'{{"customer_id": "C{n}", "firstName": "Ana", "x": {n}}}\n' for n in range(50))
    _, found = proposed(tmp_path, content, "a.dat")
    assert (found.file.format, found.customer_number.column) == ("jsonl", "customer_id")
    assert found.attributes["given-name"].column == "firstName"


def test_a_first_line_that_is_data_is_not_printed_as_names(tmp_path: Path) -> None:
    """They are numbered until somebody names them."""
    path = write(tmp_path, "a.csv", f"4711;{CANARY};19840530\n4712;x;19840530\n")
    text = propose(path, attributes())
    assert CANARY not in text
    assert "columns: [column 1, column 2, column 3]" in text


@pytest.mark.parametrize(
    ("delimiter", "message"),
    [(";", "the first line of the file looks like data"), (",", "the right delimiter?")],
)
def test_a_map_that_does_not_fit_prints_no_data_as_names(
    tmp_path: Path, delimiter: str, message: str
) -> None:
    """Where the header is data, or was not cut into columns."""
    path = write(tmp_path, "a.csv", f"4711;{CANARY};19840530\n4712;x;19840530\n")
    text = f'file: {{delimiter: "{delimiter}"}}\ncustomer_number: {{column: id}}\njurisdictions: [EU]\n'
    map_file = write(tmp_path, "map.yaml", text + "attributes: {email: {column: e}}\n")
    result = run("subject", "import", path, "--map", map_file, "--policies", policies(tmp_path), "--dry-run")
    assert result.exit_code == 2
    assert message in result.stderr
    assert CANARY not in result.output + result.stderr


def test_no_text_of_the_rows_is_in_a_proposal(tmp_path: Path) -> None:
    """Names of columns, counts, formats and words of fixed lists alone."""
    content = table("id;first_name;vip;note", f"C{{n}};{CANARY};{{yes}};{CANARY} {{n}}") + f"{CANARY}\n"
    text, _ = proposed(tmp_path, content)
    assert CANARY not in text
    assert "C17" not in text


@pytest.mark.parametrize("name", ["yes", "null", "a: b", "x'y", '"q"', "-", "#c", "ends ", "ü", "1st"])
def test_any_column_name_makes_a_map_that_can_be_read(tmp_path: Path, name: str) -> None:
    """YAML has opinions about many of them."""
    header = '"' + name.replace('"', '""') + '"'
    _, found = proposed(tmp_path, f"id,first_name,{header}\n" + "".join(f"C{n},Ana,x\n" for n in range(9)))
    assert found.ignore == (name.strip(),)


def test_the_proposal_fits_its_file(tmp_path: Path) -> None:
    """A dry run with it accounts for every row."""
    path = write(tmp_path, "a.csv", table("id;first_name;zip;job;vip", "C{n};{name};0{n:04d};baker;{yes}"))
    folder = policies(tmp_path)
    shown = run("subject", "import", path, "--propose-map", "--policies", folder)
    assert shown.exit_code == 0, shown.stderr
    map_file = write(tmp_path, "map.yaml", shown.stdout)
    result = run("subject", "import", path, "--map", map_file, "--policies", folder, "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "fit:  200" in result.stdout
