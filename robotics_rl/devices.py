"""Which device computes."""

import platform
from pathlib import Path

import torch

from robotics_rl.errors import UsageError


def resolve_device(asked: str) -> str:
    """``auto`` → ``cuda`` where there is one, else ``cpu``; anything else as asked.

    Raises:
        UsageError: not a device, or one that this machine lacks.
    """
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = asked.partition(":")
    if asked != "cpu" and not (kind == "cuda" and (index.isdecimal() or asked == "cuda")):
        raise UsageError(f"unknown --device {asked!r}; use auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"--device {asked} is not there ({torch.cuda.device_count()} CUDA devices found); "
            "use --device cpu, or start with --gpus all and a CUDA build of torch"
        )
    return asked


def device_name(device: str) -> str:
    """Name of the processor or GPU, for the metadata."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def multiplies_bf16(device: str) -> bool:
    """Whether a device has units for bfloat16; without them it is emulated, many times slower."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return any(able.get(unit) for unit in ("avx512_bf16", "amx_bf16", "bf16"))
