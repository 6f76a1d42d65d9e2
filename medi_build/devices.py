"""Where models and searches run."""

from medi_build.errors import OptionError

Device = str
"""``"cpu"``, ``"cuda"`` for all GPUs, ``"cuda:1"`` for one of them."""


def devices(device: Device | None) -> list[Device]:
    """The single devices that a name stands for; None for the GPUs if there are any, else the CPU.

    Raises:
        OptionError: there is no such device.
    """
    import torch  # here, as looking around has to be quick

    try:
        wanted = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise OptionError(f"device {device!r} is not known; use 'cpu', 'cuda' or 'cuda:0'") from error
    if wanted.type == "cpu":
        return ["cpu"]
    if wanted.type != "cuda":
        raise OptionError(f"device {device!r} is not supported; use 'cpu', 'cuda' or 'cuda:0'")
    count = torch.cuda.device_count()
    if count <= (wanted.index or 0):
        raise OptionError(f"device {device!r} is not here ({count} GPUs are visible); use 'cpu' or another index")
    return [f"cuda:{index}" for index in (range(count) if wanted.index is None else [wanted.index])]


def has_fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 natively, by AVX512-BF16 or AMX."""
    import torch

    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_tile"))
