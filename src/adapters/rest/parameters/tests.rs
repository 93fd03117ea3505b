use super::*;

fn query(text: &str) -> Query {
    Query::parse(text).unwrap()
}

fn filter(text: &str) -> Result<Filter, String> {
    query(text).filter().map_err(|error| error.detail)
}

fn range(text: &str) -> Result<Range, String> {
    query(text).range().map_err(|error| error.detail)
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
        assert_eq!(range(&format!("subject=a{text}")).unwrap().start, Start::After(from_id), "{text}");
    }
    for text in ["-1", "9223372036854775808", "a", "1&from_id=1"] {
        assert!(range(&format!("subject=a&from_id={text}")).unwrap_err().starts_with("from_id "), "{text}");
    }
}

#[test]
fn subject_is_exact_or_a_prefix() {
    for (text, expected) in [
        ("subject=a", SubjectFilter::Exact(subjects(&["a"]))),
        ("subject=b&subject=a&recursive=f", SubjectFilter::Exact(subjects(&["a", "b"]))),
        ("subject=b&recursive=1", SubjectFilter::Prefix(subjects(&["b"]))),
        ("recursive=true", SubjectFilter::All),
        ("recursive=T&subject=", SubjectFilter::All),
    ] {
        assert_eq!(filter(text).unwrap().subjects, expected, "{text}");
    }
}

#[test]
fn filter_names_what_is_wrong() {
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
        ("subject=a&source[]=x", "source must be given without brackets"),
        ("subject=a&source=%7F", "source must not contain"),
    ] {
        assert!(filter(text).unwrap_err().starts_with(name), "{text}");
    }
}

#[test]
fn types_may_repeat_and_empty_ones_do_not_count() {
    let types = filter("subject=a&type=y&type=&type=x&type=y").unwrap().types;
    assert_eq!(types.iter().map(EventType::as_str).collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(filter("subject=a&type=").unwrap().types, []);
}

#[test]
fn sources_may_repeat_and_empty_ones_do_not_count() {
    let sources = filter("subject=a&source=y&source=&source=/x&source=y").unwrap().sources;
    assert_eq!(sources.iter().map(EventSource::as_str).collect::<Vec<_>>(), ["/x", "y"]);
    assert_eq!(filter("subject=a&source=").unwrap().sources, []);
}

#[test]
fn range_is_what_is_asked_for() {
    let plain = || Range {
        start: Start::After(None),
        order: Order::Ascending,
        is_latest: false,
        after_subject: None,
        min_position: None,
    };
    let time = Timestamp::parse("2024-05-01T10:00:00Z").unwrap();
    for (text, expected) in [
        ("from=&from_time=&order=&latest=&after_subject=&min_position=0", plain()),
        ("from=head", Range { start: Start::Head, ..plain() }),
        ("from_time=2024-05-01T12:00:00%2B02:00", Range { start: Start::Time(time), ..plain() }),
        ("order=asc&min_position=7", Range { min_position: Position::new(7).ok(), ..plain() }),
        (
            "order=desc&from_id=7",
            Range { start: Start::After(Position::new(7).ok()), order: Order::Descending, ..plain() },
        ),
        ("latest=subject", Range { is_latest: true, ..plain() }),
        (
            "latest=subject&after_subject=a",
            Range { is_latest: true, after_subject: Some(Subject::new("a".to_owned()).unwrap()), ..plain() },
        ),
    ] {
        assert_eq!(range(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn range_names_what_is_wrong() {
    for (text, name) in [
        ("from=tail", "from must be head"),
        ("from_time=yesterday", "from_time must be an RFC 3339 time"),
        ("from_id=1&from=head", "from_id cannot be combined"),
        ("from_id=1&from_time=2024-05-01T12:00:00Z", "from_id cannot be combined"),
        ("from=head&from_time=2024-05-01T12:00:00Z", "from_id cannot be combined"),
        ("order=down", "order must be asc or desc"),
        ("order=asc&order=asc", "order must not be given"),
        ("latest=type", "latest must be subject"),
        ("latest=subject&order=desc", "latest=subject cannot be combined"),
        ("latest=subject&from_id=1", "latest=subject cannot be combined"),
        ("latest=subject&from=head", "latest=subject cannot be combined"),
        ("after_subject=a", "after_subject needs latest=subject"),
        ("latest=subject&after_subject=%01", "after_subject must not contain"),
        ("min_position=-1", "min_position must be a whole number"),
        ("min_position=x", "min_position must be a whole number"),
    ] {
        let error = range(text).unwrap_err();
        assert!(error.starts_with(name), "{text}: {error}");
    }
    assert!(query("limit=1").refuse(&["limit"], "is not for streams").unwrap_err().detail.starts_with("limit is not"));
    assert!(query("limit=").refuse(&["limit"], "is not for streams").is_ok());
}

#[test]
fn last_event_id_is_a_place_or_nothing() {
    let seen = |value: &'static str| {
        let headers = HeaderMap::from_iter([(LAST_EVENT_ID.parse().unwrap(), value.parse().unwrap())]);
        last_event_id(&headers)
    };
    assert_eq!(last_event_id(&HeaderMap::new()).unwrap(), None);
    for (value, place) in
        [("", None), ("0", Some(Start::After(None))), ("7", Some(Start::After(Position::new(7).ok())))]
    {
        assert_eq!(seen(value).unwrap(), place, "{value}");
    }
    for value in ["-1", "x", "ü", "9223372036854775808"] {
        assert!(seen(value).unwrap_err().detail.starts_with("Last-Event-ID "), "{value}");
    }
}
