"""JUnit XML of the policy tests, for build servers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from vault.policy.testing_cases import TestResult


def write_junit(path: Path, results: "Sequence[TestResult]") -> None:
    """One test case per expectation. Raises OSError."""
    failures = sum(not result.passed for result in results)
    suite = ET.Element("testsuite", name="datavault policy", tests=str(len(results)), failures=str(failures))
    for result in results:
        name = f"{result.name}: {result.attribute}" if result.attribute else result.name
        case = ET.SubElement(
            suite, "testcase", classname=result.path, name=name, file=result.path, line=str(result.line)
        )
        if not result.passed:
            message = f"expected {result.expected}, got {result.got}"
            ET.SubElement(case, "failure", message=message).text = str(result.problem())
    ET.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
