"""What a cluster is told: images, storage, secrets, and what each component may use. One leaf of the configuration."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from trainer.features import STRICT

REGISTRY_VARIABLE = "EVERGREEN_REGISTRY_URL"
EVERY_COMPONENT = "default"


# The last: without it TFX packs a distribution of itself before each Beam step, for workers that there are none of.
IN_ONE_PROCESS: tuple[str, ...] = (
    "--direct_running_mode=in_memory",
    "--direct_num_workers=1",
    "--sdk_container_image=none",
)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Resources:
    """What the pod of a component gets. `cpu` in cores, `memory_gib` in GiB; None leaves it to the cluster."""

    cpu: float | None = Field(default=None, gt=0)
    memory_gib: float | None = Field(default=None, gt=0)
    gpus: int = Field(default=0, ge=0)
    gpu_type: str = "nvidia.com/gpu"  # the resource that the cluster's device plugin offers
    retries: int = Field(default=0, ge=0)
    node_selector: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Volume:
    """A PersistentVolumeClaim that every step sees under `mount_path`."""

    claim: str
    mount_path: str = Field(pattern=r"^/")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Secret:
    """A key of a Kubernetes Secret that every step sees as an environment variable."""

    name: str
    key: str
    variable: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClusterConfig:
    """Kubeflow Pipelines: where it is, and what a step there runs in. Paths are paths inside the pods."""

    host: str = "http://localhost:8888"  # the pipeline API, as `kubectl port-forward svc/ml-pipeline 8888` gives it
    namespace: str = "kubeflow"
    experiment: str = "evergreen"
    service_account: str = "evergreen-pipeline"
    image: str = "evergreen/steps:0.1.0"
    training_image: str = "evergreen/training:0.1.0"  # for the Trainer alone
    pipeline_root: str = "minio://mlpipeline/v2/artifacts"
    data_root: str = "/data"
    serving_path: str = "/serving/recommender"  # numbered versions, on the volume that TF Serving reads
    releases_path: str = "/serving/releases"
    registry: Secret = Field(
        default_factory=lambda: Secret(name="evergreen-registry", key="url", variable=REGISTRY_VARIABLE)
    )
    volumes: tuple[Volume, ...] = (
        Volume(claim="evergreen-serving", mount_path="/serving"),
        Volume(claim="evergreen-data", mount_path="/data"),
    )
    secrets: tuple[Secret, ...] = ()
    resources: dict[str, Resources] = Field(default_factory=dict)  # by component; "default" for all others
    # Beam's arguments by component; "default" for all others. Unlike the top's, these are for the cluster.
    beam_pipeline_args: dict[str, tuple[str, ...]] = Field(default_factory=lambda: {EVERY_COMPONENT: IN_ONE_PROCESS})
    beam_scratch: str | None = None  # where Beam workers outside the pod and the pod itself both read and write
    schedule: str = "0 30 2 * * *"  # cron of six fields, seconds first: every day at 02:30

    def resources_of(self, component: str) -> Resources:
        """The component's own, or those of `default`."""
        return self.resources.get(component) or self.resources.get(EVERY_COMPONENT) or Resources()
