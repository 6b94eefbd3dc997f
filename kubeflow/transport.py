"""The SDK's way to the server, with limits and words: its own waits for ever and raises pages of headers."""

import json
import re
from typing import Any

import kfp
import kfp_server_api as api
from kfp_server_api.rest import RESTClientObject
from urllib3.exceptions import HTTPError

from evergreen_kubeflow.errors import ClusterError, NotFound, Unreachable

CONNECT_SECONDS, HEALTH_SECONDS, ANSWER_SECONDS = 3, 5, 60
LOGIN = (
    "behind a login, set EVERGREEN_KUBEFLOW_TOKEN (a bearer token) or EVERGREEN_KUBEFLOW_COOKIE (name=value, as the "
    "browser sends it)"
)


class Transport(RESTClientObject):
    """The SDK's transport, bounded."""

    def __init__(self, configuration: api.Configuration, namespace: str) -> None:
        configuration.retries = False
        super().__init__(configuration)
        self._host, self._namespace = configuration.host, namespace

    def request(self, method: str, url: str, **options: Any) -> Any:
        """One request. Raises ClusterError for everything but a good answer of the API."""
        limit = HEALTH_SECONDS if url.endswith("/healthz") else ANSWER_SECONDS
        try:
            answer = super().request(method, url, **{**options, "_request_timeout": (CONNECT_SECONDS, limit)})
        except HTTPError as error:
            raise self._unreachable(str(error)) from error
        except api.ApiException as error:
            raise self._in_words(error) from error
        if _json(answer.data) is None:
            raise self.not_the_api()
        return answer

    def not_the_api(self) -> ClusterError:
        """Something answers, and it is a login page, a UI or another program."""
        return ClusterError(
            f"{self._host} answers, but not as the API of Kubeflow Pipelines v2; {self._where()}; {LOGIN}"
        )

    def _in_words(self, error: api.ApiException) -> ClusterError:
        if error.status == 0:  # how the SDK says that TLS failed
            return self._unreachable(error.reason)
        answer = _json(error.body)
        message = answer and (answer.get("message") or answer.get("error_message") or answer.get("error"))
        said = " ".join(str(message or error.reason).split())[:600]
        if error.status in (401, 403):
            what = "wants to know who asks" if error.status == 401 else "does not allow you this"
            return ClusterError(f"{self._host} {what} ({error.status}: {said}); {LOGIN}")
        if error.status == 404:
            return NotFound(said) if message else self.not_the_api()
        return ClusterError(f"{self._host} answered {error.status}: {said}")

    def _unreachable(self, why: str) -> Unreachable:
        reason = re.sub(r"(<\S+ object at \S+>|\w+Pool\([^)]*\)): ", "", " ".join(why.split()))
        return Unreachable(f"no answer from {self._host} ({reason}); {self._where()}")

    def _where(self) -> str:
        forward = f"kubectl port-forward -n {self._namespace} svc/ml-pipeline 8888:8888"
        return f"bring the API here with `{forward}`, or name its address with --host"


def _json(body: Any) -> dict[str, Any] | None:
    """What the API says, always an object; None when it is something else."""
    try:
        answer = json.loads(body)
    except (TypeError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


class BoundedApi(kfp.Client):
    """The SDK's client over `Transport`. Its own asks for the server's health five times, five seconds apart."""

    def __init__(self, kubeflow_namespace: str, **options: Any) -> None:
        self._kubeflow_namespace = kubeflow_namespace
        super().__init__(**options)

    def get_kfp_healthz(self, sleep_duration: int = 5) -> api.V2beta1GetHealthzResponse:
        """Asks once, and gives all later requests their limits. Raises ClusterError when there is no API."""
        shared = self._healthz_api.api_client
        shared.rest_client = transport = Transport(shared.configuration, self._kubeflow_namespace)
        try:
            return self._healthz_api.get_healthz()
        except NotFound as error:  # version 1 of Kubeflow Pipelines, or another API
            raise transport.not_the_api() from error
