use super::*;

fn query(text: &str) -> Query {
    Query::parse(text).unwrap()
}

fn selection(text: &str) -> Result<Selection, String> {
    query(text).selection().map_err(|error| error.detail)
}

fn subjects(texts: &[&str]) -> Vec<Subject> {
    texts.iter().map(|text| Subject::new((*text).to_owned()).unwrap()).collect()
}

#[test]
fn pairs_are_decoded_as_forms() {
    assert_eq!(
        query("a=1+2%2b3&&b&%C3%BC=%e2%82%ac=").0,
        [("a".to_owned(), "1 2+3".to_owned()), ("b".to_owned(), String::new()), ("ü".to_owned(), "€=".to_owned()),]
    );
}

#[test]
fn broken_escapes_and_text_are_refused() {
    for text in ["a=%", "a=%4", "a=%zz", "a=%+1", "%ff=1", "a=%C0%A0", "a=%ED%A0%80"] {
        assert!(Query::parse(text).unwrap_err().detail.starts_with("the query"), "{text}");
    }
}

#[test]
fn id_is_a_position() {
    assert_eq!(query("id=1").id().unwrap(), Position::FIRST);
    assert_eq!(query("id=9223372036854775807&x=1&x=2").id().unwrap().get(), i64::MAX);
    for text in ["", "id", "id=", "id=0", "id=-1", "id=9223372036854775808", "id=1.0", "id=x", "id=+1", "id=1&id=1"] {
        assert!(query(text).id().unwrap_err().detail.starts_with("id "), "{text}");
    }
}

#[test]
fn limit_is_bounded_on_both_sides() {
    for (text, limit) in [("", 100), ("limit=", 100), ("limit=1", 1), ("limit=1000", 1_000)] {
        assert_eq!(query(text).limit().unwrap(), limit, "{text}");
    }
    for text in ["limit=0", "limit=1001", "limit=-1", "limit=ten", "limit=5&limit=5"] {
        assert!(query(text).limit().unwrap_err().detail.starts_with("limit "), "{text}");
    }
}

#[test]
fn from_id_starts_at_zero() {
    for (text, from_id) in
        [("", None), ("&from_id=", None), ("&from_id=0", None), ("&from_id=5", Position::new(5).ok())]
    {
        assert_eq!(selection(&format!("subject=a{text}")).unwrap().from_id, from_id, "{text}");
    }
    for text in ["-1", "9223372036854775808", "a", "1&from_id=1"] {
        assert!(selection(&format!("subject=a&from_id={text}")).unwrap_err().starts_with("from_id "), "{text}");
    }
}

#[test]
fn subject_is_exact_or_a_prefix() {
    for (text, filter) in [
        ("subject=a", SubjectFilter::Exact(subjects(&["a"]))),
        ("subject=b&subject=a&recursive=f", SubjectFilter::Exact(subjects(&["a", "b"]))),
        ("subject=b&recursive=1", SubjectFilter::Prefix(subjects(&["b"]))),
        ("recursive=true", SubjectFilter::All),
        ("recursive=T&subject=", SubjectFilter::All),
    ] {
        assert_eq!(selection(text).unwrap().filter.subjects, filter, "{text}");
    }
}

#[test]
fn selection_names_what_is_wrong() {
    let long = "x".repeat(256);
    let many = "&subject=x".repeat(REPEATS_MAX + 1);
    for (text, name) in [
        ("", "subject is missing"),
        ("subject=", "subject must not be empty"),
        ("subject=a&subject=", "subject must not be empty"),
        ("subject=a%0Ab&recursive=true", "subject must not contain"),
        (&format!("subject={long}"), "subject must have at most"),
        (&many, "subject must not be given more than 100 times"),
        ("subject=a&recursive=yes", "recursive must be"),
        ("subject=a&recursive=true&recursive=true", "recursive must not be given"),
        ("subject=a&type[]=x", "type must be given without brackets"),
        ("subject=a&recursive%5Bx%5D=", "recursive must be given without brackets"),
        ("subject=a&type=%7F", "type must not contain"),
        (&format!("subject=a&type={long}"), "type must have at most"),
    ] {
        assert!(selection(text).unwrap_err().starts_with(name), "{text}");
    }
}

#[test]
fn types_may_repeat_and_empty_ones_do_not_count() {
    let types = selection("subject=a&type=x&type=&type=y").unwrap().filter.types;
    assert_eq!(types.iter().map(EventType::as_str).collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(selection("subject=a&type=").unwrap().filter.types, []);
}

#[test]
fn last_event_id_wins_over_from_id() {
    let seen = |value: &'static str| {
        let headers = HeaderMap::from_iter([(LAST_EVENT_ID.parse().unwrap(), value.parse().unwrap())]);
        last_seen(&headers, Position::new(3).ok()).map(|seen| seen.map_or(0, Position::get))
    };
    assert_eq!(last_seen(&HeaderMap::new(), Position::new(3).ok()).unwrap(), Position::new(3).ok());
    for (value, position) in [("", 3), ("0", 0), ("7", 7)] {
        assert_eq!(seen(value).unwrap(), position, "{value}");
    }
    for value in ["-1", "x", "ü", "9223372036854775808"] {
        assert!(seen(value).unwrap_err().detail.starts_with("Last-Event-ID "), "{value}");
    }
}
