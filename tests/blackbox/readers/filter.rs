//! What a reader asks for, in every protocol, and what it must get.

use serde_json::Value;

use crate::load::TYPES;
use crate::proto::EventsFromSubjectRequest;
use crate::seeded::Random;

/// Every subject of a load starts with this.
const SUBJECTS: &str = "client/";

/// Selects events by subject and type.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    subjects: Vec<String>,
    is_recursive: bool,
    types: Vec<String>,
}

impl Filter {
    /// One subject.
    pub fn exact(subject: impl Into<String>) -> Self {
        Self { subjects: vec![subject.into()], ..Self::default() }
    }

    /// The subjects that start so.
    pub fn prefix(subject: impl Into<String>) -> Self {
        Self { is_recursive: true, ..Self::exact(subject) }
    }

    /// Every event.
    pub fn everything() -> Self {
        Self::prefix("")
    }

    /// A filter of the kind with this number, for the events of a load of so many clients.
    pub fn of_load(kind: usize, clients: u64, random: &mut Random) -> Self {
        let mut subject = || format!("{SUBJECTS}{}", random.below(clients));
        match kind % 6 {
            0 => Self::exact(subject()),
            1 => Self { subjects: vec![subject(), format!("{SUBJECTS}none"), subject()], ..Self::default() },
            // Two digits follow on one, so this may be several subjects, and of several this may be a part of another.
            2 => Self { subjects: vec![subject(), subject()], ..Self::prefix("") },
            3 => Self { types: vec![(*random.of(&TYPES)).to_owned()], ..Self::everything() },
            4 => Self { types: vec![(*random.of(&TYPES)).to_owned(), "none".to_owned()], ..Self::prefix("client/1") },
            _ => Self::everything(),
        }
    }

    /// Whether an event, in its JSON, is selected.
    pub fn selects(&self, event: &Value) -> bool {
        let (subject, kind) = (event["subject"].as_str().unwrap(), event["type"].as_str().unwrap());
        let is_of = |wanted: &String| if self.is_recursive { subject.starts_with(wanted) } else { subject == wanted };
        self.subjects.iter().any(is_of) && (self.types.is_empty() || self.types.iter().any(|wanted| wanted == kind))
    }

    /// The parameters of REST.
    pub fn query(&self) -> Vec<(&str, &str)> {
        let subjects = self.subjects.iter().map(|subject| ("subject", subject.as_str()));
        let types = self.types.iter().map(|wanted| ("type", wanted.as_str()));
        let recursive = self.is_recursive.then_some(("recursive", "true"));
        subjects.chain(types).chain(recursive).collect()
    }

    /// The message of gRPC, for the events after a position.
    pub fn request(&self, after: i64) -> EventsFromSubjectRequest {
        EventsFromSubjectRequest {
            subject: self.subjects[0].clone(),
            more_subjects: self.subjects[1..].to_vec(),
            r#type: self.types.first().cloned(),
            more_types: self.types.iter().skip(1).cloned().collect(),
            recursive: Some(self.is_recursive),
            from_id: Some(after),
            ..Default::default()
        }
    }
}
