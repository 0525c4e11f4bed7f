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

# scenes are made, as many as are wanted: they need no augmentation and few for validation
pixelmill train segmenter --input "$work/scenes" --output "$work/digits_segmenter" \
  --classes background,$digits --licence "$licence; photographs: danielbuechele and vultilion, CC BY 2.0" \
  --network linknet --width 12 --crop_px 96 --augment none --class_weights none --batch_size 16 \
  --epochs 5 --learning_rate 0.004 --validation_fraction 0.05

for name in digits_segmenter digits_classifier digits_generator; do
  rm -rf "${shipped:?}/$name"
  cp -r "$work/$name/model" "$shipped/$name"
  cp "$work/$name/metrics.json" "$shipped/$name.json"
done
