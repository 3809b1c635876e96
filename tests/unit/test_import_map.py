"""MAP.yaml: a wrong map is refused before any row is read, with file, line, column and a suggestion."""

from pathlib import Path

import pytest

from tests.support.cli import HEADER, MAP, attributes, write
from vault.cli.importing.checks import check_map
from vault.cli.importing.mapping import MapError, load_map
from vault.cli.importing.readers import open_table
from vault.policy.bundle import load_bundle


def problems(tmp_path: Path, text: str, header: str = HEADER) -> list[str]:
    """What is wrong with a map for a file with this header, without the folder's name."""
    path = write(tmp_path, "map.yaml", text)
    try:
        found = load_map(path)
        with open_table(write(tmp_path, "a.csv", header), found.map.file) as table:
            check_map(found, table, attributes())
    except MapError as error:
        return [str(problem).replace(f"{path}:", "") for problem in error.problems]
    return []


def test_a_good_map_has_no_problem(tmp_path: Path) -> None:
    """The map that the other tests break."""
    assert problems(tmp_path, MAP) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("given-name:", "given-nam:", "5:3: unknown attribute 'given-nam' (did you mean 'given-name'?)"),
        (
            "column: first name",
            "column: firstname",
            "5:24: unknown column 'firstname' (did you mean 'first name'?)",
        ),
        ("{column: number}", "{colum: number}", "2:19: unknown key 'colum' (did you mean 'column'?)"),
        ("{column: number}", "{}", "2:18: `customer_number`: needs either `column` or `template`"),
        ("jurisdictions: [EU]\n", "", "1:1: `jurisdictions` is missing"),
        ('";"', '";;"', "1:19: `delimiter`: must be one character, or tab"),
        ('{delimiter: ";"}', '{delimiter: ";", encoding: base64}', "1:34: `encoding`: unknown encoding"),
        ('date: "%Y%m%d"', 'boolean: {"y": true}', "6:40: `boolean` does not make a date"),
        ('date: "%Y%m%d"', 'date: "%Y", timestamp: iso', "`timestamp` does not make a date"),
        ("{column: first name}", '{template: "{first name"}', "5:26: `template`: braces are not balanced"),
        ("{column: first name}", '{template: "x"}', "5:26: `template`: names no column"),
        ("{column: first name}", '{template: "{row}"}', "`{row}` is for customer_number alone"),
        ("column: first name", "column: balance", "column 'first name' is neither mapped nor ignored"),
        ("attributes:", "ignore: [born]\nattributes:", "column 'born' is mapped and ignored"),
        ("attributes:", "ignore: [x]\nattributes:", "4:10: unknown column 'x'"),
        ("attributes:", "attributes: {}\nother:", "unknown key 'other'"),
        ("[EU]", "&a [EU]", "3:16: anchors and aliases are not allowed"),
        ("[EU]", "{}", "needs a list such as [EU], or {column: name}"),
    ],
)
def test_each_mistake_is_named_with_its_place(tmp_path: Path, old: str, new: str, problem: str) -> None:
    """One change each of the good map."""
    assert old in MAP
    found = problems(tmp_path, MAP.replace(old, new, 1))
    assert any(problem in each for each in found), found


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """An author does not want to fix one at a time."""
    text = MAP.replace("given-name", "given-nam").replace("column: born", "column: borne")
    assert len(problems(tmp_path, text)) == 3  # the two, and `born`, which is now left over


def test_words_that_yaml_takes_for_numbers_and_truth_are_words(tmp_path: Path) -> None:
    """`missing: [-1, true, null]` names three words of the file."""
    text = MAP.replace("missing: [unknown]", "missing: [-1, true, null, no]")
    found = load_map(write(tmp_path, "map.yaml", text))
    assert found.map.attributes["balance"].missing == ("-1", "true", "null", "no")


def test_a_single_word_stands_for_a_list_of_one(tmp_path: Path) -> None:
    """`missing: unknown`, `jurisdictions: EU`."""
    text = MAP.replace("missing: [unknown]", "missing: unknown").replace("[EU]", "EU")
    found = load_map(write(tmp_path, "map.yaml", text)).map
    assert found.attributes["balance"].missing == ("unknown",)
    assert found.jurisdictions.always == ("EU",)


@pytest.mark.parametrize("word", ["tab", "'\\t'"])
def test_a_tab_can_be_written_as_a_word(tmp_path: Path, word: str) -> None:
    """A tab in a YAML file is refused, because nobody sees it."""
    found = load_map(write(tmp_path, "map.yaml", MAP.replace('";"', word)))
    assert found.map.file.delimiter == "\t"


def test_a_map_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Like any other problem."""
    with pytest.raises(MapError, match=r"none\.yaml:1:1: cannot be read"):
        load_map(tmp_path / "none.yaml")


def test_json_lines_may_lack_columns_in_their_first_rows(tmp_path: Path) -> None:
    """An optional key need not be in the sample, so it is no mistake of the map."""
    found = load_map(write(tmp_path, "map.yaml", MAP))
    path = write(tmp_path, "a.jsonl", '{"number": "1"}\n')
    with open_table(path, found.map.file) as table:
        check_map(found, table, attributes())


REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "docs/operations/maps").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_maps_of_the_documentation_fit_the_default_policies(tmp_path: Path, path: Path) -> None:
    """For files with exactly the columns they name."""
    found = load_map(path)
    layout = found.map.file
    header = layout.delimiter.join(sorted(found.map.columns | set(found.map.ignore))) + "\n"
    with open_table(write(tmp_path, "a.csv", header), layout) as table:
        check_map(found, table, load_bundle(REPOSITORY / "policies").attributes)


def test_the_map_of_the_manual_can_be_read(tmp_path: Path) -> None:
    """docs/operations/import.md shows every key of `file` and of a source."""
    manual = (REPOSITORY / "docs/operations/import.md").read_text(encoding="utf-8")
    text = manual.partition("```yaml\n")[2].partition("```")[0]
    found = load_map(write(tmp_path, "map.yaml", text)).map
    assert found.attributes["date-of-birth"].invalid == "omit"
    assert found.file.columns == ("id", "name")
