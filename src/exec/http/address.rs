//! Which addresses a request may reach when data took part in its URL: public ones, and the hosts that
//! a manifest allows. The name is resolved here, once, and the connection goes to the address that was
//! checked: a second answer of the name's owner has no say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A host that may not be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{host}` is at {address}, which is not public, and data took part in the URL: write `allow_hosts: [{host}]` beside `url` if it is meant"
)]
pub(super) struct NotPublic {
    host: String,
    address: IpAddr,
}

/// Lets public addresses pass, and allowed hosts whatever their address.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    allow: Vec<String>,
}

impl Guard {
    pub fn new(allow: &[String]) -> Guard {
        Guard { allow: allow.iter().map(|host| host.trim_matches(['[', ']']).to_ascii_lowercase()).collect() }
    }

    /// Checks a host that is an address; a name is checked when it is resolved.
    pub fn check_host(&self, url: &Url) -> Result<(), NotPublic> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        match host.parse::<IpAddr>() {
            Ok(address) if !self.allows(host) && !is_public(address) => {
                Err(NotPublic { host: host.to_owned(), address })
            }
            _ => Ok(()),
        }
    }

    fn allows(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.allow.iter().any(|allowed| match allowed.strip_prefix("*.") {
            Some(domain) => host.strip_suffix(domain).is_some_and(|name| name.len() > 1 && name.ends_with('.')),
            None => *allowed == host,
        })
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let allowed = self.allows(&host);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let refused = found.iter().map(SocketAddr::ip).find(|address| !is_public(*address));
            let passed: Vec<SocketAddr> =
                found.into_iter().filter(|address| allowed || is_public(address.ip())).collect();
            match (passed.is_empty(), refused) {
                (true, Some(address)) => Err(NotPublic { host, address }.into()),
                _ => Ok(Box::new(passed.into_iter()) as Addrs),
            }
        })
    }
}

/// Whether an address is on the public internet, by the special-purpose registries of IANA (RFC 6890
/// and its updates). What an IPv6 address carries of IPv4 is looked at as such.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let parts = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match parts {
        // Mapped IPv4, and NAT64.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        // 6to4.
        [0x2002, high, low, ..] => v4(high, low),
        // Teredo and other protocol assignments, documentation.
        [0x2001, 0..=0x01ff, ..] | [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => false,
        // The only block that has been given out.
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        for address in ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(is_public(address.parse().expect(address)), "{address}");
        }
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "127.255.0.1",
            "100.64.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.2.1",
            "198.18.0.1",
            "203.0.113.5",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
        ] {
            assert!(!is_public(address.parse().expect(address)), "{address}");
        }
    }

    #[test]
    fn allowed_hosts_are_matched_whole() {
        let guard = Guard::new(&["pay.internal".into(), "*.svc.local".into(), "[::1]".into(), "10.0.0.7".into()]);
        for host in ["pay.internal", "PAY.internal.", "a.svc.local", "a.b.svc.local", "10.0.0.7", "::1"] {
            assert!(guard.allows(host), "{host}");
        }
        for host in ["xpay.internal", "pay.internal.evil", "svc.local", ".svc.local", "xsvc.local", "10.0.0.70"] {
            assert!(!guard.allows(host), "{host}");
        }
        let check = |url: &str| guard.check_host(&Url::parse(url).expect(url));
        assert!(check("http://10.0.0.7/").is_ok() && check("http://[::1]:80/").is_ok() && check("http://x/").is_ok());
        for url in
            ["http://127.0.0.1/", "http://2130706433/", "http://0x7f.1/", "http://[::ffff:127.0.0.1]/", "http://0/"]
        {
            let told = check(url).expect_err(url).to_string();
            assert!(told.contains("not public") && told.contains("allow_hosts"), "{told}");
        }
    }
}
