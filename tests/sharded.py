"""Full training of a base by FSDP2 in two processes on the CPU: `python -m tests.sharded JOB.json`.

Accelerate starts it. Every process holds a part of each weight, gradient and moment; whole weights
are gathered once, at the end, and the first process writes them.
"""

import json
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

from posttrain import processes
from posttrain.train.collate import IGNORED


def main() -> None:
    """Train on this process's rows of each batch, and leave weights and what each process held."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out = Path(job["out"])
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["LlamaDecoderLayer"],
    )
    accelerator = Accelerator(cpu=True, fsdp_plugin=plugin)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(job["weights"], dtype=torch.float32)
    num_weights = sum(weight.numel() for weight in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=job["learning_rate"])
    model, optimizer = accelerator.prepare(model, optimizer)
    for batch in job["batches"]:
        ours = torch.tensor(batch[processes.share_of(len(batch))])
        loss = model(input_ids=ours, labels=ours.where(ours > 0, IGNORED), use_cache=False).loss
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    held = sum(
        one.to_local().numel() if isinstance(one, DTensor) else one.numel()
        for one in model.parameters()
    )
    (out / f"{processes.rank()}.json").write_text(json.dumps([held, num_weights]))
    state = accelerator.get_state_dict(model)
    if accelerator.is_main_process:
        torch.save(state, out / "weights.pt")
    accelerator.end_training()


if __name__ == "__main__":
    main()
