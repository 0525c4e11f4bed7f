"""A failure is data: what went wrong with one record, at which stage, and how to mend it."""

from typing import NamedTuple

# The reasons that a row of the records file can give. Documented in the README; add, never rename.
REASONS = {
    "truncated": "the file ends before the picture does",
    "corrupt": "the bytes are damaged, or not the format that they claim",
    "unsupported": "not an image, or a format that this Pillow cannot decode",
    "too_large": "more pixels than --max_pixels, by the header; nothing was allocated",
    "empty": "no bytes at all",
    "no_image": "the example lacks the image feature, or it is not one bytes value",
    "bad_example": "the record is not a tf.Example",
    "bad_record": "one record of the shard is damaged, or has what is not allowed",
    "rest_lost": "the shard's file is cut or damaged; an unknown number of records is lost",
    "unreadable": "the file could not be opened or read",
    "model_error": "the model raised an error for this picture alone",
    "out_of_memory": "the model ran out of memory on this picture alone",
    "timeout": "the model gave no answer within --batch_timeout_s for its batch",
    "not_finite": "the model answered NaN or infinity",
    "id_range": "the model answered a class id that the mask format cannot hold",
    "rejected": "no attempt passed the checks; --max_attempts says how many there are",
    "prediction_missing": "there is no prediction for this label",
    "mask_missing": "there is no mask for this image",
    "mask_size": "the mask's size is not the image's, or not its label's",
    "mask_format": "the mask is not a picture of class ids",
    "annotation": "what is annotated of this image is damaged, or of another one",
    "metadata": "there is metadata that --metadata refuses, or that cannot be taken away",
    "label_missing": "there is no label for this image",
    "label_range": "the label is no class id",
    "step_failed": "a step of the recipe cannot be done to this picture",
}


class Failure(Exception):
    """Why one record could not be processed. Costs that record, never the shard.

    Attributes:
        stage: "read", "decode", "model", "encode" or "check".
        reason: a key of REASONS.
        message: what was got, what was expected, what to do.
    """

    def __init__(self, stage: str, reason: str, message: str) -> None:
        if reason not in REASONS:
            raise ValueError(f"unknown reason {reason!r}: declare it in REASONS")
        super().__init__(stage, reason, message)
        self.stage = stage
        self.reason = reason
        self.message = message


class Kept(Failure):
    """Not a failure: what a retry does not work on passes by like one, and keeps what it had."""

    def __init__(self) -> None:
        Exception.__init__(self)
        self.stage = self.reason = self.message = ""


class Problem(NamedTuple):
    """A Failure as it stands in reports: small and without a traceback."""

    stage: str
    reason: str
    message: str
