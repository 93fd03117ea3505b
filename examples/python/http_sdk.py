"""Appends events with the CloudEvents SDK in binary and structured mode, and reads them back with it."""

import sys
import uuid

import requests
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

SERVER = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080"


def send(message):
    answer = requests.post(f"{SERVER}/events", headers=message.headers, data=message.body, timeout=30)
    answer.raise_for_status()
    return answer.json()["id"]


def read(position, **wish):
    """The event as the SDK sees it; `wish` says in which mode."""
    answer = requests.get(f"{SERVER}/events/get", params={"id": position, **wish}, timeout=30)
    answer.raise_for_status()
    return from_http_event(HTTPMessage(headers=dict(answer.headers), body=answer.content))


def main():
    subject = f"python/{uuid.uuid4()}"
    attributes = {
        "type": "com.example.greeted",
        "source": "/examples/python",
        "subject": subject,
        "comment": 'Euro € 😀 "quoted" 100%',
    }
    events = [
        CloudEvent({**attributes, "datacontenttype": "application/json"}, {"hello": ["world", 1.5, None]}),
        CloudEvent({**attributes, "datacontenttype": "text/plain"}, "Grüße"),
        CloudEvent({**attributes, "datacontenttype": "application/octet-stream"}, bytes(range(256))),
        CloudEvent(attributes),
    ]
    for event in events:
        for encode in (to_binary_event, to_structured_event):
            # The second time it is the same event in another form, and not stored again.
            position = send(encode(event))
            for mode in ("binary", "cloudevents"):
                found = read(position, format=mode)
                expected = event.get_attributes()
                actual = {name: found.get_attributes().get(name) for name in expected}
                assert actual == expected, (mode, actual, expected)
                assert found.get_data() == event.get_data() or not event.get_data(), (mode, found.get_data())
                assert found.get_extension("position") == str(position)
        print(position, event.get_id(), event.get_datacontenttype())
    page = requests.get(f"{SERVER}/events/historic", params={"subject": subject}, timeout=30).json()
    assert len(page["events"]) == len(events), page


main()
