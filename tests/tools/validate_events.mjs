// Holds structured events against the JSON schema of CloudEvents 1.0.2, as the CloudEvents SDK compiles it, and against what
// the specification says of them in words. Argument: the folder of packages. Reads an event a line; writes what is wrong
// with each, a line that is empty if nothing is.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { join } from "node:path";

const [modules] = process.argv.slice(2);
const matchesSchema = createRequire(import.meta.url)(join(modules, "cloudevents/dist/schema/v1.js"));
const ATTRIBUTES = ["specversion", "id", "source", "type", "datacontenttype", "dataschema", "subject", "time", "data", "data_base64"];

function isExtensionValue(value) {
  const isInteger = Number.isInteger(value) && Math.abs(value + 0.5) <= 2 ** 31;
  return typeof value === "string" || typeof value === "boolean" || isInteger;
}

function faults(event) {
  const found = matchesSchema(event) ? [] : matchesSchema.errors.map(({ instancePath, message }) => `${instancePath} ${message}`);
  // `contentEncoding` is a remark to validators of this version of JSON schema.
  const bytes = event.data_base64;
  if (bytes !== undefined && Buffer.from(bytes, "base64").toString("base64") !== bytes) found.push("data_base64 is not base64");
  // Source: JSON event format 1.0.2, section 3.1.
  if ("data" in event && "data_base64" in event) found.push("data is there twice");
  for (const [name, value] of Object.entries(event)) {
    // Source: CloudEvents 1.0.2, "Attribute Naming Convention" and "Type System".
    if (ATTRIBUTES.includes(name)) continue;
    if (!/^[a-z0-9]+$/.test(name)) found.push(`${name} is no name`);
    if (!isExtensionValue(value)) found.push(`${name} is no value of an extension`);
  }
  return found;
}

for await (const line of createInterface({ input: process.stdin })) console.log(faults(JSON.parse(line)).join("; "));
