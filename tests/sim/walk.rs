//! The walk of a few messages, with the daemon dying after its first effect, its second, its third, and so on to the last.

use crate::plan::{Plan, Proxy};
use crate::world::World;
use std::panic::{AssertUnwindSafe, catch_unwind};

fn walk(messages: u32, cores: u16, proxy: Proxy) {
    let mut died_at = 0;
    loop {
        died_at += 1;
        let plan = Plan::of_walk(messages, cores, proxy, Some(died_at));
        let name = format!("{messages} messages, {cores} cores, {proxy:?}, dead after effect {died_at}");
        let loud =
            std::env::var("SIM_WALK").is_ok_and(|asked| asked == format!("{messages}.{cores}.{proxy:?}.{died_at}"));
        let report = catch_unwind(AssertUnwindSafe(|| World::new(plan, died_at, loud).run()));
        let report =
            report.unwrap_or_else(|_| panic!("{name}: panicked (SIM_WALK={messages}.{cores}.{proxy:?}.{died_at})"));
        if let Err(what) = &report.verdict {
            panic!("{name}: {what} (SIM_WALK={messages}.{cores}.{proxy:?}.{died_at})");
        }
        assert_eq!(report.figures, (messages as usize, messages as usize, messages as usize), "{name}");
        if report.effects < died_at {
            break;
        }
    }
    assert!(died_at > 20, "a walk has more effects than {died_at}");
}

/// A few segments' worth: the daemon dies while records are copied forward, and segments removed or recycled.
#[test]
fn what_is_alive_survives_a_crash_wherever_segments_are_had_back() {
    let run = |died_at: Option<u64>| {
        let plan = Plan { users: 3, ..Plan::of_walk(60, 2, Proxy::Tcp, died_at) };
        catch_unwind(AssertUnwindSafe(|| World::new(plan, 7, false).run()))
    };
    let whole = run(None).unwrap_or_else(|_| panic!("without a crash it panicked"));
    assert_eq!(whole.verdict, Ok(()), "without a crash");
    assert!(whole.reclaimed.0 > 0, "no segment was had back, so nothing is tried: {whole:?}");
    // Every fifth, and each start's first effects by the walks above: it is a long way.
    let mut reclaimed = 0;
    for died_at in (0..whole.effects).step_by(5).skip(1) {
        let report = run(Some(died_at)).unwrap_or_else(|_| panic!("dead after effect {died_at}: panicked"));
        assert_eq!(report.verdict, Ok(()), "dead after effect {died_at}");
        reclaimed += report.reclaimed.0;
    }
    assert!(reclaimed > 0);
}

/// The same with users who delete, a bin, and senders who want to hear of it.
#[test]
fn what_is_deleted_binned_and_owed_survives_a_crash_wherever_segments_are_had_back() {
    let run = |died_at: Option<u64>| {
        let plan = Plan::of_walk(60, 2, Proxy::Tcp, died_at);
        let plan = Plan { users: 3, erases: 400, bin_us: 3_000_000, asking: 700, ..plan };
        catch_unwind(AssertUnwindSafe(|| World::new(plan, 7, false).run()))
    };
    let whole = run(None).unwrap_or_else(|_| panic!("without a crash it panicked"));
    assert_eq!(whole.verdict, Ok(()), "without a crash");
    assert!(whole.reclaimed.0 > 0, "no segment was had back, so nothing is tried: {whole:?}");
    assert!(whole.erased.iter().all(|&count| count > 0), "deleted, purged, reported: {whole:?}");
    for died_at in (0..whole.effects).step_by(5).skip(1) {
        let report = run(Some(died_at)).unwrap_or_else(|_| panic!("dead after effect {died_at}: panicked"));
        assert_eq!(report.verdict, Ok(()), "dead after effect {died_at}");
    }
}

#[test]
fn one_message_survives_a_crash_after_every_effect_on_one_core() {
    walk(1, 1, Proxy::Udp);
}

#[test]
fn three_messages_survive_a_crash_after_every_effect_on_two_cores() {
    walk(3, 2, Proxy::Tcp);
}

#[test]
fn five_messages_survive_a_crash_after_every_effect_without_a_proxy() {
    walk(5, 3, Proxy::None);
}
