import json
from pathlib import Path

from benchmarks.demo import BARS, RESULTS, table


def test_the_readme_shows_what_was_measured() -> None:
    runs = json.loads(RESULTS.read_text(encoding="utf-8"))["runs"]
    assert table(runs) in Path("README.md").read_text(encoding="utf-8")
    assert len(runs) == 3


def test_the_korean_readme_shows_some_of_it() -> None:
    rows = table(json.loads(RESULTS.read_text(encoding="utf-8"))["runs"]).splitlines()
    page = Path("README.ko.md").read_text(encoding="utf-8")
    shown = [row.partition("|")[2].partition("|")[2] for row in rows[2:]]
    assert sum(f" |{row}" in page for row in shown) == page.count("| ≥ ") + page.count("| ≤ ") == 5


def test_a_bar_knows_its_side() -> None:
    share = next(bar for bar in BARS if bar.name == "SFT: fact accuracy A")
    seconds = next(bar for bar in BARS if bar.name.startswith("Seconds"))
    assert share.holds(0.85) and not share.holds(0.84)
    assert seconds.holds(360) and not seconds.holds(361)
