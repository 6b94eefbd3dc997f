# Stock TensorFlow Serving for servables whose index is exact or portable (docs/servable.md): from this folder,
#
#     docker build -f tensorflow-serving.Dockerfile -t evergreen/tensorflow-serving:0.1.0 .
#
# The image's own script puts the ports, the name and the base path (/models/recommender) before these arguments.
# 2.16.1 is the last of the TensorFlow that the models are made with.
FROM tensorflow/serving:2.16.1
ENV MODEL_NAME=recommender \
    TF_CPP_MIN_LOG_LEVEL=1
COPY tensorflow-serving/ /etc/tensorflow-serving/
USER 1000:1000
# Alive, not ready; the image has no curl, but it has bash.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8501"]
# No batches, unless `--enable_batching=true --batching_parameters_file=/etc/tensorflow-serving/batching.config` is added:
# its file says to whom they are of use.
CMD ["--enable_model_warmup=true", \
     "--file_system_poll_wait_seconds=1", \
     "--monitoring_config_file=/etc/tensorflow-serving/monitoring.config"]
