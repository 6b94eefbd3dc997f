# What Dataflow's workers run in: the steps' image with Beam's own start program; from the project's root,
#
#     docker build -f kubeflow/beam/dataflow.Dockerfile -t evergreen/dataflow:0.1.0 .

ARG STEPS_IMAGE=evergreen/steps:0.1.0
FROM apache/beam_python3.10_sdk:2.59.0 AS beam

FROM ${STEPS_IMAGE}
# Else the start program makes a virtual environment of its own, without what is installed here.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
COPY --from=beam /opt/apache/beam /opt/apache/beam
ENTRYPOINT ["/opt/apache/beam/boot"]
