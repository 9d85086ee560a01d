"""Text as it is compared when people search."""

import sys

import pytest

from chat_broker_kit.text.folding import fold


@pytest.mark.parametrize(
    ("written", "searched"),
    [
        ("Alice", "ALICE"),
        ("Ärger", "äRGER"),
        ("Straße", "STRASSE"),
        ("GROẞ", "groß"),
        ("İstanbul", "istanbul"),
        ("ISPARTA", "ısparta"),
        ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
        ("Ὀδυσσεύς", "οδυσσευσ"),
        ("Ａｌｉｃｅ", "alice"),
        ("ﬁnch", "Finch"),
        ("José", "jose"),
        ("Jose\u0301", "José"),
        ("ЁЛКА", "елка"),
        ("ｶﾞ", "ガ"),
        ("①", "1"),
    ],
)
def test_what_people_take_for_the_same_is_the_same(written: str, searched: str) -> None:
    """Case, width, compatibility forms and accents make no difference, whichever of the two is searched for."""
    assert fold(written) == fold(searched)


@pytest.mark.parametrize(
    ("one", "other"), [("が", "か"), ("กิน", "กน"), ("łódź", "lodz"), ("ø", "o"), ("한", "하")]
)
def test_other_letters_are_other_letters(one: str, other: str) -> None:
    """Vowel signs and voiced kana make another word; letters that Unicode does not take apart are their own."""
    assert fold(one) != fold(other)


def test_folding_twice_changes_nothing() -> None:
    """So what is its own folding need not be stored again."""
    for code in range(sys.maxunicode + 1):
        if not 0xD800 <= code < 0xE000:
            once = fold(f"a{chr(code)}b")
            assert fold(once) == once, hex(code)
