"""C10: self-critique, prompts a second, against one prompt at a time.

Answer, critique, revision and the revision's critique of each prompt, all greedy: the arms must say
the same.
"""

from benchmarks.baselines.tutorial_critique import Critique
from benchmarks.gpu_models import make_assistant
from benchmarks.harness import Arm, Bench, Prepared, Row, Target, Watch
from benchmarks.material import SEED, lengths, make_base, texts, tokenizer
from benchmarks.rows.c04_rollout import whole
from posttrain.align.constitution import Constitution, Localised, Principle
from posttrain.align.revise import CRITIC, LEARNER, Draft, Speaker, criticise_revisions, revise
from posttrain.align.revise import answer as answer_all
from posttrain.align.rows import Prompt, sampling_by
from posttrain.data.chat import encode_prompts
from posttrain.models.device import prepare as prepare_torch
from posttrain.models.load import attach, load_base
from posttrain.recipe.self_critique import SelfCritiqueRecipe
from posttrain.recipe.sft import SftRecipe

PROMPT_LENGTH = 24
REQUESTS = ("bada gilo manu teko", "rivo salu denta kope")
Said = list[tuple[str, ...]]


def constitution() -> Constitution:
    """One principle in words of the made-up language."""
    first, second = (Localised(ko=text, en=text) for text in REQUESTS)
    one = Principle(id="one", principle=first, critique_request=first, revision_request=second)
    return Constitution(principles=(one,))


def said_of(drafts: list[Draft]) -> Said:
    """Everything that was said, by prompt."""
    return [
        tuple(
            one.text
            for one in (draft.response, *draft.critiques, *draft.revisions, draft.second_critique)
            if one is not None
        )
        for draft in drafts
    ]


def prepare(bench: Bench) -> Prepared:
    """Prompts, an adapter of each role on the base, and the base alone."""
    prepare_torch(SEED)
    base, ours = make_base(bench), tokenizer()
    sft = SftRecipe(learning_rate=1e-5, num_epochs=1, batch_size=1)
    assistant = make_assistant(base, sft, bench.folder / "assistant")
    model = attach(load_base(base), assistant, base, CRITIC, trainable=False)
    model = attach(model, assistant, base, LEARNER, trainable=False)
    recipe = SelfCritiqueRecipe(
        constitution="",
        learning_rate=1e-5,
        num_epochs=1,
        batch_size=1,
        num_samples=1,
        max_new_tokens=4 if bench.quick else 32,
        no_fault_markers=("<never said>",),
    ).model_copy(update={"temperature": 0.0})
    speaker = Speaker(model, ours, sampling_by(ours, recipe))
    ids = texts(lengths(2 if bench.quick else 32, PROMPT_LENGTH))
    questions = [str(ours.decode(one)).strip() for one in ids]
    prompts = prompts_of(questions)
    tutorial = Critique(whole(base.path / "weights"), ours, REQUESTS, recipe.max_new_tokens)
    found: dict[str, Said] = {}

    def batched(watch: Watch) -> None:
        with watch.timing():
            drafts = answer_all(prompts, speaker, constitution(), recipe)
            revise(drafts, 0, speaker, recipe)
            criticise_revisions(drafts, speaker, recipe)
        watch.count(len(prompts))
        found["ours"] = said_of(drafts)

    def singly(watch: Watch) -> None:
        with watch.timing():
            found["theirs"] = [tutorial.revise(question) for question in questions]
        watch.count(len(prompts))
        if found["ours"] != found["theirs"]:
            raise ValueError("C10: the arms answer, criticise or revise differently")

    facts = {"seed": SEED, "prompts": len(prompts), "max_new_tokens": recipe.max_new_tokens}
    return Prepared([Arm("ours", batched), Arm("one by one", singly)], facts)


def prompts_of(questions: list[str]) -> list[Prompt]:
    """Questions as the artifact's prompts."""
    prompts = []
    for number, question in enumerate(questions):
        messages = [{"role": "user", "content": question}]
        ids = encode_prompts(tokenizer(), [messages])[0]
        prompts.append(Prompt(f"q{number}", "k", "g", messages, ids))
    return prompts


ROW = Row(
    name="C10",
    title="Self-critique, prompts/s",
    targets=(
        Target(what="one prompt at a time", ours="ours", theirs="one by one", bound=5, aim=8),
    ),
    prepare=prepare,
)
