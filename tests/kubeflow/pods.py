"""The node of the emulated cluster: a process that has imported TFX once, and forks for every pod.

    python tests/kubeflow/pods.py     says "ready"; a JSON line in: pod, args, environment; a line out: exit code, peak

A pod's standard output and error go to `<pod>/log`. It sees a working folder and a home of its own, and of the
environment only what it is given.
"""

import contextlib
import importlib
import json
import os
import sys
import traceback
from pathlib import Path

PRELOADED = (
    "evergreen_kubeflow.entrypoint",
    "evergreen_kubeflow.executor_input",
    "tensorflow_model_analysis",
    "tensorflow_data_validation",
    "tensorflow_transform",
    "trainer.run",
    "components.index_builder.pack",
)
KEPT = ("PATH", "LANG", "TF_USE_LEGACY_KERAS")  # the last: the entry point sets it before it imports TensorFlow


def main() -> None:
    """Serves until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for module in PRELOADED:
        importlib.import_module(module)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            os._exit(run(**request))
        _, status, used = os.wait4(child, 0)
        print(os.waitstatus_to_exitcode(status), used.ru_maxrss, file=answers, flush=True)


def run(pod: str, args: list[str], environment: dict[str, str]) -> int:
    """In the fork: the entry point with the arguments of the package; the exit code that a container would give."""
    from evergreen_kubeflow import entrypoint

    root = Path(pod)
    for name in ("home", "work"):
        (root / name).mkdir(parents=True)
    log = os.open(root / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    os.environ.clear()
    os.environ.update({**kept, **environment, "HOME": str(root / "home")})
    os.chdir(root / "work")
    code = 1
    try:
        entrypoint.start(**entrypoint.main.make_context("entrypoint", args).params, root=root)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        if isinstance(end.code, str):
            sys.stderr.write(end.code + "\n")
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


if __name__ == "__main__":
    main()
