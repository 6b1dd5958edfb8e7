//! Every backend against the contract: the same laws for all, and each against the reference store.

pub mod backends;
mod carry_laws;
mod differential;
mod laws;
mod limit_laws;
mod looks;
pub mod make;
mod postgres_alone;
mod postgres_client;
mod postgres_packed;
mod redis_fixture;
mod redis_lines;
mod redis_only;
mod run_laws;
mod schedule_laws;
pub mod sharded_alone;
mod sharded_changes;
mod sharded_late;
mod sharded_laws;
mod sharded_locks;
mod sharded_moves;
mod sharded_refused;
mod sharded_runs;
mod shared_laws;
mod standby_laws;
mod talk_laws;
mod tls;
mod unreadable;
mod wide_differential;
mod wide_run_laws;

/// The laws, handed to a macro by their modules.
macro_rules! laws_of_all {
    ($with:ident $to:ident) => {
        $with! { $to laws:
            claims_follow_priority_then_turn
            queues_are_served_in_the_order_asked
            a_batch_sent_again_is_one_batch
            an_id_is_kept_once
            a_unique_key_has_one_live_job
            delayed_work_is_never_early
            a_stale_epoch_changes_nothing
            epochs_rise_with_every_claim
            a_silent_worker_loses_its_leases
            a_late_lease_may_settle_until_it_is_reaped
            a_heartbeat_tells_and_prolongs_leases
            a_job_past_its_own_expiry_lapses
            farewell_ends_all_leases
            suspects_are_leased_alone
            unknown_types_are_parked_until_a_worker_announces_them
            what_is_given_back_is_first_again
            a_paused_queue_gives_nothing
            a_queue_that_is_asked_twice_gives_each_job_once
            commits_of_all_kinds_are_answered_in_their_order
            an_operator_moves_only_what_it_saw
            every_place_can_be_left_by_an_operator
            a_deleted_job_is_gone
            racing_claimers_never_share_a_job
            racing_producers_share_one_unique_key
        }
        $with! { $to looks:
            lists_are_paged_and_ordered
            parts_of_ids_are_found
            the_newest_are_told_by_their_birth
            counters_match_states
            finished_work_is_trimmed_by_age_and_by_count
            events_are_read_once_and_in_order
            a_place_in_the_log_is_found_by_its_time
            definitions_are_kept_by_hash_and_by_name
            hints_follow_new_work
            records_come_back_as_they_went_in
        }
        $with! { $to run_laws:
            a_run_starts_once
            a_step_and_its_advance_are_one_commit
            a_history_is_told_a_part_at_a_time_and_goes_on_from_there
            a_contended_run_keeps_the_fact_in_its_inbox
            a_stale_move_takes_no_advance_along
            a_drain_that_lost_the_race_changes_nothing
            facts_that_come_during_a_drain_are_not_lost
            timers_fire_into_the_inbox
            dropped_timers_do_not_fire
            a_finished_run_is_listed_and_trimmed
            a_step_of_a_vanished_run_settles_alone
        }
        $with! { $to differential: agrees_with_the_reference_store }
    };
}

/// Those of what has no id that names a shard: they hold wherever a name is at home.
macro_rules! lock_laws {
    ($with:ident $to:ident) => {
        $with! { $to shared_laws:
            documents_are_listed_by_prefix
            racing_writers_lose_no_change
            a_lock_has_one_holder
            a_wish_sent_again_is_one_grant
            a_grant_ends_with_its_time
            a_semaphore_has_so_many_slots
            a_broken_lock_is_lost
            fences_rise_over_trims
            what_is_out_of_bounds_is_refused
            racing_holders_never_share_a_slot
            lost_answers_never_make_two_holders
        }
    };
}

/// What a queue itself is limited to (how many run, how many are kept) is divided among shards, and each of them
/// tells of its settings: `sharded_alone` looks at that. A claim is divided too, so what it leaves is. These laws are
/// for stores that divide nothing.
macro_rules! undivided_laws {
    ($with:ident $to:ident) => {
        $with! { $to limit_laws:
            a_queues_limit_holds_over_all_workers
            a_queue_keeps_what_it_says
            settings_come_back_as_they_went_in
        }
        $with! { $to run_laws: a_step_that_is_given_at_once_wakes_nobody }
        $with! { $to wide_differential: agrees_with_the_reference_store }
    };
}

/// The laws that a backend learns next.
macro_rules! wide_laws {
    ($with:ident $to:ident) => {
        $with! { $to limit_laws:
            a_concurrency_key_lets_so_many_run
            blocked_jobs_go_in_the_order_of_the_line
            a_key_spans_queues_and_forgets_nobody
            a_blocked_job_can_be_cancelled
            permits_are_spaced_evenly
            a_unique_key_may_outlive_its_job
            a_suspect_stays_apart_wherever_it_comes_from
        }
        $with! { $to talk_laws:
            who_can_end_a_job_is_told
            an_end_takes_the_mark_away
            notes_need_the_lease
            logs_are_bounded_and_told
            a_deleted_job_takes_its_log_along
            a_child_is_held_until_its_parent_ends
            every_end_of_a_parent_is_told
            a_child_of_several_waits_for_all
            an_unknown_parent_is_refused
            a_parent_that_lives_again_is_waited_for
            a_worker_is_told_to_drain
            definitions_can_be_taken_back
        }
        $with! { $to wide_run_laws:
            facts_reach_any_run
            an_advance_asks_starts_and_tells
            a_gate_lets_so_many_in
            a_full_gate_turns_away
            who_is_let_in_while_it_moves_on_learns_of_it
            a_parent_run_learns_of_a_refusal
        }
        $with! { $to schedule_laws:
            a_schedule_changes_by_who_saw_it
            a_tick_is_one_commit
            racing_schedulers_tick_once
        }
        lock_laws! { $with $to }
        $with! { $to shared_laws:
            a_document_changes_by_who_saw_it
            a_document_ends_with_its_time
        }
    };
}

/// The laws of stores that keep a claim until something is written.
macro_rules! standby_laws {
    ($with:ident $to:ident) => {
        $with! { $to standby_laws:
            who_stands_by_is_given_what_comes
            who_stands_by_for_nothing_is_told_in_time
            what_comes_between_a_look_and_standing_by_is_not_waited_for
            of_several_who_stand_by_one_is_given_a_job
            who_is_no_longer_registered_is_given_nothing
            who_gives_up_standing_by_is_given_nothing
        }
    };
}

/// One test a law.
macro_rules! a_test_each {
    ($backend:ident $module:ident: $($law:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                let subject = backends::$backend().await;
                $module::$law(&subject).await;
                let differences = subject.store.verify().await.expect("verify answers");
                assert!(differences.is_empty(), "{differences:#?}");
            }
        )*
    };
}

/// The laws as values, for a backend that is dear to start.
macro_rules! gather {
    ($into:ident $module:ident: $($law:ident)*) => {
        $(
            $into.push((stringify!($law), Box::new(|subject| Box::pin(async move { $module::$law(&subject).await; subject }))));
        )*
    };
}

mod redis_cluster;

/// One test a law and backend. A backend is a function in `backends`.
macro_rules! suite {
    ($backend:ident) => {
        mod $backend {
            use super::{backends, differential, laws, looks, run_laws};
            laws_of_all! { a_test_each $backend }
        }
    };
}

suite!(memory);
suite!(sqlite);
suite!(postgres);
suite!(redis);
suite!(remote);
suite!(sharded_one);

suite!(sharded);
suite!(sharded_redis);
suite!(sharded_mixed);

/// The laws that a backend learns next are asked of those that have learnt them.
macro_rules! wide {
    ($module:ident $backend:ident) => {
        mod $module {
            use super::{
                backends, limit_laws, run_laws, schedule_laws, shared_laws, talk_laws, wide_differential, wide_run_laws,
            };
            wide_laws! { a_test_each $backend }
            undivided_laws! { a_test_each $backend }
        }
    };
}

wide!(memory_wide memory);
wide!(postgres_wide postgres);
wide!(redis_wide redis);
wide!(remote_wide remote);
wide!(sqlite_wide sqlite);
wide!(sharded_one_wide sharded_one);

macro_rules! standing_by {
    ($module:ident $backend:ident) => {
        mod $module {
            use super::{backends, standby_laws};
            standby_laws! { a_test_each $backend }
        }
    };
}

standing_by!(memory_standby memory);
standing_by!(redis_standby redis);

/// What only a store must be able to do that can be a shard of several.
macro_rules! a_shard {
    ($module:ident $backend:ident) => {
        mod $module {
            use super::{backends, carry_laws};
            a_test_each! { $backend carry_laws:
                a_run_is_taken_out_as_it_was_seen
                runs_are_taken_by_the_right_of_a_mark_that_nobody_has_deleted
                a_run_is_put_in_as_it_was_and_once
                those_at_one_gate_go_together
                a_log_goes_with_its_copy
            }
        }
    };
}

a_shard!(memory_shard memory);
a_shard!(postgres_shard postgres);
a_shard!(redis_shard redis);
a_shard!(sqlite_shard sqlite);

macro_rules! over_shards {
    ($module:ident $backend:ident) => {
        mod $module {
            use super::{
                backends, limit_laws, schedule_laws, shared_laws, talk_laws, wide_differential, wide_run_laws,
            };
            wide_laws! { a_test_each $backend }
            a_test_each! { $backend wide_differential: agrees_but_for_the_limits_of_queues }
        }
    };
}

over_shards!(sharded_wide sharded);
over_shards!(sharded_redis_wide sharded_redis);
over_shards!(sharded_mixed_wide sharded_mixed);

/// Locks, whose names are at home on every shard.
macro_rules! spread {
    ($module:ident $backend:ident) => {
        mod $module {
            use super::{backends, shared_laws};
            lock_laws! { a_test_each $backend }
        }
    };
}

spread!(sharded_spread_locks sharded_spread);
spread!(sharded_spread_redis_locks sharded_spread_redis);
