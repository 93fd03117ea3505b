// Appends CloudEvents and follows them live, over gRPC-web.
//
// The server is http://localhost:8080, or the one in `?server=`; CORS_ALLOWED_ORIGINS must name this page's origin.

import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import descriptors from "./descriptors.binpb"; // of the folder `proto`, by `buf build`

const SUBJECT = "browser/greetings";
const RETRY_MS = 1000;

const server = new URLSearchParams(location.search).get("server") ?? "http://localhost:8080";
const [form, state, list] = ["append", "state", "events"].map((id) => document.getElementById(id));
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptors));
// A server with a token wants it from an interceptor: request.header.set("authorization", `Bearer ${token}`).
const store = createClient(registry.getService("eventsdb.v1.EventStore"), createGrpcWebTransport({ baseUrl: server }));

function textAttribute(value) {
  return { attr: { case: "ceString", value } };
}

async function append(text) {
  const event = {
    // Sent again with this id, it would not be stored again.
    id: crypto.randomUUID(),
    source: "/examples/browser",
    specVersion: "1.0",
    type: "com.example.greeted",
    attributes: { subject: textAttribute(SUBJECT), datacontenttype: textAttribute("text/plain") },
    data: { case: "textData", value: text },
  };
  await store.append({ events: [event] });
}

function positionOf(event) {
  return BigInt(event.attributes.position.attr.value);
}

function show(event) {
  const line = document.createElement("li");
  line.textContent = `${positionOf(event)} ${event.data.value}`;
  list.append(line);
}

// Takes history and what comes, and after a cut goes on behind the last position: each event once, in order.
async function follow() {
  let last = 0n;
  for (;;) {
    try {
      const request = { filter: { subjects: [SUBJECT] }, start: { case: "afterPosition", value: last } };
      for await (const { message } of store.subscribe(request)) {
        if (message.case === "events") {
          message.value.events.forEach(show);
          last = positionOf(message.value.events.at(-1));
        } else {
          // `caughtUp` or `heartbeat`: nothing of ours is missing up to here.
          last = message.value.position;
          state.textContent = "live";
        }
      }
    } catch (error) {
      state.textContent = `cut: ${ConnectError.from(error).message}`;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

form.addEventListener("submit", async (submission) => {
  submission.preventDefault();
  try {
    await append(form.elements.text.value);
    form.reset();
  } catch (error) {
    state.textContent = `not appended: ${ConnectError.from(error).message}`;
  }
});

follow();
