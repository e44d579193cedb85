//! Standard output: what could not be written is told, and a reader that left is no failure.

use std::io::{self, Write};

/// Writes all of `text` and flushes it.
///
/// A reader that has seen enough closes the pipe; that is no failure of ours, so it is `Ok`.
pub(crate) fn print(text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    if closed::at_start() {
        return Err(rustix::io::Errno::BADF.into());
    }
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Whether the program was started with standard output closed (`>&-`).
///
/// The standard library opens `/dev/null` in its place before `main`, and everything seems to be
/// written from then on. So this looks earlier.
mod closed {
    #[cfg(target_os = "linux")]
    pub(super) fn at_start() -> bool {
        early::CLOSED.load(std::sync::atomic::Ordering::Relaxed)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn at_start() -> bool {
        false
    }

    #[cfg(target_os = "linux")]
    mod early {
        use std::sync::atomic::{AtomicBool, Ordering};

        pub(super) static CLOSED: AtomicBool = AtomicBool::new(false);

        // Functions in this section run before the standard library begins. This one makes one
        // system call and sets one flag, so it needs nothing of that library.
        #[allow(unsafe_code)]
        #[used]
        #[unsafe(link_section = ".init_array")]
        static LOOK: extern "C" fn() = look;

        extern "C" fn look() {
            let flags = rustix::io::fcntl_getfd(rustix::stdio::stdout());
            CLOSED.store(flags.is_err(), Ordering::Relaxed);
        }
    }
}
