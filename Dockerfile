# One image for the launcher of the Flex Templates and for their workers.
#
#   docker build --tag IMAGE .                               workers with CPUs
#   docker build --tag IMAGE --build-arg ACCELERATOR=gpu .   with CUDA, for NVIDIA GPUs
#
# The bases are of one Python and of the Beam of requirements.lock; a test holds that.
FROM apache/beam_python3.11_sdk:2.77.0 AS beam
FROM gcr.io/dataflow-templates-base/python311-template-launcher-base:20230622_RC00 AS launcher
FROM python:3.11.14-slim-bookworm

COPY --from=beam /opt/apache/beam /opt/apache/beam
COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher

# What the package needs, in the versions of the lock files; before the code, which changes more.
WORKDIR /pixelmill
COPY setup.py requirements.lock requirements-gpu.lock ./
RUN pip install --no-cache-dir --constraint requirements.lock setuptools wheel \
    && pip install --no-cache-dir --constraint requirements.lock --no-build-isolation .
ARG ACCELERATOR=cpu
RUN case "$ACCELERATOR" in \
      cpu) ;; \
      gpu) pip install --no-cache-dir --no-deps --requirement requirements-gpu.lock ;; \
      *) echo "ACCELERATOR is $ACCELERATOR, expected cpu or gpu" >&2; exit 1 ;; \
    esac

COPY pipeline pipeline
COPY transforms transforms
COPY models models
RUN pip install --no-cache-dir --no-deps --no-build-isolation --force-reinstall . \
    && pip check \
    && pixelmill --version

# Where Dataflow puts the driver that it installs.
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib64

COPY pipeline/dataflow/flex.py /template/flex.py
ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/template/flex.py
WORKDIR /template
ENTRYPOINT ["/opt/apache/beam/boot"]
