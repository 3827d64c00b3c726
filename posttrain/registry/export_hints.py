"""What a person who exported a folder should know of it, and what serves it."""

import json
import shlex
from pathlib import Path

from posttrain.models.exported import BASE, ExportedFacts
from posttrain.registry import served
from posttrain.registry.mlflow_folder import ARTIFACTS

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What `vllm serve --max-lora-rank` accepts."""


WITHOUT_LORA = ("GPT2LMHeadModel",)
"""Architectures that vLLM serves without adapters."""


def notes(facts: ExportedFacts) -> tuple[str, ...]:
    """Sentences on what this folder can't do, or does differently."""
    found = []
    if facts.format == "peft":
        if facts.method == "bottleneck":
            found.append("PEFT knows no bottleneck adapters: posttrain alone loads this folder")
        if facts.method == "dora":
            found.append("vLLM refuses DoRA adapters: serve --format merged there")
        if facts.architecture in WITHOUT_LORA:
            found.append("vLLM has no adapters for this architecture: serve --format merged there")
        if facts.quantization is not None:
            found.append(
                "trained on the base in 4 bits: on the base at 16 bits answers differ a little"
            )
        if facts.base.source == BASE:
            found.append(f"the base exists nowhere else: it was written to {BASE}/")
    elif facts.method == "qlora":
        found.append(
            "merged into the base at 16 bits or more; it was trained on the base in 4 bits, so "
            "answers differ: evaluate them before they replace the version's"
        )
    return tuple(found)


def commands(facts: ExportedFacts, layout: str, out: Path) -> tuple[str, ...]:
    """Commands that serve the folder, ready for a shell."""
    folder = shlex.quote(str(out))
    if layout == "mlflow":
        return (
            f"mlflow models serve -m {folder} --env-manager local --host 127.0.0.1 --port 5000",
            f"posttrain chat --folder {folder}/{ARTIFACTS}/{served.ARTIFACT}",
        )
    chat = f"posttrain chat --folder {folder}"
    if facts.format == "merged":
        return f"vllm serve {folder}", chat
    if facts.method in ("dora", "bottleneck") or facts.architecture in WITHOUT_LORA:
        return (chat,)
    return _vllm(facts, out), chat


def _vllm(facts: ExportedFacts, out: Path) -> str:
    folder, base = str(out), facts.base
    config = json.loads((out / "adapter_config.json").read_bytes())
    rank = next((rank for rank in VLLM_RANKS if rank >= config["r"]), config["r"])
    words = ["vllm", "serve", str(out / BASE) if base.kind == "own" else base.source]
    if base.revision:
        words += ["--revision", base.revision]
    # vLLM renders by the base's template unless it is told ours
    words += ["--tokenizer", folder, "--chat-template", str(out / "chat_template.jinja")]
    words += ["--enable-lora", "--max-lora-rank", str(rank)]
    return shlex.join([*words, "--lora-modules", f"{facts.name}={folder}"])
