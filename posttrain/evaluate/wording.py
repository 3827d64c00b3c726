"""What stages, figures and numbers are called where people read them, in any kind of document."""

from posttrain.evaluate.language import catalogue
from posttrain.figures import Figure
from posttrain.recipe.evaluation import Language
from posttrain.recipe.harness import HARNESS
from posttrain.reports import Evaluation

FIGURES = tuple(catalogue("en")["figures"])
"""Built-in figures, in the order of the table; the recipe's probes stand after the perplexities."""

REWARD_FIGURES = tuple(catalogue("en")["reward_figures"])
"""Figures of the reward model on held-out pairs, in the order of the table."""

PERPLEXITIES = ("perplexity_domain", "perplexity_answers", "bits_per_byte_domain")
"""Stand first in tables."""

ROUGE = {"rouge_1": "ROUGE-1", "rouge_2": "ROUGE-2", "rouge_l": "ROUGE-L"}
"""Figures of a probe named `rouge`."""

LOWER_IS_BETTER = frozenset({*PERPLEXITIES, "violation_rate"})
HIGHER_IS_BETTER = frozenset(
    {"fact_cloze", "fact_accuracy", "helpfulness", "mean_score", "rlaif_score", *ROUGE}
)


def label(section: str, name: str, language: Language = "en") -> str:
    """A name in the catalogue's words; one that it lacks with spaces for underscores."""
    return catalogue(language)[section].get(name) or name.replace("_", " ")


def stage_label(stage: str, language: Language = "en") -> str:
    """`base_finetune` -> `Base FT`."""
    return _capital(label("stages", stage, language))


def figure_label(name: str, language: Language = "en") -> str:
    """`fact_accuracy.A` -> `Fact accuracy A`; `harness.arc_easy.acc` -> `arc_easy, acc`."""
    words = catalogue(language)
    if name in words["figures"]:
        return words["figures"][name]
    if name.startswith(HARNESS):  # benchmarks keep the names that people know them by
        return ", ".join(name.removeprefix(HARNESS).split(".", 1))
    probe, _, subset = name.partition(".")
    called = ROUGE.get(probe) or _capital(label("probes", probe, language))
    return f"{called} {subset}" if subset else called


def curve_label(name: str, language: Language = "en") -> str:
    """`grad_norm` -> `Gradient norm`."""
    return catalogue(language)["curves"].get(name) or figure_label(name, language)


def short_label(name: str, language: Language = "en") -> str:
    """A figure in the middle of a sentence: `fact accuracy`."""
    called = figure_label(name, language)
    first = called if called[:2].isupper() else called[:1].lower() + called[1:]  # ROUGE-L, KL
    return catalogue(language)["short"].get(name, first)


def count_label(name: str, language: Language = "en") -> str:
    """A row of the data's table: `supervised`, or a reason as `quarantined: near_duplicate`."""
    before, _, why = name.partition(": ")
    if before == "quarantined" and why:
        reason = label("reasons", why, language)
        return catalogue(language)["page"]["quarantined"].format(why=reason)
    return _capital(label("counts", name, language))


def lineage_label(name: str, language: Language = "en") -> str:
    """`git_commit` -> `Commit`; `data: corpus` -> `Data, corpus`."""
    before, _, role = name.partition(": ")
    if before == "data" and role:
        role = label("roles", role, language).lower()
        return catalogue(language)["lineage"]["data"].format(role=role)
    return _capital(label("lineage", name, language))


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def figure_names(evaluation: Evaluation) -> list[str]:
    """Every measured figure: perplexities, the probes as the recipe lists them, the rest.

    Benchmarks, which not every stage has, stand last.
    """
    seen = list(dict.fromkeys(name for stage in evaluation.stages for name in stage.figures))
    first = [name for name in PERPLEXITIES if name in seen]
    benchmarks = [name for name in seen if name.startswith(HARNESS)]
    probes = [name for name in seen if name not in FIGURES and name not in benchmarks]
    built_in = [name for name in FIGURES if name in seen and name not in first]
    return first + probes + built_in + benchmarks


def is_part(name: str) -> bool:
    """Whether a figure is a part of the one above it: a set of a probe."""
    return "." in name and not name.startswith(HARNESS)


def direction(name: str) -> int:
    """1 where higher is better, -1 where lower is, 0 where the name does not tell."""
    probe = name.partition(".")[0]
    return (probe in HIGHER_IS_BETTER) - (probe in LOWER_IS_BETTER)


def number(value: float) -> str:
    """A figure in as many digits as a reader compares: `1,581`, `94.3`, `2.62`, `0.03`, `0.004`."""
    size = abs(value)
    if size >= 1_000:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if 0 < size < 0.01:
        return f"{value:.1g}"
    return f"{value:.2f}"


def interval(figure: Figure) -> str:
    """The 95 % interval, `0.89-0.96` with an en dash; nothing where there is none."""
    return "–".join(number(bound) for bound in figure.bounds or ())


def duration(seconds: float) -> str:
    """`9.4 s`, `4:05`, `1:02:03`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(num_bytes: int) -> str:
    """`812 MiB`, `3.4 GiB`."""
    mebibytes = num_bytes / 2**20
    return f"{mebibytes:,.0f} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.1f} GiB"
