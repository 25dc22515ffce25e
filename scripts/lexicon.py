"""Makes ``npcorrect/data/lexicon.txt.gz`` from a folder of WordNet database files.

    python scripts/lexicon.py DICT EXCEPTIONS

``DICT`` has ``index.noun``, ``data.noun``, ``index.adj`` and ``data.adj`` of WordNet 3.1 and
``EXCEPTIONS`` is WordNet's ``noun.exc``. Kept are the nouns for things that can be seen, without
proper names and their rarer senses, and the adjectives. :mod:`npcorrect.lexicon` says what the
lines mean.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path

TARGET = Path(__file__).parents[1] / "src" / "npcorrect" / "data" / "lexicon.txt.gz"
SEEN = {"03", "05", "06", "07", "08", "10", "13", "14", "15", "17", "18", "19", "20", "25", "27"}
"""Lexicographer files of what a picture can show: animals, artifacts, colours, people and so on."""
PERSON = "18"
MAX_SENSES = 4
MAX_WORDS = 3


def nouns(folder: Path) -> Iterator[str]:
    """A line for each synset and each lemma."""
    synsets, common = {}, set()
    for line in _lines(folder / "data.noun"):
        fields = line.split(" | ")[0].split()
        count = int(fields[3], 16)
        pointers = fields[5 + 2 * count :]
        above = [o for kind, o in zip(pointers[::4], pointers[1::4], strict=False) if kind == "@"]
        synsets[fields[0]] = (fields[1], above)
        common |= {(fields[0], word) for word in fields[4 : 4 + 2 * count : 2]}
    lemmas = {}
    for line in _lines(folder / "index.noun"):
        lemma, senses, attested = _index(line)
        if _usual(lemma):
            seen = [o for o in senses if synsets[o][0] in SEEN and (o, lemma) in common]
            others = [o for o in seen if synsets[o][0] != PERSON]
            person = seen[:1] == senses[:1] and (attested or not others)
            kept = (seen[:1] if person and seen[0] not in others else []) + others
            if kept:
                lemmas[lemma] = kept[:MAX_SENSES]
    wanted = _closure({o for senses in lemmas.values() for o in senses}, synsets)
    number = {offset: str(n) for n, offset in enumerate(sorted(wanted))}
    for offset in sorted(wanted):
        lexfile, above = synsets[offset]
        yield "s " + ",".join((lexfile, *(number[o] for o in above)))
    for lemma, senses in sorted(lemmas.items()):
        yield "n " + ",".join((lemma, *(number[o] for o in senses)))


def adjectives(folder: Path) -> Iterator[str]:
    """A line for each cluster that has an opposite, and each lemma."""
    heads: dict[str, list[str]] = {}
    opposites: dict[str, set[str]] = {}
    for line in _lines(folder / "data.adj"):
        fields = line.split(" | ")[0].split()
        offset, kind, count = fields[0], fields[2], int(fields[3], 16)
        pointers = fields[5 + 2 * count :]
        pairs = list(zip(pointers[::4], pointers[1::4], pointers[2::4], strict=False))
        similar = [o for name, o, part in pairs if name == "&" and part == "a"]
        heads[offset] = similar if kind == "s" else [offset]
        opposites[offset] = {o for name, o, part in pairs if name == "!" and part == "a"}
    lemmas = {}
    for line in _lines(folder / "index.adj"):
        lemma, senses, _ = _index(line)
        if _usual(lemma):
            clusters = dict.fromkeys(h for o in senses[:MAX_SENSES] for h in heads[o])
            lemmas[lemma] = [o for o in clusters if opposites.get(o)]
    used = {o for clusters in lemmas.values() for o in clusters}
    used |= {o for head in used for o in opposites[head]}
    number = {offset: str(n) for n, offset in enumerate(sorted(used))}
    for offset in sorted(used):
        yield "o " + ",".join(number[o] for o in sorted(opposites[offset] & used))
    for lemma, clusters in sorted(lemmas.items()):
        yield "a " + ",".join((lemma, *(number[o] for o in clusters)))


def exceptions(path: Path) -> Iterator[str]:
    """A line for each irregular plural."""
    for line in path.read_text(encoding="ascii").splitlines():
        plural, *singulars = line.split()
        if _usual(plural):
            yield f"p {plural},{singulars[0]}"


def _lines(path: Path) -> Iterator[str]:
    """The lines after the licence, which is indented."""
    with path.open(encoding="ascii") as file:
        yield from (line for line in file if not line.startswith("  "))


def _index(line: str) -> tuple[str, list[str], bool]:
    """A lemma, its senses, and whether the first was met in the texts that WordNet counted."""
    fields = line.split()
    count = int(fields[2])
    return fields[0], fields[-count:], fields[-count - 1] != "0"


def _usual(lemma: str) -> bool:
    """Words in small letters alone, few, and no number among them."""
    parts = lemma.replace("-", "_").split("_")
    return len(parts) <= MAX_WORDS and all(part.isalpha() for part in parts)


def _closure(offsets: set[str], synsets: dict[str, tuple[str, list[str]]]) -> set[str]:
    """The synsets and all that is above them."""
    wanted: set[str] = set()
    waiting = list(offsets)
    while waiting:
        offset = waiting.pop()
        if offset not in wanted:
            wanted.add(offset)
            waiting += synsets[offset][1]
    return wanted


if __name__ == "__main__":
    source, irregular = map(Path, sys.argv[1:])
    lines = (*nouns(source), *adjectives(source), *exceptions(irregular))
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_bytes(gzip.compress("\n".join(lines).encode("ascii"), mtime=0))
