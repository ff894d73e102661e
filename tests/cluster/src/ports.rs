//! Ports of loopback that belong to this process for as long as it lives.
//!
//! A server under test needs its port before it is started, and again after it was killed. Nobody listens then, so the kernel would
//! give the port to another server or to an outgoing connection. These lie below the range that the kernel gives by itself, and a lock on
//! a file for each keeps other test processes of this user away.

use std::{
    fs::{File, OpenOptions},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail};
use tokio::net::TcpSocket;

/// Below it are well-known ports, above it the kernel's own.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// How many are looked at.
const TRIES: usize = 2_000;

/// The locks of all that were given: the kernel gives them back when this process ends, however it does.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port that nobody listens on, on any address of this machine, and that nobody else is given.
///
/// # Errors
/// If the folder of the locks can't be written, or no port is free.
pub fn reserve() -> Result<u16> {
    let folder = folder()?;
    for port in std::iter::repeat_with(|| rand::random_range(RANGE)).take(TRIES) {
        let path = folder.join(port.to_string());
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("can't open {}", path.display()))?;
        // Another test's, or an earlier one of ours.
        if file.try_lock().is_err() {
            continue;
        }
        // A program that is no test may have it.
        if !is_free(port) {
            continue;
        }
        HELD.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(file);
        return Ok(port);
    }
    bail!("no port of {RANGE:?} is free after {TRIES} tries")
}

/// Nobody listens on it, on any address of this machine.
///
/// A process that another thread starts at this moment has the socket too until it becomes its program. One that does not listen keeps
/// the port from nobody then.
fn is_free(port: u16) -> bool {
    TcpSocket::new_v4().is_ok_and(|socket| {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        socket.set_reuseaddr(true).is_ok() && socket.bind(any).is_ok()
    })
}

/// Several at once.
///
/// # Errors
/// As [`reserve`].
pub(crate) fn reserve_all<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    for port in &mut ports {
        *port = reserve()?;
    }
    Ok(ports)
}

/// Where the locks lie: one folder for each user.
fn folder() -> Result<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let folder = std::env::temp_dir().join(format!("penstock-tests-ports-{user}"));
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("can't make the folder {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::TcpListener};

    use super::*;

    #[test]
    fn a_port_is_given_once_and_can_be_bound() {
        let ports: BTreeSet<u16> = (0..50).map(|_| reserve().unwrap()).collect();
        assert_eq!(ports.len(), 50);
        for port in ports {
            let path = folder().unwrap().join(port.to_string());
            let file = OpenOptions::new().write(true).open(path).unwrap();
            assert!(file.try_lock().is_err(), "{port} is locked");
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        }
    }

    #[test]
    fn a_port_on_which_somebody_listens_is_not_free() {
        let port = reserve().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(!is_free(port));
        drop(listener);
    }
}
