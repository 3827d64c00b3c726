"""Small results that cross step boundaries as artifacts. Imports pydantic alone."""

from typing import Any, Literal

from pydantic import Field

from posttrain.facts import Reference, RegisteredBase
from posttrain.figures import Figure, Items
from posttrain.profiles import DataDrift, RoleProfile
from posttrain.recipe.evaluation import Language
from posttrain.recipe.harness import HARNESS
from posttrain.recipe.section import Section

Stage = Literal["untrained", "base_finetune", "sft", "ppo", "dpo", "self_critique", "rlaif"]


class Sample(Section):
    """One question and a stage's answer to it."""

    probe: str
    prompt: str
    expected: str | None
    response: str


class StageEvaluation(Section):
    """What was measured of one stage's model."""

    stage: Stage
    figures: dict[str, Figure]
    """`perplexity_domain`, `bits_per_byte_domain`, `perplexity_answers`, every probe's name
    (`name_1`, `name_2`, `name_l` of ROUGE), `probe.set` where a probe reports by set; from the
    reward model on `mean_score`, `score_std`, `kl_to_sft`; with a second round `rlaif_score`,
    `rlaif_score_std`, by the second reward model; `ended_share`, `mean_length` (tokens); of the
    untrained base and the last stage a benchmark's `harness.<task>.<metric>`, and
    `harness.<task>.<metric>.<filter>` where it filters answers."""

    samples: tuple[Sample, ...]
    """The same questions for every stage."""

    warnings: tuple[str, ...] = ()
    """Signs, seen in training, of a result that came about for the wrong reason."""


class RewardEvaluation(Section):
    """Held-out pairs judged by the reward model."""

    accuracy: float
    by_kind: dict[str, float]
    num_pairs: int
    figures: dict[str, float]
    """`margin_mean`; `calibration_error` and, a bin of confidence in per cent, `accuracy_at_X_to_Y`
    and `num_at_X_to_Y`; `accuracy_equal_length`, `num_equal_length`; `length_correlation`."""


class JudgeEvaluation(Section):
    """RLAIF's judge on held-out human pairs, and what became of the pairs that it judged."""

    accuracy: float
    """Share preferred as people do, of the kinds that the recipe names."""

    by_kind: dict[str, float]
    num_pairs: int
    first_preferred: float
    """Mean probability given to the answer in the first place; 0.5 is fair."""

    order_decides: float
    """Share of pairs in which the winner changes with the order."""

    order_by_kind: dict[str, float]
    """The same of every kind, those that the recipe does not name too."""

    num_judged: int
    """Pairs of the model's own answers."""

    num_kept: int
    dropped: dict[str, int]
    """Reason -> pairs."""


class ScoredAnswers(Section):
    """The first reward model's judgement of one stage's answers to the held-out prompts."""

    stage: Stage
    lengths: tuple[int, ...]
    """Tokens of each answer."""

    scores: tuple[float, ...]
    """Centred scores, in the same order."""


class Revision(Section):
    """One self-critique sample, for a person to read."""

    prompt: str
    principle: str
    response: str
    critique: str
    revision: str | None
    """None where the critique found nothing."""

    outcome: str
    """`kept`, or the filter's reason."""


class RoleData(Section):
    """One role's records, from their source to the tokens."""

    source: str | None
    """Files, or a hub data set's id; None where it was not recorded."""

    revision: str | None
    """Commit of a hub data set."""

    counts: dict[str, int]
    """Rows, tokens, what tokenising dropped."""

    quarantined: dict[str, int]
    """Reason -> rows."""

    files: dict[str, str] = Field(default_factory=dict)
    """Source file -> SHA-256 of its bytes; empty for a hub data set."""

    profile: RoleProfile | None = None
    """What the rows look like; the next run's are compared with it."""

    @property
    def all_counts(self) -> dict[str, int]:
        """`counts`, and the rows that were kept out as `quarantined: <reason>`."""
        return self.counts | {f"quarantined: {why}": num for why, num in self.quarantined.items()}


class Training(Section):
    """How one stage was trained."""

    stage: str
    method: str
    num_trainable: int | None
    """None for Base FT, which records none."""

    recipe: dict[str, Any]
    """The stage's section."""

    figures: dict[str, float]


class Benchmark(Section):
    """A task of lm-evaluation-harness, as it was put to the models."""

    version: str
    """The task's own."""

    library: str
    """The harness's name and version."""

    datasets: tuple[str, ...]
    """Where its questions come from: hub ids, or the kind of a local file."""

    num_questions: int
    num_fewshot: int
    """Solved examples before each question."""

    fingerprint: str
    """SHA-256 over the task's settings and questions, and how they were put."""


TokenUse = Literal["encoded", "trained", "generated"]


class StepCost(Section):
    """What one step took, when it last ran: of a step from the cache, its first run's."""

    step: str
    """The step that is named in the manifest of what it made."""

    wall_seconds: float
    cpu_seconds: float
    """Of all processes and threads."""

    tokens: dict[TokenUse, int]
    """What was made of tokens -> how many; empty where the step has to do with none."""

    bytes_at_start: int
    """Resident memory before the step began: steps may share a process."""

    peak_bytes: int
    """Most resident memory seen, of the process and what it started."""

    peak_gpu_bytes: int | None
    """Most memory of the fullest GPU; None without one."""


class Package(Section):
    """A Python package that was installed."""

    version: str
    licence: str
    """SPDX expression where the package gives one; `unknown` where it says nothing."""


class Evaluation(Section):
    """Every stage in one table."""

    stages: tuple[StageEvaluation, ...]
    """In the order of training; the last is what is registered."""

    reward_model: RewardEvaluation | None
    scored: tuple[ScoredAnswers, ...]
    """SFT and what follows it; empty without a reward model."""

    revisions: tuple[Revision, ...]
    """Some of the self-critique's samples; empty without it."""

    critic_accuracy: float | None
    """Share of held-out critiques that the critic gets right; None without self-critique."""

    rlaif_reward_model: RewardEvaluation | None = None
    """The second reward model, on the same human pairs; None without a second round, as in
    evaluations that the registry holds from before."""

    ai_judge: JudgeEvaluation | None = None
    """None without a second round."""

    tokenizer_hash: str
    """Of the tokenizer whose tokens perplexities and lengths count."""

    held_out_hash: str
    """SHA-256 of what is measured on (held-out texts, probes, held-out prompts) and how
    (the evaluation recipe, less what sets effort alone): figures compare only where it is equal."""

    data_hashes: dict[str, str]
    """Role -> SHA-256 of the validated records that the run trained and measured on."""

    policy_hash: str
    """Content hash of the policy that the last stage is about."""

    benchmarks: dict[str, Benchmark] = Field(default_factory=dict)
    """Task -> what it asked; empty where the recipe names none."""

    base: Reference | None = None
    """The untrained base; None in evaluations that the registry holds from before."""

    data: dict[str, RoleData] = Field(default_factory=dict)
    """Role -> what the run trained and measured on."""

    trainings: tuple[Training, ...] = ()
    """Every trained stage, in the order of training."""

    costs: tuple[StepCost, ...] = ()
    """What each step up to this one took, in the order of the run."""

    drift: DataDrift | None = None
    """The data against those of the champion, as `validate` last found them."""

    base_version: RegisteredBase | None = None
    """The registered version that the base was made from."""

    constitution: str | None = None
    """SHA-256 of the constitution's file; None without self-critique."""

    report_language: Language = "en"
    """What the report opens in."""

    libraries: dict[str, str] = Field(default_factory=dict)
    """Library -> its version, where the models were measured: the image that trained them."""

    packages: dict[str, Package] = Field(default_factory=dict)
    """Every Python package that was installed there; empty in evaluations from before."""

    items: dict[str, Items] = Field(default_factory=dict)
    """Figure of the last stage -> its items; not of scores and benchmarks. Empty in evaluations
    that the registry holds from before."""

    def figure(self, stage: str, name: str) -> Figure | None:
        """One figure of one stage (`final`: the last), or None where it was not measured."""
        chosen = [s for s in self.stages if s.stage == stage] or (
            [self.stages[-1]] if stage == "final" else []
        )
        return chosen[0].figures.get(name) if chosen else None

    def measured_on(self, figure: str) -> str | None:
        """Hash of the questions behind a figure: two runs' figures compare where it is equal."""
        if not figure.startswith(HARNESS):
            return self.held_out_hash
        task = self.task_of(figure)
        return self.benchmarks[task].fingerprint if task is not None else None

    def task_of(self, figure: str) -> str | None:
        """The benchmark that a figure is of, or None."""
        tasks = sorted(self.benchmarks, key=len, reverse=True)  # names may have points in them
        return next((task for task in tasks if figure.startswith(f"{HARNESS}{task}.")), None)
