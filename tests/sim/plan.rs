//! What a seed means: how many cores and people, what goes wrong and how often. Everything is drawn here, before the run.

use deferd::base::dice::Dice;

/// How requests reach a user's client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Proxy {
    /// Back over the flow of the last PUBLISH.
    None,
    /// The SIP core's datagram address.
    Udp,
    /// A connection to the SIP core.
    Tcp,
}

/// One scenario. Times in microseconds, chances in thousandths.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) cores: u16,
    pub(crate) users: usize,
    pub(crate) senders: usize,
    pub(crate) proxy: Proxy,
    /// Messages are sent and users flap until then; afterwards everything works and everyone answers.
    pub(crate) busy_us: u64,
    pub(crate) messages: u32,
    /// Datagrams.
    pub(crate) loss: u64,
    pub(crate) doubled: u64,
    pub(crate) delay_us: (u64, u64),
    /// Streams: a connection reset, drawn per delivery.
    pub(crate) reset: u64,
    /// Largest piece a stream delivers at once.
    pub(crate) piece: usize,
    /// What a stream holds between its ends.
    pub(crate) window: usize,
    /// Disk.
    pub(crate) disk_us: (u64, u64),
    pub(crate) stall: u64,
    pub(crate) eio: u64,
    pub(crate) full: u64,
    /// Sectors that rot, and one in three of a crash besides.
    pub(crate) rot: u32,
    /// How often the network falls apart for a while.
    pub(crate) splits: u32,
    pub(crate) segment_octets: u64,
    /// When the daemon dies; each is followed by a restart.
    pub(crate) crashes: Vec<u64>,
    /// Dies after so many effects.
    pub(crate) crash_at_effect: Option<u64>,
    /// Of them, told to stop beforehand.
    pub(crate) polite: u64,
    /// The wall clock may have been set back by so much when it comes up again.
    pub(crate) clock_back_us: u64,
    /// A restart may find another number of cores.
    pub(crate) reshape: bool,
    pub(crate) letters: usize,
    pub(crate) chunk_max: usize,
    pub(crate) window_messages: u32,
    /// Clients that misbehave.
    pub(crate) rude: u64,
    /// Senders that send one message twice by different ways.
    pub(crate) twins: u64,
    /// Messages with a short life.
    pub(crate) mortal: u64,
    /// Which are kept when it is over.
    pub(crate) keep: bool,
    pub(crate) quota_messages: u32,
    /// Users that delete everything instead of what they were about to do.
    pub(crate) erases: u64,
    /// How long what was deleted stays in the bin.
    pub(crate) bin_us: u64,
    /// Messages whose senders want to hear what became of them.
    pub(crate) asking: u64,
    /// Messages that come over sessions of their own.
    pub(crate) large: u64,
}

impl Plan {
    /// What `seed` stands for.
    pub(crate) fn of_seed(seed: u64) -> Plan {
        let mut octets = [0x51; 32];
        octets[..8].copy_from_slice(&seed.to_le_bytes());
        let mut dice = Dice::from_seed(octets);
        let mut between = |low: u64, high: u64| dice.between(low, high);
        let busy_us = between(20, 120) * 1_000_000;
        // A third of all seeds each: a good network, a bad one, a terrible one; likewise disks and clients.
        let (network, disk, people) = (between(0, 2), between(0, 5), between(0, 2));
        let crashes = match between(0, 3) {
            0 => 0,
            1 => 1,
            _ => between(2, 6),
        };
        let mut crashes: Vec<u64> = (0..crashes).map(|_| between(busy_us / 10, busy_us)).collect();
        crashes.sort_unstable();
        let plan = Plan {
            cores: between(1, 4) as u16,
            users: between(1, 5) as usize,
            senders: between(1, 4) as usize,
            proxy: [Proxy::None, Proxy::Udp, Proxy::Tcp][between(0, 2) as usize],
            busy_us,
            messages: between(20, 90) as u32,
            loss: [0, 50, 250][network as usize],
            doubled: [0, 30, 150][network as usize],
            delay_us: [(50, 400), (1_000, 60_000), (1_000, 900_000)][network as usize],
            reset: [0, 0, 4][network as usize],
            piece: [64 * 1024, 1_500, 40][between(0, 2) as usize],
            window: [256 * 1024, 16 * 1024, 2_048][between(0, 2) as usize],
            disk_us: if between(0, 3) == 0 { (5_000, 80_000) } else { (100, 2_000) },
            stall: if between(0, 3) == 0 { 20 } else { 0 },
            eio: if disk == 0 { 5 } else { 0 },
            full: if disk == 1 { 200 } else { 0 },
            rot: if disk == 2 { 3 } else { 0 },
            splits: if seed % 4 == 3 { 3 } else { 0 },
            segment_octets: [32, 32, 64, 1024][between(0, 3) as usize] * 1024,
            crashes,
            crash_at_effect: None,
            polite: 200,
            clock_back_us: if between(0, 2) == 0 { 3_600_000_000 } else { 0 },
            reshape: between(0, 1) == 1,
            letters: if between(0, 3) == 0 { 2 } else { 1_024 },
            chunk_max: [2_048, 8_192, 1 << 20][between(0, 2) as usize],
            window_messages: [4, 64, 1_024][between(0, 2) as usize],
            rude: [0, 150, 500][people as usize],
            twins: [0, 100, 300][between(0, 2) as usize],
            mortal: if between(0, 2) == 0 { 100 } else { 0 },
            keep: false,
            quota_messages: if between(0, 5) == 0 { 8 } else { 10_000 },
            erases: [0, 50, 200][between(0, 2) as usize],
            bin_us: [0, 2, 40][between(0, 2) as usize] * 1_000_000,
            asking: [0, 300, 900][between(0, 2) as usize],
            // Where a rotten sector lay in a part, nothing outside says whose it was.
            large: if disk == 2 { 0 } else { [0, 100, 400][between(0, 2) as usize] },
        };
        // Last, so that older seeds stand for what they stood for.
        let keep = plan.mortal > 0 && between(0, 1) == 1;
        Plan { keep, ..plan }
    }

    /// One user, one sender, `messages` messages, nothing goes wrong but one crash.
    pub(crate) fn of_walk(messages: u32, cores: u16, proxy: Proxy, crash_at_effect: Option<u64>) -> Plan {
        Plan {
            cores,
            users: 1,
            senders: 1,
            proxy,
            busy_us: 10_000_000,
            messages,
            loss: 0,
            doubled: 0,
            delay_us: (50, 400),
            reset: 0,
            piece: 64 * 1024,
            window: 64 * 1024,
            disk_us: (100, 2_000),
            stall: 0,
            eio: 0,
            full: 0,
            rot: 0,
            splits: 0,
            segment_octets: 32 * 1024,
            crashes: Vec::new(),
            crash_at_effect,
            polite: 0,
            clock_back_us: 0,
            reshape: false,
            letters: 1_024,
            chunk_max: 8_192,
            window_messages: 1_024,
            rude: 0,
            twins: 0,
            mortal: 0,
            keep: false,
            quota_messages: 10_000,
            erases: 0,
            bin_us: 0,
            asking: 0,
            large: 0,
        }
    }
}
