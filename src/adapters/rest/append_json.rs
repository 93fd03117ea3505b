//! What `POST /events` answers.

use crate::domain::append::Appended;

/// The answer to one event. `duplicate` is there only when it is true: the Go service's clients know `id` alone.
pub(super) fn one(appended: &[Appended]) -> String {
    let appended = appended.first().expect("an append answers for each of its events");
    let duplicate = if appended.is_duplicate { r#","duplicate":true"# } else { "" };
    format!(r#"{{"id":{}{duplicate}}}"#, appended.position)
}

/// The answer to a batch: all positions, and those of them at which an event was stored before.
pub(super) fn batch(appended: &[Appended]) -> String {
    let ids = list(appended.iter());
    let duplicates = list(appended.iter().filter(|appended| appended.is_duplicate));
    if duplicates.is_empty() {
        return format!(r#"{{"ids":[{ids}]}}"#);
    }
    format!(r#"{{"ids":[{ids}],"duplicates":[{duplicates}]}}"#)
}

fn list<'a>(appended: impl Iterator<Item = &'a Appended>) -> String {
    appended.map(|appended| appended.position.to_string()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::position::Position;

    fn appended(position: i64, is_duplicate: bool) -> Appended {
        Appended { position: Position::new(position).unwrap(), is_duplicate }
    }

    #[test]
    fn answer_says_where_events_are_and_which_were_there() {
        assert_eq!(one(&[appended(7, false)]), r#"{"id":7}"#);
        assert_eq!(one(&[appended(7, true)]), r#"{"id":7,"duplicate":true}"#);
        assert_eq!(batch(&[]), r#"{"ids":[]}"#);
        assert_eq!(batch(&[appended(7, false), appended(8, false)]), r#"{"ids":[7,8]}"#);
        assert_eq!(batch(&[appended(7, false), appended(3, true)]), r#"{"ids":[7,3],"duplicates":[3]}"#);
    }
}
