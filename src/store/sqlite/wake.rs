//! Wake-ups between processes: whoever waits for work binds a datagram socket in the folder beside
//! the database, and whoever commits new work sends a datagram to each. Hints only: losing one costs
//! a second, the pollers' interval. It knows sockets, not what happened.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use tokio::sync::watch;

/// The folder, by a short name: the address of a socket has room for 107 bytes only (unix(7)).
#[derive(Clone)]
pub(super) struct Folder {
    long: PathBuf,
    short: PathBuf,
    /// The short name holds as long as the folder is open.
    _open: Option<Arc<fs::File>>,
    /// The store's own socket, which needs no datagram.
    own: Arc<OnceLock<String>>,
}

impl Folder {
    pub(super) fn new(long: PathBuf) -> Folder {
        let open = fs::File::open(&long).ok().map(Arc::new);
        let short = open.as_ref().map(|open| PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd())));
        let short = short.filter(|short| short.is_dir()).unwrap_or_else(|| long.clone());
        Folder { long, short, _open: open, own: Arc::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.long
    }
}

/// Rings at the other processes' sockets.
pub(super) struct Bells {
    folder: Folder,
    socket: Option<UnixDatagram>,
}

impl Bells {
    pub(super) fn new(folder: Folder) -> Bells {
        // Never wait for a receiver: one whose buffer is full is awake.
        let socket = UnixDatagram::unbound().ok().filter(|socket| socket.set_nonblocking(true).is_ok());
        Bells { folder, socket }
    }

    pub(super) fn ring(&self) {
        let (Some(socket), Ok(entries)) = (&self.socket, fs::read_dir(&self.folder.short)) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(text) = name.to_str().filter(|text| text.ends_with(".sock")) else { continue };
            if self.folder.own.get().is_some_and(|own| own == text) {
                continue;
            }
            let Err(error) = socket.send_to(&[1], self.folder.short.join(&name)) else { continue };
            // Bound by nobody: its process is dead.
            if error.kind() == std::io::ErrorKind::ConnectionRefused {
                let _ = fs::remove_file(self.folder.short.join(&name));
            }
        }
    }
}

/// Hears the others' bells until it is dropped.
pub(super) struct Ear {
    socket: PathBuf,
    _folder: Folder,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ear {
    /// Binds a socket and listens on a thread. `None` where that is not possible: polling remains.
    pub(super) fn listen(folder: &Folder, hints: watch::Sender<u64>) -> Option<Ear> {
        let pid = std::process::id();
        // A name may be left over from a dead process of the same number, or be another store's here.
        let names = (0..1_000).map(|nth| format!("{pid}-{nth}.sock"));
        let (name, socket) = names
            .map(|name| (UnixDatagram::bind(folder.short.join(&name)), name))
            .find_map(|(bound, name)| bound.ok().map(|socket| (name, socket)))?;
        let _ = folder.own.set(name.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let listen = move || {
            let mut byte = [0u8; 1];
            while heard(&socket, &mut byte) && !stopped.load(Ordering::Acquire) {
                // Many bells are one hint.
                let _ = socket.set_nonblocking(true);
                while socket.recv(&mut byte).is_ok() {}
                let _ = socket.set_nonblocking(false);
                hints.send_modify(|count| *count += 1);
            }
        };
        let thread = std::thread::Builder::new().name("sqlite-wake".to_owned()).spawn(listen).ok()?;
        Some(Ear { socket: folder.short.join(name), _folder: folder.clone(), stop, thread: Some(thread) })
    }
}

fn heard(socket: &UnixDatagram, byte: &mut [u8]) -> bool {
    loop {
        match socket.recv(byte) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            outcome => return outcome.is_ok(),
        }
    }
}

/// Whether a socket can be bound in the folder.
pub(super) fn can_listen(folder: &Folder) -> bool {
    let probe = folder.short.join(format!("{}-probe", std::process::id()));
    let bound = UnixDatagram::bind(&probe).is_ok();
    let _ = fs::remove_file(probe);
    bound
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let woken = UnixDatagram::unbound().and_then(|socket| socket.send_to(&[0], &self.socket)).is_ok();
        let _ = fs::remove_file(&self.socket);
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}
