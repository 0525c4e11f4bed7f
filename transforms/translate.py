"""Translating: the operator that makes pictures of pictures, such as larger or cleaner ones."""

import dataclasses

import pyarrow as pa

from models.binding import Binding
from models.devices import DeviceOptions, configure
from models.generator import Made, Translator
from transforms.decode import DecodePolicy, Facts
from transforms.generate import check_finite, picture_row, picture_sums
from transforms.picture_files import CHANGED, PictureFormat, encode_picture
from transforms.picture_work import PictureWork, Settings
from transforms.records import Encoded, Result
from transforms.shard_work import Work
from transforms.sink import Sink
from transforms.sources import FeatureNames
from transforms.staging import local_model
from transforms.survive import TIMEOUT_S

COLUMNS = pa.schema(
    [
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("source_width", pa.int32()),
        pa.field("source_height", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("image_bytes", pa.int64()),
        pa.field("brightness", pa.float64()),
        pa.field("source_brightness", pa.float64()),
        pa.field("clipped", pa.float64()),
    ]
)


@dataclasses.dataclass(frozen=True)
class TranslateOperator:
    """Settings of a translation; all of it is pickled to the workers.

    Attributes:
        model: folder of the SavedModel.
        binding: how to call it, probed.
        sink: of kind "images", with COLUMNS.
        batch_size: pictures that the model gets at once.
        fingerprint: of the model, checked where it is fetched from elsewhere.
        policy: how pictures are decoded.
        features: names in the tf.Examples.
        format: how pictures are written.
        threads: that decode and encode; 0 for one a core.
        batch_timeout_s: for one call of the model; 0 to wait for ever.
        devices: settings of the accelerators.
    """

    model: str
    binding: Binding
    sink: Sink
    batch_size: int
    fingerprint: str = ""
    policy: DecodePolicy = DecodePolicy()
    features: FeatureNames = FeatureNames()
    format: PictureFormat = PictureFormat(source=CHANGED)
    threads: int = 0
    batch_timeout_s: float = TIMEOUT_S
    devices: DeviceOptions = DeviceOptions()

    def open(self) -> Work:
        """Loads the model. Raises ModelError."""
        configure(self.devices)
        settings = Settings(self.policy, self.features, self.threads, self.batch_timeout_s)

        def load() -> Translator:
            model = local_model(self.model, self.fingerprint)
            return Translator(model, self.binding, self.batch_size)

        return PictureWork(
            settings, load, lambda facts, made: encode_translated(facts, made, self.format)
        )


def encode_translated(facts: Facts, made: Made, how: PictureFormat) -> Result:
    """Encodes a picture and measures it. Raises a Failure when it is not finite."""
    check_finite(made)
    picture = Encoded(encode_picture(made.pixels, how), how.name)
    row = picture_row(made, picture) | {
        "source_width": facts.size_hw[1],
        "source_height": facts.size_hw[0],
        "source_brightness": facts.brightness,
    }
    sums = picture_sums(made, how) | {"source_formats": {facts.format: 1}}
    return Result(outputs={"images": picture}, row=row, sums=sums)
