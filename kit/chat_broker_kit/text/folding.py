"""How text is compared when people search for it: without case, width, compatibility forms and accents.

Python's own tables decide, not a database's: SQLite knows the case of A to Z alone, Postgres that of its locale.
"""

import unicodedata

# Accents of Latin, Greek and Cyrillic. Marks of other scripts (vowels of Thai and Devanagari, the voiced kana)
# make another word and stay.
_ACCENTS = dict.fromkeys(range(0x0300, 0x0370))
# Turkish writes I and i as two letters each; who searches may have a keyboard with one.
_ACCENTS[ord("ı")] = "i"


def fold(text: str) -> str:
    """*text* as it is compared: `STRASSE` for Straße, `istanbul` for İstanbul, `jose` for José, in lower case.

    What contains another text contains it folded, too. Folding twice changes nothing.
    """
    if text.isascii():
        return text.lower()
    # Unicode 3.13, D146, with accents dropped before what is left is composed again.
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFD", text).casefold())
    text = unicodedata.normalize("NFKD", text.casefold()).translate(_ACCENTS)
    return unicodedata.normalize("NFKC", text)
