"""The package's second document, for Kubernetes alone: volumes, secrets and the nodes that a step may run on."""

from collections.abc import Iterable
from typing import Any

from evergreen_kubeflow.mend import kebab
from pipeline.cluster_config import ClusterConfig, Secret


def platform_document(cluster: ClusterConfig, node_ids: Iterable[str]) -> dict[str, Any]:
    """`platforms.kubernetes` of kubernetes_executor_config.proto (kfp-kubernetes), by executor."""
    return {
        "platforms": {
            "kubernetes": {
                "deploymentSpec": {"executors": {f"exec-{kebab(node)}": _executor(cluster, node) for node in node_ids}}
            }
        }
    }


def _executor(cluster: ClusterConfig, node_id: str) -> dict[str, Any]:
    resources = cluster.resources_of(node_id)
    document: dict[str, Any] = {
        "secretAsEnv": [_as_variable(secret) for secret in (cluster.registry, *cluster.secrets)],
        "pvcMount": [{"constant": volume.claim, "mountPath": volume.mount_path} for volume in cluster.volumes],
        "imagePullPolicy": "IfNotPresent",
    }
    if resources.node_selector:
        document["nodeSelector"] = {"labels": resources.node_selector}
    return document


def _as_variable(secret: Secret) -> dict[str, Any]:
    return {"secretName": secret.name, "keyToEnv": [{"secretKey": secret.key, "envVar": secret.variable}]}
