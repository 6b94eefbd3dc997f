"""The peer of benchmarks/serving.py: the stubs of tensorflow-serving-api, a thread per call, no batches.

python benchmarks/load/plain_server.py SERVABLE PORT
"""

import sys
from concurrent import futures
from pathlib import Path

import grpc
from tensorflow_serving.apis.predict_pb2 import PredictResponse
from tensorflow_serving.apis.prediction_service_pb2_grpc import (
    PredictionServiceServicer,
    add_PredictionServiceServicer_to_server,
)

from serving.model import load_model, register_scann_ops
from serving.tensor_protos import from_proto, to_proto

register_scann_ops()
model = load_model(Path(sys.argv[1]), version=1)
model.warm_up()


class Service(PredictionServiceServicer):
    """Predict alone."""

    def Predict(self, request, context):
        """Calls the model in the thread of the call."""
        inputs = {name: from_proto(name, proto) for name, proto in request.inputs.items()}
        response = PredictResponse()
        for name, value in model.predict(request.model_spec.signature_name, inputs).items():
            to_proto(value, response.outputs[name])
        return response


server = grpc.server(futures.ThreadPoolExecutor(32))
add_PredictionServiceServicer_to_server(Service(), server)
server.add_insecure_port(f"127.0.0.1:{sys.argv[2]}")
server.start()
print("serving", flush=True)
server.wait_for_termination()
