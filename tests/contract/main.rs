//! What every event repository promises, checked against each adapter and engine.
//!
//! `cargo xtask test` starts the database servers and says where they are.

#![allow(clippy::unwrap_used, reason = "a case that cannot go on has failed")]

mod append;
mod contexts;
mod cost;
mod delete;
mod filter;
mod foreign;
mod groups;
mod hanging;
mod key_index;
mod long_log;
mod notifier;
mod opening;
mod read;
mod reading;
mod replicas;
mod restore;
mod several_subjects;
mod store;
mod subject_index;
mod takeover;
mod transfer;
mod verify;

use store::{Engine, run};

/// Makes one test per engine and case.
macro_rules! contract {
    ($engines:tt, $cases:tt) => {
        contract!(@engines $engines $cases);
    };
    (@engines [$($module:ident: $engine:ident),*] $cases:tt) => {
        $(contract!(@cases $module $engine $cases);)*
    };
    (@cases $module:ident $engine:ident [$($of:ident::$case:ident),* $(,)?]) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    crate::run(crate::Engine::$engine, crate::$of::$case).await;
                }
            )*
        }
    };
}

contract!(
    [memory: Memory, sqlite: Sqlite, mariadb: MariaDb, mysql: MySql, postgres: Postgres],
    [
        append::batch_is_contiguous_and_in_order,
        append::empty_batch_takes_no_position,
        append::racing_writers_are_read_once_in_order,
        append::racing_writers_with_ids_are_read_once_in_order,
        append::recorded_time_never_falls,
        append::events_are_kept_as_given,
        append::missing_time_is_the_recorded_one,
        contexts::contexts_are_kept_as_given,
        contexts::context_tells_a_duplicate_from_a_conflict,
        contexts::types_are_told_of_a_part_of_the_log,
        delete::newest_position_is_not_reused_after_delete,
        delete::deletes_what_matches_within_its_bounds,
        delete::deletes_more_than_a_chunk_and_counts,
        delete::deletions_are_counted_for_every_process,
        delete::last_events_are_found_while_later_ones_go,
        filter::filters_agree_with_the_model,
        filter::last_events_agree_with_the_model,
        filter::last_events_of_many_subjects_come_in_pages,
        filter::subjects_page_in_byte_order,
        filter::thin_prefix_in_a_thick_log_is_read_completely,
        groups::requests_of_a_group_follow_each_other,
        groups::same_event_is_stored_once,
        groups::same_id_with_other_content_is_a_conflict,
        groups::batch_with_a_bad_event_in_the_middle_stores_nothing_of_it,
        groups::preconditions_hold_or_refuse,
        groups::carried_out_request_is_not_refused_when_repeated,
        groups::precondition_follows_deletion,
        groups::deleted_event_may_come_again,
        groups::racing_preconditions_have_one_winner,
        groups::racing_duplicates_get_one_position,
        groups::large_group_is_taken_whole,
        groups::groups_of_every_size_keep_each_event_as_it_is,
        long_log::reads_agree_with_the_model_while_it_grows,
        long_log::deletion_reaches_the_old_and_the_new,
        long_log::preconditions_see_the_old_and_the_new,
        opening::database_opened_by_many_at_once_serves_all,
        opening::data_outlives_reopening,
        read::after_and_through_bound_the_page,
        read::limit_ends_the_page_at_its_last_event,
        read::bytes_max_ends_the_page_before_it_overflows,
        read::empty_log_has_no_head_and_no_events,
        read::get_finds_only_what_is_there,
        replicas::readers_of_all_processes_see_the_log_as_it_is,
        replicas::deleted_events_are_read_from_nobodys_memory,
        replicas::reads_begin_where_they_are_asked_to,
        replicas::last_events_of_subjects_come_first_and_then_what_comes,
        replicas::reads_wait_for_the_position_they_must_see,
        replicas::silent_reader_is_told_where_to_resume,
        replicas::reader_far_behind_is_not_waited_for,
        restore::restored_events_are_as_they_were,
        restore::restored_id_is_known_again,
        restore::what_does_not_fit_behind_the_log_is_refused_whole,
        restore::large_log_with_holes_is_read_by_every_way,
        several_subjects::many_subjects_are_read_from_both_ends,
        several_subjects::what_is_deleted_and_appended_between_pages_shows,
        several_subjects::subject_that_is_dense_in_places_is_read_completely,
        several_subjects::more_events_than_anybody_remembers_are_read,
        transfer::log_comes_back_from_its_lines,
        transfer::log_comes_from_another_log_as_it_is,
        transfer::later_archive_goes_on_where_the_first_ended,
        transfer::archive_of_another_log_is_refused,
        transfer::event_that_the_log_has_stepped_over_is_told,
        transfer::archive_is_appended_once,
        transfer::appended_archive_is_bounded_and_conflicts_are_told,
    ]
);

mod databases {
    contract!(
        [sqlite: Sqlite, mariadb: MariaDb, mysql: MySql, postgres: Postgres],
        [
            foreign::rolled_back_transactions_leave_no_gap,
            foreign::racing_writers_pass_between_rollbacks,
            foreign::nothing_is_stored_without_a_head,
            groups::request_that_the_database_rejects_can_be_told_apart,
            groups::writer_whose_row_is_gone_goes_on,
            verify::log_of_ours_is_whole,
            verify::what_somebody_has_changed_is_found,
            verify::database_is_read_only_with_the_schema_of_this_program,
        ]
    );
}

mod tls {
    contract!(
        [postgres: PostgresOverTls],
        [
            append::batch_is_contiguous_and_in_order,
            append::events_are_kept_as_given,
            groups::requests_of_a_group_follow_each_other,
            groups::preconditions_hold_or_refuse,
            groups::request_that_the_database_rejects_can_be_told_apart,
            groups::writer_whose_row_is_gone_goes_on,
            groups::large_group_is_taken_whole,
            restore::restored_events_are_as_they_were,
            restore::large_log_with_holes_is_read_by_every_way,
        ]
    );
}

mod mysql_family {
    contract!(
        [mariadb: MariaDb, mysql: MySql],
        [
            foreign::writer_between_our_appends_takes_no_position_twice,
            foreign::writer_beside_our_appends_takes_no_position_twice,
            foreign::rows_above_the_head_are_stepped_over,
            takeover::takes_over_a_strict_go_schema,
            takeover::takes_over_a_loose_go_schema,
            takeover::go_database_is_imported_and_left_alone,
        ]
    );
}

mod servers {
    contract!(
        [mariadb: MariaDb, mysql: MySql, postgres: Postgres],
        [
            foreign::recorded_time_follows_a_clock_that_is_ahead,
            foreign::connection_that_was_fenced_off_commits_no_more,
            foreign::connection_that_is_refused_is_not_used_again,
            hanging::silent_connections_take_no_place_for_long,
            hanging::reads_leave_a_server_that_refuses_the_writer,
            hanging::reads_that_nobody_waits_for_any_more_take_no_place_for_long,
            opening::database_of_a_later_version_is_served,
            opening::user_who_may_not_change_the_schema_serves,
        ]
    );
}

mod row_counts {
    contract!([mariadb: MariaDb], [cost::late_page_reads_few_rows]);
}

mod embedded {
    contract!(
        [sqlite: Sqlite],
        [
            opening::file_of_a_later_version_is_not_opened,
            key_index::duplicates_are_found_on_both_sides_of_the_index,
            key_index::index_goes_round_all_keys,
            key_index::deleted_events_may_come_again_on_both_sides_of_the_index,
            key_index::processes_see_each_others_newest_keys,
            key_index::refused_and_rolled_back_keys_are_free,
            key_index::keys_that_start_alike_are_told_apart,
            key_index::large_requests_are_looked_up_before_they_are_inserted,
            key_index::restored_keys_are_looked_for_and_found,
            key_index::is_made_from_the_keys_of_an_older_schema,
            subject_index::catches_up_with_batches_and_with_lone_events,
            subject_index::rows_above_the_head_get_their_entries_once,
            subject_index::entries_come_in_parts_and_none_for_what_is_deleted_meanwhile,
            subject_index::what_is_rolled_back_gets_no_entries,
            subject_index::is_made_from_the_index_of_an_older_schema,
            subject_index::precondition_sees_what_another_process_has_indexed,
            verify::entries_that_are_missing_or_too_many_are_found,
            verify::keys_that_are_missing_or_stored_twice_are_found,
        ]
    );
}
