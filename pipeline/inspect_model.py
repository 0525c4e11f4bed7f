"""`pixelmill inspect`: what a SavedModel takes and gives, and what must be said to run it."""

import os

from models.binding import bind
from models.card import ModelCard
from models.errors import ModelError
from models.signatures import read_model


def inspect(path: str) -> str:
    """Describes a SavedModel without running it. Raises ModelError when it is none."""
    try:
        info = read_model(os.path.abspath(os.path.expanduser(path)))
    except (OSError, ValueError) as error:
        raise ModelError(str(error)) from error
    lines = [
        f"{info.path}",
        f"  size         {info.size_bytes / 1e6:,.2f} MB, written by TensorFlow "
        f"{info.tensorflow_version or 'unknown'}, tags {', '.join(info.tags) or 'none'}",
        f"  fingerprint  {info.fingerprint[:16]}",
    ]
    for signature in info.signatures:
        lines.append(f"  signature    {signature.name}")
        lines += [f"    in         {tensor}" for tensor in signature.inputs]
        lines += [f"    out        {tensor}" for tensor in signature.outputs]
    command = f"pixelmill segment --input IMAGES --output OUT --model {path}"
    try:
        binding = bind(info, ModelCard())
    except ModelError as error:
        if "--value_range" not in str(error):
            return "\n".join([*lines, "", f"It cannot be run as it is: {error}"])
        return "\n".join(
            [
                *lines,
                "",
                "It takes floats. How were the pixels scaled in training? To [0, 1], to [-1, 1],",
                "or not at all (0 to 255, the model scales by itself)? Say so by --value_range:",
                "",
                f"  {command} --value_range=0,1",
            ]
        )
    size = "any size" if binding.size_hw is None else "{}x{}".format(*binding.size_hw)
    batch = "any" if binding.fixed_batch is None else str(binding.fixed_batch)
    lines += [
        f"  runs with    {binding.input_name} of {size}, batches of {batch}",
        "",
        "To run it:",
    ]
    return "\n".join([*lines, "", f"  {command}"])
