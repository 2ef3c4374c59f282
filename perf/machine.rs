//! What figures were measured on: the machine, the daemon's revision, the day. Reads `/proc` and asks git; measures nothing.

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine, as far as it explains figures. Its name is nobody's business.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub processor: String,
    pub processors: usize,
    pub memory_octets: u64,
    pub kernel: String,
    /// A hypervisor is below.
    pub is_virtual: bool,
    /// File system of the data directories, e.g. `ext4`.
    pub file_system: String,
    /// Runnable threads on average over the minute before the first run: more than none means neighbours.
    pub load_before: f64,
}

impl Machine {
    /// Looks around; what cannot be read is empty. `data` is where data directories are made.
    pub fn read(data: &Path) -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let data = fs::canonicalize(data).unwrap_or_else(|_| data.to_path_buf());
        Machine {
            processor: field(&cpuinfo, "model name").or_else(|| field(&cpuinfo, "CPU part")).unwrap_or_default().into(),
            processors: std::thread::available_parallelism().map_or(1, |count| count.get()),
            memory_octets: field(&meminfo, "MemTotal").and_then(kilobytes).unwrap_or_default(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().into(),
            is_virtual: field(&cpuinfo, "flags")
                .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor")),
            file_system: file_system(&mounts, &data).unwrap_or_default().into(),
            load_before: load.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or_default(),
        }
    }

    /// As it stands in the JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "processor": self.processor,
            "processors": self.processors,
            "memory_octets": self.memory_octets,
            "kernel": self.kernel,
            "virtual": self.is_virtual,
            "file_system": self.file_system,
            "load_before": self.load_before,
        })
    }

    /// One line for a person.
    pub fn line(&self) -> String {
        let kind = if self.is_virtual { "virtual " } else { "" };
        let kernel = self.kernel.split('-').next().unwrap_or_default();
        format!(
            "{} {kind}processors ({}), {} GiB, Linux {kernel}, {}",
            self.processors,
            self.processor,
            (self.memory_octets + (1 << 29)) >> 30,
            self.file_system,
        )
    }
}

/// The value behind `name` and a colon, in text of one field a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim())
    })
}

fn kilobytes(value: &str) -> Option<u64> {
    value.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Kind of the file system that `path` lies on: the mount of the longest matching path, the last one if mounted over.
fn file_system<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(_), Some(place), Some(kind)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let is_longer = best.is_none_or(|(length, _)| place.len() >= length);
        if path.starts_with(place) && is_longer {
            best = Some((place.len(), kind));
        }
    }
    best.map(|(_, kind)| kind)
}

/// Revision of the checkout that `binary` was built in, with `+changes` where something was not committed; `unknown` where
/// no checkout or no git is.
pub fn revision(binary: &Path) -> String {
    let folder = binary.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(head) = git(folder, &["rev-parse", "--short=12", "HEAD"]) else { return "unknown".into() };
    match git(folder, &["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if !changes.is_empty() => format!("{head}+changes"),
        _ => head,
    }
}

/// What git answers in `folder`, trimmed. None where it fails or is missing.
pub fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Today and now in UTC: `2026-11-20` and `23:05`.
pub fn today() -> (String, String) {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil(seconds / 86_400);
    let minutes = seconds % 86_400 / 60;
    (format!("{year:04}-{month:02}-{day:02}"), format!("{:02}:{:02}", minutes / 60, minutes % 60))
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01. Years begin in March here, so that the odd day of a
/// leap year is a year's last; 400 years have 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        let table = [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_777, (2026, 11, 20)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ];
        for (days, date) in table {
            assert_eq!(civil(days), date, "{days}");
        }
    }

    #[test]
    fn the_file_system_is_that_of_the_nearest_mount() {
        let mounts =
            "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/data xfs rw 0 0\nnone /dat proc rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/data/x")), Some("ext4"));
        assert_eq!(file_system(mounts, Path::new("/tmp/x")), Some("tmpfs"));
        assert_eq!(file_system(mounts, Path::new("/tmp/data/log-0")), Some("xfs"));
        assert_eq!(file_system("", Path::new("/")), None);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "cpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n";
        assert_eq!(field(text, "model name"), Some("AMD EPYC"));
        assert_eq!(field(text, "name"), None);
        assert_eq!(kilobytes("24684092 kB"), Some(24_684_092 * 1024));
        assert_eq!(kilobytes("12"), None);
    }

    #[test]
    fn this_machine_has_a_processor_and_a_kernel() {
        let machine = Machine::read(Path::new("."));
        assert!(machine.processors >= 1 && machine.memory_octets > 0 && !machine.kernel.is_empty());
        assert!(!machine.file_system.is_empty());
    }
}
