"""Write the sample data set: `python data/generate.py` makes this folder's JSONL, defects and card.

Seeded: the same bytes every time. All of it is synthetic; the archipelago does not exist.
"""

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _conversations as conversations
import _corpus as corpus
import _defects as defects
import _speech as speech
from _card import card
from _domain import SEED, stem
from _questions import ORDINARY

Row = dict[str, Any]

COLUMNS = {
    "corpus": ("id", "text", "split"),
    "instructions": ("id", "messages", "group", "kind", "split"),
    "preferences": ("id", "prompt", "chosen", "rejected", "group", "kind", "split"),
    "prompts": ("id", "prompt", "group", "kind", "set"),
    "probes": ("id", "prompt", "answer", "group", "kind", "set"),
}


def _corpus_rows(seed: str) -> tuple[list[Row], list[Row]]:
    """Sound documents, and spare ones for the defects."""
    spare = defects.num_spoilt("corpus")
    texts = corpus.sound_texts(seed, spare)
    rng = random.Random(f"{seed}/held out")
    documents = texts["documents"][spare:] + texts["english"]
    rng.shuffle(documents)
    held_out, train = documents[: corpus.NUM_HELD_OUT], documents[corpus.NUM_HELD_OUT :]
    train += texts["guides"] + texts["transcripts"]
    rows = [{"text": text, "split": "held_out"} for text in held_out]
    rows += [{"text": text, "split": "train"} for text in train]
    return rows, [{"text": text, "split": "train"} for text in texts["documents"][:spare]]


def _split(rows: list[Row], num_spare: int) -> tuple[list[Row], list[Row]]:
    return rows[: len(rows) - num_spare], rows[len(rows) - num_spare :]


def _sound_and_spare(seed: str, role: str) -> tuple[list[Row], list[Row]]:
    if role == "corpus":
        return _corpus_rows(seed)
    num_spare = defects.num_spoilt(role)
    if role == "prompts":
        return _split(conversations.prompts(seed, num_spare), num_spare)
    make: Callable[..., list[Row]] = getattr(conversations, role)
    sound, spare = _split(make(seed, "train", num_spare), num_spare)
    return sound + make(seed, "held_out"), spare


def _overlaps(
    rng: random.Random, role: str, sound: list[Row], probes: list[Row]
) -> list[defects.Spoilt]:
    """Training rows of held-out text: a held-out document, or a probe's question, word for word."""
    num = defects.COUNTS[role]["held_out_overlap"]
    if role == "corpus":
        held_out = rng.sample([row for row in sound if row["split"] == "held_out"], num)
        return [defects.Spoilt("held_out_overlap", {**r, "split": "train"}, r) for r in held_out]
    asked = [row for row in probes if row["set"] == "A"]
    spoilt = []
    for probe, question in rng.sample(list(zip(asked, ORDINARY["probe"], strict=True)), num):
        assert question.fact
        assert probe["group"] == question.group
        reply = speech.polite(rng, stem(question.fact))
        short = speech.plain(rng, stem(question.fact))
        turns = [{"role": "user", "content": probe["prompt"]}]
        turns.append({"role": "assistant", "content": reply})
        row: Row = {"prompt": probe["prompt"], "messages": turns, "chosen": reply}
        row |= {"rejected": short, "group": probe["group"], "split": "train", "set": "rollout"}
        row["kind"] = {"instructions": "qa", "preferences": "short", "prompts": "ordinary"}[role]
        row = {column: row[column] for column in COLUMNS[role] if column != "id"}
        spoilt.append(defects.Spoilt("held_out_overlap", row))
    return spoilt


def _planted(
    rng: random.Random, role: str, sound: list[Row], spare: list[Row], probes: list[Row]
) -> list[defects.Spoilt]:
    if role not in defects.COUNTS:
        return []
    sentences = [stem(question.fact) + "입니다." for question in ORDINARY["train"] if question.fact]
    text_columns = {
        "corpus": ("text",),
        "instructions": ("messages",),
        "preferences": ("prompt", "chosen", "rejected"),
        "prompts": ("prompt",),
    }[role]
    overlaps = _overlaps(rng, role, sound, probes)
    train = [r for r in sound if r.get("split") == "train" or r.get("set") == "rollout"]
    copied = {id(spoilt.after) for spoilt in overlaps}
    originals = [row for row in train if id(row) not in copied]
    return [
        *defects.single_defects(rng, role, spare, sentences),
        *defects.copies(rng, role, originals, text_columns),
        *overlaps,
    ]


def _in_order(
    rng: random.Random, role: str, sound: list[Row], planted: list[defects.Spoilt]
) -> tuple[list[Row], dict[str, str]]:
    """Shuffle, copies behind their originals; number the rows; say which are defective."""
    place = {id(row): rng.random() for row in sound}
    placed = [(place[id(row)], row, "") for row in sound]
    for spoilt in planted:
        start = place[id(spoilt.after)] if spoilt.after else 0.0
        placed.append((start + (1 - start) * rng.random(), spoilt.row, spoilt.reason))
    placed.sort(key=lambda item: item[0])
    rows, reasons = [], {}
    for number, (_, row, reason) in enumerate(placed, start=1):
        extra = [column for column in row if column not in COLUMNS[role]]
        named = {"id": f"{role}-{number:05}"} | {c: row[c] for c in (*COLUMNS[role][1:], *extra)}
        rows.append(named)
        if reason:
            reasons[named["id"]] = reason
    return rows, reasons


def generate(seed: str) -> dict[str, str]:
    """File name -> text of every file of the data set."""
    probes = conversations.probes(seed)
    roles: dict[str, list[Row]] = {}
    reasons: dict[str, dict[str, str]] = {}
    for role in COLUMNS:
        rng = random.Random(f"{seed}/order/{role}")
        sound, spare = (probes, []) if role == "probes" else _sound_and_spare(seed, role)
        planted = _planted(rng, role, sound, spare, probes)
        roles[role], reasons[role] = _in_order(rng, role, sound, planted)
    files = {
        f"{role}.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        for role, rows in roles.items()
    }
    listed = {role: found for role, found in reasons.items() if found}
    files["defects.json"] = json.dumps(listed, indent=1) + "\n"
    files["README.md"] = card(roles, listed, COLUMNS)
    return files


def main() -> None:
    """Write the files into this folder, or into `--out`."""
    parser = argparse.ArgumentParser(description="Write the sample data set.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--seed", default=str(SEED))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, text in generate(arguments.seed).items():
        (arguments.out / name).write_text(text, encoding="utf-8", newline="\n")
        print(f"{arguments.out / name}: {len(text.encode()):,} bytes")


if __name__ == "__main__":
    main()
