// Appends events with the CloudEvents SDK in binary and structured mode, and gets them back by EventSource.
// Arguments: the server, and the folder that has the packages if it is not this one's.

import { createRequire } from "node:module";
import { deepStrictEqual } from "node:assert";
import { randomUUID } from "node:crypto";

const [server = "http://localhost:8080", modules] = process.argv.slice(2);
const require = createRequire(modules ? `${modules}/_` : import.meta.url);
const { CloudEvent, HTTP } = require("cloudevents");
const { EventSource } = require("eventsource");

const subject = `node/${randomUUID()}`;
const attributes = { type: "com.example.greeted", source: "/examples/node", subject, comment: "Grüße" };
const events = [
  new CloudEvent({ ...attributes, datacontenttype: "application/json", data: { hello: ["world", 1.5, null] } }),
  new CloudEvent({ ...attributes, datacontenttype: "text/plain", data: "Grüße" }),
  new CloudEvent({ ...attributes, flag: true, number: -7 }),
];

for (const event of events) {
  // The header values of this SDK are not percent-encoded, so binary mode is for what needs no encoding.
  const plain = event.cloneWith({ id: `${event.id}-binary`, comment: "hello" });
  for (const message of [HTTP.structured(event), HTTP.binary(plain)]) {
    const answer = await fetch(`${server}/events`, { method: "POST", headers: message.headers, body: message.body });
    if (!answer.ok) throw new Error(await answer.text());
  }
}

const found = await new Promise((resolve, reject) => {
  const seen = [];
  const source = new EventSource(`${server}/events/stream?subject=${subject}&format=cloudevents`);
  source.onerror = reject;
  source.onmessage = ({ data }) => seen.push(new CloudEvent(JSON.parse(data)));
  source.addEventListener("caught-up", () => {
    source.close();
    resolve(seen);
  });
});

deepStrictEqual(found.map(({ id }) => id), events.flatMap(({ id }) => [id, `${id}-binary`]));
events.forEach((event, index) => {
  const { position, recordedtime, ...back } = JSON.parse(JSON.stringify(found[2 * index]));
  deepStrictEqual(back, JSON.parse(JSON.stringify(event)));
  console.log(position, recordedtime, event.id);
});
