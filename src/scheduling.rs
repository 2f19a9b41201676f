//! How the system shares processors between our threads.

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

const BATCH: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);

/// From now on this thread does not interrupt another one when it wakes up (`SCHED_BATCH`, sched(7)): it has the same share of a
/// processor as before, and takes it in longer pieces. For threads that work beside the exchanges: each wakes thousands of times a
/// second when many visitors are new, and where there are fewer processors than threads a proxy's thread would lose its processor, and
/// what is in its caches, each time.
///
/// Where the system does not allow it, everything stays as it was.
pub(crate) fn give_way() {
    let Ok(nice) = rustix::process::getpriority_process(None) else {
        return;
    };
    // Policy and niceness are set together, and the crate counts niceness in its own way: the one that we have is found in it.
    let same = (0..=99u8)
        .filter_map(|value| ThreadPriorityValue::try_from(value).ok())
        .map(ThreadPriority::Crossplatform)
        .find(|priority| priority.to_posix(BATCH) == Ok(nice));
    if let Some(same) = same {
        let _ = set_thread_priority_and_policy(thread_native_id(), same, BATCH);
    }
}

#[cfg(test)]
mod tests {
    use thread_priority::thread_schedule_policy;

    use super::*;

    #[test]
    fn only_this_thread_gives_way_and_stays_as_nice_as_it_was() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let (before, policy) = (nice(), thread_schedule_policy().unwrap());
        let other = std::thread::spawn(move || {
            give_way();
            (nice(), thread_schedule_policy().unwrap())
        });
        assert_eq!(other.join().unwrap(), (before, BATCH));
        assert_eq!(thread_schedule_policy().unwrap(), policy);
    }
}
