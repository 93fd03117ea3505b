//! Any event, in through one form and out through the others.

use bytes::Bytes;
use http::HeaderMap;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use super::{from_headers, from_json, from_json_batch, from_protobuf, json_bytes, stored, to_message, write_headers};
use super::{from_protobuf_batch, write_json};
use crate::domain::attribute::{EventId, EventSource, EventType, Subject};
use crate::domain::context::{Context, DataForm, ExtensionName, ExtensionValue, Extensions, GivenTime, MediaType, Uri};
use crate::domain::event::{NewEvent, StoredEvent};
use crate::domain::timestamp::Timestamp;

/// The ways of an event over the wire and back.
const FORMS: [fn(&StoredEvent) -> NewEvent; 3] = [
    |event| {
        let mut out = Vec::with_capacity(json_bytes(event));
        write_json(&mut out, event);
        assert!(!out.contains(&b'\n'));
        from_json(&out).unwrap()
    },
    |event| {
        let mut headers = HeaderMap::new();
        write_headers(&mut headers, event);
        from_headers(&headers, event.data.clone()).unwrap()
    },
    |event| from_protobuf(to_message(event).encode_to_vec().into()).unwrap(),
];

/// Characters that a string of `CloudEvents` may have.
fn text(length: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let character = prop_oneof![
        4 => proptest::char::range(' ', '~'),
        1 => proptest::char::any().prop_filter("allowed", |c| Subject::new(c.to_string()).is_ok()),
    ];
    vec(character, length).prop_map(String::from_iter)
}

fn time() -> impl Strategy<Value = (Timestamp, GivenTime)> {
    let second = "20[0-9]{2}-0[1-9]-[012][1-8]T[01][0-9]:[0-5][0-9]:[0-5][0-9]";
    let rest = prop_oneof![Just("Z".to_owned()), "\\.[0-9]{1,9}(Z|[+-]0[0-9]:30)"];
    (second, rest).prop_map(|(second, rest)| GivenTime::parse(&format!("{second}{rest}")).unwrap())
}

fn extension() -> impl Strategy<Value = ExtensionValue> {
    prop_oneof![
        any::<bool>().prop_map(ExtensionValue::Boolean),
        any::<i32>().prop_map(ExtensionValue::Integer),
        text(0..20).prop_map(ExtensionValue::Text),
        vec(any::<u8>(), 0..20).prop_map(|bytes| ExtensionValue::Binary(bytes.into())),
        "[a-z]{1,5}:[a-zé/?]{0,7}(#[a-zé/?]{0,3})?".prop_map(ExtensionValue::Uri),
        "[a-zé/?.]{0,7}(#[a-zé/?.]{0,3})?".prop_map(ExtensionValue::UriReference),
        (1_i64..4_000_000_000_000_000)
            .prop_map(|micros| ExtensionValue::Time(Timestamp::from_unix_micros(micros).unwrap().to_rfc3339())),
    ]
}

/// Data, and what it is.
fn data() -> impl Strategy<Value = (Option<&'static str>, DataForm, Bytes)> {
    let json = prop_oneof![
        Just("null".to_owned()),
        Just("1.0".to_owned()),
        Just("123456789012345678901234567890".to_owned()),
        Just("{\"a\": [true, {}], \"b\":\"\\u00e9\"}".to_owned()),
        text(0..20).prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    let json_type = prop_oneof![Just(None), Just(Some("application/json")), Just(Some("a/B+JSON; x=\"y\""))];
    let text_type = prop_oneof![Just(None), Just(Some("text/plain")), Just(Some("application/xml;charset=utf-8"))];
    let bytes_type = prop_oneof![Just(None), Just(Some("image/png")), Just(Some("application/json"))];
    prop_oneof![
        bytes_type.clone().prop_map(|media_type| (media_type, DataForm::Absent, Bytes::new())),
        (json_type, json).prop_map(|(media_type, json)| (media_type, DataForm::Json, json.into())),
        (text_type, text(1..50)).prop_map(|(media_type, text)| (media_type, DataForm::Text, text.into())),
        (bytes_type, vec(any::<u8>(), 1..50)).prop_map(|(media_type, bytes)| (
            media_type,
            DataForm::Binary,
            bytes.into()
        )),
        vec(any::<u8>(), 1..50).prop_map(|bytes| {
            let type_url = "type.example.com/a.B".to_owned();
            (None, DataForm::Protobuf { type_url }, bytes.into())
        }),
    ]
}

prop_compose! {
    fn event()(
        id in text(1..20),
        source in "(https?://([a-z]{1,5}|\\[::1\\]:80/))?[a-zé0-9/?.]{1,7}(#[a-zé0-9/?.]{0,3})?(%2F)?",
        event_type in text(1..20),
        subject in option::of(text(1..20)),
        time in option::of(time()),
        schema in option::of("[a-z]{1,5}:[a-zé/?]{0,7}(#[a-zé/?]{0,3})?"),
        extensions in btree_map("x[a-z0-9]{0,19}", extension(), 0..4),
        (media_type, data_form, data) in data(),
    ) -> NewEvent {
        let named = extensions.into_iter().map(|(name, value)| (ExtensionName::new(name).unwrap(), value));
        let (time, given) = time.map_or((None, GivenTime::Absent), |(time, given)| (Some(time), given));
        NewEvent {
            id: Some(EventId::new(id).unwrap()),
            event_source: EventSource::new(source).unwrap(),
            event_type: EventType::new(event_type).unwrap(),
            subject: subject.map_or_else(Subject::default, |subject| Subject::new(subject).unwrap()),
            time,
            data,
            context: Some(Box::new(Context {
                time: given,
                data_form,
                data_content_type: media_type.map(|text| MediaType::new(text.to_owned()).unwrap()),
                data_schema: schema.map(|text| Uri::new(text).unwrap()),
                extensions: named.collect::<Extensions>(),
            })),
        }
    }
}

proptest! {
    #[test]
    fn any_event_comes_out_of_each_form_as_it_went_into_another(event in event()) {
        for first in FORMS {
            let once = stored(event.clone());
            let read = first(&once);
            prop_assert!(once.has_content_of(&read), "{:?} became {:?}", once, read);
            prop_assert_eq!(&read.id, &event.id);
            for second in FORMS {
                let twice = second(&stored(read.clone()));
                prop_assert!(once.has_content_of(&twice), "{:?} became {:?} and {:?}", once, read, twice);
            }
        }
    }

    #[test]
    fn each_form_gives_back_what_it_was_given(event in event()) {
        for form in FORMS {
            let read = form(&stored(event.clone()));
            prop_assert_eq!(form(&stored(read.clone())), read);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = (from_json(&bytes), from_json_batch(&bytes, 100));
        let bytes = Bytes::from(bytes);
        let _ = (from_protobuf(bytes.clone()), from_protobuf_batch(bytes, 100));
    }

    #[test]
    fn no_json_panics(members in "(\"(id|source|type|specversion|data|data_base64|time|a)\":(\"[ -~é]{0,5}\"|[0-9.e-]{1,5}|null|\\[\\]),?){0,8}") {
        let _ = from_json(format!("{{{members}}}").as_bytes());
    }
}
