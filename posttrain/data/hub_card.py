"""What a hub data set says of its own files, before the client acts on it.

The card may name files by URL: `datasets` asks that address, whatever it is, and only afterwards
refuses it as none of the repository's. From inside a cluster that is a stranger's request.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import DatasetCard, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

CARDS = ("README.md", ".huggingface.yaml")
"""Files that `datasets` reads such words from."""


def check_card(name: str, revision: str | None) -> None:
    """Refuse a data set whose card names files that are not its own.

    Raises:
        ValueError: names the card and what it names.
    """
    for card in CARDS:
        try:
            text = Path(
                hf_hub_download(name, card, repo_type="dataset", revision=revision)
            ).read_text(encoding="utf-8", errors="replace")
        except EntryNotFoundError:
            continue
        head: Any = vars(DatasetCard(text).data) if card == CARDS[0] else yaml.safe_load(text)
        for path in _paths(head):
            if "://" in path or "::" in path or path.startswith(("/", "\\", "~")) or _climbs(path):
                raise ValueError(f"its {card} names data that is not its own: {path[:200]!r}")


def _paths(head: Any) -> Iterator[str]:
    configurations = head.get("configs") if isinstance(head, dict) else None
    for one in configurations if isinstance(configurations, list) else ():
        if isinstance(one, dict):
            yield from _strings([one.get("data_files"), one.get("data_dir")])


def _climbs(path: str) -> bool:
    return ".." in re.split(r"[/\\]", path)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)
