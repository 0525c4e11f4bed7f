"""What is written of accelerators in flags: type, count, driver, sharing."""

import dataclasses

# The machine family that each is sold with, and the machine type that is taken unless one is said.
_FAMILIES = {
    "nvidia-l4": ("g2-", "g2-standard-4"),
    "nvidia-tesla-t4": ("n1-", "n1-standard-4"),
    "nvidia-tesla-p4": ("n1-", "n1-standard-4"),
    "nvidia-tesla-p100": ("n1-", "n1-standard-4"),
    "nvidia-tesla-v100": ("n1-", "n1-standard-4"),
    "nvidia-tesla-a100": ("a2-highgpu-", "a2-highgpu-1g"),
    "nvidia-a100-80gb": ("a2-ultragpu-", "a2-ultragpu-1g"),
    "nvidia-h100-80gb": ("a3-highgpu-", "a3-highgpu-1g"),
}
KNOWN = tuple(_FAMILIES)
SERVICE = "worker_accelerator="
WITHOUT = "n2-standard-4"  # the machine type for work on CPUs


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """As Dataflow writes it: "type:nvidia-l4;count:1;install-nvidia-driver".

    Attributes:
        kind: "nvidia-l4".
        count: on each worker; 0 when it cannot be read.
        options: all other parts, such as "install-nvidia-driver", "use_nvidia_mps".
    """

    kind: str
    count: int
    options: tuple[str, ...]

    @staticmethod
    def parse(text: str) -> "Accelerator":
        """Reads the full form, or the type alone, which stands for one with its driver."""
        if ":" not in text:
            return Accelerator(text, 1, ("install-nvidia-driver",))
        parts = [part.strip() for part in text.split(";") if part.strip()]
        fields = dict(part.split(":", 1) for part in parts if ":" in part)
        count = fields.get("count", "1")
        rest = tuple(p for p in parts if p.partition(":")[0] not in ("type", "count"))
        return Accelerator(fields.get("type", ""), int(count) if count.isdecimal() else 0, rest)

    def __str__(self) -> str:
        return ";".join([f"type:{self.kind}", f"count:{self.count}", *self.options])

    @property
    def has_driver(self) -> bool:
        return any(o.partition(":")[0] == "install-nvidia-driver" for o in self.options)

    @property
    def is_shared(self) -> bool:
        """Whether processes share one by NVIDIA's Multi-Process Service."""
        return any(o in ("use_nvidia_mps", "use-nvidia-mps") for o in self.options)

    @property
    def machine(self) -> str:
        """The machine type that its own text asks for, "" for none."""
        named = [o.partition(":")[2] for o in self.options if o.startswith("machine_type:")]
        return (named or [""])[0]

    @property
    def family(self) -> str:
        """How names of machine types begin that it is sold with; "" when it is unknown."""
        return _FAMILIES.get(self.kind, ("", ""))[0]

    @property
    def usual_machine(self) -> str:
        return self.machine or _FAMILIES.get(self.kind, ("", WITHOUT))[1]
