// Follows a stream with the `eventsource` package, which reconnects by itself: history, then live, then on after the
// server was away. Arguments: the folder of packages, the stream's URL, the token, how many events to wait for.
// Writes one line for each event: its id and its data.

import { createRequire } from "node:module";
import { join } from "node:path";

const [modules, url, token, count] = process.argv.slice(2);
const { EventSource } = createRequire(join(modules, "_"))("eventsource");
const withToken = (input, init) => fetch(input, { ...init, headers: { ...init.headers, authorization: `Bearer ${token}` } });

let seen = 0;
const source = new EventSource(url, { fetch: withToken });
source.onmessage = ({ lastEventId, data }) => {
  console.log(lastEventId, Buffer.from(JSON.parse(data).data, "base64").toString());
  seen += 1;
  if (seen === Number(count)) source.close();
};
