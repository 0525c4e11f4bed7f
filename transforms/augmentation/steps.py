"""The steps that a recipe may name, each with its fields: what a person writes, checked.

A step is drawn (see drawing.py), and what was drawn is applied (see apply.py). Ranges are
[lowest, highest], and a number is drawn evenly between them.
"""

from typing import Annotated, Literal

import pydantic

Share = Annotated[float, pydantic.Field(ge=0, le=1)]
Part = Annotated[float, pydantic.Field(gt=0, le=1)]
ClassId = Annotated[int, pydantic.Field(ge=0, le=65535)]
Side = Annotated[int, pydantic.Field(gt=0, le=16384)]


class Strict(pydantic.BaseModel):
    """No unknown fields, no changes."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"expected [lowest, highest], got {list(value)}; exchange them")
    return value


_Ordered = pydantic.AfterValidator(_ordered)
Angles = Annotated[
    tuple[
        Annotated[float, pydantic.Field(ge=-180, le=180)],
        Annotated[float, pydantic.Field(ge=-180, le=180)],
    ],
    _Ordered,
]
Factor = Annotated[float, pydantic.Field(gt=0, le=10)]
Factors = Annotated[tuple[Factor, Factor], _Ordered]
Shares = Annotated[tuple[Share, Share], _Ordered]
Sigma = Annotated[float, pydantic.Field(ge=0, le=128)]
Sigmas = Annotated[tuple[Sigma, Sigma], _Ordered]
Delta = Annotated[float, pydantic.Field(ge=-1, le=1)]
Deltas = Annotated[tuple[Delta, Delta], _Ordered]
Hue = Annotated[float, pydantic.Field(ge=-180, le=180)]
Hues = Annotated[tuple[Hue, Hue], _Ordered]
Grey = Annotated[float, pydantic.Field(ge=0, le=255)]
Greys = Annotated[tuple[Grey, Grey], _Ordered]
Quality = Annotated[int, pydantic.Field(ge=1, le=100)]
Qualities = Annotated[tuple[Quality, Quality], _Ordered]


class Drawn(Strict):
    """What all steps have."""

    p: Share = 1.0
    """Probability that a copy gets this step."""


class Flip(Drawn):
    """Mirrors the picture."""

    step: Literal["flip"]
    axis: Literal["horizontal", "vertical"] = "horizontal"
    """Horizontal: left becomes right."""
    p: Share = 0.5
    """Probability that a copy gets this step."""


class QuarterTurn(Drawn):
    """Turns by 0, 90, 180 or 270 degrees; for views without an up, as of microscopes."""

    step: Literal["quarter_turn"]


class Rotate(Drawn):
    """Turns about the middle; what comes in is black, and in masks the ignore id."""

    step: Literal["rotate"]
    degrees: Angles = (-15.0, 15.0)
    """Counterclockwise."""


class ScaleCrop(Drawn):
    """Scales, then cuts a part at random; a smaller picture is put somewhere on black."""

    step: Literal["scale_crop"]
    scale: Factors = (0.7, 1.4)
    """How many times as large."""
    size: tuple[Side, Side] | None = None
    """[height, width] that comes out, in pixels; the picture's own without."""


class Elastic(Drawn):
    """Bends smoothly, by random moves of a coarse grid (Ronneberger et al. 2015)."""

    step: Literal["elastic"]
    amount: Annotated[float, pydantic.Field(ge=0, le=0.5)] = 0.03
    """Farthest move of a grid point, as a part of the shorter side."""
    spacing: Annotated[float, pydantic.Field(ge=0.02, le=1)] = 0.2
    """Of the grid, as a part of the shorter side; less is more crumpled."""


class Perspective(Drawn):
    """Moves the four corners inwards or outwards, each by itself."""

    step: Literal["perspective"]
    amount: Annotated[float, pydantic.Field(ge=0, le=0.4)] = 0.1
    """Farthest move of a corner, as a part of the side."""


class Colour(Drawn):
    """Another light: hue, saturation, contrast and brightness, in this order."""

    step: Literal["colour"]
    brightness: Deltas = (-0.12, 0.12)
    """Added, as a part of the range from black to white."""
    contrast: Factors = (0.75, 1.25)
    """Factor about each channel's mean."""
    saturation: Factors = (0.75, 1.25)
    """Factor of HSV's saturation."""
    hue: Hues = (0.0, 0.0)
    """Turn of the hue in degrees."""


class Gamma(Drawn):
    """Brightens or darkens the middle tones: value ** gamma."""

    step: Literal["gamma"]
    gamma: Factors = (0.7, 1.5)
    """Above 1 is darker."""


class Noise(Drawn):
    """Adds Gaussian noise to each value."""

    step: Literal["noise"]
    sigma: Sigmas = (2.0, 12.0)
    """Standard deviation in grey levels of 255."""


class Blur(Drawn):
    """Blurs, as out of focus."""

    step: Literal["blur"]
    radius_px: Annotated[tuple[Sigma, Sigma], _Ordered] = (0.5, 2.0)
    """Standard deviation in pixels."""


class Jpeg(Drawn):
    """Leaves the artefacts of JPEG compression."""

    step: Literal["jpeg"]
    quality: Qualities = (20, 80)
    """JPEG's quality."""


class Night(Drawn):
    """As at night: darker, bluer, noisy."""

    step: Literal["night"]
    darkness: Shares = (0.4, 0.8)
    """Part of the light that is taken away."""


class Fog(Drawn):
    """As in fog: a veil of changing density, thicker towards the top."""

    step: Literal["fog"]
    density: Shares = (0.3, 0.7)
    """Part of the picture's contrast that is lost where the fog is thickest."""


class Cutout(Drawn):
    """Covers rectangles with grey (DeVries and Taylor 2017); in masks they are the ignore id."""

    step: Literal["cutout"]
    boxes: Annotated[int, pydantic.Field(ge=1, le=64)] = 1
    """How many."""
    size: Annotated[tuple[Part, Part], _Ordered] = (0.1, 0.3)
    """Of each side, as a part of the picture's."""


class CutMix(Drawn):
    """Puts a rectangle of another picture of the shard, with its mask, in place (Yun et al. 2019).

    With labels, both are kept with their shares of the area.
    """

    step: Literal["cutmix"]
    area: Annotated[tuple[Part, Part], _Ordered] = (0.1, 0.5)
    """Part of the picture that the rectangle covers."""


class MixUp(Drawn):
    """Blends with another picture of the shard (Zhang et al. 2018). For labels only: the ids of two
    masks cannot be blended."""

    step: Literal["mixup"]
    weight: Shares = (0.1, 0.5)
    """Of the other picture."""


class CopyPaste(Drawn):
    """Pastes an instance of another picture of the shard, with its ids (Ghiasi et al. 2021). An
    instance is a connected region of one class id."""

    step: Literal["copy_paste"]
    classes: Annotated[tuple[ClassId, ...], pydantic.Field(min_length=1)]
    """Class ids of things that may be pasted; not of stuff such as sky."""
    instances: Annotated[int, pydantic.Field(ge=1, le=64)] = 1
    """How many."""
    min_pixels: Annotated[int, pydantic.Field(ge=1)] = 16
    """Smaller regions are not pasted."""


Step = Annotated[
    Flip
    | QuarterTurn
    | Rotate
    | ScaleCrop
    | Elastic
    | Perspective
    | Colour
    | Gamma
    | Noise
    | Blur
    | Jpeg
    | Night
    | Fog
    | Cutout
    | CutMix
    | MixUp
    | CopyPaste,
    pydantic.Field(discriminator="step"),
]
PARTNERED = (CutMix, MixUp, CopyPaste)  # need another picture
