"""Writes the JSON schemas that kubeconform checks manifests by: schemas.py DIRECTORY VERSION...

Those of a version of Kubernetes go to DIRECTORY/vVERSION, strict ones, from the package kubernetes-validate. Those of custom
resources go to DIRECTORY, made from the models of cloudcoil, and refuse fields that they do not know too.
"""

import importlib.util
import json
import pathlib
import sys

from cloudcoil.models.keda.v1alpha1 import ScaledObject, TriggerAuthentication
from cloudcoil.models.prometheus_operator.v1 import PodMonitor


def write_kubernetes(target: pathlib.Path, version: str) -> None:
    package = pathlib.Path(importlib.util.find_spec("kubernetes_validate").origin).parent
    source = package / "kubernetes-json-schema" / f"v{version}-local-strict"
    target = target / f"v{version}"
    target.mkdir(parents=True, exist_ok=True)
    for file in source.glob("*.json"):
        # The schemas refer to each other as on a server.
        schema = json.loads(file.read_text().replace('"/api/_definitions.json', '"_definitions.json'))
        schema.pop("$id", None)
        (target / file.name).write_text(json.dumps(schema))


def closed(schema):
    """The schema with no other properties than those it names."""
    if isinstance(schema, list):
        return [closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        schema.setdefault("additionalProperties", False)
    return schema


def write_custom(target: pathlib.Path, model, group: str) -> None:
    schema = closed(model.model_json_schema(by_alias=True))
    (target / f"{model.__name__.lower()}-{group}.json").write_text(json.dumps(schema))


def main(directory: str, *versions: str) -> None:
    target = pathlib.Path(directory)
    for version in versions:
        write_kubernetes(target, version)
    write_custom(target, ScaledObject, "keda-v1alpha1")
    write_custom(target, TriggerAuthentication, "keda-v1alpha1")
    write_custom(target, PodMonitor, "monitoring-v1")


if __name__ == "__main__":
    main(*sys.argv[1:])
