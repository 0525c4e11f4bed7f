"""What all backends of the storage must know; set once by the launcher, inherited by workers."""

NO_AUTH = "PIXELMILL_NO_AUTH"  # set: gs:// without credentials
