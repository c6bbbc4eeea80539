//! The contract's rules, written once against the seam. Each function is one rule.
//!
//! A file holds the rules of one part of the contract; [`contract_tests!`](crate::contract_tests) turns
//! them into tests of a backend.

pub mod beyond;
pub mod callbacks;
pub mod life_cycle;
pub mod observers;
pub mod parking;
pub mod pending;
pub mod stored_values;
pub mod surface;

mod bench;

pub use bench::{Bench, Host};

use crate::backends::Backends;
use std::pin::Pin;

/// Makes a test of every rule, for one kind of backend. `paused` rules run on
/// tokio's paused clock; `real` ones let a program spin, so time must pass.
#[macro_export]
macro_rules! contract_tests {
    ($backend:expr; $($file:ident { $($clock:ident $rule:ident,)* })*) => {
        $(mod $file {
            $($crate::contract_tests!(@ $clock $rule $file $backend);)*
        })*
    };
    (@ paused $rule:ident $file:ident $backend:expr) => {
        #[tokio::test(start_paused = true)]
        async fn $rule() {
            $crate::contract::$file::$rule($backend).await;
        }
    };
    (@ real $rule:ident $file:ident $backend:expr) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $rule() {
            $crate::contract::$file::$rule($backend).await;
        }
    };
}

/// A rule, by its name.
#[derive(Clone, Copy)]
pub struct Rule {
    /// The part of the contract that it is of.
    pub part: &'static str,
    /// Name of the function that is the rule.
    pub name: &'static str,
    /// The rule, for one kind of backend.
    pub run: fn(Backends) -> Pin<Box<dyn Future<Output = ()>>>,
}

/// Makes a list of [`Rule`]s.
#[doc(hidden)]
#[macro_export]
macro_rules! rule_list {
    ($backend:expr; $($file:ident { $($clock:ident $rule:ident,)* })*) => {
        vec![$($($crate::contract::Rule {
            part: stringify!($file),
            name: stringify!($rule),
            run: |backends| Box::pin($crate::contract::$file::$rule(backends)),
        },)*)*]
    };
}

/// Every rule there is, for backends that are not in this process: see
/// [`differing`](crate::differing).
pub fn rules() -> Vec<Rule> {
    crate::every_rule!(rule_list, ())
}

/// Every rule there is, as tests of `$backend`, or as what another macro makes of them.
#[macro_export]
macro_rules! every_rule {
    ($backend:expr) => {
        $crate::every_rule!(contract_tests, $backend);
    };
    ($callback:ident, $backend:expr) => {
        $crate::$callback! { $backend;
            surface {
                paused synchronous_exit_returns_successfully,
                paused exit_cannot_be_caught_and_runs_no_finally,
                paused console_is_not_exposed_on_global_this,
                paused global_scope_contains_only_allowed_items,
                paused output_helpers_return_undefined,
                paused text_helper_serializes_objects,
                paused text_helper_surfaces_stringify_errors,
                paused image_helper_accepts_raw_mcp_image_block_with_original_detail,
                paused image_helper_second_arg_overrides_explicit_object_detail,
                paused image_helper_second_arg_overrides_raw_mcp_image_detail,
                paused image_helper_rejects_raw_mcp_result_container,
                paused image_helper_accepts_low_detail,
                paused image_helper_rejects_unsupported_detail,
                paused image_helpers_reject_remote_urls,
                paused image_helpers_reject_invalid_image_outputs,
                paused image_helper_gives_the_oracle_values,
                paused generated_image_helper_appends_image_and_output_hint,
                paused audio_helper_accepts_audio_url_object_and_raw_mcp_audio_block,
                paused audio_helper_rejects_non_data_urls,
                paused helpers_throw_primitive_strings,
                paused helpers_are_untouched_by_what_a_script_does_to_built_ins,
                paused lone_surrogates_and_deep_nesting_are_refused_as_input,
                paused tools_with_one_name_after_normalising_are_both_listed,
                paused all_tools_is_an_ordinary_array,
            }
            life_cycle {
                real terminate_execution_stops_cpu_bound_module,
                paused wait_reports_missing_cell_separately_from_runtime_results,
                real shutdown_interrupts_cpu_bound_cells,
                paused start_cell_rejects_new_cell_after_shutdown_begins,
                paused shutdown_is_idempotent,
                paused execute_waits_for_nested_tool_during_yield_grace,
                paused wait_waits_for_nested_tool_during_yield_grace,
                paused execute_and_wait_clamp_yield_grace_without_stopping_the_cell,
                paused zero_yield_limit_is_immediate_and_scoped_to_its_session,
                paused yields_and_resumes,
                paused yield_control_without_an_observer_has_no_effect,
                real yield_timeout_works_for_a_busy_loop,
                real yield_and_termination_are_not_starved_by_runtime_output,
                paused observed_natural_completion_wins_over_termination,
                paused queued_termination_preempts_unobserved_runtime_completion,
                paused only_the_first_termination_claims_a_buffered_completion,
                paused dropping_the_session_ends_its_cells,
                paused repeated_termination_is_rejected_while_callback_cleanup_is_pending,
                paused terminate_waits_for_callbacks_before_responding,
                paused termination_answers_the_observer_too,
                paused a_duplicate_cell_id_is_rejected,
                paused cell_ids_are_decimal_and_never_reused,
                paused a_tool_result_after_the_end_is_dropped,
                paused timers_do_not_keep_a_cell_alive,
                paused elapsed_time_around_a_timer_is_at_least_its_delay,
            }
            observers {
                paused second_observer_is_rejected_without_displacing_the_first,
                paused yield_timer_preempts_buffered_runtime_output,
                paused observation_dropped_before_dequeue_does_not_consume_output,
                paused dropped_yield_observer_preserves_output_for_the_next_observation,
                paused failed_completion_delivery_rebuffers_the_event,
                paused buffered_initial_yield_precedes_buffered_completion_for_yield_observer,
                paused only_new_output_since_the_last_answer_is_returned,
                paused a_completed_cell_wakes_its_observer_at_once,
            }
            pending {
                paused execute_to_pending_returns_completed_for_synchronous_results,
                paused execute_to_pending_returns_once_the_runtime_is_quiescent,
                paused execute_to_pending_identifies_tool_calls_in_paused_frontier,
                paused execute_to_pending_excludes_delayed_timeout_tool_calls_until_wait,
                paused wait_to_pending_returns_after_resumed_runtime_becomes_quiescent_again,
                paused wait_to_pending_returns_completed_after_resumed_runtime_finishes,
                paused pending_mode_freezes_runtime_commands_until_resume,
                paused returns_and_resumes_from_the_pending_frontier,
                paused dropped_pending_observer_preserves_the_frontier_for_the_next_observation,
                paused pending_observer_merges_initial_yield_and_completion_output,
                paused dropped_pending_observation_preserves_the_initial_yield_boundary,
                paused yield_control_is_ignored_by_a_frontier_observer,
            }
            stored_values {
                paused stored_values_are_shared_between_cells_but_not_sessions,
                paused concurrent_cells_merge_only_the_stored_values_they_write,
                paused a_cell_sees_a_snapshot_of_its_start,
                paused values_of_a_cell_that_nobody_waits_for_are_committed,
                paused script_errors_and_exit_commit,
                paused termination_claim_prevents_stored_value_commit,
                real limits_commit_nothing,
                paused a_missing_cell_wipes_nothing,
                paused replaced_values_are_seen_by_the_next_cell,
            }
            callbacks {
                paused tool_callback_panic_rejects_the_js_promise,
                paused tools_that_answer_at_once_are_as_others,
                paused notification_callback_panic_does_not_hurt_the_cell,
                paused termination_cancels_pending_callbacks_before_responding,
                paused shutdown_cancels_notifications_while_natural_completion_is_draining,
                paused natural_completion_cleans_up_callbacks_before_responding,
                paused completion_waits_for_notifications,
                paused notifications_keep_their_order_and_carry_the_call_id,
                paused nested_calls_run_in_parallel,
                paused calls_between_turns_wait_for_the_next_turns_worker,
                paused the_newest_worker_serves,
                paused a_call_names_its_tool_as_defined,
                paused json_travels_unchanged,
                paused a_tool_that_ignores_cancellation_does_not_hold_up_the_end,
                real a_tool_that_blocks_does_not_hold_up_the_end,
                paused an_undelivered_notification_is_given_up_in_the_end,
                paused results_that_nest_or_grow_without_end_reject_their_promise,
            }
            beyond {
                paused a_finished_cell_is_told_from_one_that_never_was,
                paused unread_results_are_bounded_and_evicted_oldest_first,
                paused cells_lists_what_is_alive,
                paused too_many_cells_are_refused,
                paused output_is_bounded,
                paused calls_are_bounded,
                paused calls_in_flight_are_bounded,
                paused timers_are_bounded,
                paused stored_values_are_bounded,
                paused a_long_source_is_refused,
                paused a_limit_lists_what_was_called,
                paused usage_is_reported,
            }
            parking {
                paused a_parked_cell_goes_on_where_it_was,
                paused calls_run_on_while_their_cell_is_parked,
                paused a_call_that_the_waker_does_not_have_is_resumed_by_the_turns_host,
                paused ends_of_calls_can_be_given_when_the_cell_is_woken,
                paused calls_that_ended_before_the_cell_was_parked_are_not_lost,
                paused calls_of_a_parked_cell_are_cancelled_when_they_are_dropped,
                paused output_that_nobody_received_goes_with_the_cell,
                paused timers_have_as_long_to_go_as_when_the_cell_was_parked,
                paused elapsed_time_counts,
                paused a_cell_that_is_woken_twice_is_forked,
                paused a_parked_cell_has_left_its_session,
                paused a_cell_that_has_ended_is_not_parked,
                real a_cell_is_parked_when_it_comes_to_rest,
                paused a_caller_that_goes_away_leaves_the_cell_where_it_is,
                real termination_comes_before_parking,
                paused an_observer_is_answered_when_the_cell_is_parked,
                paused stored_values_are_those_that_the_cell_saw_and_wrote,
                paused limits_go_on_from_what_was_used,
                paused changed_bytes_are_refused,
                paused only_tools_that_the_waker_allows_are_called,
                paused a_woken_cell_is_a_cell_like_any_other,
                paused frozen_cells_are_parked_with_what_they_have_not_received,
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::rules;
    use std::collections::BTreeSet;

    /// A rule that is written and not listed would never be run.
    #[test]
    fn every_rule_that_is_written_is_listed() {
        let folder = crate::repository("tests/src/contract");
        let mut written = BTreeSet::new();
        for entry in std::fs::read_dir(folder).expect("the folder of the rules") {
            let text = std::fs::read_to_string(entry.expect("a file").path()).expect("a text");
            let names = text.split("\npub async fn ").skip(1);
            let names = names.filter_map(|rest| rest.split_once('('));
            let rules =
                names.filter(|(_, rest)| rest.trim_start().starts_with("backends: Backends"));
            written.extend(rules.map(|(name, _)| name.to_owned()));
        }
        let listed: BTreeSet<_> = rules().iter().map(|rule| rule.name.to_owned()).collect();
        assert!(listed.len() > 100);
        assert_eq!(written, listed);
    }
}
