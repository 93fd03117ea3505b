// Calls Events DB from a page of another origin and posts what came of it to /result.
// Query: `open`, the URL of a server without a token; `closed`, that of one with the token `secret`.

import { fromBinary, createFileRegistry } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

const query = new URLSearchParams(location.search);
const open = query.get("open");
const closed = query.get("closed");
const DEADLINE_MS = 20_000;

let step = "start";

function equal(actual, expected) {
  const [left, right] = [actual, expected].map((value) => JSON.stringify(value, (_, v) => (typeof v === "bigint" ? `${v}` : v)));
  if (left !== right) throw new Error(`${left} is not ${right}`);
}

async function refused(call, code) {
  try {
    await call();
  } catch (error) {
    const refusal = ConnectError.from(error);
    equal(Code[refusal.code], Code[code]);
    return refusal.rawMessage;
  }
  throw new Error(`${Code[code]} was expected`);
}

function within(promise, what) {
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`waited in vain for ${what}`)), DEADLINE_MS));
  return Promise.race([promise, late]);
}

async function service(name) {
  const bytes = await (await fetch("/descriptors.bin")).arrayBuffer();
  return createFileRegistry(fromBinary(FileDescriptorSetSchema, new Uint8Array(bytes))).getService(name);
}

function newEvent(data) {
  return { source: "page", type: "made", subject: "page/ü", data: new Uint8Array(data) };
}

async function grpcWeb(EventsDB) {
  const client = createClient(EventsDB, createGrpcWebTransport({ baseUrl: open }));

  step = "gRPC-web creates and reads";
  const first = (await client.createEvent(newEvent([0, 255]))).id;
  const event = await client.getEventByID({ id: first });
  equal([event.source, event.type, event.subject, [...event.data]], ["page", "made", "page/ü", [0, 255]]);
  const second = (await client.createEvent(newEvent([]))).id;
  const history = await client.getHistoricEventsFromSubject({ subject: "page/", recursive: true });
  equal([history.events.map((event) => event.id), history.hasMore], [[first, second], false]);

  step = "gRPC-web streams history, then live";
  const abort = new AbortController();
  const seen = [];
  let live;
  try {
    for await (const reply of client.streamEventsFromSubject({ subject: "page/ü" }, { signal: abort.signal, timeoutMs: DEADLINE_MS })) {
      seen.push(...reply.events.map((event) => event.id));
      if (seen.length === 2) live = (await client.createEvent(newEvent([1]))).id;
      if (seen.length === 3) abort.abort();
    }
  } catch (error) {
    equal(Code[ConnectError.from(error).code], Code[Code.Canceled]);
  }
  equal(seen, [first, second, live]);

  step = "gRPC-web errors can be read";
  equal(await refused(() => client.createEvent({}), Code.InvalidArgument), "source must not be empty");
  await refused(() => client.getEventByID({ id: 4711n }), Code.NotFound);
  await refused(async () => {
    for await (const _ of client.streamEventsFromSubject({}));
  }, Code.InvalidArgument);

  step = "gRPC-web asks for the token";
  await refused(() => createClient(EventsDB, createGrpcWebTransport({ baseUrl: closed })).createEvent(newEvent([])), Code.Unauthenticated);
  const token = (next) => (request) => {
    request.header.set("authorization", "Bearer secret");
    return next(request);
  };
  const trusted = createClient(EventsDB, createGrpcWebTransport({ baseUrl: closed, interceptors: [token] }));
  equal((await trusted.createEvent(newEvent([]))).id, 1n);
}

function cloudEvent(id) {
  const attributes = {
    subject: { attr: { case: "ceString", value: "page/native" } },
    number: { attr: { case: "ceInteger", value: -7 } },
  };
  return { id, source: "/page", specVersion: "1.0", type: "made", attributes, data: { case: "textData", value: "Grüße" } };
}

async function nativeGrpcWeb(EventStore) {
  const client = createClient(EventStore, createGrpcWebTransport({ baseUrl: open }));

  step = "gRPC-web appends CloudEvents and gets them back";
  const { results } = await client.append({ events: [cloudEvent("one"), cloudEvent("two")] });
  equal(results.map((result) => result.duplicate), [false, false]);
  const { event } = await client.get({ position: results[0].position });
  equal([event.id, event.data, event.attributes.number.attr.value], ["one", { case: "textData", value: "Grüße" }, -7]);
  equal((await client.append({ events: [cloudEvent("one")] })).results[0].duplicate, true);

  step = "gRPC-web subscribes to CloudEvents";
  const abort = new AbortController();
  const seen = [];
  try {
    const request = { filter: { subjects: ["page/native"] } };
    for await (const { message } of client.subscribe(request, { signal: abort.signal, timeoutMs: DEADLINE_MS })) {
      if (message.case === "events") seen.push(...message.value.events.map((event) => event.id));
      if (message.case === "caughtUp") await client.append({ events: [cloudEvent("live")] });
      if (seen.length === 3) abort.abort();
    }
  } catch (error) {
    equal(Code[ConnectError.from(error).code], Code[Code.Canceled]);
  }
  equal(seen, ["one", "two", "live"]);

  step = "gRPC-web errors name the field";
  const refusal = await refused(() => client.append({ events: [{ ...cloudEvent("x"), type: "" }] }), Code.InvalidArgument);
  equal(refusal, "events[0].type must not be empty");
}

async function create(data) {
  const body = JSON.stringify({ source: "page", type: "made", subject: "sse", data: btoa(data) });
  const answer = await fetch(`${open}/events`, { method: "POST", headers: { "content-type": "application/json" }, body });
  return (await answer.json()).id;
}

async function serverSentEvents() {
  step = "REST creates";
  const stored = [await create("one"), await create("two")];

  step = "EventSource streams history, then live";
  const source = new EventSource(`${open}/events/stream?subject=sse`);
  const seen = [];
  let live;
  await within(
    new Promise((resolve, reject) => {
      source.onerror = () => reject(new Error("the stream failed"));
      source.onmessage = (message) => {
        const event = JSON.parse(message.data);
        seen.push([event.id, message.lastEventId, atob(event.data)]);
        if (seen.length === 3) resolve();
      };
      source.addEventListener("caught-up", () => {
        seen.length === 2 ? create("live").then((id) => (live = id)) : reject(new Error("caught up too early"));
      });
    }),
    "a live event",
  );
  source.close();
  await within((async () => { while (live === undefined) await new Promise((resolve) => setTimeout(resolve, 10)); })(), "the answer");
  equal(seen, [[stored[0], `${stored[0]}`, "one"], [stored[1], `${stored[1]}`, "two"], [live, `${live}`, "live"]]);
}

try {
  await grpcWeb(await service("grpc.EventsDB"));
  await nativeGrpcWeb(await service("eventsdb.v1.EventStore"));
  await serverSentEvents();
  step = "done";
} catch (error) {
  step = `${step}: ${error.stack ?? error}`;
}
await fetch("/result", { method: "POST", body: step });
