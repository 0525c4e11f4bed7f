"""Windows and views of a run: how they follow from its flags and its model."""

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

from models.binding import Binding
from models.errors import UserError
from models.halo import Halo, Run, measure_halo
from models.views import PLAIN, View, views_of
from pipeline import run_files
from transforms.tiling.windows import Blend, Tiling

_FLAGS = ("overlap_px", "blend")


def choose_views(flags: argparse.Namespace, binding: Binding) -> tuple[View, ...]:
    """The views of --tta. Raises UserError for a model that has none to average."""
    if not flags.tta:
        return (PLAIN,)
    if binding.kind == "class_ids":
        raise UserError("--tta averages probabilities, and the model answers class ids only")
    if binding.fit == "crop":
        raise UserError("--tta and --fit=crop exclude each other")
    if "scales" in flags.tta and (binding.size_hw or binding.max_side_px):
        raise UserError(
            "--tta=scales has no effect: the model gets all pictures at one size; leave scales out"
        )
    if flags.mask_size == "model":
        raise UserError("--tta makes masks of the picture's size; leave --mask_size=model out")
    return views_of(flags.tta)


def choose_tiling(
    flags: argparse.Namespace, binding: Binding, out: str, run: Callable[[], Run]
) -> tuple[Tiling | None, dict[str, Any]]:
    """The windows of a run, and what its identity says of them; a resumed run keeps them.

    Args:
        run: gives what `measure_halo` runs, for a model of any size.

    Raises:
        UserError: flags contradict each other or the model.
    """
    if flags.tile_px is None:
        if given := [name for name in _FLAGS if getattr(flags, name) is not None]:
            raise UserError(f"--{given[0]} is of windows; give --tile_px, or leave it out")
        return None, {}
    _check(flags, binding)
    asked = {"tile_px": list(flags.tile_px), **{name: getattr(flags, name) for name in _FLAGS}}
    stored = None if flags.overwrite else run_files.read_run(out)
    known = stored.identity.get("tiling") if stored is not None else None
    if isinstance(known, dict) and known.get("asked") == asked:
        tiling = Tiling(
            tuple(known["tile_hw"]), tuple(known["overlap_hw"]), known["blend"], known["period_px"]
        )
    else:
        halo = None if binding.size_hw is not None else _halo(binding, run)
        tiling, said = settle(flags.tile_px, flags.overlap_px, flags.blend, halo, binding)
        print(f"windows: {said}", flush=True)
    fields = dataclasses.asdict(tiling)
    return tiling, {"tiling": {"asked": asked, **{k: _plain(v) for k, v in fields.items()}}}


def settle(
    tile_hw: tuple[int, int],
    overlap_px: int | str | None,
    blend: Blend | None,
    halo: Halo | None,
    binding: Binding,
) -> tuple[Tiling, str]:
    """Windows by what was asked for and what is known of the model, and a sentence about them.

    Args:
        halo: of a model that takes any size; None for others.

    Raises:
        UserError: the overlap leaves no room.
    """
    period = 1 if halo is None else halo.period_px or binding.multiple_of or 1
    largest = min(tile_hw) - 2 * period + 1
    needed = halo.overlap_px if halo else None
    if largest < 0:
        raise UserError(f"--tile_px={min(tile_hw)} is too small for a period of {period} px")
    if isinstance(overlap_px, int):
        if overlap_px > largest:
            raise UserError(
                f"--overlap_px={overlap_px} is too large for windows of {min(tile_hw)} px at steps "
                f"of {period} px; at most {largest} fit"
            )
        shared = overlap_px
    elif needed is not None and needed <= largest:
        shared = needed
    else:
        shared = min(largest, min(tile_hw) // 2)
    exact = needed is not None and shared >= needed
    if blend is None:
        blend = "crop" if exact or binding.kind == "class_ids" else "gaussian"
    size = f"{tile_hw[1]}x{tile_hw[0]} px that overlap by {shared} ({blend})"
    return Tiling(tile_hw, (shared, shared), blend, period), f"{size}; {_told(halo, exact, needed)}"


def _told(halo: Halo | None, exact: bool, needed: int | None) -> str:
    if halo is None:
        return "the model takes pictures of one size, so none can be compared with the whole"
    if not halo.is_local:
        return (
            "warning: the model looks at the whole picture, or its answers do not move with it; "
            "masks by windows differ from masks of the whole"
        )
    told = f"the model looks {needed} px far, at steps of {halo.period_px} px"
    if exact:
        return f"{told}: as if the picture were shown whole"
    return f"{told}: near seams masks may differ from that of the whole; {needed} px would be exact"


def _halo(binding: Binding, run: Callable[[], Run]) -> Halo:
    found = measure_halo(run())
    if binding.receptive_field is None or not found.is_local:
        return found
    # the overlap becomes the field and a period: strides see farther to one side than to the other
    return Halo(-(-max(binding.receptive_field) // 2), found.period_px)


def _check(flags: argparse.Namespace, binding: Binding) -> None:
    blends = flags.blend not in (None, "crop")
    for problem, found, why in (
        ("--max_side", binding.max_side_px is not None, "windows are not resized"),
        ("--fit=crop", binding.fit == "crop", "windows are shown whole"),
        ("--mask_size=model", getattr(flags, "mask_size", "") == "model", "masks are joined"),
        ("--blend", binding.kind == "class_ids" and blends, "class ids cannot be averaged"),
    ):
        if found:
            raise UserError(f"--tile_px does not go with {problem}: {why}; leave one out")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
