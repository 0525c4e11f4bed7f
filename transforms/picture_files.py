"""Writing pictures that a model made, marked as synthetic inside the file.

PNG is lossless; JPEG, WebP and AVIF are not, and are for pictures alone: masks are always PNGs.
"""

import dataclasses
import io
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from models.errors import UserError

Codec = Literal["png", "jpeg", "webp", "avif"]
CODECS: tuple[Codec, ...] = get_args(Codec)

# IPTC's terms for where a picture came from, cv.iptc.org/newscodes/digitalsourcetype
MADE = "trainedAlgorithmicMedia"
CHANGED = "compositeWithTrainedAlgorithmicMedia"
_PNG_LEVEL = 1  # as for masks: most of the smallness for little of the time
_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/{}"/>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


@dataclasses.dataclass(frozen=True)
class PictureFormat:
    """How pictures are written.

    Attributes:
        name: of the codec.
        quality: of all but PNG, 1 to 100; from 90 on JPEG and AVIF keep colours at full size.
        source: where pictures come from: MADE or CHANGED; "" for what no model has made.
    """

    name: Codec = "png"
    quality: int = 95
    source: str = MADE


def check_codec(name: str) -> None:
    """Raises UserError when this Pillow cannot write pictures of a codec."""
    if name in ("webp", "avif") and not features.check(name):
        raise UserError(
            f"this Pillow was built without {name}; install one of PyPI's wheels, or give another "
            "--image_format"
        )


def chosen_format(name: Codec, quality: int | None, source: str) -> PictureFormat:
    """The format that flags ask for; None for the usual quality. Raises UserError."""
    if quality is None:
        return PictureFormat(name, source=source)
    if name == "png":
        raise UserError(
            "--quality is of --image_format jpeg, webp and avif, and PNG loses nothing; give one "
            "of these, or leave --quality out"
        )
    return PictureFormat(name, quality, source)


def xmp_packet(source: str) -> str:
    """XMP that says where a picture comes from, by IPTC's term, and nothing else."""
    return _XMP.format(source)


def encode_picture(pixels: npt.NDArray[np.uint8], how: PictureFormat) -> bytes:
    """Encodes uint8 [H, W, 3] RGB or [H, W] grey, with the term for its source in XMP if any."""
    buffer = io.BytesIO()
    xmp = xmp_packet(how.source) if how.source else ""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    options: dict[str, Any] = {"xmp": xmp.encode()} if xmp else {}
    full_colour = how.quality >= 90
    if how.name == "jpeg":
        options["subsampling"] = 0 if full_colour else 2
        image.save(buffer, "JPEG", quality=how.quality, **options)
    elif how.name == "webp":
        image.save(buffer, "WEBP", quality=how.quality, **options)
    elif how.name == "avif":  # one thread: the same bytes on every machine
        options |= {"subsampling": "4:4:4" if full_colour else "4:2:0", "max_threads": 1}
        image.save(buffer, "AVIF", quality=how.quality, **options)
    else:
        text = PngInfo()
        if xmp:
            text.add_itxt("XML:com.adobe.xmp", xmp)
        image.save(buffer, "PNG", compress_level=_PNG_LEVEL, pnginfo=text)
    return buffer.getvalue()
