//! Filters, with [`Filter::matches`] as the model.

use std::collections::BTreeSet;

use events_db::domain::event::StoredEvent;
use events_db::domain::filter::Filter;
use events_db::ports::event_repository::{EventRepository, ReadQuery};

use crate::reading::{
    append, event, event_source, event_type, exact, latest_agrees, positions, prefixes, query, read_both_ways, subject,
    whole_log,
};
use crate::store::Store;

/// Subjects that a database is tempted to take for one another.
fn subjects() -> Vec<String> {
    let texts = [
        "",
        " ",
        "a",
        "A",
        "a ",
        "a  ",
        " a",
        "ab",
        "aB",
        "ä",
        "Ä",
        "a\u{308}",
        "ae",
        "ß",
        "ss",
        "é",
        "e\u{301}",
        "i",
        "I",
        "İ",
        "ı",
        "k",
        "\u{212a}",
        "user-1",
        "User-1",
        "USER-1",
        "user-10",
        "user-1 ",
        "user_1",
        "user%1",
        "user\\1",
        "user'1",
        "userx1",
        "user",
        "user.",
        "%",
        "_",
        "\\",
        "'",
        "\"",
        "?",
        "$1",
        "100%",
        "100%%",
        "1000",
        "日本",
        "日本語",
        "😀",
        "😀a",
        "😁",
        "\u{d7ff}",
        "\u{e000}",
        "\u{e000}a",
        "\u{fffd}",
        "\u{10fffd}",
        "\u{10fffd}\u{10fffd}",
        "a\u{200b}",
        "a/b",
        "a/b/c",
        "a/",
        "a0",
    ];
    let longest = ["ü".repeat(255), "ü".repeat(254), "😀".repeat(255)];
    texts.into_iter().map(str::to_owned).chain(longest).collect()
}

/// About 200 events over all subjects, three types and three sources, not in any order.
async fn fill(repository: &dyn EventRepository) -> Vec<StoredEvent> {
    let subjects = subjects();
    let mut number: usize = 1;
    for _ in 0..20 {
        let batch = (0..10).map(|_| {
            number = number * 1_103_515_245 % 2_147_483_647 + 12_345;
            let mut event = event(&subjects[number / 16 % subjects.len()]);
            event.event_type = event_type(["tested", "Tested", "tested "][number / 64 % 3]);
            event.event_source = event_source(["contract", "Contract", "it's \\ %"][number / 256 % 3]);
            event
        });
        append(repository, batch.collect()).await;
    }
    append(repository, subjects.iter().map(|subject| event(subject)).collect()).await;
    whole_log(repository).await
}

/// By each subject, each prefix, some at a time, with and without types and sources.
fn filters() -> Vec<Filter> {
    let subjects = subjects();
    let named: Vec<&str> = subjects.iter().map(String::as_str).filter(|subject| !subject.is_empty()).collect();
    let mut filters = vec![Filter::default(), exact(&[""]), exact(&["", "a", "A"]), prefixes(&["zzz", "!"])];
    filters.extend(named.iter().map(|text| exact(&[text])));
    filters.extend(named.iter().map(|text| prefixes(&[text])));
    filters.extend(named.chunks(3).map(exact));
    filters.extend(named.chunks(4).map(prefixes));
    for (number, filter) in filters.clone().into_iter().enumerate() {
        let types = [vec!["tested"], vec!["Tested", "tested "], vec!["TESTED"]];
        let types = types[number % 3].iter().map(|text| event_type(text)).collect();
        let sources = [vec!["Contract"], vec!["contract", "it's \\ %"], vec!["CONTRACT"]];
        let sources = sources[number / 3 % 3].iter().map(|text| event_source(text)).collect();
        filters.push(Filter { sources, ..filter.clone() });
        let sources = vec![event_source("contract")];
        filters.push(Filter { types, sources: if number % 2 == 0 { sources } else { Vec::new() }, ..filter });
    }
    filters
}

pub(crate) async fn filters_agree_with_the_model(store: &Store) {
    let repository = store.open().await;
    let log = fill(&*repository).await;
    for filter in filters() {
        let wanted: Vec<StoredEvent> = log.iter().filter(|event| filter.matches(event)).cloned().collect();
        for (limit, bytes_max) in [(3, usize::MAX), (1_000, 60), (7, 300)] {
            let query = ReadQuery { filter: filter.clone(), limit, bytes_max, ..query(None, 10_000) };
            let found = read_both_ways(&*repository, query).await;
            assert_eq!(positions(&found), positions(&wanted), "{filter:?} in pages of {limit}, {bytes_max} bytes");
            assert_eq!(found, wanted, "{filter:?}");
        }
    }
}

pub(crate) async fn last_events_agree_with_the_model(store: &Store) {
    let repository = store.open().await;
    let log = fill(&*repository).await;
    let afters = ["", " ", "a", "ab", "user-1", "user-11", "日本", "\u{10fffd}\u{10fffd}"];
    for (number, filter) in filters().into_iter().enumerate() {
        let pages = [(1_000, usize::MAX), (7, 300), (1, usize::MAX)];
        latest_agrees(&*repository, &log, &filter, None, 10_000, &pages).await;
        let after = afters[number % afters.len()];
        let through = i64::try_from(number * 17 % log.len() + 1).unwrap();
        latest_agrees(&*repository, &log, &filter, Some(subject(after)), through, &pages).await;
    }
}

pub(crate) async fn last_events_of_many_subjects_come_in_pages(store: &Store) {
    let repository = store.open().await;
    let batch = |from: usize, kind: &str| {
        let events = (from..from + 1_000).map(|number| {
            let mut event = event(&format!("many-{:04}", number * 7 % 2_500));
            event.event_type = event_type(kind);
            event
        });
        events.collect::<Vec<_>>()
    };
    for from in 0..5 {
        append(&*repository, batch(from * 1_000, if from < 3 { "old" } else { "new" })).await;
    }
    append(&*repository, vec![event("last"), event("many-2499"), event("zero")]).await;
    let log = whole_log(&*repository).await;
    let pages = [(10_000, usize::MAX), (700, 20_000)];
    let typed = |filter, kind| Filter { types: vec![event_type(kind)], ..filter };
    for filter in [
        Filter::default(),
        prefixes(&["many-1", "z"]),
        typed(Filter::default(), "new"),
        typed(prefixes(&["many-0"]), "old"),
        typed(Filter::default(), "tested"),
        exact(&["many-2499", "nobody", "zero"]),
    ] {
        for through in [5_003, 2_000] {
            latest_agrees(&*repository, &log, &filter, None, through, &pages).await;
        }
    }
    let named: Vec<String> = (0..2_600).map(|number| format!("many-{number:04}")).collect();
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    latest_agrees(&*repository, &log, &exact(&named), Some(subject("many-0010")), 5_003, &pages).await;
}

pub(crate) async fn subjects_page_in_byte_order(store: &Store) {
    let repository = store.open().await;
    fill(&*repository).await;
    let wanted: BTreeSet<String> = subjects().into_iter().collect();
    let wanted: Vec<String> = wanted.into_iter().collect();
    for limit in [1, 7, 1_000] {
        let mut found: Vec<String> = Vec::new();
        loop {
            let after = found.last().map(|last| subject(last));
            let page = repository.subjects(after, limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            found.extend(page.iter().map(|subject| subject.as_str().to_owned()));
        }
        assert_eq!(found, wanted, "in pages of {limit}");
    }
    let after = repository.subjects(Some(subject("user-1")), 1).await.unwrap();
    assert_eq!(after, [subject("user-1 ")]);
    let between = repository.subjects(Some(subject("user-11")), 1).await.unwrap();
    assert_eq!(between, [subject("user.")]);
}

pub(crate) async fn thin_prefix_in_a_thick_log_is_read_completely(store: &Store) {
    let repository = store.open().await;
    for batch in 0..20 {
        let batch = (0..1_000).map(|number| match number + batch * 1_000 {
            5 | 8_191 | 8_192 | 8_193 | 12_345 | 16_384 | 19_999 => event(&format!("thin-{number}")),
            _ => event(&format!("thick-{}", number % 10)),
        });
        append(&*repository, batch.collect()).await;
    }
    let thin = vec![6, 8_192, 8_193, 8_194, 12_346, 16_385, 20_000];
    for limit in [1, 3, 1_000] {
        let query = ReadQuery { filter: prefixes(&["thin-"]), limit, ..query(None, 20_000) };
        assert_eq!(positions(&read_both_ways(&*repository, query).await), thin, "in pages of {limit}");
    }
    let nobody = ReadQuery { filter: prefixes(&["nobody"]), ..query(None, 20_000) };
    assert_eq!(read_both_ways(&*repository, nobody).await, []);
    let of_no_type = Filter { types: vec![event_type("other")], ..Filter::default() };
    let of_no_type = ReadQuery { filter: of_no_type, ..query(None, 20_000) };
    assert_eq!(read_both_ways(&*repository, of_no_type).await, []);
    let thick = ReadQuery { filter: prefixes(&["thick-1", "thin-"]), limit: 500, ..query(Some(9), 20_000) };
    assert_eq!(read_both_ways(&*repository, thick).await.len(), 1_998 + 6);
}
