//! What a `CloudEvent` says beside the attributes that every event has.

use std::sync::Arc;

use bytes::Bytes;
use events_db::domain::append::{AppendRefusal, AppendRequest};
use events_db::domain::attribute::{EventId, EventType};
use events_db::domain::context::{
    Context, DataForm, ExtensionName, ExtensionValue, Extensions, GivenTime, MediaType, Uri,
};
use events_db::domain::event::NewEvent;
use events_db::domain::position::Position;
use events_db::domain::timestamp::Timestamp;

use crate::reading::{append, event, event_type, position, whole_log};
use crate::store::Store;

pub(crate) async fn types_are_told_of_a_part_of_the_log(store: &Store) {
    let repository = store.open().await;
    let of_type = |text: &str| NewEvent { event_type: event_type(text), ..event("typed") };
    append(&*repository, ["b", "a", "b", "c", "A", "a "].map(of_type).into()).await;
    let types = async |after, through| {
        let found = repository.types(Position::new(after).ok(), position(through)).await.unwrap();
        let mut found: Vec<String> = found.into_iter().map(EventType::into_string).collect();
        found.sort();
        found
    };
    assert_eq!(types(0, 6).await, ["A", "a", "a ", "b", "c"]);
    assert_eq!(types(0, 3).await, ["a", "b"]);
    assert_eq!(types(3, 5).await, ["A", "c"]);
    assert_eq!(types(6, 100).await, [""; 0]);
}

fn extensions(values: impl IntoIterator<Item = ExtensionValue>) -> Extensions {
    let named = values.into_iter().enumerate().map(|(index, value)| (format!("ext{index}"), value));
    named.map(|(name, value)| (ExtensionName::new(name).unwrap(), value)).collect()
}

/// One of each, at the edges of what there is.
fn contexts() -> Vec<Context> {
    let awkward = "user's \"1\" \\ ? $1 %41 😀 ,\u{2028}";
    let values = [
        ExtensionValue::Boolean(true),
        ExtensionValue::Boolean(false),
        ExtensionValue::Integer(i32::MIN),
        ExtensionValue::Integer(i32::MAX),
        ExtensionValue::Text(String::new()),
        ExtensionValue::Text(awkward.to_owned()),
        ExtensionValue::Binary((0..=255).collect::<Vec<u8>>().into()),
        ExtensionValue::Binary(Bytes::new()),
        ExtensionValue::Uri("https://example.com/é?a=b#c".to_owned()),
        ExtensionValue::UriReference("../a".to_owned()),
        ExtensionValue::Time("2024-05-01T12:00:00.123456789+02:00".to_owned()),
    ];
    let forms = [
        DataForm::Absent,
        DataForm::Binary,
        DataForm::Text,
        DataForm::Json,
        DataForm::Protobuf { type_url: "type.example.com/a.B".to_owned() },
    ];
    let full = Context {
        time: GivenTime::Text("2024-05-01T12:00:00.123456789+02:00".to_owned()),
        data_form: DataForm::Text,
        data_content_type: Some(MediaType::new("text/plain; charset=\"utf-8\"".to_owned()).unwrap()),
        data_schema: Some(Uri::new("urn:schema:é".to_owned()).unwrap()),
        extensions: extensions(values),
    };
    let large = Context { extensions: extensions([ExtensionValue::Text("x".repeat(100_000))]), ..Context::default() };
    let of_form = |data_form| Context { data_form, ..Context::default() };
    let as_kept = Context { time: GivenTime::AsKept, ..Context::default() };
    forms.into_iter().map(of_form).chain([full, large, as_kept]).collect()
}

fn with(context: Context) -> NewEvent {
    let time = (context.time != GivenTime::Absent).then(|| Timestamp::parse("2024-05-01T10:00:00.123456Z").unwrap());
    NewEvent { time, context: Some(Box::new(context)), ..event("context") }
}

/// An event with each of them.
pub(crate) fn every_context() -> Vec<NewEvent> {
    contexts().into_iter().map(with).collect()
}

pub(crate) async fn contexts_are_kept_as_given(store: &Store) {
    let repository = store.open().await;
    let mut given = every_context();
    given.insert(3, event("plain"));
    // Alone, together, and together beside a lookup of keys.
    for event in &given {
        append(&*repository, vec![event.clone()]).await;
    }
    append(&*repository, given.clone()).await;
    let mut keyed = given.clone();
    for (index, event) in keyed.iter_mut().enumerate() {
        event.id = Some(EventId::new(format!("id-{index}")).unwrap());
    }
    append(&*repository, keyed.clone()).await;
    let stored = whole_log(&*repository).await;
    let expected: Vec<_> = given.iter().chain(&given).chain(&keyed).collect();
    assert_eq!(stored.len(), expected.len());
    for (stored, given) in stored.iter().zip(expected) {
        assert_eq!(stored.context, given.context);
        assert_eq!(stored.data, given.data);
        assert_eq!(stored.id, given.id);
        assert_eq!(repository.get(stored.position).await.unwrap().as_ref(), Some(stored));
    }
}

pub(crate) async fn context_tells_a_duplicate_from_a_conflict(store: &Store) {
    let repository = store.open().await;
    let keyed = |context| NewEvent { id: Some(EventId::new("one".to_owned()).unwrap()), ..with(context) };
    let first = Context { extensions: extensions([ExtensionValue::Integer(5)]), ..Context::default() };
    let as_text = Context { extensions: extensions([ExtensionValue::Text("5".to_owned())]), ..Context::default() };
    let other = Context { extensions: extensions([ExtensionValue::Integer(6)]), ..Context::default() };
    let with_time = Context { time: GivenTime::AsKept, ..first.clone() };
    let position = append(&*repository, vec![keyed(first.clone())]).await[0];
    for same in [first, as_text] {
        let request = AppendRequest { events: vec![keyed(same)], preconditions: Vec::new() };
        let outcomes = repository.append(Arc::new([request])).await.unwrap().outcomes;
        let [Ok(appended)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
        assert!(appended[0].is_duplicate && appended[0].position == position);
    }
    for different in [other, with_time, Context::default()] {
        let request = AppendRequest { events: vec![keyed(different)], preconditions: Vec::new() };
        let outcomes = repository.append(Arc::new([request])).await.unwrap().outcomes;
        assert_eq!(outcomes, [Err(AppendRefusal::IdConflict { index: 0, position })]);
    }
}
