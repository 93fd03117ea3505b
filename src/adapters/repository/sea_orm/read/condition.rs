//! Which rows a statement selects.

use crate::adapters::repository::sea_orm::literal::text_literal;
use crate::adapters::repository::sea_orm::pool::Parameter;
use crate::adapters::repository::sea_orm::query::{Columns, Dialect, Engine, Path, above_prefix};
use crate::domain::attribute::{EventSource, EventType, Subject};
use crate::domain::filter::{Filter, SubjectFilter};
use crate::domain::position::Position;
use crate::ports::event_repository::{Order, ReadQuery};

/// Positions above `after` and up to `through`, at least one, and the end to begin at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) after: Option<Position>,
    pub(super) through: Position,
    pub(super) order: Order,
}

impl Span {
    /// Where `query` looks; `None` for nowhere.
    pub(super) fn of(query: &ReadQuery) -> Option<Self> {
        Self { after: query.after, through: query.through, order: query.order }.checked()
    }

    fn checked(self) -> Option<Self> {
        (self.after < Some(self.through)).then_some(self)
    }

    /// The first `count` positions.
    pub(super) fn first(self, count: i64) -> Self {
        let after = self.after.map_or(0, Position::get);
        match self.order {
            Order::Ascending => {
                let end = Position::new(after.saturating_add(count)).unwrap_or(self.through);
                Self { through: end.min(self.through), ..self }
            }
            Order::Descending => {
                let end = self.through.get().saturating_sub(count).max(after);
                Self { after: Position::new(end).ok(), ..self }
            }
        }
    }

    /// The part up to `place`, and the part above it.
    pub(super) fn split(self, place: Option<Position>) -> (Option<Self>, Option<Self>) {
        let lower = place.and_then(|place| Self { through: place.min(self.through), ..self }.checked());
        (lower, Self { after: place.max(self.after), ..self }.checked())
    }

    /// The last of its positions on the way.
    pub(super) fn end(self) -> Position {
        match self.order {
            Order::Ascending => self.through,
            Order::Descending => {
                let above = self.after.map_or(Position::FIRST.get(), |after| after.get() + 1);
                Position::new(above).unwrap_or(Position::FIRST)
            }
        }
    }

    /// What is left behind `reached`.
    pub(super) fn rest(self, reached: Position) -> Option<Self> {
        match self.order {
            Order::Ascending => Self { after: Some(reached), ..self }.checked(),
            Order::Descending => Self { through: reached.previous()?, ..self }.checked(),
        }
    }

    /// The part that ends with `reached`.
    pub(super) fn up_to(self, reached: Position) -> Self {
        match self.order {
            Order::Ascending => Self { through: reached, ..self },
            Order::Descending => Self { after: reached.previous(), ..self },
        }
    }

    /// How many positions it has.
    pub(super) fn positions(self) -> u64 {
        self.after.map_or(0, Position::get).abs_diff(self.through.get())
    }

    fn bounds(self) -> [Parameter; 2] {
        [self.after.map_or(0, Position::get).into(), self.through.get().into()]
    }
}

/// The order in SQL.
pub(super) fn direction(order: Order) -> &'static str {
    match order {
        Order::Ascending => "ASC",
        Order::Descending => "DESC",
    }
}

/// The columns beside the subject that `filter` looks at, with what it wants there.
fn apart_from_subject(filter: &Filter) -> impl Iterator<Item = (&'static str, Vec<&str>)> {
    let types = filter.types.iter().map(EventType::as_str).collect();
    let sources = filter.sources.iter().map(EventSource::as_str).collect();
    [("type", types), ("source", sources)].into_iter().filter(|(_, wanted): &(_, Vec<&str>)| !wanted.is_empty())
}

/// The same as SQL with literals, to be added to a condition.
pub(super) fn apart_from_subject_literal(filter: &Filter) -> String {
    let parts = apart_from_subject(filter).map(|(column, texts)| {
        let literals: Vec<String> = texts.into_iter().map(text_literal).collect();
        format!("AND {column} IN ({})", literals.join(", "))
    });
    parts.collect::<Vec<_>>().join(" ")
}

/// A condition with its parameters.
#[derive(Debug, Default)]
pub(super) struct Condition {
    pub(super) sql: String,
    pub(super) parameters: Vec<Parameter>,
}

impl Condition {
    pub(super) fn push(&mut self, sql: &str, parameters: impl IntoIterator<Item = Parameter>) {
        if !self.sql.is_empty() {
            self.sql.push_str(" AND ");
        }
        self.sql.push_str(sql);
        self.parameters.extend(parameters);
    }

    /// Events along the log.
    pub(super) fn positions(&mut self, span: Span) {
        self.push("id > ? AND id <= ?", span.bounds());
    }

    /// Events of the types and sources that `filter` selects.
    pub(super) fn apart_from_subject(&mut self, filter: &Filter) {
        for (column, texts) in apart_from_subject(filter) {
            let wanted = texts.iter().map(|text| (*text).into());
            self.push(&format!("{column} IN ({})", marks(texts.len())), wanted);
        }
    }

    /// Events of the subjects that `filter` selects.
    pub(super) fn subjects(&mut self, filter: &SubjectFilter) {
        match filter {
            SubjectFilter::All => {}
            SubjectFilter::Exact(subjects) => {
                let wanted = subjects.iter().map(|subject| subject.as_str().into());
                self.push(&format!("subject IN ({})", marks(subjects.len())), wanted);
            }
            SubjectFilter::Prefix(prefixes) => {
                let ranges: Vec<Self> = prefixes.iter().map(|prefix| Self::starting("subject", prefix)).collect();
                let sql: Vec<String> = ranges.iter().map(|range| format!("({})", range.sql)).collect();
                self.push(&format!("({})", sql.join(" OR ")), ranges.into_iter().flat_map(|range| range.parameters));
            }
        }
    }

    /// What starts with `prefix`.
    pub(super) fn starting(column: &str, prefix: &Subject) -> Self {
        let mut condition = Self::default();
        condition.push(&format!("{column} >= ?"), [prefix.as_str().into()]);
        if let Some(bound) = above_prefix(prefix.as_str()) {
            condition.push(&format!("{column} < ?"), [bound.into()]);
        }
        condition
    }
}

/// So many parameters.
pub(super) fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}

/// Subjects that lie next to each other in the index.
#[derive(Debug, Clone)]
pub(super) enum Subjects {
    One(Subject),
    Starting(Subject),
}

impl Subjects {
    /// The entries of `span` on the way `path` through the index, and the order in which they lie there.
    pub(super) fn entries(&self, dialect: Dialect, path: Path, span: Span) -> (Condition, String) {
        let Columns { subject: of_subject, position } = dialect.columns(path);
        let direction = direction(span.order);
        let [after, through] = span.bounds();
        let mut condition = match (self, dialect.engine) {
            // A range of pairs, which no other index has in order. With an equation the order would be by position alone,
            // and some statistics make the planner walk the log for it.
            (Self::One(subject), Engine::Postgres) => {
                let mut condition = Condition::default();
                let subject = || Parameter::from(subject.as_str());
                condition.push("(subject, id) > (?, ?)", [subject(), after]);
                condition.push("(subject, id) <= (?, ?)", [subject(), through]);
                return (condition, format!("subject {direction}, id {direction}"));
            }
            (Self::One(subject), Engine::Sqlite | Engine::MySql | Engine::MariaDb) => {
                let mut condition = Condition::default();
                condition.push(&format!("{of_subject} = ?"), [subject.as_str().into()]);
                condition
            }
            (Self::Starting(prefix), _) => Condition::starting(of_subject, prefix),
        };
        condition.push(&format!("{position} > ? AND {position} <= ?"), [after, through]);
        (condition, format!("{position} {direction}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(after: i64, through: i64, order: Order) -> Span {
        let through = Position::new(through).expect("a test's position");
        Span { after: Position::new(after).ok(), through, order }
    }

    #[test]
    fn window_lies_at_the_end_where_the_way_begins() {
        for (first, order, after, through, end) in [
            (3, Order::Ascending, 5, 8, 8),
            (3, Order::Descending, 17, 20, 18),
            (15, Order::Ascending, 5, 20, 20),
            (99, Order::Descending, 5, 20, 6),
            (i64::MAX, Order::Ascending, 5, 20, 20),
            (i64::MAX, Order::Descending, 5, 20, 6),
        ] {
            let window = span(5, 20, order).first(first);
            assert_eq!(window, span(after, through, order));
            assert_eq!(window.end().get(), end);
        }
        assert_eq!(span(0, 20, Order::Descending).first(50).end(), Position::FIRST);
    }

    #[test]
    fn parts_make_the_whole() {
        for order in [Order::Ascending, Order::Descending] {
            let whole = span(5, 20, order);
            let place = |place| Position::new(place).ok();
            assert_eq!(whole.split(place(9)), (Some(span(5, 9, order)), Some(span(9, 20, order))));
            assert_eq!(whole.split(place(5)), (None, Some(whole)));
            assert_eq!(whole.split(None), (None, Some(whole)));
            assert_eq!(whole.split(place(20)), (Some(whole), None));
            assert_eq!(whole.split(place(99)), (Some(whole), None));
            assert_eq!(whole.rest(whole.end()), None);
            assert_eq!(whole.up_to(whole.end()), whole);
            let first = whole.first(4);
            assert_eq!(whole.up_to(first.end()), first);
            assert!(whole.rest(first.end()).is_some_and(|rest| rest.first(99).end() == whole.end()));
        }
    }
}
