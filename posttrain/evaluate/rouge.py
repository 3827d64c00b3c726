"""ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004) as F1, by the package `rouge-score`, for any script.

The package's own tokenizer drops all but a-z and 0-9, so that every Korean text scores 0
(huggingface/evaluate, issue 256). Ours keeps the letters, marks and digits of every script. Hangul,
kana, Han and Thai count by the character: the latter three put no space between words, and Korean
particles stick to the noun, so that words seldom match (Lee et al. 2020, "Reference and Document
Aware Semantic Evaluation Methods for Korean Language Summarization"; chrF counts characters for the
same reason, Popović 2015). Figures by the syllable are higher than by the word: compare like with
like.
"""

import re
import unicodedata
from typing import Literal

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

KINDS = {"1": "rouge1", "2": "rouge2", "l": "rougeL"}

_BY_CHARACTER = "가-힣ぁ-ゟァ-ヿ㐀-䶿一-鿿\u0e00-\u0e7f"
_UNITS = re.compile(f"[{_BY_CHARACTER}]|[^{_BY_CHARACTER}]+")


class UnicodeTokenizer(Tokenizer):  # type: ignore[misc]  # the package ships no types
    """Lower case, NFKC (which composes Hangul), no punctuation."""

    def __init__(self, unit: Literal["syllable", "word"]) -> None:
        self.unit = unit

    def tokenize(self, text: str) -> list[str]:
        """What is counted."""
        folded = unicodedata.normalize("NFKC", text).lower()
        kept = (one if unicodedata.category(one)[0] in "LMN" else " " for one in folded)
        words = "".join(kept).split()
        if self.unit == "word":
            return words
        return [unit for word in words for unit in _UNITS.findall(word)]


def f1(expected: str, response: str, unit: Literal["syllable", "word"]) -> dict[str, float]:
    """F1 of a response against its reference, by the end of the figure's name: 1, 2, l."""
    scorer = RougeScorer(list(KINDS.values()), tokenizer=UnicodeTokenizer(unit))
    scores = scorer.score(expected, response)
    return {name: float(scores[kind].fmeasure) for name, kind in KINDS.items()}
