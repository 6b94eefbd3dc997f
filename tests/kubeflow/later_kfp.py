"""A second opinion on a package: kfp's own loader of a later release, and the schema of its Kubernetes document.

    uv run --no-project --python 3.10 --with kfp==2.17.0 --with kfp-kubernetes==2.17.0 \\
        python tests/kubeflow/later_kfp.py package.yaml

In an environment of its own, because later releases need protobuf 4 or more and TFX 1.16 has 3.
"""

import sys
from importlib.metadata import version
from pathlib import Path

import yaml
from google.protobuf import json_format
from kfp import components
from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes

PACKAGE = Path(sys.argv[1])

loaded = components.load_component_from_file(str(PACKAGE))
tasks = loaded.pipeline_spec.root.dag.tasks
_, platform = yaml.safe_load_all(PACKAGE.read_text(encoding="utf-8"))
executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
for document in executors.values():  # raises on a field that it does not know
    json_format.ParseDict(document, kubernetes.KubernetesExecutorConfig())
labels = {component.executor_label for component in loaded.pipeline_spec.components.values()}
if set(executors) != labels:
    sys.exit(f"the Kubernetes document is about {sorted(set(executors) ^ labels)}, which only one of the two has")
print(f"kfp {version('kfp')} loads it: {len(tasks)} tasks, parameters {sorted(loaded.component_spec.inputs)}")
