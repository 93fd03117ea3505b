"""Appends over eventsdb.v1.EventStore, one call with many appends in flight, and follows from history to live."""

import pathlib
import sys
import uuid

import grpc

SERVER = (sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080").removeprefix("http://")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "proto"))
# Compiles the files as they are imported; grpcio-tools has the compiler.
messages, services = grpc.protos_and_services("eventsdb/v1/event_store.proto")
cloudevents = grpc.protos("cloudevents.proto")

COUNT = 500


def event(subject, number):
    made = cloudevents.CloudEvent(
        id=f"{subject}-{number}", source="/examples/python", spec_version="1.0", type="com.example.counted"
    )
    made.attributes["subject"].ce_string = subject
    made.attributes["number"].ce_integer = number
    made.text_data = f'{{"number":{number}}}'
    made.attributes["datacontenttype"].ce_string = "application/json"
    return made


def main(store):
    subject = f"python/{uuid.uuid4()}"
    requests = (messages.AppendStreamRequest(events=[event(subject, number)]) for number in range(COUNT))
    answers = list(store.AppendStream(requests, timeout=60))
    positions = [answer.appended.results[0].position for answer in answers]
    assert len(positions) == COUNT and positions == sorted(positions), positions

    try:
        wrong = messages.AppendRequest(events=[cloudevents.CloudEvent(id="x", source="/s", spec_version="1.0")])
        store.Append(wrong, timeout=60)
        raise AssertionError("an event without a type was taken")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT and "events[0].type" in error.details(), error

    seen = []
    stream = store.Subscribe(messages.SubscribeRequest(filter=messages.Filter(subjects=[subject])), timeout=60)
    for message in stream:
        kind = message.WhichOneof("message")
        if kind == "events":
            seen += [found.attributes["number"].ce_integer for found in message.events.events]
        elif kind == "caught_up":
            # History is done: what is appended from now on comes live.
            store.Append(messages.AppendRequest(events=[event(subject, COUNT)]), timeout=60)
        if len(seen) > COUNT:
            break
    stream.cancel()
    assert seen == list(range(COUNT + 1)), seen
    print(f"{len(seen)} events of {subject}, positions {positions[0]} to {positions[-1]}")


with grpc.insecure_channel(SERVER) as channel:
    main(services.EventStoreStub(channel))
