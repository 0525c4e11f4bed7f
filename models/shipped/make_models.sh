#!/usr/bin/env bash
# Makes the models that come with the project, by the commands that everybody has: `make models`.
# Took 25 minutes on two CPU cores. What they reached is in the .json beside each, and in the
# MODEL_CARD.md inside of each.
set -euo pipefail
shipped=$(cd "$(dirname "$0")" && pwd)
work=${1:?the folder to work in}
digits=zero,one,two,three,four,five,six,seven,eight,nine
licence="Apache-2.0; digits: UCI repository, photographs: CC BY 2.0, danielbuechele and vultilion"

python -m models.shipped.digit_files "$work"

pixelmill train classifier --input "$work/digits" --output "$work/digits_classifier" \
  --classes $digits --licence "$licence"
pixelmill train generator --input "$work/digits" --output "$work/digits_generator" \
  --classes $digits --licence "$licence"

pixelmill pack --input "$work/scenes" --output "$work/scene_shards"
pixelmill train segmenter --input "$work/scene_shards/images" --output "$work/digits_segmenter" \
  --classes background,$digits --licence "$licence" \
  --depth 3 --width 12 --crop_px 96 --augment colour,scale --batch_size 16 --epochs 6 --learning_rate 0.002 \
  --validation_fraction 0.1

for name in digits_classifier digits_generator digits_segmenter; do
  rm -rf "${shipped:?}/$name"
  cp -r "$work/$name/model" "$shipped/$name"
  cp "$work/$name/metrics.json" "$shipped/$name.json"
done
