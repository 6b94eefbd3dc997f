# The embedded model server alone, without TFX: from the project's root,
#
#     docker build -f serving/deploy/server.Dockerfile -t evergreen/server:0.1.0 .
#
# It keeps nothing, and any user will do. With `--read-only` give it `--tmpfs /tmp`: TensorFlow's import asks for a
# folder for temporary files, and Keras leaves its settings there. Versions that appear below /models are seen.

FROM python:3.10-slim-bookworm AS tools
RUN pip install --no-cache-dir uv==0.13.8
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON=/usr/local/bin/python

# The names are requirements.in's and what these need, the versions the lock's.
FROM tools AS lock
WORKDIR /project
COPY requirements.lock serving/deploy/requirements.in ./
RUN uv pip compile --quiet --no-annotate --no-header --constraints requirements.lock requirements.in \
    --output-file /runtime.lock

# 2 GB in one layer. It is made anew only when the text of /runtime.lock changes: COPY looks at the content.
FROM tools AS dependencies
COPY --from=lock /runtime.lock /opt/evergreen/requirements.txt
RUN uv venv --allow-existing /opt/evergreen \
    && uv pip sync --python /opt/evergreen/bin/python /opt/evergreen/requirements.txt

FROM python:3.10-slim-bookworm
ENV PATH=/opt/evergreen/bin:$PATH \
    PYTHONPATH=/opt/server \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=dependencies /opt/evergreen /opt/evergreen
COPY serving /opt/server/serving
RUN python -m compileall -q /opt/server
# By number, so that Kubernetes can see that it is not root.
USER 1000:1000
EXPOSE 8500 8501
# Alive, not ready: a server that waits for its first version must not be replaced for that. Ready is gRPC's health
# check, or 200 for /v1/models/NAME/metadata. With TLS, bring a check of your own.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD \
    ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/monitoring/prometheus/metrics', timeout=4)"]
ENTRYPOINT ["python", "-m", "serving.server", "--host=0.0.0.0"]
CMD ["--model-base-path=/models/recommender"]
