# What every step of the pipeline runs in, and the model server: from the project's root,
#
#     docker build -f kubeflow/images/steps.Dockerfile -t evergreen/steps:0.1.0 .
#
# There is no ENTRYPOINT: a step's command is `python -m evergreen_kubeflow.entrypoint …`, behind Kubeflow's launcher;
# the server's is `python -m serving.server …`.

# The full image has the compiler that pyfarmhash and crcmod, which have no wheels, need; it ends with its stage.
FROM python:3.10-bookworm AS tools
RUN pip install --no-cache-dir uv==0.13.8
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON=/usr/local/bin/python

# requirements.lock without the tools of development: the names are setup.py's, the versions the lock's.
FROM tools AS lock
WORKDIR /project
COPY setup.py pyproject.toml README.md requirements.lock ./
RUN mkdir kubeflow && uv pip compile --quiet --no-annotate --no-header --constraints requirements.lock setup.py \
    --output-file /runtime.lock

# 3 GB in one layer. It is made anew only when the text of /runtime.lock changes: COPY looks at the content.
FROM tools AS dependencies
COPY --from=lock /runtime.lock /opt/evergreen/requirements.txt
RUN uv venv --allow-existing /opt/evergreen \
    && uv pip sync --python /opt/evergreen/bin/python /opt/evergreen/requirements.txt

# The project as a wheel, made by the locked setuptools.
FROM dependencies AS project
WORKDIR /project
COPY setup.py pyproject.toml README.md LICENSE ./
COPY components components
COPY kubeflow kubeflow
COPY pipeline pipeline
COPY serving serving
COPY trainer trainer
RUN uv build --quiet --wheel --no-build-isolation --python /opt/evergreen/bin/python --out-dir /wheel .

FROM python:3.10-slim-bookworm
# /gcs, /minio and /s3 are where the launcher puts artifacts. Backends from 2.3 on mount them; older ones make them as
# this user, who may not (github.com/kubeflow/pipelines/pull/10857).
RUN useradd --uid 1000 --create-home evergreen \
    && install --directory --owner evergreen --group evergreen /gcs /minio /s3
ENV HOME=/home/evergreen \
    PATH=/opt/evergreen/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TF_USE_LEGACY_KERAS=1
COPY --from=dependencies /opt/evergreen /opt/evergreen
# `pip` is the base image's: the environment has none.
RUN --mount=type=bind,from=project,source=/wheel,target=/wheel \
    pip --python /opt/evergreen/bin/python install --no-cache-dir --no-deps --no-index /wheel/*.whl
# By number, so that Kubernetes can see that it is not root.
USER 1000:1000
WORKDIR /home/evergreen
