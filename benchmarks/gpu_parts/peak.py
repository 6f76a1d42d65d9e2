"""What this device does at best, which the other parts are held against: a bf16 product and a copy."""

from collections.abc import Iterator

import torch

from benchmarks.gpu_parts.measure import Line, line, seconds

NOMINAL = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "GH200": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
}
"""Dense bf16 products by NVIDIA's data sheets, FLOP/s, by a part of the device's name, the first that fits."""


def nominal(name: str) -> float | None:
    return next((rate for part, rate in NOMINAL.items() if part in name), None)


def product_rate(device: str, size: int) -> float:
    """FLOP/s of bf16 products of random [size, size] matrices; zeros would be faster than real numbers are."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(left)

    def ten() -> None:
        for _ in range(10):
            torch.mm(left, right, out=out)

    return 10 * 2 * size**3 / seconds(device, ten)


def run(device: str, small: bool) -> Iterator[Line]:
    size = 256 if small else 8192
    rate = product_rate(device, size)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    known = nominal(name)
    told = f"nominal {known / 1e12:.0f}" if known else "nominal not known"
    share = {"ratio": rate / known, "to": "nominal"} if known else {}
    yield line(f"bf16 product, {size:,}^3", rate / 1e12, "TFLOP/s", note=f"{name}, {told}", **share)
    source = torch.empty((1 << 20) if small else (1 << 30), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    took = seconds(device, lambda: target.copy_(source))
    yield line("copy on the device, read and written", 2 * len(source) / took / 1e9, "GB/s")
    if device == "cuda":
        pinned = torch.empty(len(source), dtype=torch.uint8, pin_memory=True)
        took = seconds(device, lambda: target.copy_(pinned, non_blocking=True))
        yield line("copy to the device, pinned", len(source) / took / 1e9, "GB/s")
