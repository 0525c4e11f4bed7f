#!/usr/bin/env bash
# Makes the models that come with the project, by the commands that everybody has: `make models`.
# Takes 25 minutes on two CPU cores. What they reached is in the .json beside each, and in the
# MODEL_CARD.md inside of each.
set -euo pipefail
shipped=$(cd "$(dirname "$0")" && pwd)
work=${1:?the folder to work in}
digits=zero,one,two,three,four,five,six,seven,eight,nine
licence="Apache-2.0; digits: UCI repository"

python -m models.shipped.digit_files "$work"

pixelmill train classifier --input "$work/digits" --output "$work/digits_classifier" \
  --classes $digits --licence "$licence"
pixelmill train generator --input "$work/digits" --output "$work/digits_generator" \
  --classes $digits --licence "$licence"

# the segmenter of the demo has a network and a recipe of its own
python -m models.shipped.train_digits_segmenter

for name in digits_classifier digits_generator; do
  rm -rf "${shipped:?}/$name"
  cp -r "$work/$name/model" "$shipped/$name"
  cp "$work/$name/metrics.json" "$shipped/$name.json"
done
