"""Segmenting: the operator that turns the images of a shard into masks."""

import dataclasses
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.answers import Segmentation
from models.binding import Binding
from models.devices import DeviceOptions, configure
from models.pixel_scores import PixelScores, block_finisher
from models.segmenter import Segmenter
from models.views import PLAIN, View
from transforms import sums
from transforms.decode import DecodePolicy, Facts
from transforms.failures import Failure
from transforms.feature_names import FeatureNames
from transforms.georeference import Georeference
from transforms.picture_work import PictureWork, Settings
from transforms.png import PngRows, encode_grey, encode_png
from transforms.records import Encoded, Result
from transforms.shard_work import Work
from transforms.sink import Sink
from transforms.staging import local_model
from transforms.survive import TIMEOUT_S
from transforms.tiff import TiffRows, encode_tiff
from transforms.tiling.mask_mosaic import JoinedMask, MaskMosaic, RowsFile
from transforms.tiling.tiled_work import TiledWork
from transforms.tiling.windows import Axis, Tiling

COLUMNS = pa.schema(
    [
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("stored_width", pa.int32()),
        pa.field("stored_height", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("mode", pa.string()),
        pa.field("orientation", pa.int8()),
        pa.field("brightness", pa.float64()),
        pa.field("mask_bytes", pa.int64()),
        pa.field("mask_format", pa.string()),
        pa.field("mean_confidence", pa.float64()),
        pa.field("mean_entropy", pa.float64()),
        pa.field("mean_margin", pa.float64()),
        pa.field("classes", pa.list_(pa.int32())),
        pa.field("class_pixels", pa.list_(pa.int64())),
    ]
)
_HISTOGRAMS = ("confidence", "entropy", "margin")


@dataclasses.dataclass(frozen=True)
class SegmentOperator:
    """Settings of a segmentation; all of it is pickled to the workers.

    Attributes:
        model: folder of the SavedModel, gs:// or the like as well.
        binding: how to call it, probed.
        sink: where masks go.
        batch_size: pictures that the model gets at once.
        policy: how pictures are decoded.
        confidence_map: write a picture of the confidence beside each mask.
        mask_at_model_size: leave masks at the size at which the model saw the picture.
        fingerprint: of the model, checked where it is fetched from elsewhere.
        features: names in the tf.Examples.
        threads: that decode and encode; 0 for one a core.
        batch_timeout_s: for one call of the model; 0 to wait for ever.
        devices: settings of the accelerators.
        tiling: how pictures are cut into windows; None to show them whole.
        views: in which the model is shown every picture, or window.
    """

    model: str
    binding: Binding
    sink: Sink
    batch_size: int
    policy: DecodePolicy = DecodePolicy()
    confidence_map: bool = False
    mask_at_model_size: bool = False
    fingerprint: str = ""
    features: FeatureNames = FeatureNames()
    threads: int = 0
    batch_timeout_s: float = TIMEOUT_S
    devices: DeviceOptions = DeviceOptions()
    tiling: Tiling | None = None
    views: tuple[View, ...] = (PLAIN,)

    def open(self) -> Work:
        """Loads the model. Raises ModelError."""
        configure(self.devices)
        settings = Settings(self.policy, self.features, self.threads, self.batch_timeout_s)
        if self.tiling is not None or len(self.views) > 1:
            return self._open_tiled(settings)
        return PictureWork(
            settings,
            lambda: load_segmenter(self, self.confidence_map),
            lambda facts, answer: encode_result(facts, answer, self),
        )

    def _open_tiled(self, settings: Settings) -> Work:
        def load() -> PixelScores:
            model = local_model(self.model, self.fingerprint)
            return PixelScores(model, self.binding, self.batch_size, self.views)

        finish = block_finisher(self.binding, len(self.views), self.confidence_map)

        def mosaic(grid: tuple[Axis, Axis], facts: Facts) -> MaskMosaic:
            def new_file(size_hw: tuple[int, int], dtype: npt.DTypeLike) -> RowsFile:
                place = self.place_of(facts, size_hw)
                return TiffRows(size_hw, dtype, place) if place else PngRows(size_hw, dtype)

            return MaskMosaic(grid, finish, self.confidence_map, new_file, encode_joined)

        return TiledWork(
            settings,
            self.tiling,
            load,
            mosaic,
            max(1, self.binding.num_scores) if self.binding.kind != "class_ids" else 1,
        )

    def place_of(self, facts: Facts, size_hw: tuple[int, ...]) -> Georeference | None:
        """What a mask of (height, width) takes over from its picture: it is a GeoTIFF then.

        In TFRecord shards all masks are PNGs, as those expect who read them.
        """
        return facts.georeference if self.sink.as_files and size_hw == facts.size_hw else None


def load_segmenter(settings: SegmentOperator, with_confidence: bool) -> Segmenter:
    """The model of a segmentation. Raises ModelError."""
    model = local_model(settings.model, settings.fingerprint)
    return Segmenter(
        model,
        settings.binding,
        settings.batch_size,
        settings.mask_at_model_size,
        with_confidence,
    )


class Answer(Protocol):
    """What is measured of a mask; see Segmentation."""

    @property
    def class_pixels(self) -> npt.NDArray[np.int64]: ...

    @property
    def histograms(self) -> npt.NDArray[np.int64] | None: ...

    @property
    def finite(self) -> bool: ...

    @property
    def in_range(self) -> bool: ...


def check(answer: Answer) -> None:
    """Raises a Failure when an answer is no mask."""
    if not answer.finite:
        raise Failure(
            "model",
            "not_finite",
            "the model answered NaN or infinity for this picture; check --value_range",
        )
    if not answer.in_range:
        raise Failure(
            "model",
            "id_range",
            f"the model answered class ids outside 0 to {len(answer.class_pixels) - 1}; "
            "name all its classes by --classes",
        )


def encode_result(facts: Facts, answer: Segmentation, settings: SegmentOperator) -> Result:
    """Encodes a mask and measures it. Raises a Failure when it is none."""
    check(answer)
    confidence = answer.confidence if settings.confidence_map else None
    place = settings.place_of(facts, answer.mask.shape)
    if place is not None:
        outputs = {"masks": Encoded(encode_tiff(answer.mask, place), "tif")}
        if confidence is not None:
            outputs["confidence"] = Encoded(encode_tiff(confidence, place), "tif")
    else:
        outputs = {"masks": Encoded(encode_png(answer.mask), "png")}
        if confidence is not None:
            outputs["confidence"] = Encoded(encode_grey(confidence), "png")
    return _described(facts, answer.mask.shape, answer, outputs)


def encode_joined(facts: Facts, answer: JoinedMask) -> Result:
    """The same of a mask that was made by windows, and is encoded already."""
    check(answer)
    outputs = {"masks": answer.mask}
    if answer.confidence is not None:
        outputs["confidence"] = answer.confidence
    return _described(facts, answer.size_hw, answer, outputs)


def _described(
    facts: Facts, size_hw: tuple[int, int], answer: Answer, outputs: dict[str, Encoded]
) -> Result:
    means = _means(answer)
    return Result(
        outputs=outputs,
        row=_row(facts, size_hw, answer, means, outputs["masks"]),
        sums=sums_of(facts, size_hw, answer),
        rank=means["mean_confidence"],
    )


def _means(answer: Answer) -> dict[str, float | None]:
    if answer.histograms is None:
        return {f"mean_{name}": None for name in _HISTOGRAMS}
    means = sums.histogram_means(answer.histograms)
    return {f"mean_{name}": mean for name, mean in zip(_HISTOGRAMS, means, strict=True)}


def _row(
    facts: Facts,
    size_hw: tuple[int, int],
    answer: Answer,
    means: dict[str, float | None],
    mask: Encoded,
) -> dict[str, Any]:
    classes = {i: pixels for i, pixels in enumerate(answer.class_pixels.tolist()) if pixels}
    return {
        "width": size_hw[1],
        "height": size_hw[0],
        "stored_width": facts.stored_hw[1],
        "stored_height": facts.stored_hw[0],
        "format": facts.format,
        "mode": facts.mode,
        "orientation": facts.orientation,
        "brightness": facts.brightness,
        "mask_bytes": len(mask.data),
        "mask_format": mask.format,
        **means,
        "classes": list(classes),
        "class_pixels": list(classes.values()),
    }


def sums_of(facts: Facts, size_hw: tuple[int, int], answer: Answer) -> sums.Sums:
    """What a mask of (height, width) adds to the metrics of its shard."""
    height, width = size_hw
    measured: sums.Sums = {
        "pixels": height * width,
        "class_pixels": answer.class_pixels,
        "ignored_pixels": height * width - int(answer.class_pixels.sum()),
        "class_images": (answer.class_pixels > 0).astype(np.int64),
        "one_class_images": int(np.count_nonzero(answer.class_pixels) == 1),
        "brightness": sums.byte_histogram(facts.brightness),
        "widths": {str(width): 1},
        "heights": {str(height): 1},
        "formats": {facts.format: 1},
        "modes": {facts.mode: 1},
        "orientations": {str(facts.orientation): 1},
    }
    if answer.histograms is not None:
        measured.update(zip(_HISTOGRAMS, answer.histograms, strict=True))
    return measured
