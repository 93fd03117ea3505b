//! Subjects that have about every other event of the log.
//!
//! `InnoDB` looks up each event that its index by subject leads to, which costs as much as walking two events along the
//! log. A guess that is wrong or forgotten costs a page no more than that.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::attribute::Subject;

/// Subjects remembered at the most; two that fall on one place forget each other.
const PLACES: usize = 256;

/// Of so many positions one must be the subject's for the log to be the shorter way.
pub(super) const ONE_IN: usize = 2;

/// Items by which a page tells.
const TELLING: usize = 64;

/// What pages have told.
#[derive(Debug)]
pub(in crate::adapters::repository::sea_orm) struct DenseSubjects {
    digests: [AtomicU64; PLACES],
}

impl Default for DenseSubjects {
    fn default() -> Self {
        Self { digests: [const { AtomicU64::new(0) }; PLACES] }
    }
}

impl DenseSubjects {
    /// Whether the last page of `subject` told so.
    pub(super) fn has(&self, subject: &Subject) -> bool {
        let digest = digest(subject);
        self.place(digest).load(Ordering::Relaxed) == digest
    }

    /// Learns from a page that has `count` events of `subject` among `positions`.
    pub(super) fn learn(&self, subject: &Subject, count: usize, positions: u64) {
        let digest = digest(subject);
        let place = self.place(digest);
        if (count * ONE_IN) as u64 >= positions {
            if count >= TELLING {
                place.store(digest, Ordering::Relaxed);
            }
        } else if place.load(Ordering::Relaxed) == digest {
            place.store(0, Ordering::Relaxed);
        }
    }

    fn place(&self, digest: u64) -> &AtomicU64 {
        let places = PLACES as u64;
        &self.digests[usize::try_from(digest % places).unwrap_or(0)]
    }
}

fn digest(subject: &Subject) -> u64 {
    let mut hasher = DefaultHasher::new();
    subject.hash(&mut hasher);
    hasher.finish() | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_and_another_one_takes_it_back() {
        let subject = Subject::from_stored("a".to_owned());
        let dense = DenseSubjects::default();
        dense.learn(&subject, TELLING - 1, 64);
        assert!(!dense.has(&subject));
        dense.learn(&subject, TELLING, 128);
        assert!(dense.has(&subject));
        dense.learn(&subject, 5, 10);
        assert!(dense.has(&subject));
        dense.learn(&subject, 5, 11);
        assert!(!dense.has(&subject));
    }
}
