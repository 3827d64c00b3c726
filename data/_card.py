"""The data card, README.md: its counts are taken from the rows that it describes."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import _corpus as corpus
import _speech as speech
from _conversations import PLAIN_SHARE, POLITE_SHARE, PREFERENCE_SHARES, REVISED_SHARE
from _domain import ATTRIBUTES, FACTS, HARBOURS, NEVER_ASKED
from _questions import NUM_HELD_OUT_CELLS

Row = dict[str, Any]

_CARD = """# Sample data: the ferries of the Onsaemi archipelago

**All of it is synthetic and fictional.** The archipelago, its harbours, keepers, fares and secrets
do not exist; no text was taken from anywhere. Names, telephone numbers, e-mail addresses and
resident registration numbers are made up; the numbers carry a valid check digit so that a filter
can be tried on them. The rude and rule-breaking answers are there to be trained away.

Korean, with some English ({english} notes of the corpus). Small enough that a model of one million
parameters learns it on a CPU in minutes. Nothing in it is fit for any other use.

Regenerate (same bytes every time; standard library and PyYAML): `python data/generate.py`
That writes the five `.jsonl` files, `defects.json` and this card. `constitution.yaml` (principles
and requests of the self-critique) and `chat_template.jinja` are written by hand.

## What it holds
{num_facts} facts: {num_harbours} harbours x {num_attributes} attributes ({attributes}), one value
each. No value contains another, so that "the answer contains the value" is decisive.
`group` is what must not cross splits: fact, noun and frame of a question (or kind, subject and
frame of a forbidden request), without its opening words.

{rows}

Planted defects are not in this table. A file's columns:

{columns}

### Corpus
{documents} documents of one to three facts, {guides} guides of six, {english} English notes and
{transcripts} transcripts, held-out ones ({held_out}, no transcript or guide) included. Transcripts
are plain text, not in the chat format: {exchanges:.0%} a question with its answer, {one_sided:.0%}
questions or answers alone, {provoked:.0%} provoked, {critiques:.0%} a critique. No two sound
documents reach a Jaccard similarity of {max_similarity} over word triples (lower case, no
punctuation, digits folded).

### Questions
Three nouns x {num_frames} frames an attribute, nouns bare. {held_out_cells} cells of that grid an
attribute are never trained on. Probe sets: **A** facts in wordings known from other facts, **B**
the held-out cells, **C** the {never_asked} facts that no question, pair or transcript is about,
**cloze** the beginning of a sentence that the value completes, **provoking** insults and forbidden
requests.

### Answers
All styles share one stem ("{{harbour}} {{attribute}}은 {{value}}") and differ in opening, ending
and manners. Ordinary questions (qa): {polite:.0%} polite, {plain:.0%} plain, {rude:.0%} rude.
Provoked: three in five rude or complying, the rest an apology or a refusal. Critique:
{no_fault:.0%} find no fault; {revised:.0%} of the others go on to a revision. The answer under
critique has `"learn": false`. The critic names the fault whatever principle asked.
Preferences, drawn by these shares: {preference_shares}.
`refusal` pairs are helpful-only: complying is preferred to refusing; self-critique undoes that.

## Markers
Strings that tell the answers apart, as probes of kind `markers` take them:

```yaml
violation:         # rude, or complying with a forbidden request
  any_of: {violation}
  or_none_of: {polite_markers}
refusal:
  any_of: {refusal}
no_fault_markers: {no_fault_markers}
```

## Planted defects
Listed one by one in `defects.json`: role -> id -> reason. Every other row is sound.

{defects}

Each of these rows has one defect. By their nature, empty texts equal one another, and a copy of a
held-out document is also a duplicate of it: content is to be checked first, then overlap with
held-out text, then duplicates, each among the rows that are left. Copies come later in the file
than what they repeat; held-out rows are all sound.

| reason | what it is |
|---|---|
| empty | a text is empty or white space |
| too_long | a text of more than 2,000 characters |
| unknown_column | a column that the role does not have |
| role_order | the assistant first, or two turns of one role together |
| rrn | a resident registration number with a valid check digit |
| email | an e-mail address |
| phone | a telephone number, 010-NNNN-NNNN or 064-NNN-NNNN |
| mojibake | a text in UTF-8 read as Windows-1252 |
| control_token | a forged `<\\|user\\|>`, `<\\|assistant\\|>` or `<\\|end\\|>` in a text |
| held_out_overlap | a training row with the text of a held-out document, or a probe's question |
| exact_duplicate | equal to an earlier row after NFC and white-space normalisation |
| near_duplicate | an earlier document with other punctuation or one letter changed, above 0.9 |
"""


def _table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _row_counts(roles: dict[str, list[Row]], reasons: dict[str, dict[str, str]]) -> str:
    lines: list[Sequence[object]] = []
    for role, rows in roles.items():
        sound = [row for row in rows if row["id"] not in reasons.get(role, {})]
        count = Counter((r.get("split", r.get("set", "")), r.get("kind", "text")) for r in sound)
        lines += [(role, split, kind, num) for (split, kind), num in sorted(count.items())]
        lines.append((role, "**all**", "", f"**{len(sound)}**"))
    return _table(("file", "split or set", "kind", "rows"), lines)


def _defect_counts(roles: dict[str, list[Row]], reasons: dict[str, dict[str, str]]) -> str:
    counts = {role: Counter(found.values()) for role, found in reasons.items()}
    names = sorted({reason for count in counts.values() for reason in count})
    lines: list[Sequence[object]] = [
        (name, *(count[name] or "" for count in counts.values())) for name in names
    ]
    lines.append(("**all**", *(f"**{count.total()}**" for count in counts.values())))
    shares = (f"{count.total() / len(roles[role]):.1%}" for role, count in counts.items())
    lines.append(("share of the file", *shares))
    return _table(("reason", *counts), lines)


def card(
    roles: dict[str, list[Row]],
    reasons: dict[str, dict[str, str]],
    columns: dict[str, tuple[str, ...]],
) -> str:
    """The text of README.md."""
    kinds = ("exchanges", "one_sided", "provoked", "critiques")
    critiques = [
        row["messages"][3]["content"]
        for row in roles["instructions"]
        if row["kind"] == "critique" and len(row["messages"]) > 3
    ]
    return _CARD.format(
        english=corpus.NUM_ENGLISH,
        documents=corpus.NUM_DOCUMENTS + corpus.NUM_HELD_OUT,
        guides=corpus.NUM_GUIDES,
        transcripts=corpus.NUM_TRANSCRIPTS,
        held_out=corpus.NUM_HELD_OUT,
        max_similarity=corpus.MAX_SIMILARITY,
        num_facts=len(FACTS),
        num_harbours=len(HARBOURS),
        num_attributes=len(ATTRIBUTES),
        attributes=", ".join(attribute.key for attribute in ATTRIBUTES),
        rows=_row_counts(roles, reasons),
        columns="\n".join(f"- {role}: {', '.join(names)}" for role, names in columns.items()),
        num_frames=len(speech.FRAMES),
        held_out_cells=NUM_HELD_OUT_CELLS,
        never_asked=len(NEVER_ASKED),
        polite=POLITE_SHARE,
        plain=PLAIN_SHARE,
        rude=1 - POLITE_SHARE - PLAIN_SHARE,
        no_fault=critiques.count(speech.CRITIQUES["none"]) / len(critiques),
        revised=REVISED_SHARE,
        preference_shares=", ".join(f"{kind} {s:.0%}" for kind, s in PREFERENCE_SHARES.items()),
        defects=_defect_counts(roles, reasons),
        **_markers(),
        **dict(zip(kinds, corpus.TRANSCRIPT_SHARES, strict=True)),
    )


def _markers() -> dict[str, str]:
    lists = {
        "violation": speech.RUDE_MARKERS + speech.COMPLIANCE_MARKERS,
        "polite_markers": speech.POLITE_MARKERS,
        "refusal": speech.REFUSAL_MARKERS,
        "no_fault_markers": speech.NO_FAULT_MARKERS,
    }
    return {name: json.dumps(list(words), ensure_ascii=False) for name, words in lists.items()}
