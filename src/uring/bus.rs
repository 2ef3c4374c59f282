//! What is said when a page of the log that is mapped cannot be read (SIGBUS), before the process ends and its next start recovers.
//!
//! Why it ends, and does not go on with something in the page's place: the same page may be on its way to somebody. Its octets were
//! checked, the kernel copies them into the socket a moment later, and whoever puts zeros under it in between sends them to a client
//! that acknowledges them: a message would be lost without a trace. Nothing is lost by ending.

#![allow(unsafe_code)]

use std::io;

const WORDS: &[u8] = b"deferd: a page of the log cannot be read (SIGBUS): the disk does not give what it gave before. The process \
ends; its next start recovers, and the next who needs that page is told of an error. Look at the kernel's log, run deferctl \
verify, and replace the disk\n";

extern "C" fn handle(signal: libc::c_int) {
    // SAFETY: write, signal and raise are safe in a handler (signal-safety(7)); the words live for ever. The signal is blocked while
    // this runs, so what is raised comes when it returns, and ends the process with a core for whoever wants one.
    unsafe {
        libc::write(libc::STDERR_FILENO, WORDS.as_ptr().cast(), WORDS.len());
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// From now on the end by SIGBUS is preceded by a sentence.
///
/// # Errors
/// What the kernel says.
pub fn told() -> io::Result<()> {
    // SAFETY: a structure of numbers and a mask, for which all zeros are values.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int) = handle;
    action.sa_sigaction = handler as usize;
    // SAFETY: `action` is whole and lives until the call returns; the handler does only what a handler may.
    match unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
