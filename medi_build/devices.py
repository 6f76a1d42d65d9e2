"""Where models and searches run."""

import os
from typing import NamedTuple

from medi_build.errors import OptionError

Device = str
"""``"cpu"``, ``"cuda"`` for all GPUs, ``"cuda:1"`` for one of them."""
_LAUNCHERS = {"WORLD_SIZE": 1, "RANK": 0, "LOCAL_WORLD_SIZE": 1, "LOCAL_RANK": -1}
"""Variables that launchers set, and the least that each may be; LOCAL_RANK is -1 where there is one process."""


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


def cores() -> int:
    """Cores that this process may use; all of the machine's where the system does not say."""
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        return int(os.process_cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Processes(NamedTuple):
    """Processes that a launcher such as torchrun started for one run, and which of them this is, from 0."""

    started: int
    rank: int


def processes() -> Processes:
    """What a launcher's variables say; (1, 0) where they are not set or empty.

    Empty ones are taken out of the environment: the libraries below read them as numbers.

    Raises:
        OptionError: a variable is no whole number, or RANK is not below WORLD_SIZE.
    """
    found: dict[str, int] = {}
    for name, least in _LAUNCHERS.items():
        value = os.environ.get(name, "").strip()
        if not value:
            os.environ.pop(name, None)
            continue
        if not value.removeprefix("-").isdecimal() or int(value) < least:
            raise OptionError(
                f"the environment variable {name} is {value!r}, but must be a whole number of at least {least}; "
                "launchers such as torchrun set it, unset it for a run without one"
            )
        found[name] = int(value)
    count, rank = found.get("WORLD_SIZE", 1), found.get("RANK", 0)
    if rank >= count:
        raise OptionError(
            f"the environment variable RANK is {rank}, but must be below WORLD_SIZE, which is {count}; launchers such "
            "as torchrun set both, unset them for a run without one"
        )
    return Processes(count, rank)


def has_fast_bfloat16(device: Device = "cpu") -> bool:
    """Whether a device multiplies bfloat16 faster than float32: GPUs that do it natively, and some processors.

    By AMX these do, and by AVX512-BF16 on AMD's. An Intel Xeon whose virtual machine hides AMX has AVX512-BF16, too,
    and took 1.45 times as long for bfloat16 as for float32 (docs/performance.md).
    """
    import torch

    if device != "cpu":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    intel = "Intel" in str(able.get("cpu_name", ""))
    return bool(able.get("amx_tile") or (able.get("avx512_bf16") and not intel))
