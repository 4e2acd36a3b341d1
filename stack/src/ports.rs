//! Free ports on loopback.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

use crate::screen;

/// Below every platform's range for outgoing connections: a client that keeps dialling a server which is just
/// being restarted can otherwise be given the server's own port as its source port, and so occupy it.
const ANY_PORT: std::ops::Range<u16> = 20_000..30_000;

/// How far above the wanted port a free one is looked for.
const SEARCHED: u16 = 200;

/// Ports already given out by this process: their servers may not listen yet.
static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// `wanted` when it is free, else the next free port above it; any free port for 0.
pub fn next_free(wanted: u16) -> Result<u16> {
    if wanted == 0 {
        let start = random_below(ANY_PORT.len());
        let mut ports = ANY_PORT.cycle().skip(start).take(ANY_PORT.len());
        return ports.find(|port| take(*port)).context("no free port on 127.0.0.1");
    }
    let last = wanted.saturating_add(SEARCHED);
    (wanted..=last)
        .find(|port| take(*port))
        .with_context(|| format!("no free port on 127.0.0.1 from {wanted} to {last}"))
}

/// The same for a program that a person knows by its port, who is told when it has another.
pub fn choose(name: &str, wanted: u16) -> Result<u16> {
    let port = next_free(wanted)?;
    if wanted != 0 && port != wanted {
        screen::say(format!("port {wanted} is taken: {name} is on {port}"));
    }
    Ok(port)
}

fn take(port: u16) -> bool {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = taken.get_or_insert_default();
    !taken.contains(&port) && is_free(port) && taken.insert(port)
}

fn is_free(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // Where a server listens on all addresses, some systems let loopback be bound beside it: so ask for it, too.
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err()
        && TcpListener::bind(address).is_ok()
}

/// Spreads processes that look for a port at the same moment; nothing depends on its quality.
fn random_below(bound: usize) -> usize {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (now.subsec_micros() as usize + std::process::id() as usize * 7_919) % bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_passed_over() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = listener.local_addr().unwrap().port();
        let free = next_free(taken).unwrap();
        assert!(free > taken && free <= taken + SEARCHED);
    }

    #[test]
    fn a_port_is_given_out_once() {
        let ports: HashSet<u16> = (0..20).map(|_| next_free(0).unwrap()).collect();
        assert_eq!(ports.len(), 20);
        assert!(ports.iter().all(|port| ANY_PORT.contains(port)));
    }
}
