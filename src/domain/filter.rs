//! Which events a reader wants.

use crate::domain::attribute::{EventSource, EventType, Subject};
use crate::domain::event::StoredEvent;

/// Which events a reader wants: all parts must match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// By subject.
    pub subjects: SubjectFilter,
    /// By type: one of these, each once, or any when empty.
    pub types: Vec<EventType>,
    /// By source: one of these, each once, or any when empty.
    pub sources: Vec<EventSource>,
}

/// Which subjects a reader wants. Subjects compare by bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SubjectFilter {
    /// Every subject.
    #[default]
    All,
    /// One of these; never empty, ascending.
    Exact(Vec<Subject>),
    /// Those that start with one of these; never empty, ascending, no prefix is empty or starts with another.
    Prefix(Vec<Subject>),
}

impl Filter {
    /// The filter for events of `subjects` that have one of `types`, or any when these are empty.
    #[must_use]
    pub fn new(subjects: SubjectFilter, mut types: Vec<EventType>) -> Self {
        types.sort();
        types.dedup();
        Self { subjects, types, sources: Vec::new() }
    }

    /// The same for events of one of `sources`, or any when these are empty.
    #[must_use]
    pub fn of_sources(self, mut sources: Vec<EventSource>) -> Self {
        sources.sort();
        sources.dedup();
        Self { sources, ..self }
    }

    /// Whether `event` is wanted.
    #[must_use]
    pub fn matches(&self, event: &StoredEvent) -> bool {
        self.subjects.matches(event.subject.as_str()) && self.matches_apart_from_subject(event)
    }

    /// Whether `event` is wanted if its subject is.
    #[must_use]
    pub fn matches_apart_from_subject(&self, event: &StoredEvent) -> bool {
        (self.types.is_empty() || self.types.contains(&event.event_type))
            && (self.sources.is_empty() || self.sources.contains(&event.event_source))
    }

    /// Whether the subject alone decides.
    #[must_use]
    pub fn is_by_subject_alone(&self) -> bool {
        self.types.is_empty() && self.sources.is_empty()
    }
}

impl SubjectFilter {
    /// The filter for `subjects`, each taken whole.
    #[must_use]
    pub fn exact(mut subjects: Vec<Subject>) -> Self {
        subjects.sort();
        subjects.dedup();
        Self::Exact(subjects)
    }

    /// The filter for what starts with one of `prefixes`; an empty prefix, or none at all, is every subject.
    #[must_use]
    pub fn prefixes(mut prefixes: Vec<Subject>) -> Self {
        if prefixes.iter().all(|prefix| !prefix.as_str().is_empty()) && !prefixes.is_empty() {
            prefixes.sort();
            // What a shorter prefix already covers sorts right behind it.
            prefixes.dedup_by(|later, earlier| later.as_str().starts_with(earlier.as_str()));
            Self::Prefix(prefixes)
        } else {
            Self::All
        }
    }

    /// Whether `subject` is wanted.
    #[must_use]
    pub fn matches(&self, subject: &str) -> bool {
        match self {
            Self::All => true,
            Self::Exact(subjects) => subjects.binary_search_by(|wanted| wanted.as_str().cmp(subject)).is_ok(),
            Self::Prefix(prefixes) => {
                // What lies between a prefix and a subject that starts with it starts with it too, so only the nearest
                // one below can be the one.
                let above = prefixes.partition_point(|prefix| prefix.as_str() <= subject);
                above > 0 && subject.starts_with(prefixes[above - 1].as_str())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(texts: &[&str]) -> Vec<Subject> {
        texts.iter().map(|text| Subject::from_stored((*text).to_owned())).collect()
    }

    #[test]
    fn prefixes_that_overlap_are_folded() {
        assert_eq!(
            SubjectFilter::prefixes(subjects(&["ab", "a", "abc", "b"])),
            SubjectFilter::Prefix(subjects(&["a", "b"]))
        );
        assert_eq!(SubjectFilter::prefixes(subjects(&["a", ""])), SubjectFilter::All);
        assert_eq!(SubjectFilter::prefixes(Vec::new()), SubjectFilter::All);
    }

    #[test]
    fn subjects_match_by_bytes() {
        let exact = SubjectFilter::exact(subjects(&["user-1"]));
        assert!(exact.matches("user-1"));
        assert!(!exact.matches("User-1") && !exact.matches("user-1 ") && !exact.matches("user-12"));
        let prefix = SubjectFilter::prefixes(subjects(&["user_%"]));
        assert!(prefix.matches("user_%1") && !prefix.matches("userx1"));
    }
}
