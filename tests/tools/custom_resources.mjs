// Holds custom resources to the schemas of their operators. Argument: the folder of packages; standard input: a JSON array
// of resources. Writes one line for each fault, and one for each resource that no schema is known for.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [modules] = process.argv.slice(2);
const packages = {
  "cert-manager.io": "cert-manager",
  "gateway.networking.k8s.io": "gateway-api",
  "monitoring.coreos.com": "prometheus-operator",
};

for (const resource of JSON.parse(readFileSync(0))) {
  const { apiVersion, kind, metadata } = resource;
  const owner = packages[apiVersion.split("/")[0]];
  try {
    const file = join(modules, "@kubernetes-models", owner ?? "none", apiVersion, `${kind}.js`);
    const model = (await import(pathToFileURL(file)))[kind];
    new model(resource).validate();
  } catch (error) {
    console.log(`${kind} ${metadata.name}: ${error.message}`);
  }
}
