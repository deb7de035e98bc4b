//! Keepers, tasks and walls with real processes.
//!
//! The binary is the harness, and also plays every other part: `role:NAME` as first argument makes
//! it an agent or a task. Tests of the modules `walls` and `users` need root and are ignored by
//! default; `ci/root` runs them, and `ci/guest` the same on cgroup v2. What this machine cannot
//! show is of the kind `SKIPPED: reason` and not run at all.

// A test waits for one reply among all that there are.
#![allow(clippy::wildcard_enum_match_arm)]

mod agents;
mod images;
mod keeper;
mod launches;
mod leaks;
mod namespaces;
mod networks;
#[path = "../probes/mod.rs"]
mod probes;
mod quotas;
mod roles;
mod users;
mod walls;
mod world;

use libtest_mimic::{Arguments, Failed, Trial};
use probes::races;

/// A test by the path of its function.
macro_rules! trials {
    ($($module:ident :: { $($test:ident),* $(,)? })*) => {
        vec![ $( $( trial(
            concat!(stringify!($module), "::", stringify!($test)),
            $module::$test,
        ) ),* ),* ]
    };
}

fn trial(name: &str, test: fn()) -> Trial {
    let run = move || -> Result<(), Failed> {
        test();
        Ok(())
    };
    Trial::test(name, run)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(role) = arguments.get(1).and_then(|first| first.strip_prefix("role:")) {
        roles::play(role, &arguments[2..]);
        return;
    }
    let anywhere = trials! {
        keeper::{
            an_idle_keeper_never_wakes_up,
            a_keeper_fits_into_half_a_mebibyte,
            a_thousand_launches_leave_nothing_behind,
            a_long_path_to_the_socket_is_no_trouble,
            a_keeper_that_has_nothing_to_keep_ends_with_its_agent,
            a_process_with_threads_cannot_start_a_keeper,
            a_keeper_that_does_not_answer_is_not_doubled,
            whoever_does_not_say_hello_disturbs_nobody,
            garbage_closes_the_connection_and_nothing_else,
            an_agent_of_another_version_learns_which_one_is_spoken,
            an_exit_waits_for_the_last_task,
            ending_all_reaches_processes_that_left_their_session,
            a_full_keeper_refuses_and_changes_nothing,
            a_task_whose_agent_lost_its_master_is_stopped_in_time,
            a_list_longer_than_a_message_is_told_whole,
            what_its_agent_was_called_with_is_no_more_to_be_seen,
        }
        launches::{
            a_task_ends_with_its_own_status,
            a_task_ends_by_its_signal,
            a_signal_reaches_the_whole_group,
            what_is_left_of_a_group_ends_with_its_leader,
            orphans_are_collected,
            usage_of_the_task_and_its_children_is_told,
            each_step_that_fails_is_named,
            output_is_appended_to_files_that_are_nothing_else,
            a_task_inherits_nothing_but_what_it_was_given,
            a_launch_of_an_older_session_is_refused,
            a_launch_after_its_deadline_is_refused,
            a_task_that_would_be_stopped_by_now_is_not_started,
            a_container_is_launched_once,
            rlimits_are_those_of_the_task,
            a_process_beside_a_task_ends_by_itself_or_with_it,
            what_an_agent_gives_is_what_a_process_beside_a_task_reads_and_writes,
            a_task_is_not_heard_by_any_keeper,
            who_waits_for_a_word_runs_nothing_before_it,
            who_waits_ends_with_the_agent_that_asked_for_it,
        }
        agents::{
            an_agent_that_was_killed_finds_its_tasks_and_their_ends,
            what_an_agent_had_sent_and_was_not_read_dies_with_its_connection,
            ends_survive_the_keeper,
            tasks_of_a_dead_keeper_are_told_and_can_be_ended,
            a_keeper_of_run_takes_everything_along,
            two_agents_do_not_have_two_keepers,
        }
    };
    let races = trials! {
        races::{
            a_directory_is_made_where_it_is_wanted,
            a_file_of_output_is_made_where_it_is_wanted,
            a_directory_inside_is_removed_and_none_outside,
            a_tree_is_removed_and_nothing_outside,
            a_task_writes_its_output_to_no_file_outside,
            a_process_beside_a_task_begins_inside,
        }
    };
    let rootless = namespaces::ROOTLESS;
    let missing = namespaces::missing();
    let namespaces = trials! {
        namespaces::{
            a_task_sees_itself_alone,
            what_is_parted_from_the_host_is_the_tasks_own_and_of_who_is_beside_it,
            ends_and_signals_are_those_of_the_task,
            nothing_outlives_the_task,
            nothing_outlives_the_keeper,
            a_task_of_the_keepers_own_user_is_not_heard,
            a_killed_init_is_told_as_the_signal,
            who_may_burst_is_killed_first_without_a_privilege,
            a_process_beside_a_task_sees_what_it_sees,
            who_has_processes_of_its_own_beside_a_task_sees_itself_alone,
            tasks_of_a_group_have_their_processes_in_common,
            a_group_ends_with_its_last_task_and_with_its_keeper,
            who_waits_in_namespaces_runs_nothing_before_its_word,
            each_step_that_fails_is_named,
        }
    };
    let namespaces = namespaces.into_iter().map(|trial| match &missing {
        None => trial.with_kind(rootless),
        Some(why) => trial.with_kind(format!("SKIPPED: {why}")).with_ignored_flag(true),
    });
    let root = trials! {
        users::{
            a_task_becomes_its_user_and_nobody_else,
            a_sandbox_that_the_keeper_alone_can_reach_is_entered,
            a_user_may_not_talk_to_the_keeper_of_another,
            no_new_privileges_hold_a_setuid_program,
            root_among_users_of_its_own_is_none_outside,
            a_hanging_file_system_of_a_user_stops_that_task_alone,
            the_keeper_is_killed_last_when_memory_is_out,
        }
        races::{ a_volume_is_mounted_inside }
        probes::{ a_signal_reaches_nobody_who_has_the_number_of_one_that_ended }
        images::{
            a_task_stands_on_layers_and_leaves_nothing,
            devices_are_the_kernels_whatever_an_image_has_in_their_place,
        }
        quotas::{
            a_sandbox_is_given_to_a_project_as_a_whole_or_not_at_all,
            a_sandbox_takes_no_more_than_its_disk_and_volumes_are_none_of_it,
            a_volume_and_what_is_around_a_group_take_no_more_than_their_size,
            who_takes_more_than_its_quota_is_told_where_that_is_wanted,
            projects_are_used_again_when_nothing_is_left_of_them,
            no_task_gives_its_files_another_project,
            a_sandbox_has_no_more_files_than_it_may,
            files_in_flight_take_room_of_their_sandbox,
        }
        networks::{
            a_task_with_a_network_of_its_own_reaches_the_host_and_leaves_no_link,
            no_more_comes_and_goes_by_a_link_than_it_may,
        }
    };
    let root = root.into_iter().map(|trial| trial.with_kind("needs root"));
    let lacking = walls::missing();
    let walls = trials! {
        walls::{
            a_task_is_in_its_cgroups_before_it_runs,
            tasks_of_a_group_have_ipc_a_name_and_a_loopback_in_common,
            files_in_flight_are_no_more_than_may_be_open,
            who_may_swap_does_and_who_may_not_is_killed,
            a_task_beyond_its_memory_is_killed_alone_and_told,
            of_six_small_tasks_the_one_that_takes_too_much_is_killed_alone,
            a_child_beyond_the_memory_is_seen_while_its_parent_runs,
            a_fork_bomb_stays_below_its_limit,
            a_task_finds_its_own_limits_and_no_other_cgroup,
            where_services_are_a_task_finds_what_is_its_own_or_named_and_nothing_else,
            shared_memory_is_the_tasks_own_and_bounded_and_goes_with_it,
            cpu_time_is_shared_by_the_requests,
            a_cap_on_the_cpu_holds,
            a_stubborn_task_leaves_nothing,
            a_disk_is_written_no_faster_than_it_may_be_and_that_is_counted,
            what_a_container_is_short_of_is_told,
            hierarchies_that_are_named_hold_a_task_as_well,
            a_task_that_takes_more_disk_than_it_holds_is_told,
            threads_are_told_from_processes,
            a_device_that_is_taken_away_is_not_opened_again,
            leftovers_are_recovered_and_others_are_not_touched,
            a_namespaced_task_is_killed_by_its_cgroup,
            containers_inside_another_have_walls_of_their_own_and_end_with_it,
            a_part_of_a_container_is_killed_alone_at_its_limit_and_at_the_containers_with_all,
            a_keeper_of_run_removes_the_cgroups,
            a_killed_keeper_leaves_tasks_that_their_cgroups_end,
            a_thousand_containers_leave_no_cgroup,
            a_user_with_a_delegated_cgroup_has_walls,
            the_unified_hierarchy_lets_a_task_open_the_devices_of_its_list_alone,
            root_beside_others_in_a_session_has_walls_and_leaves_nothing_there,
        }
    };
    let walls = walls
        .into_iter()
        .chain(trials! {
            leaks::{ nothing_is_left_of_many_launches_and_every_sort_of_death }
        })
        .map(|trial| match &lacking {
            None => trial.with_kind("needs root"),
            Some(why) => trial.with_kind(format!("SKIPPED: {why}")),
        });
    let root = root.chain(walls).map(|trial| trial.with_ignored_flag(true));
    let held = probes::PROBES.iter().map(|probe| {
        let run = move || -> Result<(), Failed> {
            probes::holds(probe);
            Ok(())
        };
        let trial = Trial::test(format!("probes::{}", probe.title()), run);
        match (probe.who, &missing, &lacking) {
            (probes::Who::User, None, _) => trial.with_kind(rootless),
            (probes::Who::User, Some(why), _) => {
                trial.with_kind(format!("SKIPPED: {why}")).with_ignored_flag(true)
            }
            (_, _, None) => trial.with_kind("needs root").with_ignored_flag(true),
            (_, _, Some(why)) => trial.with_kind(format!("SKIPPED: {why}")).with_ignored_flag(true),
        }
    });
    let of_the_keeper = probes::OF_THE_KEEPER.iter().map(|&name| {
        let run = move || -> Result<(), Failed> {
            probes::the_keeper_holds(name);
            Ok(())
        };
        Trial::test(format!("probes::{name}"), run)
    });
    let held: Vec<Trial> = held.chain(of_the_keeper).collect();
    let held = held.into_iter().chain(trials! {
        probes::{
            a_task_works_in_no_descriptor,
            a_helper_does_what_nobodys_environment_says,
        }
    });
    // Only a machine booted in a special way can show this.
    let degraded = trials! { walls::{ degraded_without_the_memory_controller } };
    let degraded = degraded
        .into_iter()
        .map(|trial| trial.with_kind("needs cgroup_disable=memory").with_ignored_flag(true));
    let trials =
        anywhere.into_iter().chain(races).chain(namespaces).chain(held).chain(root).chain(degraded);
    let trials = trials.collect();
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    world::clean_up();
    conclusion.exit();
}
