# What the Trainer runs in: the steps' image, with NVIDIA's libraries if they are asked for; from the project's root,
#
#     docker build -f kubeflow/images/training.Dockerfile -t evergreen/training:0.1.0 .
#     docker build -f kubeflow/images/training.Dockerfile -t evergreen/training:0.1.0-gpu \
#         --build-arg TENSORFLOW_EXTRA=and-cuda .
#
# Without the argument it has not one byte more than the steps' image, whose layers the nodes then share.

ARG STEPS_IMAGE=evergreen/steps:0.1.0
FROM ${STEPS_IMAGE}
ARG TENSORFLOW_EXTRA=""
USER 0:0
# TensorFlow's version is the lock's, and TensorFlow's own extra pins NVIDIA's wheels exactly. TF 2.16 does not find
# them where pip puts them (github.com/tensorflow/tensorflow/issues/63362): the system's loader is told.
RUN if [ -n "$TENSORFLOW_EXTRA" ]; then \
        pip --python /opt/evergreen/bin/python install --no-cache-dir \
            --constraint /opt/evergreen/requirements.txt "tensorflow[$TENSORFLOW_EXTRA]" \
        && ls -d /opt/evergreen/lib/python3.10/site-packages/nvidia/*/lib > /etc/ld.so.conf.d/nvidia.conf \
        && ldconfig; \
    fi
# What the container runtime is to mount of the node's driver; without a GPU nobody reads it.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000
