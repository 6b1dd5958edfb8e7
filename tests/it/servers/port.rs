//! A port of the loopback that is one test's own for as long as it holds it, though nobody may listen
//! there for a while: a server that is killed finds it free when it comes up again.
//!
//! A port that the system gave out and that was closed again is anybody's: the next test that asks,
//! or the near end of the next connection. So these lie below those that the system gives out, and
//! two tests that run at once keep apart by UDP sockets of the same numbers.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// Below what Linux gives out (`net.ipv4.ip_local_port_range`), above what services are known by.
const RANGE: std::ops::Range<u16> = 12_000..32_000;

pub struct Port {
    number: u16,
    _claim: UdpSocket,
}

impl Port {
    /// A port that nobody listens at, and that no other test gets.
    pub fn claim() -> Port {
        let start = RandomState::new().hash_one(std::process::id());
        let count = u64::from(RANGE.end - RANGE.start);
        for step in 0..count {
            let number = RANGE.start + ((start.wrapping_add(step)) % count) as u16;
            let Ok(claim) = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Port { number, _claim: claim };
            }
        }
        panic!("no port in {RANGE:?} is free");
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}
