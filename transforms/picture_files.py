"""Writing pictures that a model made: PNG or JPEG, marked as synthetic inside the file."""

import dataclasses
import io
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

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
        name: "png", lossless, or "jpeg".
        quality: of a JPEG, 1 to 100; from 90 on colours are kept at full size.
        source: where pictures come from: MADE or CHANGED.
    """

    name: Literal["png", "jpeg"] = "png"
    quality: int = 95
    source: str = MADE


def encode_picture(pixels: npt.NDArray[np.uint8], how: PictureFormat) -> bytes:
    """Encodes uint8 [H, W, 3] RGB or [H, W] grey, with the term for its source in XMP."""
    buffer = io.BytesIO()
    xmp = _XMP.format(how.source)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if how.name == "jpeg":
        options: dict[str, Any] = {"subsampling": 0 if how.quality >= 90 else 2}
        image.save(buffer, "JPEG", quality=how.quality, xmp=xmp.encode(), **options)
    else:
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp)
        image.save(buffer, "PNG", compress_level=_PNG_LEVEL, pnginfo=text)
    return buffer.getvalue()
