"""A client that shares no code with the server: create, read, stream, delete. Arguments: the address and the token."""

import sys

import grpc

import eventsdb_pb2 as messages
from eventsdb_pb2_grpc import EventsDBStub

ADDRESS, TOKEN = sys.argv[1:]
DEADLINE_SECONDS = 30


def expect(code, call, request, metadata):
    try:
        call(request, metadata=metadata, timeout=DEADLINE_SECONDS)
    except grpc.RpcError as error:
        assert error.code() == code, error
        return error.details()
    raise AssertionError(f"{code} was expected")


def main(stub):
    auth = [("authorization", TOKEN)]

    def create(data):
        request = messages.CreateEventRequest(source="python", type="made", subject="py/ü", data=data)
        return stub.CreateEvent(request, metadata=auth, timeout=DEADLINE_SECONDS).id

    data = [bytes(range(256)), b"", b"x" * 1024 * 1024]
    ids = [create(part) for part in data]
    assert ids == sorted(set(ids)), ids

    event = stub.GetEventByID(messages.GetEventByIDRequest(id=ids[0]), metadata=auth, timeout=DEADLINE_SECONDS)
    assert (event.source, event.type, event.subject, event.data) == ("python", "made", "py/ü", data[0]), event

    subject = messages.EventsFromSubjectRequest(subject="py/ü")
    history = stub.GetHistoricEventsFromSubject(subject, metadata=auth, timeout=DEADLINE_SECONDS)
    assert [event.data for event in history.events] == data and not history.has_more

    prefix = messages.EventsFromSubjectRequest(subject="py/", from_id=ids[0], type="made", recursive=True)
    call = stub.StreamEventsFromSubject(prefix, metadata=auth, timeout=DEADLINE_SECONDS)
    events = (event for reply in call for event in reply.events)
    assert [next(events).id, next(events).id] == ids[1:]
    live = create(b"live")
    assert next(events).id == live
    call.cancel()

    assert stub.DeleteFromSubject(subject, metadata=auth, timeout=DEADLINE_SECONDS).ok
    history = stub.GetHistoricEventsFromSubject(subject, metadata=auth, timeout=DEADLINE_SECONDS)
    assert not history.events and not history.has_more

    gone = messages.GetEventByIDRequest(id=ids[0])
    expect(grpc.StatusCode.NOT_FOUND, stub.GetEventByID, gone, auth)
    expect(grpc.StatusCode.UNAUTHENTICATED, stub.GetEventByID, gone, [])
    expect(grpc.StatusCode.UNAUTHENTICATED, stub.GetEventByID, gone, [("authorization", "Bearer wrong")])
    details = expect(grpc.StatusCode.INVALID_ARGUMENT, stub.CreateEvent, messages.CreateEventRequest(), auth)
    assert details.startswith("source "), details


with grpc.insecure_channel(ADDRESS) as channel:
    main(EventsDBStub(channel))
