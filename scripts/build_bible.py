"""Make src/addnorm/data/sets/bible.tsv.xz from three Debian packages; the same bytes every time.

    apt-get download sword-text-web sword-text-kjv sword-text-sparv
    for package in sword-text-*.deb; do dpkg-deb -x $package packages; done
    pip install pysword==0.2.8
    python scripts/build_bible.py packages/usr/share/sword

One line a verse of the 66 books that all three have: book, chapter, verse, World English Bible (WEB), King James
Version (KJV), Reina-Valera 1909 (RV), with tabs between; a text that a translation does not have is left empty.
Footnotes, names of speakers, acrostic letters and markup are taken out, and what a module keeps with the last verse of
a book but behind its end (WEB has its glossary there); no word is changed. In RV the markup sometimes stands between
two words without a blank ("ejército<...>se llamaba"), which glues them together: such a verse is left out of RV. The
rule finds 385 verses; some of them are right as they stand (a pronoun at the end of a verb), but no grammar is needed
to be sure of the other 30,692.
"""

from __future__ import annotations

import hashlib
import importlib
import lzma
import re
import sys
from pathlib import Path

TARGET = Path(__file__).parent.parent / "src/addnorm/data/sets/bible.tsv.xz"
MODULES = {"web": "engWEB2015eb", "kjv": "engKJV2006eb", "rv": "spaRV1909eb"}
INLINE = r"</?(?:w|q|seg|transChange|divineName|foreign|name)\b[^>]*>"
LEFT_OUT = re.compile(
    r"<note.*?</note>|<speaker.*?</speaker>|<title(?![^>]*canonical).*?</title>|<title[^>]*>[A-Z ]+</title>", re.DOTALL
)
BEHIND_THE_BOOK = re.compile(r"<div(?=[^>]*\beID=)(?=[^>]*\btype=\"book\").*", re.DOTALL)
GLUED = re.compile(rf"[^\W\d_](?:{INLINE})+[^\W\d_]")
ACROSTIC = re.compile(
    r"^(?:ALEPH|BETH|GIMEL|DALETH|HE|VAV|VAU|ZAYIN|ZAIN|HETH|CHETH|TETH|YOD|JOD|KAPH|CAPH|LAMED|MEM|NUN|SAMEKH|SAMECH|AYIN|AIN"
    r"|PE|TZADHE|TZADE|TZADDI|KOPH|COPH|RESH|SIN AND SHIN|SIN|SHIN|SCHIN|TAV|TAU)\.? (?=\W?[A-ZÁÉÍÓÚ])"
)

Key = tuple[str, int, int]


def read_module(folder: str, module: str) -> dict[Key, str]:
    """Every verse of a SWORD module with its markup."""
    modules = importlib.import_module("pysword.modules").SwordModules(folder)
    modules.parse_modules()
    bible = modules.get_bible_from_module(module)
    verses: dict[Key, str] = {}
    for books in bible.get_structure().get_books().values():
        for book in books:
            for chapter, count in enumerate(book.chapter_lengths, start=1):
                numbers = range(1, count + 1)
                for verse in numbers:
                    key = (book.name, chapter, verse)
                    verses[key] = bible.get(books=[book.name], chapters=[chapter], verses=[verse], clean=False)
    return verses


def clean(markup: str) -> str:
    """The words of a verse without markup.

    >>> clean('<w lemma="strong:H1">God</w><note>about God</note><w>made</w> <l level="1"/>it .')
    'God made it.'
    """
    text = re.sub(INLINE, "", LEFT_OUT.sub(" ", BEHIND_THE_BOOK.sub("", markup)))
    text = re.sub(r"<[^>]+>", " ", text).replace("¶", " ").replace("\\nd ", "")
    return re.sub(r" (?=[,.;:?!”’)])", "", " ".join(text.split()))


def rows(web: dict[Key, str], kjv: dict[Key, str], rv: dict[Key, str]) -> list[str]:
    """The lines of the file, in the order of the King James Version."""
    lines = []
    for key in kjv:
        spanish = "" if GLUED.search(rv.get(key, "")) else rv.get(key, "")
        texts = [clean(text) for text in (web.get(key, ""), kjv[key], spanish)]
        if key[:2] == ("Psalms", 119):
            texts = [ACROSTIC.sub("", text) for text in texts]
        lines.append("\t".join([*map(str, key), *texts]))
    return lines


def main(folder: str) -> None:
    """Read, clean, pack and write."""
    web, kjv, rv = (read_module(folder, module) for module in MODULES.values())
    glued = sum(bool(GLUED.search(text)) for text in rv.values())
    content = "\n".join(rows(web, kjv, rv)) + "\n"
    assert "<" not in content and "\\" not in content, "markup is left"
    packed = lzma.compress(content.encode(), preset=9 | lzma.PRESET_EXTREME)
    TARGET.write_bytes(packed)
    print(f"{TARGET.name}: {content.count(chr(10))} verses, {glued} glued ones dropped, {len(packed)} bytes")
    print(f"SHA-256 {hashlib.sha256(packed).hexdigest()}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: build_bible.py FOLDER/usr/share/sword")
    main(sys.argv[1])
