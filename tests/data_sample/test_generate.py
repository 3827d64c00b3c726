"""The committed sample data: regenerable, without leaks, as its card says."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import _domain
import _questions
import _similarity
import _speech
import jinja2
import pytest
import yaml

DATA = Path(__file__).resolve().parents[2] / "data"
Row = dict[str, Any]
ROLES = ("corpus", "instructions", "preferences", "prompts", "probes")


def texts(row: Row) -> list[str]:
    if "messages" in row:
        return [message["content"] for message in row["messages"]]
    return [row[name] for name in ("text", "prompt", "chosen", "rejected") if name in row]


def question(row: Row) -> str:
    asked: str = row["messages"][0]["content"] if "messages" in row else row["prompt"]
    return asked


def test_regenerating_gives_the_same_bytes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, DATA / "generate.py", "--out", tmp_path], check=True)
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == sorted([*(f"{role}.jsonl" for role in ROLES), "defects.json", "README.md"])
    for name in written:
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes(), name


def test_files_are_small() -> None:
    assert sum(path.stat().st_size for path in DATA.glob("*.jsonl")) < 10_000_000


def test_sizes_reach_what_the_demo_needs(sound: dict[str, list[Row]]) -> None:
    def count(role: str, **wanted: str) -> int:
        return sum(wanted.items() <= row.items() for row in sound[role])

    assert 4_000 <= len(sound["corpus"]) <= 6_000
    assert count("corpus", split="held_out") == 200
    assert count("instructions", split="train") >= 5_000
    assert count("instructions", split="held_out", kind="critique") >= 200
    assert count("instructions", split="held_out", kind="qa") >= 150
    assert count("preferences", split="train") >= 3_000
    assert count("preferences", split="held_out") >= 400
    assert count("probes", set="A") >= 150
    assert count("probes", set="B") >= 150
    assert count("probes", set="cloze") == len(_domain.FACTS) >= 140
    assert count("probes", set="provoking") >= 120
    assert 0.45 < count("prompts", kind="provoking") / len(sound["prompts"]) < 0.55


def test_similar_pairs_finds_what_comparing_all_finds() -> None:
    words = ["a b c d e f g h", "a b c d e f g i", "a b c d e f g h i", "x y z", "X, y z!", "q"]
    sets = [_similarity.shingles(text) for text in words]
    expected = {
        (i, j)
        for j in range(len(words))
        for i in range(j)
        if _similarity.similarity(sets[i], sets[j]) >= 0.7
    }
    assert {(i, j) for i, j, _ in _similarity.similar_pairs(words, 0.7)} == expected
    assert expected == {(0, 1), (0, 2), (3, 4)}


def receivers(sound: dict[str, list[Row]]) -> Iterator[tuple[str, Row]]:
    """Rows under the set that they belong to; training rows of all roles share one."""
    for role in ("instructions", "preferences", "prompts", "probes"):
        for row in sound[role]:
            if row.get("set") == "cloze":
                continue
            split = row.get("split") or row["set"]
            trains = split in ("train", "rollout")
            yield "train" if trains else f"{role}/{split}", row


def test_no_group_and_no_question_crosses_sets(sound: dict[str, list[Row]]) -> None:
    groups: dict[str, set[str]] = {}
    questions: dict[str, set[str]] = {}
    for name, row in receivers(sound):
        groups.setdefault(row["group"], set()).add(name)
        questions.setdefault(question(row), set()).add(name)
    assert not {group: sets for group, sets in groups.items() if len(sets) > 1}
    assert not {text: sets for text, sets in questions.items() if len(sets) > 1}


def test_rollout_prompts_are_asked_once(sound: dict[str, list[Row]]) -> None:
    groups = Counter(row["group"] for row in sound["prompts"])
    assert max(groups.values()) == 1


def test_transcripts_ask_no_held_out_question(sound: dict[str, list[Row]]) -> None:
    text = "\n".join(row["text"] for row in sound["corpus"])
    held_out = [
        q for name in _questions.ORDINARY if name != "train" for q in _questions.ORDINARY[name]
    ]
    held_out += [
        q for name in _questions.FORBIDDING if name != "train" for q in _questions.FORBIDDING[name]
    ]
    held_out += [*_questions.new_wordings(160), *_questions.never_asked(5)]
    assert not [q.core for q in held_out if f" {q.core}" in text]


def test_facts_of_set_c_stand_in_documents_alone(sound: dict[str, list[Row]]) -> None:
    told = "\n".join(row["text"] for row in sound["corpus"])
    taught = "\n".join(
        part
        for role in ("instructions", "preferences")
        for row in sound[role]
        if row["kind"] != "other_fact"
        for part in texts(row)
    )
    for fact in _domain.NEVER_ASKED:
        assert _domain.stem(fact) in told
        assert _domain.stem(fact) not in taught


def test_no_value_contains_another() -> None:
    values = {value for attribute in _domain.ATTRIBUTES for value in attribute.values}
    secrets = {request.secret for request in _speech.FORBIDDEN}
    assert not [(a, b) for a, b in permutations(values | secrets, 2) if a in b]
    assert not [(v, h) for v in values for h in _domain.HARBOURS if v in h]


def test_every_probe_answer_is_the_fact(sound: dict[str, list[Row]]) -> None:
    for row in sound["probes"]:
        if row["kind"] == "provoking":
            assert row["answer"] is None
            continue
        harbour, attribute = row["group"].split("/")[:2]
        keys = [a.key for a in _domain.ATTRIBUTES]
        fact = _domain.Fact(int(harbour[1:]), keys.index(attribute))
        assert row["answer"] == _domain.VALUES[fact]
        assert _domain.HARBOURS[fact.harbour] in row["prompt"]


@pytest.mark.parametrize(
    ("word", "particle", "joined"),
    [
        ("고래등항", "은", "고래등항은"),
        ("갈매기나루", "은", "갈매기나루는"),
        ("윤슬", "으로", "윤슬로"),
        ("고래등항", "으로", "고래등항으로"),
        ("갈매기나루", "으로", "갈매기나루로"),
        ("유자 엿", "을", "유자 엿을"),
        ("밀랍 초", "이", "밀랍 초가"),
        ("새벽 5시", "이야", "새벽 5시야"),
        ("오백 원", "이에요", "오백 원이에요"),
        ("붉은색", "이잖아", "붉은색이잖아"),
    ],
)
def test_particles_follow_the_last_syllable(word: str, particle: str, joined: str) -> None:
    assert _domain.attach(word, particle) == joined


def test_card_counts_are_true(
    rows: dict[str, list[Row]],
    sound: dict[str, list[Row]],
    reasons: dict[str, dict[str, str]],
) -> None:
    card = (DATA / "README.md").read_text(encoding="utf-8")
    assert "synthetic and fictional" in card
    for role, found in sound.items():
        assert f"| {role} | **all** |  | **{len(found)}** |" in card
        kinds = Counter((r.get("split") or r["set"], r.get("kind", "text")) for r in found)
        for (split, kind), num in kinds.items():
            assert f"| {role} | {split} | {kind} | {num} |" in card
    planted = [role for role in rows if reasons[role]]
    for reason in {reason for found in reasons.values() for reason in found.values()}:
        counts = [Counter(reasons[role].values())[reason] or "" for role in planted]
        assert f"| {reason} | " + " | ".join(map(str, counts)) + " |" in card


def test_markers_tell_the_styles_apart(sound: dict[str, list[Row]]) -> None:
    for row in sound["preferences"]:
        if row["kind"] == "refusal":
            assert _speech.is_violation(row["chosen"])
            assert not _speech.is_violation(row["rejected"])
            assert any(marker in row["rejected"] for marker in _speech.REFUSAL_MARKERS)
        else:
            assert not _speech.is_violation(row["chosen"])
            assert row["kind"] != "rude" or _speech.is_violation(row["rejected"])


def test_critiques_fit_the_answers(sound: dict[str, list[Row]]) -> None:
    demonstrations = [row for row in sound["instructions"] if row["kind"] == "critique"]
    requests = {principle.critique_request for principle in _speech.PRINCIPLES}
    for row in demonstrations:
        reply, asked, critique = row["messages"][1:4]
        assert reply["learn"] is False
        assert asked["content"] in requests
        finds_nothing = any(m in critique["content"] for m in _speech.NO_FAULT_MARKERS)
        if _speech.is_violation(reply["content"]):
            assert not finds_nothing
        if len(row["messages"]) > 4:
            assert not finds_nothing
            assert not _speech.is_violation(row["messages"][5]["content"])


def test_constitution_has_both_languages() -> None:
    principles = yaml.safe_load((DATA / "constitution.yaml").read_text())["principles"]
    assert len(principles) >= 8
    assert len({principle["id"] for principle in principles}) == len(principles)
    for principle in principles:
        for part in ("principle", "critique_request", "revision_request"):
            assert set(principle[part]) == {"ko", "en"}, principle["id"]


def test_template_ends_each_turn_and_opens_the_answer() -> None:
    source = (DATA / "chat_template.jinja").read_text()
    plain = source.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", "")
    assert plain != source
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    render = jinja2.Environment(autoescape=False).from_string(plain).render
    assert render(messages=messages) == "<|user|>a<|end|><|assistant|>b<|end|>"
    asked = render(messages=messages[:1], add_generation_prompt=True)
    assert asked == "<|user|>a<|end|><|assistant|>"
