//! Which processors the daemon and the load run on. Knows the kernel's affinity masks, nothing of what runs.

use std::mem;

/// The processors of a run: with two of them, one each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The daemon's, and the limits' in its stead.
    pub daemon: Vec<usize>,
    /// The load's.
    pub load: Vec<usize>,
}

impl Places {
    /// For a daemon of `cores`: the first processors that this process may use are its own, the others the load's. Where none is
    /// left, the load shares the last one.
    pub fn of(cores: usize) -> Places {
        Places::among(&allowed(), cores)
    }

    fn among(cpus: &[usize], cores: usize) -> Places {
        let cores = cores.clamp(1, cpus.len().max(1));
        let daemon: Vec<usize> = cpus.iter().copied().take(cores).collect();
        let mut load: Vec<usize> = cpus.iter().copied().skip(cores).collect();
        if load.is_empty() {
            load.extend(daemon.last());
        }
        Places { daemon, load }
    }

    /// True when daemon and load have no processor in common.
    pub fn apart(&self) -> bool {
        self.load.iter().all(|cpu| !self.daemon.contains(cpu))
    }

    /// For a note: `daemon on 0, load on 1`.
    pub fn told(&self) -> String {
        let list = |cpus: &[usize]| cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join("+");
        format!("daemon on processor {}, load on {}", list(&self.daemon), list(&self.load))
    }
}

/// Processors that this thread may run on.
pub fn allowed() -> Vec<usize> {
    // SAFETY: a cpu_set_t is plain bits; all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the set is ours and as large as we say.
    let got = unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &mut set) };
    if got != 0 {
        return vec![0];
    }
    // SAFETY: CPU_ISSET reads a bit of a set that is large enough for every number below CPU_SETSIZE.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

/// Ties this thread, and what it starts from now on, to these processors. A kernel that refuses leaves it where it was.
pub fn pin(cpus: &[usize]) {
    // SAFETY: as in `allowed`.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for cpu in cpus.iter().filter(|cpu| **cpu < libc::CPU_SETSIZE as usize) {
        // SAFETY: the number is below CPU_SETSIZE.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    if !cpus.is_empty() {
        // SAFETY: the set is ours and as large as we say; async-signal-safe, so that a forked child may call it.
        unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &set) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemon_and_load_share_a_processor_only_where_there_is_no_other() {
        assert_eq!(Places::among(&[0, 1], 1), Places { daemon: vec![0], load: vec![1] });
        assert_eq!(Places::among(&[2, 3, 5, 7], 2), Places { daemon: vec![2, 3], load: vec![5, 7] });
        let tight = Places::among(&[4], 3);
        assert_eq!(tight, Places { daemon: vec![4], load: vec![4] });
        assert!(!tight.apart() && Places::among(&[0, 1], 1).apart());
        assert_eq!(Places::among(&[0, 1], 2).load, [1]);
    }

    #[test]
    fn a_pinned_thread_runs_where_it_was_put() {
        std::thread::spawn(|| {
            let cpu = allowed()[0];
            pin(&[cpu]);
            assert_eq!(allowed(), [cpu]);
        })
        .join()
        .unwrap();
    }
}
