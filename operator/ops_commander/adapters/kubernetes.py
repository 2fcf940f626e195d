"""The Kubernetes API: one small client over the official one, with errors that say what to do."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from ops_commander.adapters.kubernetes_client import client, config
from ops_commander.core.names import FIELD_MANAGER

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
NAMES_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

PAGE: Final = 250
"""Objects of a list that are held as JSON at the same time."""
WATCH_FOR: Final = 300
"""Seconds after which the API server ends a watch, and another one goes on from there."""
QUIET_FOR: Final = 90.0
"""Seconds without a byte after which a watch counts as broken: bookmarks come about once a minute."""


class ApiError(Exception):
    """The API server refused or could not be reached. `status` is 0 where there was no answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}" if status else message)
        self.status = status
        self.message = message


class NotFound(ApiError):
    """The object does not exist."""


class Conflict(ApiError):
    """Somebody else was faster: read again."""


class Invalid(ApiError):
    """The object is refused as it is; asking again changes nothing."""


class Expired(ApiError):
    """A watch cannot go on from there: list anew."""


class ConfigurationError(Exception):
    """There are no credentials to reach a cluster with."""


_KINDS = {404: NotFound, 409: Conflict, 410: Expired, 400: Invalid, 403: Invalid, 422: Invalid}

_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")

_PATHS = {
    "ModelRollout": ("apis/ops-commander.dev/v1alpha1", "modelrollouts"),
    "RolloutPolicy": ("apis/ops-commander.dev/v1alpha1", "rolloutpolicies"),
    "Vote": ("apis/ops-commander.dev/v1alpha1", "votes"),
    "ActionPlan": ("apis/ops-commander.dev/v1alpha1", "actionplans"),
    "SelfSubjectReview": ("apis/authentication.k8s.io/v1", "selfsubjectreviews"),
    "ReplicaSet": ("apis/apps/v1", "replicasets"),
    "Job": ("apis/batch/v1", "jobs"),
    "Service": ("api/v1", "services"),
    "Pod": ("api/v1", "pods"),
    "PodTemplate": ("api/v1", "podtemplates"),
    "EndpointSlice": ("apis/discovery.k8s.io/v1", "endpointslices"),
    "HTTPRoute": ("apis/gateway.networking.k8s.io/v1", "httproutes"),
    "Lease": ("apis/coordination.k8s.io/v1", "leases"),
    "Event": ("apis/events.k8s.io/v1", "events"),
}


async def load_configuration(kubeconfig: str | None = None) -> client.Configuration:
    """In-cluster credentials where there are some, else those of kubeconfig."""
    configuration = client.Configuration()
    if kubeconfig is None:
        try:
            config.load_incluster_config(client_configuration=configuration)
            return configuration
        except config.ConfigException:
            pass
    try:
        await config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)
    except (config.ConfigException, OSError, ValueError) as error:
        raise ConfigurationError(f"no usable kubeconfig: {error}") from error
    return configuration


def current_namespace(kubeconfig: str | None) -> str:
    """The namespace of kubeconfig's current context, `default` where it names none."""
    try:
        _, active = config.list_kube_config_contexts(config_file=kubeconfig)
    except (config.ConfigException, OSError, ValueError) as error:
        raise ConfigurationError(f"no usable kubeconfig: {error}") from error
    return str(active["context"].get("namespace") or "default")


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, and the resource version of the whole."""

    items: list[dict[str, Any]]
    version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """ADDED, MODIFIED, DELETED or BOOKMARK, and the object; of a bookmark only its resource version."""

    type: str
    item: dict[str, Any]

    @property
    def version(self) -> str:
        return str(self.item["metadata"]["resourceVersion"])


class KubernetesApi:
    """Requests by kind; every call has a deadline. Use as an async context manager."""

    def __init__(self, configuration: client.Configuration, *, timeout: float = 10.0, connections: int = 32) -> None:
        configuration.connection_pool_maxsize = connections
        self._client = client.ApiClient(configuration)
        self._timeout = aiohttp.ClientTimeout(total=timeout)

    async def __aenter__(self) -> KubernetesApi:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.close()

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        return await self._request("GET", _path(kind, namespace, name))

    async def find(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """The object, or None where it does not exist."""
        try:
            return await self.get(kind, namespace, name)
        except NotFound:
            return None

    async def list(
        self,
        kind: str,
        namespace: str | None,
        labels: Mapping[str, str] | None = None,
        *,
        selector: str = "",
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        """Those with these labels; or those that a label selector matches."""
        selector = selector or ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        query = {"labelSelector": selector} if selector else {}
        if limit is not None:
            query["limit"] = str(limit)
        answer = await self._request("GET", _path(kind, namespace), query=query)
        items: list[dict[str, Any]] = answer.get("items") or []
        return items

    async def pages(
        self, kind: str, namespace: str | None, labels: str = "", *, names_only: bool = False
    ) -> AsyncIterator[Page]:
        """All objects of a kind, one page after the other. Raises Expired where it took too long."""
        query = {"limit": str(PAGE), **({"labelSelector": labels} if labels else {})}
        accept = NAMES_ONLY if names_only else "application/json"
        while True:
            answer = await self._request("GET", _path(kind, namespace), query=query, accept=accept)
            metadata = answer.get("metadata") or {}
            yield Page(answer.get("items") or [], str(metadata.get("resourceVersion") or ""))
            if not metadata.get("continue"):
                return
            query["continue"] = metadata["continue"]

    async def watch(self, kind: str, namespace: str | None, labels: str, version: str) -> AsyncIterator[WatchEvent]:
        """Changes after a resource version, until the server ends the watch. Raises Expired, or ApiError."""
        query = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_FOR)}
        query |= {"resourceVersion": version, **({"labelSelector": labels} if labels else {})}
        path = _path(kind, namespace)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=QUIET_FOR)
        try:
            response = await self._send("GET", path, query=query, accept="application/json", timeout=timeout)
            async with response.response as stream:
                if stream.status >= 400:
                    raise _refused(stream.status, stream.reason, await stream.read())
                try:
                    async for line in _lines(stream.content):
                        yield _watch_event(line)
                finally:
                    _cut(stream)
        except _UNREACHED as error:
            raise _unreached("watch", path, error) from error

    async def create(
        self, kind: str, namespace: str | None, body: Mapping[str, Any], *, dry_run: bool = False
    ) -> dict[str, Any]:
        query = {"fieldManager": FIELD_MANAGER, **({"dryRun": "All", "fieldValidation": "Strict"} if dry_run else {})}
        return await self._request("POST", _path(kind, namespace), query=query, body=body)

    async def apply(
        self, manifest: Mapping[str, Any], *, subresource: str = "", manager: str = FIELD_MANAGER
    ) -> dict[str, Any]:
        """Server-side apply; a resourceVersion in the manifest makes it an optimistic lock."""
        metadata = manifest["metadata"]
        path = _path(manifest["kind"], metadata["namespace"], metadata["name"]) + (
            f"/{subresource}" if subresource else ""
        )
        query = {"fieldManager": manager, "force": "true"}
        return await self._request("PATCH", path, query=query, body=manifest, content_type=APPLY)

    async def merge(self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        query = {"fieldManager": FIELD_MANAGER}
        return await self._request("PATCH", _path(kind, namespace, name), query=query, body=patch, content_type=MERGE)

    async def replace(self, kind: str, namespace: str, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._request("PUT", _path(kind, namespace, name), body=body)

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete in the background; gone already is fine."""
        try:
            await self._request("DELETE", _path(kind, namespace, name), body={"propagationPolicy": "Background"})
        except NotFound:
            return

    async def log(self, namespace: str, pod: str, container: str, *, limit: int) -> str:
        """The last bytes of what a container has said."""
        query = {"container": container, "limitBytes": str(8 * limit), "tailLines": "5000", "timestamps": "true"}
        path = f"{_path('Pod', namespace, pod)}/log"
        status, _, data = await self._exchange("GET", path, query=query, accept="*/*")
        if status >= 400:
            raise _KINDS.get(status, ApiError)(status, data.decode(errors="replace")[:500])
        return data[-limit:].decode(errors="replace")

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> dict[str, Any]:
        status, reason, data = await self._exchange(
            method, path, query=query, body=body, content_type=content_type, accept=accept
        )
        if status >= 400:
            raise _refused(status, reason, data)
        return _content(status, data)

    async def _exchange(
        self,
        method: str,
        path: str,
        *,
        accept: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> tuple[int, str, bytes]:
        """Status, reason and body of an answer. Raises ApiError where there was none."""
        try:
            response = await self._send(
                method, path, query=query, body=body, content_type=content_type, accept=accept, timeout=self._timeout
            )
            await response.read()
        except _UNREACHED as error:
            raise _unreached(method, path, error) from error
        data = response.data or b""
        return response.status, response.reason or "", data if isinstance(data, bytes) else str(data).encode()

    async def _send(
        self,
        method: str,
        path: str,
        *,
        accept: str,
        timeout: aiohttp.ClientTimeout,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        headers = {"Accept": accept, "Content-Type": content_type}
        pairs = list((query or {}).items())
        request = await self._client.param_serialize(
            method, f"/{path}", query_params=pairs, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        return await self._client.call_api(*request, _request_timeout=timeout)


_UNREACHED = (TimeoutError, aiohttp.ClientError, OSError, config.ConfigException)


def _unreached(method: str, path: str, error: BaseException) -> ApiError:
    return ApiError(0, f"{method} {path}: {type(error).__name__} {error}".rstrip())


def _refused(status: int, reason: str | None, data: bytes) -> ApiError:
    message = _content(status, data).get("message") or reason or "no message"
    return _KINDS.get(status, ApiError)(status, message)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length: the stream's own reader has a limit. What a broken stream ends with is no line."""
    rest = bytearray()
    async for chunk in content.iter_any():
        rest += chunk
        *whole, last = rest.split(b"\n") if b"\n" in chunk else (rest,)
        rest = last
        for line in whole:
            if line:
                yield bytes(line)


def _cut(stream: aiohttp.ClientResponse) -> None:
    """Whoever leaves a watch before its end does not wait for the server to say goodbye over TLS."""
    if stream.connection is not None and stream.connection.transport is not None:
        stream.connection.transport.abort()


def _watch_event(line: bytes) -> WatchEvent:
    found = json.loads(line)
    if found["type"] == "ERROR":
        code, message = found["object"].get("code") or 0, found["object"].get("message") or "no message"
        raise _KINDS.get(code, ApiError)(code, message)
    return WatchEvent(found["type"], found["object"])


def _content(status: int, data: bytes | str) -> dict[str, Any]:
    """The body as an object. Overload and proxies answer in plain text: that is an error like any other."""
    try:
        content = json.loads(data) if data else {}
    except ValueError:
        content = None
    if isinstance(content, dict):
        return content
    text = data[:200].decode(errors="replace") if isinstance(data, bytes) else data[:200]
    if status < 400:
        raise ApiError(0, f"answer is not JSON: {text!r}")
    return {"message": text}


def _path(kind: str, namespace: str | None, name: str | None = None) -> str:
    """Names come from users: one that is no object name could lead to another namespace's object."""
    for part in (namespace, name):
        if part is not None and not _OBJECT_NAME.fullmatch(part):
            raise Invalid(400, f"{part!r} is not a name of an object")
    prefix, plural = _PATHS[kind]
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"{prefix}{inside}/{plural}" + (f"/{name}" if name else "")
