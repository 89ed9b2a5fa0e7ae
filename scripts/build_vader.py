"""Make src/addnorm/data/sets/vader.tsv.xz from the source package vaderSentiment 3.3.2; the same bytes every time.

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
    python scripts/build_vader.py vaderSentiment-3.3.2.tar.gz

The package is read as an archive and never imported. One line a sentence: source, number, mean of the human ratings
(-4 to 4), text, with tabs between. A number such as 12_3 is the third sentence of text 12. HTML entities of the
tweets are resolved; nothing else is changed.
"""

from __future__ import annotations

import hashlib
import html
import io
import lzma
import sys
import tarfile
from pathlib import Path

SDIST_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
FILES = {
    "tweet": "tweets_GroundTruth.txt",
    "movie": "movieReviewSnippets_GroundTruth.txt",
    "product": "amazonReviewSnippets_GroundTruth.txt",
    "news": "nytEditorialSnippets_GroundTruth.txt",
}
SENTENCES = 23_703
TARGET = Path(__file__).parent.parent / "src/addnorm/data/sets/vader.tsv.xz"


def member(archive: bytes, name: str) -> bytes:
    """One file of a tar archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        file = files.extractfile(name)
        assert file is not None, name
        return file.read()


def lines(source: str, content: str) -> list[str]:
    """The lines of one source; each comes as number, mean, text."""
    made = []
    for line in content.split("\r\n"):
        if line.strip():
            number, mean, text = line.split("\t")
            words = " ".join(html.unescape(text).split())
            assert words, line
            made.append(f"{source}\t{number}\t{float(mean):.4g}\t{words}")
    return made


def main(sdist_path: str) -> None:
    """Check, pack and write."""
    sdist = Path(sdist_path).read_bytes()
    digest = hashlib.sha256(sdist).hexdigest()
    assert digest == SDIST_SHA256, f"{sdist_path} has SHA-256 {digest}, expected {SDIST_SHA256}"
    inner = member(sdist, INNER)
    rows = [
        line
        for source, name in FILES.items()
        for line in lines(source, member(inner, f"hutto_ICWSM_2014/{name}").decode("utf-8"))
    ]
    assert len(rows) == SENTENCES, len(rows)
    packed = lzma.compress(("\n".join(rows) + "\n").encode(), preset=9 | lzma.PRESET_EXTREME)
    TARGET.write_bytes(packed)
    print(f"{TARGET.name}: {len(rows)} sentences, {len(packed)} bytes")
    print(f"SHA-256 {hashlib.sha256(packed).hexdigest()}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: build_vader.py vaderSentiment-3.3.2.tar.gz")
    main(sys.argv[1])
