"""Networks that pixelmill trains and exports: a segmenter, a classifier, a generator."""
