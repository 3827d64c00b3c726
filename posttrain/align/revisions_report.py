"""The revisions as a static page: what the critic is worth, what was kept and why, every sample.

No JavaScript and no links: ZenML's dashboard shows it in a sandboxed frame 384 pixels high. Texts
are escaped, and personal data in them are masked.
"""

from collections import Counter
from html import escape

from posttrain.align.revise import NO_FAULT, REVISED, Sample
from posttrain.artifacts import Revisions
from posttrain.data.pii import mask

SAMPLES = "samples.jsonl"

WORDS = {
    REVISED: "revised",
    NO_FAULT: "no fault found",
    "cut_off": "an utterance has no end",
    "empty": "empty answer",
    "echo": "repeats critique or request",
    "preamble": "talks about itself",
    "unchanged": "same as before",
    "still_faulty": "second critique finds fault",
}

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #16191d; --muted: #626a73;
  --rule: #e2e5e9; --good: #1c7148; --bad: #b02a22; }
@media (prefers-color-scheme: dark) { :root { --page: #131518; --ink: #e7e9ec; --muted: #98a0a9;
  --rule: #2d3238; --good: #6ccb97; --bad: #ff8d83; } }
body { margin: 0; padding: 1rem clamp(1rem, 3vw, 2rem) 3rem; background: var(--page);
  color: var(--ink); font: 15px/1.5 Pretendard, "Noto Sans KR", "Noto Sans CJK KR", system-ui,
  "Apple SD Gothic Neo", "Malgun Gothic", sans-serif; font-variant-numeric: tabular-nums; }
h1 { font-size: 1.4rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p { margin: 0 0 .5rem; color: var(--muted); max-width: 60rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem 1rem .4rem 0;
  border-bottom: 1px solid var(--rule); overflow-wrap: anywhere; word-break: keep-all; }
th { color: var(--muted); font-weight: 400; font-size: .85rem; }
.counts { width: auto; } .counts td + td { text-align: right; }
.samples { min-width: 56rem; table-layout: fixed; } .samples th:first-child { width: 20%; }
.samples small { color: var(--muted); display: block; }
.kept { color: var(--good); } .dropped { color: var(--bad); }
summary { cursor: pointer; }
"""


def render(revisions: Revisions) -> str:
    """The page; the revised samples first, then the dropped, then those without fault."""
    samples = read_samples(revisions)
    facts = revisions.facts
    kept = [sample for sample in samples if sample.kept]
    revised = [sample for sample in kept if sample.outcome == REVISED]
    groups = {
        f"Revised and kept ({len(revised)})": revised,
        f"Dropped ({len(samples) - len(kept)})": [one for one in samples if not one.kept],
        f"No fault found, kept as they are ({len(kept) - len(revised)})": [
            one for one in kept if one.outcome == NO_FAULT
        ],
    }
    tables = [
        f"<details{' open' if place == 0 else ''}><summary><b>{title}</b></summary>"
        f"{_table(group)}</details>"
        for place, (title, group) in enumerate(groups.items())
        if group
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Revisions</title><style>{STYLE}</style></head><body>"
        f"<h1>{len(kept):,} of {facts.num_samples:,} samples are learned, {len(revised):,} of them "
        "revised</h1>"
        f"<p>The critic judged {facts.critic_accuracy:.1%} of held-out answers rightly. Personal "
        "data are masked here and whole in the artifact.</p>"
        f"{_outcomes(samples)}{''.join(tables)}</body></html>"
    )


def read_samples(revisions: Revisions) -> list[Sample]:
    """Every sample, in the order of the prompts."""
    lines = (revisions.path / SAMPLES).read_text(encoding="utf-8").splitlines()
    return [Sample.model_validate_json(line) for line in lines]


def _outcomes(samples: list[Sample]) -> str:
    counts = Counter((sample.outcome, sample.kept) for sample in samples)
    rows = [
        f"<tr><td>{escape(WORDS[outcome])}</td><td>{count:,}</td><td>{_verdict(is_kept)}</td></tr>"
        for (outcome, is_kept), count in counts.most_common()
    ]
    return (
        '<table class="counts"><thead><tr><th>outcome</th><th>samples</th><th></th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table><h2>Samples</h2>"
    )


def _table(samples: list[Sample]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("prompt", "answer", "critique", "revision"))
    return (
        f'<div class="scroll"><table class="samples"><thead><tr>{head}<th>outcome</th></tr></thead>'
        f"<tbody>{''.join(map(_row, samples))}</tbody></table></div>"
    )


def _row(sample: Sample) -> str:
    critiques = "<br>".join(
        f"<small>{escape(one.principle)}</small>{_text(one.critique)}" for one in sample.rounds
    )
    revisions = "<br>".join(
        _text(one.revision) for one in sample.rounds if one.revision is not None
    )
    second = sample.second_critique
    again = "" if second is None else f"<small>second critique: {_text(second)}</small>"
    cells = [
        f"{_text(sample.prompt)}<small>{escape(sample.prompt_id)}</small>",
        _text(sample.response),
        critiques,
        revisions,
        f"{_verdict(sample.kept)} {escape(WORDS[sample.outcome])}{again}",
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _verdict(is_kept: bool) -> str:
    return '<b class="kept">kept</b>' if is_kept else '<b class="dropped">dropped</b>'


def _text(text: str) -> str:
    return escape(mask(text))
