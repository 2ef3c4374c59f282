//! The control socket: `deferctl` speaks here. A Unix socket whose file mode is its guard; a line of JSON in, a line of JSON out, any
//! number of them on a connection. Knows no question; [`Operator`] does.

use super::copying::Caller;
use super::operator::Operator;
use serde_json::{Value, json};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Connections at one time: an operator and a few scripts. Each has a thread.
const CONNECTIONS: usize = 16;

/// Octets of a request: the longest is an id and an address.
const LINE_MAX: u64 = 16 * 1024;

/// Who says nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// A socket that is there and that nobody is served at yet.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Makes the socket, for the daemon's user alone. What a killed daemon left there is removed: the data directory's lock says
    /// that it is dead.
    ///
    /// # Errors
    /// What the kernel says; a path of more than 107 octets is too long for it.
    pub fn bind(path: &Path) -> io::Result<ControlSocket> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        // Between the two calls it may be wider open than this; until `serve` nobody is heard.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(ControlSocket { listener, path: path.to_path_buf() })
    }

    /// Serves on threads of its own until the process ends.
    ///
    /// # Errors
    /// The thread cannot be had.
    pub fn serve(self, operator: Arc<Operator>) -> io::Result<()> {
        let busy = Arc::new(AtomicUsize::new(0));
        std::thread::Builder::new().name("control".into()).spawn(move || {
            loop {
                let stream = match self.listener.accept() {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::debug!(%error, path = %self.path.display(), "cannot accept on the control socket");
                        std::thread::sleep(Duration::from_millis(100));
                        continue;
                    }
                };
                if busy.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
                    busy.fetch_sub(1, Ordering::Relaxed);
                    continue;
                }
                let (operator, busy) = (operator.clone(), busy.clone());
                let served = std::thread::Builder::new().name("control-one".into()).spawn(move || {
                    let mut caller = Caller::default();
                    let _ = exchange(&stream, &operator, &mut caller);
                    operator.gone(&mut caller);
                    busy.fetch_sub(1, Ordering::Relaxed);
                });
                if let Err(error) = served {
                    tracing::debug!(%error, "no thread for a control connection");
                }
            }
        })?;
        Ok(())
    }
}

fn exchange(stream: &UnixStream, operator: &Operator, caller: &mut Caller) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        if reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let whole = line.ends_with(b"\n");
        let answer = match serde_json::from_slice::<Value>(&line) {
            Ok(request) if whole => operator.carry_out(&request, caller),
            Ok(_) => json!({ "ok": false, "error": "the request does not end with a line feed, or is too long" }),
            Err(error) => json!({ "ok": false, "error": format!("not a JSON object: {error}") }),
        };
        let mut octets = serde_json::to_vec(&answer)?;
        octets.push(b'\n');
        (&mut &*stream).write_all(&octets)?;
        if !whole {
            return Ok(());
        }
    }
}
