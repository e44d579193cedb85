//! Who has a shard and who has its files: the desk in every order of events.

use crate::explore::{JoinHandle, every_order, every_order_within};
use crate::sharing::{Careless, Shard, Start};
use crate::waiting::{End, Kind};

fn join<T>(threads: impl IntoIterator<Item = JoinHandle<T>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

/// A command that needs quiet, beside a learner with chunks to learn.
fn quiet_beside_learning(careless: Careless) {
    let shard = Shard::new(Start {
        ready: 1,
        unsaved: 1,
        careless,
        ..Start::default()
    });
    let threads = [shard.spawn_learner(), shard.spawn_saver()];
    let outcome = shard.order(Kind::Quiet);
    shard.hand_over();
    assert_eq!(outcome.wait(), End::CarriedOut);
    shard.wait_until_idle();
    shard.close_lines();
    join(threads);
    shard.check_changes();
}

/// A save in hand while a command is ordered, and another saver that finds the files away.
fn save_beside_command(kind: Kind, careless: Careless) {
    let shard = Shard::new(Start {
        unsaved: 1,
        careless,
        ..Start::default()
    });
    let threads = [shard.spawn_saver(), shard.spawn_saver()];
    assert_eq!(shard.order(kind).wait(), End::CarriedOut);
    shard.close_lines();
    join(threads);
    shard.check_changes();
}

#[test]
fn a_command_that_needs_quiet_and_a_learner_take_turns() {
    every_order_within(2, || quiet_beside_learning(Careless::Nobody));
}

#[test]
fn a_command_is_begun_after_the_save_that_it_met() {
    every_order(|| save_beside_command(Kind::Beside, Careless::Nobody));
}

#[test]
fn files_that_were_lost_are_opened_by_one_saver() {
    every_order_within(2, || {
        let shard = Shard::new(Start {
            unsaved: 2,
            failing: 1,
            ..Start::default()
        });
        let threads = [shard.spawn_saver(), shard.spawn_saver()];
        shard.hurry();
        shard.wait_until_idle();
        shard.close_lines();
        join(threads);
        shard.check_changes();
    });
}

#[test]
fn two_savers_and_a_learner_serve_both_kinds_of_command() {
    every_order_within(1, || {
        let shard = Shard::new(Start {
            ready: 1,
            ..Start::default()
        });
        let threads = [
            shard.spawn_learner(),
            shard.spawn_saver(),
            shard.spawn_saver(),
        ];
        let orders = [shard.order(Kind::Quiet), shard.order(Kind::Beside)];
        for order in orders {
            assert_eq!(order.wait(), End::CarriedOut);
        }
        shard.close_lines();
        join(threads);
        shard.check_changes();
    });
}

#[test]
fn who_orders_while_the_runtime_ends_learns_what_became_of_it() {
    every_order_within(2, || {
        let shard = Shard::new(Start::default());
        let saver = shard.spawn_saver();
        let callers = [Kind::Quiet, Kind::Beside].map(|kind| shard.spawn_caller(kind));
        shard.close_lines();
        join([saver]);
        shard.end();
        join(callers);
        shard.check_changes();
    });
}

/// A user was forgotten: whoever ends the runtime does not know the shard any more, and so
/// nobody lets go of what somebody orders who still has it.
#[test]
fn who_orders_from_a_shard_whose_files_are_closed_is_not_left_waiting() {
    every_order(|| {
        let shard = Shard::new(Start::default());
        let saver = shard.spawn_saver();
        let caller = shard.spawn_caller(Kind::Quiet);
        assert_eq!(shard.order(Kind::Closing).wait(), End::CarriedOut);
        shard.close_lines();
        join([saver]);
        join([caller]);
        shard.check_changes();
    });
}

/// The models can fail: the same with threads that forget to tell others.
#[cfg(not(miri))]
mod careless {
    use super::*;

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_learner_who_ends_in_silence_leaves_a_command_waiting() {
        every_order_within(2, || quiet_beside_learning(Careless::Learner));
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn without_a_call_after_quiet_chunks_are_not_learned() {
        every_order_within(2, || quiet_beside_learning(Careless::AfterQuiet));
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_saver_who_ends_in_silence_leaves_a_command_waiting() {
        every_order(|| save_beside_command(Kind::Beside, Careless::Saver));
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_caller_who_stands_in_line_too_early_is_not_seen() {
        every_order(|| save_beside_command(Kind::Quiet, Careless::Caller));
    }
}
