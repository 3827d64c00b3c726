"""Device, precision and threads of this process, from `Runtime`."""

import torch
from transformers.utils import logging
from transformers.utils.import_utils import is_flash_attn_2_available

from posttrain.runtime import Runtime


def device(runtime: Runtime) -> torch.device:
    """The device that models run on.

    Raises:
        ValueError: a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if runtime.device == "cuda" and not available:
        raise ValueError("POSTTRAIN_DEVICE=cuda, but torch finds no GPU; set it to cpu or auto")
    return torch.device("cuda" if available and runtime.device != "cpu" else "cpu")


def dtype(runtime: Runtime) -> torch.dtype:
    """Precision of base weights; adapters are float32 whatever this is."""
    if runtime.dtype != "auto":
        return torch.float32 if runtime.dtype == "float32" else torch.bfloat16
    on_gpu = device(runtime).type == "cuda"
    # older GPUs emulate bfloat16, slower than float32
    native = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float32


def attention(runtime: Runtime) -> str:
    """FlashAttention where GPU, precision and package allow it; else PyTorch's own."""
    half = device(runtime).type == "cuda" and dtype(runtime) == torch.bfloat16
    kind = "flash_attention_2" if half and is_flash_attn_2_available() else "sdpa"
    logging.get_logger(__name__).info_once(f"attention: {kind}")
    return kind


def prepare(seed: int) -> Runtime:
    """Read the runtime, set torch's threads and seed its generators."""
    runtime = Runtime.from_environment()
    logging.disable_progress_bar()  # of loading and saving shards; training shows its own
    torch.set_num_threads(runtime.threads)
    torch.manual_seed(seed)
    return runtime
