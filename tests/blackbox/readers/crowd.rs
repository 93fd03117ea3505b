//! As many readers as a server takes: they come, follow and leave, and nothing of them stays.

use futures_util::stream::{self, StreamExt};
use reqwest::Client;

use crate::harness::Server;
use crate::sse::Reader;

/// As many as `--max-total-clients` allows by default.
const READERS: usize = 10_000;

/// Descriptors of this process for everything else that it does meanwhile.
const DESCRIPTORS_BESIDES: u64 = 2_000;

/// Descriptors and threads of the server that may be there afterwards for other reasons: its connections to the database,
/// and those of clients that idle. What each reader leaves behind would be there ten thousand times.
const MORE: usize = 100;

/// Lets all come, follow and leave.
async fn come_and_go(server: &Server, client: &Client) {
    let url = server.at("/events/stream?recursive=true&subject=crowd/");
    let head = server.append("crowd/1", b"head").await;
    let open = |_| async { Reader::new(client.get(&url).header("last-event-id", head - 1).send().await.unwrap()) };
    let mut readers: Vec<_> = stream::iter(0..READERS).map(open).buffer_unordered(64).collect().await;
    assert_eq!(server.metric("app_active_event_streams").await, READERS);
    assert_eq!(client.get(&url).send().await.unwrap().status(), 429, "there is one slot too many");
    for reader in &mut readers {
        assert_eq!(reader.ids(1).await, [head]);
    }
    for _ in 0..2 {
        let live = server.append("crowd/2", b"live").await;
        // They leave by and by: the first half does not see the second event.
        for reader in &mut readers {
            assert_eq!(reader.ids(1).await, [live]);
        }
        readers.truncate(READERS / 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_readers_come_follow_and_leave_nothing_behind() {
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    assert!(limit >= READERS as u64 + DESCRIPTORS_BESIDES, "only {limit} descriptors: raise the limit (ulimit -Hn)");
    let server = Server::start(&[], &[]).await;
    let client = Client::new();
    let (descriptors, threads) = (server.count_of("fd"), server.count_of("task"));
    // The second time, each needs a slot that one of the first time has given back.
    for _ in 0..2 {
        come_and_go(&server, &client).await;
        server
            .eventually("nothing is left of the readers", async || {
                let streams = server.metric("app_active_event_streams").await;
                let left = [server.count_of("fd"), server.metric("process_open_fds").await, server.count_of("task")];
                let is_over = streams == 0 && left[0].max(left[1]) <= descriptors + MORE && left[2] <= threads + MORE;
                let before = (descriptors, threads);
                if is_over { Ok(()) } else { Err(format!("{streams} streams, {left:?} instead of {before:?}")) }
            })
            .await;
    }
    println!("{} descriptors and {} threads are left", server.count_of("fd"), server.count_of("task"));
}
