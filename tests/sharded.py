"""Full training of a base by FSDP2 in two processes on the CPU: `python -m tests.sharded JOB.json`.

Accelerate starts the processes; on a CPU it offers DDP alone, so the weights are sharded by torch's
`fully_shard`, which accelerate calls on GPUs. Every process holds a part of each weight, gradient
and moment; whole weights are gathered once, at the end, and the first process writes them.
"""

import json
import os
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors.torch import save_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

from posttrain import processes


def main() -> None:
    """Train on this process's rows of each batch, and leave weights and what each process held."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out = Path(job["out"])
    PartialState(cpu=True)
    mesh = init_device_mesh("cpu", (processes.count(),))
    model = AutoModelForCausalLM.from_pretrained(job["weights"], dtype=torch.float32)
    num_weights = sum(weight.numel() for weight in model.parameters())
    for part in (*model.model.layers, model):
        fully_shard(part, mesh=mesh)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_force_sum_reduction_for_comms(True)  # gloo sums, and has no average
    optimizer = torch.optim.AdamW(model.parameters(), lr=job["learning_rate"])
    for batch in job["batches"]:
        ours = torch.tensor(batch[processes.share_of(len(batch))])
        model(input_ids=ours, labels=ours, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    held = sum(one.to_local().numel() for one in model.parameters() if isinstance(one, DTensor))
    (out / f"{processes.rank()}.json").write_text(json.dumps([held, num_weights]))
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_model_state_dict(model, options=options)
    if processes.is_main():
        save_file({name: one.clone() for name, one in state.items()}, out / "weights.safetensors")
    processes.wait()
    # as `posttrain.launch` ends: a thread of a library's may outlive the interpreter's own end
    os._exit(0)


if __name__ == "__main__":
    main()
