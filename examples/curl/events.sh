#!/bin/sh
# Appends CloudEvents in the three modes of the HTTP binding, reads them back, follows the stream. Argument: the server.
set -eu
server=${1:-http://localhost:8080}
subject=curl/$$

echo "binary mode: attributes in headers, data in the body"
curl -fsS "$server/events" -H 'ce-specversion: 1.0' -H "ce-id: $subject-1" -H 'ce-source: /examples/curl' \
  -H 'ce-type: com.example.greeted' -H "ce-subject: $subject" -H 'content-type: application/json' -d '{"hello":"world"}'
echo

echo "structured mode: all of it in the body"
curl -fsS "$server/events" -H 'content-type: application/cloudevents+json' -d '{
  "specversion": "1.0", "id": "'"$subject"'-2", "source": "/examples/curl", "type": "com.example.greeted",
  "subject": "'"$subject"'", "datacontenttype": "text/plain", "data": "Grüße" }'
echo

echo "batched mode: both or none; the first is known already and not stored again"
curl -fsS "$server/events" -H 'content-type: application/cloudevents-batch+json' -d '[
  {"specversion": "1.0", "id": "'"$subject"'-2", "source": "/examples/curl", "type": "com.example.greeted",
   "subject": "'"$subject"'", "datacontenttype": "text/plain", "data": "Grüße"},
  {"specversion": "1.0", "id": "'"$subject"'-3", "source": "/examples/curl", "type": "com.example.greeted",
   "subject": "'"$subject"'", "data_base64": "AP8="}]'
echo

echo "the subject's history, an event a line"
curl -fsS "$server/events/historic?subject=$subject" -H 'accept: application/x-ndjson'

echo "the same as a stream, which would go on with what comes"
curl -fsN "$server/events/stream?subject=$subject&format=cloudevents" | sed '/^event: caught-up/q'
