//! The forms, each by itself: vectors and refusals. What they say to each other is in `round_trip`.

mod round_trip;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use prost_types::Timestamp as WireTime;

use super::proto::cloud_event::cloud_event_attribute_value::Attr;
use super::proto::cloud_event::{CloudEventAttributeValue, Data};
use super::proto::{CloudEvent, CloudEventBatch};
use super::*;
use crate::domain::context::{Context, DataForm, GivenTime, MediaType};
use crate::domain::event::{NewEvent, StoredEvent};
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;

const MINIMAL: &str = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t""#;

fn stored(event: NewEvent) -> StoredEvent {
    event.stored(Position::new(7).unwrap(), Timestamp::parse("2024-05-01T12:00:00Z").unwrap())
}

fn with(members: &str) -> Result<NewEvent, String> {
    from_json(format!("{MINIMAL}{members}}}").as_bytes()).map_err(|error| error.detail)
}

fn json(event: NewEvent) -> String {
    let mut out = Vec::new();
    write_json(&mut out, &stored(event));
    String::from_utf8(out).unwrap()
}

fn context(event: &NewEvent) -> &Context {
    event.context.as_deref().unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")]
        .iter()
        .filter(|(name, _)| !pairs.iter().any(|(other, _)| other == name))
        .chain(pairs)
    {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn binary(pairs: &[(&str, &str)], body: &'static [u8]) -> Result<NewEvent, String> {
    from_headers(&headers(pairs), Bytes::from_static(body)).map_err(|error| error.detail)
}

fn message(attributes: &[(&str, Attr)], data: Option<Data>) -> CloudEvent {
    let value = |attr: &Attr| CloudEventAttributeValue { attr: Some(attr.clone()) };
    CloudEvent {
        id: "1".to_owned(),
        source: "/s".to_owned(),
        spec_version: "1.0".to_owned(),
        r#type: "t".to_owned(),
        attributes: attributes.iter().map(|(name, attr)| ((*name).to_owned(), value(attr))).collect(),
        data,
    }
}

#[test]
fn structured_event_comes_out_as_it_went_in_with_its_place() {
    let members = concat!(
        r#","subject":"s","time":"2024-05-01T12:00:00.120+02:00","datacontenttype":"application/json","#,
        r#""dataschema":"urn:x","flag":true,"number":-5,"word":"é \"x\"","#
    );
    let event =
        with(&format!(r#"{members}"data":{{"a": [1.0, 1e999, 12345678901234567890], "b":"\ud83d\ude00"}}"#)).unwrap();
    let out = json(event);
    let place = r#""position":"7","recordedtime":"2024-05-01T12:00:00Z","#;
    let in_order = concat!(
        r#","subject":"s","time":"2024-05-01T12:00:00.120+02:00","datacontenttype":"application/json","#,
        r#""dataschema":"urn:x","flag":true,"number":-5,"word":"é \"x\"","#,
    );
    let data = r#""data":{"a": [1.0, 1e999, 12345678901234567890], "b":"\ud83d\ude00"}}"#;
    assert_eq!(out, format!("{MINIMAL}{in_order}{place}{data}"));
    // What it says of its place is of the server, and not taken in again.
    let again = from_json(out.as_bytes()).unwrap();
    assert_eq!(json(again), out);
}

#[test]
fn data_is_what_its_member_and_type_say() {
    for (members, form, data, out) in [
        ("", DataForm::Absent, "", ""),
        (r#","data":null"#, DataForm::Json, "null", r#","data":null"#),
        (r#","data":"x""#, DataForm::Json, r#""x""#, r#","data":"x""#),
        (r#","data":"","datacontenttype":"text/plain""#, DataForm::Text, "", r#","data":"""#),
        (r#","datacontenttype":"text/xml","data":"<a\u003e""#, DataForm::Text, "<a>", r#","data":"<a>""#),
        (r#","datacontenttype":"text/xml","data":[1]"#, DataForm::Json, "[1]", r#","data":[1]"#),
        (r#","data_base64":"AP8=""#, DataForm::Binary, "\0\u{ff}", r#","data_base64":"AP8=""#),
        (r#","data_base64":"""#, DataForm::Binary, "", r#","data_base64":"""#),
        (r#","data_base64":"MQ==","datacontenttype":"a/x+json""#, DataForm::Binary, "1", r#","data":1"#),
        (r#","data_base64":"ew==","datacontenttype":"a/x+json""#, DataForm::Binary, "{", r#","data_base64":"ew==""#),
    ] {
        let event = with(members).unwrap();
        assert_eq!(context(&event).data_form, form, "{members}");
        let latin1: Vec<u8> = data.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        assert_eq!(event.data, latin1, "{members}");
        assert!(json(event).ends_with(&format!("{out}}}")), "{members}");
    }
}

#[test]
fn structured_event_is_one_line_whatever_its_json_looks_like() {
    let event = with(",\"data\":{\r\n \"a\": \"x\\n\"\n}").unwrap();
    let out = json(event);
    assert!(out.ends_with("\"data\":{   \"a\": \"x\\n\" }}") && !out.contains(['\n', '\r']), "{out}");
}

#[test]
fn refusals_name_the_attribute() {
    for (members, problem) in [
        (r#","id":"2""#, "id must not be given more than once"),
        (r#","subject":"""#, "subject must not be empty"),
        (r#","subject":1"#, "subject must be a string"),
        (r#","time":"noon""#, "time must be an RFC 3339 time"),
        (r#","time":"""#, "time must be an RFC 3339 time"),
        (r#","datacontenttype":"json""#, "datacontenttype must be a media type"),
        (r#","datacontenttype":"""#, "datacontenttype must not be empty"),
        (r#","dataschema":"x""#, "dataschema must be an absolute URI"),
        (r#","data":1,"data":2"#, "data must not be given more than once"),
        (r#","data":1,"data_base64":"""#, "data and data_base64 exclude each other"),
        (r#","data_base64":"*""#, "data_base64 must be standard base64"),
        (r#","data_base64":1"#, "data_base64 must be a string"),
        (r#","data":"\ud800","datacontenttype":"text/plain""#, "data must be a string of Unicode"),
        (r#","a-b":"x""#, "\"a-b\" is not a name of an attribute"),
        (r#","Data":"x""#, "\"Data\" is not a name of an attribute"),
        (r#","a":[]"#, "a must be a string, a boolean or a whole number"),
        (r#","a":1.5"#, "a must be a string, a boolean or a whole number"),
        (r#","a":2147483648"#, "a must be a string, a boolean or a whole number"),
        (r#","a":"x\u0000""#, "a must not contain control characters"),
        (r#","a":"x","a":"y""#, "a must not be given more than once"),
    ] {
        let detail = with(members).unwrap_err();
        assert!(detail.starts_with(problem), "{members}: {detail}");
    }
    for (whole, problem) in [
        (r#"{"id":"1","source":"/s","type":"t"}"#, "specversion is missing"),
        (r#"{"specversion":"0.3","id":"1","source":"/s","type":"t"}"#, "specversion must be 1.0"),
        (r#"{"specversion":"1.0","source":"/s","type":"t"}"#, "id is missing"),
        (r#"{"specversion":"1.0","id":null,"source":"/s","type":"t"}"#, "id is missing"),
        (r#"{"specversion":"1.0","id":1,"source":"/s","type":"t"}"#, "id must be a string"),
        (r#"{"specversion":"1.0","id":"","source":"/s","type":"t"}"#, "id must not be empty"),
        (r#"{"specversion":"1.0","id":"1","type":"t"}"#, "source is missing"),
        (r#"{"specversion":"1.0","id":"1","source":"","type":"t"}"#, "source must not be empty"),
        (r#"{"specversion":"1.0","id":"1","source":"a b","type":"t"}"#, "source must be a URI-reference"),
        (r#"{"specversion":"1.0","id":"1","source":"/s"}"#, "type is missing"),
        ("[]", "the body must be a JSON object"),
        ("{", "the body must be JSON"),
    ] {
        let detail = from_json(whole.as_bytes()).unwrap_err().detail;
        assert!(detail.starts_with(problem), "{whole}: {detail}");
    }
    let detail = from_json_batch(format!("[{MINIMAL}}},{{}}]").as_bytes(), 2).unwrap_err().detail;
    assert_eq!(detail, "[1].specversion is missing");
    assert_eq!(from_json_batch(b"{}", 2).unwrap_err().detail, "the body must be a JSON array of objects");
}

#[test]
fn batches_and_extensions_end_at_their_limits() {
    let batch = |count: usize| format!("[{}]", vec![format!("{MINIMAL}}}"); count].join(","));
    assert_eq!(from_json_batch(batch(2).as_bytes(), 2).unwrap().len(), 2);
    let too_many = "the request has 3 events, at most 2 are allowed";
    assert_eq!(from_json_batch(batch(3).as_bytes(), 2).unwrap_err().detail, too_many);
    let event = to_message(&stored(from_json(format!("{MINIMAL}}}").as_bytes()).unwrap()));
    let batch = |count| Bytes::from(CloudEventBatch { events: vec![event.clone(); count] }.encode_to_vec());
    assert_eq!(from_protobuf_batch(batch(2), 2).unwrap().len(), 2);
    assert_eq!(from_protobuf_batch(batch(3), 2).unwrap_err().detail, too_many);
    assert_eq!(from_protobuf_batch(Bytes::from_static(&[10, 0, 10, 0, 10, 0]), 2).unwrap_err().detail, too_many);
    let extended = |count: usize| {
        let extensions: Vec<_> = (0..count).map(|number| format!(",\"x{number}\":true")).collect();
        from_json(format!("{MINIMAL}{}}}", extensions.concat()).as_bytes()).map_err(|error| error.detail)
    };
    assert!(extended(250).is_ok());
    assert_eq!(extended(251).unwrap_err(), "extensions must be at most 250");
}

#[test]
fn archive_keeps_every_byte_of_json() {
    for data in [" {\"a\":1}", "{\"a\":1}\t", "{\n\"a\":1}", "{\"a\": 1}", " "] {
        let headers = headers(&[("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")]);
        let event = from_headers(&headers, Bytes::copy_from_slice(data.as_bytes())).unwrap();
        let typed = Context {
            data_content_type: MediaType::new("application/json".to_owned()).ok(),
            ..context(&event).clone()
        };
        let event = NewEvent { context: Some(Box::new(typed)), ..event };
        let mut line = Vec::new();
        write_archived(&mut line, &stored(event));
        assert_eq!(from_archived(&line).unwrap().event.data, data.as_bytes(), "{}", String::from_utf8_lossy(&line));
    }
}

#[test]
fn attributes_end_at_their_limits() {
    let text = |length: usize| "é".repeat(length);
    for name in ["subject", "type", "id", "source"] {
        let whole = |length| {
            let mut whole: serde_json::Value = serde_json::from_str(&format!("{MINIMAL}}}")).unwrap();
            whole[name] = text(length).into();
            from_json(whole.to_string().as_bytes()).map_err(|error| error.detail)
        };
        assert!(whole(255).is_ok(), "{name}");
        assert_eq!(whole(256).unwrap_err(), format!("{name} must have at most 255 characters"));
    }
}

#[test]
fn binary_mode_takes_attributes_from_headers_and_data_from_the_body() {
    let event = binary(
        &[
            ("ce-subject", "Euro%20%E2%82%AC"),
            ("ce-time", "2024-05-01T12:00:00Z"),
            ("ce-a1", "\"x y\""),
            ("content-type", "application/json; charset=utf-8"),
        ],
        b"{\n}",
    )
    .unwrap();
    assert_eq!(event.subject.as_str(), "Euro €");
    assert_eq!(context(&event).time, GivenTime::AsKept);
    assert_eq!(context(&event).data_form, DataForm::Json);
    assert_eq!(event.data, "{\n}");
    let mut out = HeaderMap::new();
    write_headers(&mut out, &stored(event));
    let out: Vec<_> = out.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    for line in [
        "ce-subject: Euro%20%E2%82%AC",
        "ce-a1: x%20y",
        "ce-position: 7",
        "content-type: application/json; charset=utf-8",
    ] {
        assert!(out.iter().any(|found| found == line), "{line}: {out:?}");
    }
    for (media_type, body, form) in [
        (None, &b""[..], DataForm::Absent),
        (None, b"{}", DataForm::Binary),
        (Some("application/json"), b"", DataForm::Absent),
        (Some("application/json"), b"{", DataForm::Binary),
        (Some("text/plain"), b"x", DataForm::Text),
        (Some("text/plain"), b"\xff", DataForm::Binary),
        (Some("image/png"), b"x", DataForm::Binary),
    ] {
        let pairs: Vec<_> = media_type.map(|value| ("content-type", value)).into_iter().collect();
        assert_eq!(context(&binary(&pairs, body).unwrap()).data_form, form, "{media_type:?} {body:?}");
    }
}

#[test]
fn refusals_of_binary_mode_name_the_header() {
    for (pair, problem) in [
        (("ce-datacontenttype", "text/plain"), "ce-datacontenttype is not allowed"),
        (("ce-specversion", "2.0"), "ce-specversion must be 1.0"),
        (("ce-source", "a b"), "ce-source must be a URI-reference"),
        (("ce-subject", ""), "ce-subject must not be empty"),
        (("ce-data", "x"), "ce-\"data\" cannot be the name of an extension"),
        (("ce-a-b", "x"), "ce-\"a-b\" is not a name of an attribute"),
        (("ce-a", "%00"), "ce-a must not contain control characters"),
        (("ce-a", "%C0%80"), "ce-a must be UTF-8"),
        (("content-type", "json"), "content-type must be a media type"),
    ] {
        let detail = binary(&[pair], b"").unwrap_err();
        assert!(detail.starts_with(problem), "{pair:?}: {detail}");
    }
    let detail = binary(&[("ce-id", "1"), ("ce-id", "2")], b"").unwrap_err();
    assert_eq!(detail, "ce-id must not be given more than once");
}

#[test]
fn message_comes_out_as_it_went_in_with_its_place() {
    let time = WireTime { seconds: -1, nanos: 123_456_789 };
    let attributes = [
        ("subject", Attr::CeString("s".to_owned())),
        ("time", Attr::CeTimestamp(time)),
        ("datacontenttype", Attr::CeString("text/plain".to_owned())),
        ("dataschema", Attr::CeUri("urn:x".to_owned())),
        ("a", Attr::CeBoolean(true)),
        ("b", Attr::CeInteger(i32::MIN)),
        ("c", Attr::CeBytes(Bytes::from_static(b"\0"))),
        ("d", Attr::CeUri("urn:y".to_owned())),
        ("e", Attr::CeUriRef("../y".to_owned())),
        ("f", Attr::CeTimestamp(WireTime { seconds: 253_402_300_799, nanos: 999_999_999 })),
    ];
    let any = prost_types::Any { type_url: "type.example.com/a.B".to_owned(), value: vec![1] };
    for data in
        [None, Some(Data::BinaryData(Bytes::new())), Some(Data::TextData("é".to_owned())), Some(Data::ProtoData(any))]
    {
        let given = message(&attributes, data);
        let event = from_protobuf(given.encode_to_vec().into()).unwrap();
        assert_eq!(event.time.map(Timestamp::unix_micros), Some(-876_544));
        let mut out = to_message(&stored(event));
        assert_eq!(
            out.attributes.remove("position").and_then(|value| value.attr),
            Some(Attr::CeString("7".to_owned()))
        );
        assert!(matches!(out.attributes.remove("recordedtime").unwrap().attr, Some(Attr::CeTimestamp(_))));
        assert_eq!(out, given);
    }
}

#[test]
fn refusals_of_messages_name_the_attribute() {
    let time = |seconds, nanos| Attr::CeTimestamp(WireTime { seconds, nanos });
    for (name, attr, problem) in [
        ("time", time(253_402_300_800, 0), "time must be a time of the years 1 to 9999"),
        ("time", time(0, 1_000_000_000), "time must be a time of the years 1 to 9999"),
        ("time", time(0, -1), "time must be a time of the years 1 to 9999"),
        ("id", Attr::CeString("2".to_owned()), "id is a field of its own"),
        ("dataschema", Attr::CeUri("x".to_owned()), "dataschema must be a URI"),
        ("a", Attr::CeUriRef("a b".to_owned()), "a must be a URI-reference"),
        ("A", Attr::CeBoolean(true), "\"A\" is not a name of an attribute"),
        ("subject", Attr::CeString(String::new()), "subject must not be empty"),
    ] {
        let detail = from_message(message(&[(name, attr)], None)).unwrap_err().detail;
        assert!(detail.starts_with(problem), "{detail}");
    }
    let mut nothing = message(&[], None);
    nothing.attributes.insert("a".to_owned(), CloudEventAttributeValue { attr: None });
    assert_eq!(from_message(nothing).unwrap_err().detail, "a has no value");
    let unnamed = CloudEvent { id: String::new(), ..message(&[], None) };
    assert_eq!(from_message(unnamed).unwrap_err().detail, "id must not be empty");
    let detail = from_protobuf(Bytes::from_static(b"\xff")).unwrap_err().detail;
    assert_eq!(detail, "the body must be a protobuf message io.cloudevents.v1.CloudEvent");
}

#[test]
fn plain_event_is_a_cloud_event_named_by_its_place() {
    let plain = NewEvent { id: None, context: None, time: None, data: Bytes::from_static(b"{}"), ..with("").unwrap() };
    assert_eq!(
        json(plain.clone()),
        concat!(
            r#"{"specversion":"1.0","id":"7","source":"/s","type":"t","time":"2024-05-01T12:00:00Z","position":"7","#,
            r#""recordedtime":"2024-05-01T12:00:00Z","data_base64":"e30="}"#
        )
    );
    let message = to_message(&stored(plain));
    assert_eq!((message.id.as_str(), message.data), ("7", Some(Data::BinaryData(Bytes::from_static(b"{}")))));
}

#[test]
fn event_lets_go_of_the_buffer_that_it_came_in() {
    let buffer = Bytes::from(vec![b'x'; 8_192]);
    let data = buffer.slice(100..200);
    let of_headers = from_headers(&headers(&[]), data.clone()).unwrap();
    let of_message = from_message(message(&[], Some(Data::BinaryData(data.clone())))).unwrap();
    for event in [of_headers, of_message] {
        assert_eq!((event.data == data, buffer.as_ptr_range().contains(&event.data.as_ptr())), (true, false));
    }
}
