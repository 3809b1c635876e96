"""Bytes of a policy file to text: UTF-8, LF, and no character that a reviewer cannot see."""

import unicodedata
from typing import Final

from vault.policy.problems import Mark, Problems, describe

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Zero-width joiners belong to the spelling of several scripts; ids are ASCII, so they hide nothing there.
_JOINERS: Final = frozenset("\u200c\u200d")


def hidden(char: str) -> bool:
    """Whether a character is invisible or steers the display (control, format, surrogate, separator)."""
    return char != "\n" and char not in _JOINERS and unicodedata.category(char) in _HIDDEN


def decode(path: str, content: bytes, problems: Problems) -> str | None:
    """The text of a file, or None after adding what is wrong with it."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        problems.add(path, _mark_of_byte(content, error.start), "not UTF-8")
        return None
    if text.isascii() and text.isprintable():
        return text
    clean = True
    for number, line in enumerate(text.split("\n"), 1):
        for column, char in enumerate(line, 1):
            if (char.isprintable() and ord(char) < 0x300) or not hidden(char):
                continue
            problems.add(path, Mark(number, column), _advice(char, number, column))
            clean = False
            break
    return text if clean else None


def _advice(char: str, line: int, column: int) -> str:
    if char == "\ufeff" and (line, column) == (1, 1):
        return "byte-order mark: save the file as UTF-8 without it"
    if char == "\r":
        return "carriage return: save the file with LF line ends"
    if char == "\t":
        return "tab: use spaces"
    return f"invisible or control character {describe(char)}"


def _mark_of_byte(content: bytes, offset: int) -> Mark:
    line_start = content.rfind(b"\n", 0, offset) + 1
    before = content[line_start:offset].decode("utf-8", "replace")
    return Mark(content.count(b"\n", 0, offset) + 1, len(before) + 1)
