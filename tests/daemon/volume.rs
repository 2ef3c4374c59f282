//! A file system of a test's own, on a loop device: its power can be cut, its flushes are counted, and the disk under it can run out of
//! room. For root only; whoever may not mount one is told so, and the test is skipped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use deferd_kit::unique;

/// Room for the segments of two cores and a load of some minutes.
const OCTETS: u64 = 160 << 20;

/// A mounted file system.
pub(crate) struct Volume {
    home: PathBuf,
    /// Its disk lies in a file system in memory, which can be filled up.
    thin: bool,
}

/// Runs a program of the system; what it said when it failed.
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let done = Command::new(program).args(arguments).env("PATH", format!("{path}:/usr/sbin:/sbin")).output();
    match done {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

impl Volume {
    /// An ext4 on a loop device, or `None` with a printed reason.
    pub(crate) fn mount(thin: bool) -> Option<Volume> {
        let home = std::env::temp_dir().join(format!("deferd-volume-{}", unique()));
        let volume = Volume { home, thin };
        match volume.make() {
            Ok(()) => Some(volume),
            Err(why) => {
                eprintln!("SKIPPED: no file system of our own can be mounted here: {why}");
                None
            }
        }
    }

    fn make(&self) -> Result<(), String> {
        fs::create_dir_all(self.backing()).map_err(|error| error.to_string())?;
        if self.thin {
            run("mount", &["-t", "tmpfs", "-o", "size=192m", "tmpfs", text(&self.backing())])?;
        }
        fs::create_dir_all(self.at()).map_err(|error| error.to_string())?;
        let image = fs::File::create(self.image()).map_err(|error| error.to_string())?;
        image.set_len(OCTETS).map_err(|error| error.to_string())?;
        // Nothing is left to be done later, in the middle of what is measured.
        run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", text(&self.image())])?;
        self.attach()?;
        self.loop_device().map(|_| ()).ok_or_else(|| "it is on no loop device".into())
    }

    fn attach(&self) -> Result<(), String> {
        run("mount", &["-o", "loop", text(&self.image()), text(&self.at())])
    }

    fn backing(&self) -> PathBuf {
        self.home.join("backing")
    }

    fn image(&self) -> PathBuf {
        self.backing().join("image")
    }

    /// Where it is mounted.
    pub(crate) fn at(&self) -> PathBuf {
        self.home.join("at")
    }

    /// `loop3`.
    fn loop_device(&self) -> Option<String> {
        let mounts = fs::read_to_string("/proc/mounts").ok()?;
        let at = self.at();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == at.to_str())?;
        line.split(' ').next()?.strip_prefix("/dev/").map(str::to_owned)
    }

    /// Flushes that the disk has completed: the block layer counts them when everything before them is on the medium.
    pub(crate) fn flushes(&self) -> u64 {
        let device = self.loop_device().expect("it is mounted");
        let stat = fs::read_to_string(format!("/sys/block/{device}/stat")).expect("the kernel counts");
        let field = stat.split_whitespace().nth(15).expect("Linux 5.5 counts flushes");
        field.parse().expect("a number")
    }

    /// The power is cut: what the file system holds in memory never reaches the disk (EXT4_IOC_SHUTDOWN without a flush). Who still runs on
    /// it gets errors.
    pub(crate) fn cut(&self) {
        let perl =
            "my $how = pack('L', 2); open(my $at, '<', $ARGV[0]) or die $!; ioctl($at, 0x8004587d, $how) or die $!;";
        run("perl", &["-e", perl, text(&self.at())]).expect("the power can be cut");
    }

    /// The power comes back: the file system is what its journal says.
    pub(crate) fn again(&self) {
        crate::until("nobody on the volume", || run("umount", &[text(&self.at())]).is_ok());
        self.attach().expect("its journal is played back");
    }

    /// Nothing more can be written that was not written before: the disk under the disk is full. What makes it so is returned.
    pub(crate) fn starve(&self) -> PathBuf {
        assert!(self.thin);
        let ballast = self.backing().join("ballast");
        // It ends with an error, when there is no room.
        run("dd", &["if=/dev/zero", &format!("of={}", text(&ballast)), "bs=4096"]).ok();
        ballast
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily: the daemon may still be going when a test fails.
        run("umount", &["-l", text(&self.at())]).ok();
        if self.thin {
            run("umount", &["-l", text(&self.backing())]).ok();
        }
        fs::remove_dir_all(&self.home).ok();
    }
}
