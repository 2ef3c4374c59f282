//! How far a scenario is, for somebody who waits: a bar where stderr is a terminal, else one line a phase.

use crate::outcome::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The bar. Shared by the threads of a scenario.
pub struct Bar {
    bar: ProgressBar,
    /// Before each phase, e.g. `run 2 of 5`.
    run: Mutex<String>,
    /// The phase that runs, and since when; told line by line where there is no terminal.
    phase: Mutex<Option<(String, Instant)>>,
    is_terminal: bool,
}

impl Bar {
    /// Nothing is shown yet.
    pub fn new() -> Bar {
        let is_terminal = std::io::stderr().is_terminal();
        let target = if is_terminal { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        Bar {
            bar: ProgressBar::with_draw_target(None, target),
            run: Mutex::default(),
            phase: Mutex::default(),
            is_terminal,
        }
    }

    /// Another run begins.
    pub fn run(&self, number: u32, of: u32) {
        self.end();
        if let Ok(mut run) = self.run.lock() {
            *run = if of > 1 { format!("run {number} of {of}: ") } else { String::new() };
        }
    }

    /// Clears the bar, and tells how long the last phase took.
    pub fn end(&self) {
        let ended = self.phase.lock().ok().and_then(|mut phase| phase.take());
        if let Some((name, since)) = ended.filter(|_| !self.is_terminal) {
            eprintln!("{name}: {:.1} s", since.elapsed().as_secs_f64());
        }
        self.bar.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.end();
    }
}

impl Progress for Bar {
    fn phase(&self, name: &str, total: u64) {
        self.end();
        let name = self.run.lock().map(|run| format!("{run}{name}")).unwrap_or_else(|_| name.to_owned());
        if let Ok(mut phase) = self.phase.lock() {
            *phase = Some((name.clone(), Instant::now()));
        }
        let template = match total {
            0 => "{spinner} {msg:32!} {elapsed}",
            _ => "{spinner} {msg:32!} {bar:32.cyan/blue} {human_pos}/{human_len} {per_sec} {eta}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("━╸ "));
        }
        self.bar.reset();
        self.bar.set_length(total);
        self.bar.set_message(name);
        // Moves while a phase of unknown length runs, so that nobody thinks it hangs.
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    fn done(&self, done: u64) {
        self.bar.set_position(done);
    }
}
