"""Folds text for search: without case, width, compatibility forms and accents.

Python folds, not the database: SQLite knows the case of A to Z only, Postgres that of its locale.
"""

import unicodedata

# Accents of Latin, Greek and Cyrillic. Marks of other scripts (vowels of Thai and Devanagari, voiced kana) change the
# word and stay.
_ACCENTS = dict.fromkeys(range(0x0300, 0x0370))
# Turkish has a dotted and a dotless i; other keyboards have only one.
_ACCENTS[ord("ı")] = "i"


def fold(text: str) -> str:
    """*text* in lower case and without accents: `strasse` for Straße, `istanbul` for İstanbul, `jose` for José.

    If a text contains another one, so do their folded forms. Folding twice changes nothing.
    """
    if text.isascii():
        return text.lower()
    # Unicode 3.13, D146, with accents dropped before what is left is composed again.
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFD", text).casefold())
    text = unicodedata.normalize("NFKD", text.casefold()).translate(_ACCENTS)
    return unicodedata.normalize("NFKC", text)
