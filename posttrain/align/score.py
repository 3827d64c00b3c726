"""The score of a response: a linear head on the last hidden state of its last real token.

The token is found from the attention mask, never by comparing ids with the pad id (which may be the
end token). The head is saved beside the adapter (or weights of the reward model's own) and loaded
key by key: PEFT would drop it without a word. Scores are centred on the SFT model's own samples.

Shapes: B sequences, S positions, D width.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from posttrain import processes
from posttrain.align.forward import causal, hidden_states, like_lengths, pad_right, using
from posttrain.artifacts import BaseModel, RewardModel
from posttrain.contract import check_trained_on
from posttrain.models.adapters import attach_folder
from posttrain.models.generate import evaluating
from posttrain.models.load import check_quantization, load_backbone
from posttrain.models.merged import merged

SCORE_FILE = "score.safetensors"
WEIGHTS = "weights"
"""Folder of a reward model's own weights."""


class ScoreHead(nn.Module):
    """Hidden state to one number, in float32 whatever the base's precision. Starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1, dtype=torch.float32)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden_BD: Tensor) -> Tensor:
        """Scores of hidden states of any leading shape."""
        with torch.autocast(hidden_BD.device.type, enabled=False):  # a trainer may turn it on
            score_B: Tensor = self.linear(hidden_BD.float()).squeeze(-1)
        return score_B


def new_head(model: PreTrainedModel | PeftModel) -> ScoreHead:
    """A head of the model's width, on its device."""
    owner = causal(model)
    return ScoreHead(owner.config.get_text_config().hidden_size).to(owner.device)


def save_head(head: ScoreHead, folder: Path) -> None:
    """Write `score.safetensors`."""
    save_file(head.state_dict(), folder / SCORE_FILE)


def load_head(head: ScoreHead, folder: Path) -> None:
    """Fill the head from `score.safetensors`.

    Raises:
        ValueError: the file is missing, or its keys or shapes are not exactly the head's.
    """
    file = folder / SCORE_FILE
    if not file.is_file():
        raise ValueError(
            f"{folder}: no {SCORE_FILE}; a reward model without its head scores nothing"
        )
    found = load_file(file, device=str(head.linear.weight.device))
    wanted = {key: tuple(tensor.shape) for key, tensor in head.state_dict().items()}
    if wanted != (shapes := {key: tuple(tensor.shape) for key, tensor in found.items()}):
        raise ValueError(f"{file}: holds {shapes}; the head of this base needs {wanted}")
    head.load_state_dict(found)


def last_real(hidden_BSD: Tensor, mask_BS: Tensor) -> Tensor:
    """Hidden state (B, D) at each row's last position whose mask is set."""
    position_S = torch.arange(mask_BS.shape[1], device=mask_BS.device)
    last_B = (mask_BS * position_S).argmax(-1)
    return hidden_BSD[torch.arange(len(last_B), device=last_B.device), last_B]


def raw_scores(
    model: PreTrainedModel | PeftModel, head: ScoreHead, ids_BS: Tensor, mask_BS: Tensor
) -> Tensor:
    """Scores (B) under the active adapter, not centred, with gradients."""
    score_B: Tensor = head(last_real(hidden_states(model, ids_BS), mask_BS))
    return score_B


@dataclass(frozen=True)
class Scorer:
    """A reward model that judges: its adapter among others on the base, its head, its centre."""

    model: PreTrainedModel | PeftModel
    adapter: str | None
    """On the base that the policies share; None where all weights are the reward model's own."""

    head: ScoreHead
    mean: float
    pad_id: int

    @torch.no_grad()
    def scores(self, rows: Sequence[Sequence[int]], batch_size: int) -> Tensor:
        """Centred scores (on the CPU) of prompts with their responses, end token included.

        The caller's active adapter and every module's mode are as before afterwards.
        """
        ours = rows[processes.share_of(len(rows))]
        scores = torch.empty(len(ours))
        device = causal(self.model).device
        with self._active(), evaluating(self.model), merged(self.model):
            for indices in like_lengths([len(row) for row in ours], batch_size, device):
                chosen = [ours[index] for index in indices]
                ids_BS, mask_BS = pad_right(chosen, self.pad_id, device)
                scores[indices] = raw_scores(self.model, self.head, ids_BS, mask_BS).cpu()
        return torch.tensor(processes.gathered(scores.tolist())) - self.mean

    def _active(self) -> AbstractContextManager[None]:
        if self.adapter is None:
            return nullcontext()
        return using(cast(PeftModel, self.model), self.adapter)


def load_scorer(
    model: PreTrainedModel | PeftModel,
    reward: RewardModel,
    base: BaseModel,
    pad_id: int,
    name: str = "reward",
) -> Scorer:
    """Add a reward model to a base that may carry other adapters already.

    One with weights of its own is a second model in memory, beside the base.

    Raises:
        ValueError: it was trained on something else, or its files are not whole.
    """
    facts = reward.verify().facts
    check_trained_on(facts.trained_on, base, reward.path)
    if facts.method == "full":
        own = load_backbone(reward.path / WEIGHTS, base.facts.architecture)
        return Scorer(own, None, _head_of(own, reward), facts.score_mean, pad_id)
    check_quantization(model, facts, reward.path)
    before = model.active_adapter if isinstance(model, PeftModel) else name
    adapted = attach_folder(model, reward.path / "adapter", name, trainable=False)
    adapted.set_adapter(before, inference_mode=True)
    return Scorer(adapted, name, _head_of(adapted, reward), facts.score_mean, pad_id)


def _head_of(model: PreTrainedModel | PeftModel, reward: RewardModel) -> ScoreHead:
    head = new_head(model)
    load_head(head, reward.path)
    head.requires_grad_(False)
    return head
