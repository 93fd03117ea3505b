//! The attributes of an event as they come in, whatever the form.

use bytes::Bytes;

use crate::adapters::api_error::ApiError;
use crate::domain::attribute::{EventId, EventSource, EventType, InvalidAttribute, Subject, check_length};
use crate::domain::context::{
    Context, DataForm, ExtensionName, ExtensionValue, Extensions, GivenTime, InvalidExtension, MediaType, Uri,
    check_uri_reference,
};
use crate::domain::event::{NewEvent, StoredEvent};
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;

/// The version of the specification that we speak.
pub(super) const SPEC_VERSION: &str = "1.0";

/// The extension that carries an event's place in the log: its digits, as an Integer has 32 bits only.
pub(super) const POSITION: &str = "position";

/// The extension that carries when the log recorded an event: a Timestamp.
pub(super) const RECORDED_TIME: &str = "recordedtime";

/// The extension that says of an event in an archive that its producer chose its place in the log for an id.
pub(super) const OWN_ID: &str = "eventsdbownid";

/// Extensions of one event: more than anybody uses, and few enough to go out as headers.
const EXTENSIONS_MAX: usize = 250;

/// Attributes that are still coming in.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// What an archive says besides; `None` for an event that comes from its producer.
    log: Option<OfLog>,
    has_spec_version: bool,
    id: Option<EventId>,
    event_source: Option<EventSource>,
    event_type: Option<EventType>,
    subject: Option<Subject>,
    time: Option<(Timestamp, GivenTime)>,
    pub(super) data_content_type: Option<MediaType>,
    data_schema: Option<Uri>,
    extensions: Extensions,
}

/// What only a log knows of an event.
#[derive(Debug, Default)]
pub(super) struct OfLog {
    pub(super) position: Option<Position>,
    pub(super) recorded_time: Option<Timestamp>,
    pub(super) has_own_id: bool,
}

impl Attributes {
    /// Attributes out of an archive, where a log took them that may be older than our rules.
    pub(super) fn archived() -> Self {
        Self { log: Some(OfLog::default()), ..Self::default() }
    }

    /// What the archive says besides.
    pub(super) fn take_log(&mut self) -> OfLog {
        self.log.take().unwrap_or_default()
    }

    /// Takes the attribute `name` from a form in which it is text.
    pub(super) fn set_text(&mut self, name: &str, text: String) -> Result<(), ApiError> {
        let is_archived = self.log.is_some();
        let is_new = match name {
            "specversion" => {
                if text != SPEC_VERSION {
                    return Err(ApiError::invalid(name, format!("must be {SPEC_VERSION}")));
                }
                !std::mem::replace(&mut self.has_spec_version, true)
            }
            "id" | "source" | "type" | "subject" if is_archived => {
                check_length(&text).map_err(in_attribute(name))?;
                match name {
                    "id" => put(&mut self.id, EventId::from_stored(text)),
                    "source" => put(&mut self.event_source, EventSource::from_stored(text)),
                    "type" => put(&mut self.event_type, EventType::from_stored(text)),
                    _ => put(&mut self.subject, Subject::from_stored(text)),
                }
            }
            "id" => put(&mut self.id, EventId::new(text).map_err(in_attribute(name))?),
            "source" => put(&mut self.event_source, source(text).map_err(in_attribute(name))?),
            "type" => put(&mut self.event_type, EventType::new(text).map_err(in_attribute(name))?),
            "subject" => put(&mut self.subject, Subject::named(text).map_err(in_attribute(name))?),
            "time" => {
                let time = GivenTime::parse(&text).map_err(|problem| ApiError::invalid(name, problem))?;
                put(&mut self.time, time)
            }
            "datacontenttype" => put(&mut self.data_content_type, MediaType::new(text).map_err(in_attribute(name))?),
            "dataschema" => put(&mut self.data_schema, Uri::new(text).map_err(in_attribute(name))?),
            _ => return self.set_extension(name, ExtensionValue::text(text)),
        };
        once(name, is_new)
    }

    /// Takes the extension `name`. What this server sets itself is replaced by what it is here.
    pub(super) fn set_extension(
        &mut self,
        name: &str,
        value: Result<ExtensionValue, InvalidExtension>,
    ) -> Result<(), ApiError> {
        let key = ExtensionName::new(name.to_owned()).map_err(|problem| ApiError::invalid(&quoted(name), problem))?;
        let value = value.map_err(|problem| ApiError::invalid(name, problem))?;
        if [POSITION, RECORDED_TIME].contains(&name) || (name == OWN_ID && self.log.is_some()) {
            return self.log.as_mut().map_or(Ok(()), |log| log.set(name, &value));
        }
        once(name, self.extensions.insert(key, value).is_none())?;
        if self.extensions.len() > EXTENSIONS_MAX && self.log.is_none() {
            return Err(ApiError::invalid("extensions", format!("must be at most {EXTENSIONS_MAX}")));
        }
        Ok(())
    }

    /// The event with its data.
    pub(super) fn event(self, data: Bytes, data_form: DataForm) -> Result<NewEvent, ApiError> {
        if !self.has_spec_version {
            return Err(missing("specversion"));
        }
        let (time, given) = self.time.map_or((None, GivenTime::Absent), |(time, given)| (Some(time), given));
        Ok(NewEvent {
            id: Some(self.id.ok_or_else(|| missing("id"))?),
            event_source: self.event_source.ok_or_else(|| missing("source"))?,
            event_type: self.event_type.ok_or_else(|| missing("type"))?,
            subject: self.subject.unwrap_or_default(),
            time,
            data,
            context: Some(Box::new(Context {
                time: given,
                data_form,
                data_content_type: self.data_content_type,
                data_schema: self.data_schema,
                extensions: self.extensions,
            })),
        })
    }
}

impl OfLog {
    fn set(&mut self, name: &str, value: &ExtensionValue) -> Result<(), ApiError> {
        let text = value.to_text();
        match name {
            POSITION => {
                let position = text.parse().ok().and_then(|number| Position::new(number).ok());
                let position = position.ok_or_else(|| ApiError::invalid(name, "must be a whole number above 0"))?;
                once(name, put(&mut self.position, position))
            }
            RECORDED_TIME => {
                let time = Timestamp::parse(&text).map_err(|problem| ApiError::invalid(name, problem))?;
                once(name, put(&mut self.recorded_time, time))
            }
            _ => {
                self.has_own_id = text == "true";
                Ok(())
            }
        }
    }
}

/// Whether `value` is the first one in its place.
fn put<T>(place: &mut Option<T>, value: T) -> bool {
    place.replace(value).is_none()
}

fn once(name: &str, is_new: bool) -> Result<(), ApiError> {
    if is_new { Ok(()) } else { Err(ApiError::invalid(name, "must not be given more than once")) }
}

fn missing(name: &str) -> ApiError {
    ApiError::invalid(name, "is missing")
}

fn in_attribute(name: &str) -> impl FnOnce(InvalidAttribute) -> ApiError {
    move |problem| ApiError::attribute(name, problem)
}

/// Source: `CloudEvents` 1.0.2, `source`: a non-empty URI-reference.
fn source(text: String) -> Result<EventSource, InvalidAttribute> {
    check_uri_reference(&text)?;
    EventSource::new(text)
}

/// A name that may be anything, fit for a message.
fn quoted(name: &str) -> String {
    /// Characters of a name that a message repeats.
    const SHOWN_MAX: usize = 40;
    let shown: String = name.chars().take(SHOWN_MAX).collect();
    format!("{shown:?}")
}

/// What an event of the plain interfaces says besides: how its data goes out is all that there is to know.
static PLAIN: Context = Context {
    time: GivenTime::Absent,
    data_form: DataForm::Binary,
    data_content_type: None,
    data_schema: None,
    extensions: Extensions::new(),
};

/// The context of `event`, that of a plain event if it came without.
pub(super) fn context_of(event: &StoredEvent) -> &Context {
    event.context.as_deref().unwrap_or(&PLAIN)
}

/// The attribute `id`: where the producer gave none, the event's place in the log.
pub(super) fn id_of(event: &StoredEvent) -> std::borrow::Cow<'_, str> {
    event.id.as_ref().map_or_else(|| event.position.to_string().into(), |id| id.as_str().into())
}
