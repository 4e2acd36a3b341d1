//! How many requests one client may send, so that one who sends too many leaves room for the others.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use axum::http::HeaderMap;
use governor::{
    NotUntil, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, StateStore},
};
use ipnet::IpNet;
use opentelemetry::metrics::Counter;
use quick_cache::sync::Cache;

use super::limits::HttpArgs;
use crate::{
    problem::{Problem, kinds::RATE_LIMITED},
    telemetry,
};

/// So many clients are remembered. Of more, those that were not heard of for long are forgotten, and begin anew.
const CLIENTS_MAX: usize = 50_000;
const FORWARDED_FOR: &str = "x-forwarded-for";
/// One customer of a provider has so many addresses at the least (RFC 6177).
const IPV6_NETWORK_BITS: u32 = 64;

/// One whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Client {
    /// The subject of its tokens, wherever it is.
    Subject(Arc<str>),
    /// A network, where IPv6 is spoken.
    Address(IpAddr),
}

/// What each client has sent lately.
pub struct Clients {
    limiter: Option<RateLimiter<Client, Sent, DefaultClock, NoOpMiddleware>>,
    trusted_proxies: Vec<IpNet>,
    refused: Counter<u64>,
}

impl Clients {
    pub fn new(limits: &HttpArgs) -> Self {
        let per_second = NonZeroU32::new(limits.client_requests_per_second);
        let quota =
            per_second.map(|per_second| Quota::per_second(per_second).allow_burst(limits.client_burst));
        let clock = DefaultClock::default();
        let meter = telemetry::meter();
        let refused = meter
            .u64_counter("http_requests_rate_limited")
            .with_description("Requests refused because their client had sent too many")
            .build();
        refused.add(0, &[]);
        Self {
            limiter: quota.map(|quota| RateLimiter::new(quota, Sent(Cache::new(CLIENTS_MAX)), clock)),
            trusted_proxies: limits.trusted_proxies.clone(),
            refused,
        }
    }

    /// Counts a request of `subject`, if its token says who it is, else of the address that it comes from. This
    /// machine may send as many as it likes.
    pub fn count(
        &self,
        subject: Option<&Arc<str>>,
        peer: IpAddr,
        headers: &HeaderMap,
    ) -> Result<(), Problem> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        let address = self.address(peer, headers);
        // Not where a proxy says so: what it was told could be made up.
        if address.is_loopback() && address == peer.to_canonical() {
            return Ok(());
        }
        let client =
            subject.map_or_else(|| Client::Address(network(address)), |it| Client::Subject(it.clone()));
        limiter.check_key(&client).map_err(|not_until| {
            self.refused.add(1, &[]);
            too_many(&client, &not_until, limiter.clock())
        })
    }

    /// Where a request comes from: the peer, unless that is a proxy which is trusted to say it. Each has added the
    /// address that it saw itself to the end of the list; what stands before is whatever the client likes.
    fn address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let lists = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut hops = lists.flat_map(|list| list.to_str().unwrap_or_default().rsplit(','));
        let mut address = peer.to_canonical();
        while self.trusted_proxies.iter().any(|proxies| proxies.contains(&address))
            && let Some(before) = hops.next().and_then(|hop| hop.trim().parse::<IpAddr>().ok())
        {
            address = before.to_canonical();
        }
        address
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (u128::BITS - IPV6_NETWORK_BITS))).into()
        }
    }
}

fn too_many(
    client: &Client,
    not_until: &NotUntil<<DefaultClock as Clock>::Instant>,
    clock: &DefaultClock,
) -> Problem {
    let wait = not_until.wait_time_from(clock.now());
    let seconds = wait.as_secs() + u64::from(wait > Duration::from_secs(wait.as_secs()));
    let whose = match client {
        Client::Subject(_) => "of this token's subject",
        Client::Address(_) => "of this address",
    };
    let detail = format!(
        "More requests {whose} have come than this service takes of one client: {} a second, and {} at once.",
        not_until.quota().replenish_interval().as_secs_f64().recip().round(),
        not_until.quota().burst_size()
    );
    Problem::new(RATE_LIMITED, detail).retry_after(u32::try_from(seconds).unwrap_or(u32::MAX).max(1))
}

/// Bounded, as governor's own store is not.
struct Sent(Cache<Client, Arc<InMemoryState>>);

impl StateStore for Sent {
    type Key = Client;

    fn measure_and_replace<T, F, E>(&self, client: &Client, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let new = || Ok::<_, Infallible>(Arc::new(InMemoryState::default()));
        let Ok(sent) = self.0.get_or_insert_with(client, new);
        sent.measure_and_replace(&NotKeyed::NonKey, decide)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(flags: &[&str]) -> Clients {
        Clients::new(&HttpArgs::of(flags))
    }

    fn from(lists: &[&'static str]) -> HeaderMap {
        let name = axum::http::HeaderName::from_static(FORWARDED_FOR);
        lists.iter().map(|list| (name.clone(), list.parse().expect("a header"))).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_who_is_trusted_is_believed_about_where_a_request_comes_from() {
        let clients = clients(&["--trusted-proxies", "10.0.0.0/8,::1,192.0.2.7"]);
        for (peer, lists, address) in [
            ("203.0.113.1", &["198.51.100.9"][..], "203.0.113.1"),
            ("10.1.2.3", &[], "10.1.2.3"),
            ("10.1.2.3", &["198.51.100.9"], "198.51.100.9"),
            ("::ffff:10.1.2.3", &["198.51.100.9"], "198.51.100.9"),
            // What a client says of itself stands before what the proxy saw.
            ("10.1.2.3", &["127.0.0.1, 198.51.100.9"], "198.51.100.9"),
            ("10.1.2.3", &["127.0.0.1", "198.51.100.9 ,192.0.2.7"], "198.51.100.9"),
            ("::1", &["127.0.0.1, 2001:db8::5, 10.0.0.1"], "2001:db8::5"),
            ("10.1.2.3", &["unknown"], "10.1.2.3"),
            ("10.1.2.3", &["198.51.100.9, nonsense"], "10.1.2.3"),
            ("127.0.0.1", &["198.51.100.9"], "127.0.0.1"),
        ] {
            assert_eq!(clients.address(ip(peer), &from(lists)), ip(address), "{peer} {lists:?}");
        }
    }

    #[test]
    fn each_client_has_a_share_of_its_own() {
        let clients = clients(&["--client-requests-per-second", "1", "--client-burst", "2"]);
        let (ada, eve): (Arc<str>, Arc<str>) = ("ada".into(), "eve".into());
        let count = |subject: Option<&Arc<str>>, peer| clients.count(subject, ip(peer), &from(&[]));
        for _ in 0..2 {
            count(Some(&ada), "203.0.113.1").expect("within the burst");
        }
        let problem = count(Some(&ada), "203.0.113.2").expect_err("wherever it is");
        assert_eq!(problem.kind(), RATE_LIMITED);
        assert!(problem.detail().contains("1 a second, and 2 at once"), "{}", problem.detail());
        count(Some(&eve), "203.0.113.1").expect("another subject");
        for peer in ["203.0.113.1", "2001:db8::1", "2001:db8::ffff:1"] {
            count(None, peer).expect("within the burst");
        }
        count(None, "2001:db8::2").expect_err("the same network");
        count(None, "2001:db8:0:1::2").expect("another network");
    }

    #[test]
    fn this_machine_may_ask_as_it_likes_and_so_may_all_without_a_limit() {
        let limited = clients(&["--client-requests-per-second", "1", "--client-burst", "1"]);
        let open = clients(&["--client-requests-per-second", "0"]);
        for _ in 0..100 {
            for loopback in ["127.0.0.1", "::1", "::ffff:127.0.0.9"] {
                limited.count(None, ip(loopback), &from(&["198.51.100.9"])).expect("loopback");
            }
            open.count(None, ip("203.0.113.1"), &from(&[])).expect("no limit");
        }
    }

    #[test]
    fn nobody_is_on_this_machine_because_a_proxy_was_told_so() {
        let clients = clients(&["--client-burst", "1", "--trusted-proxies", "127.0.0.1,10.0.0.0/8"]);
        let count = |peer| clients.count(None, ip(peer), &from(&["127.0.0.9, 10.0.0.1"]));
        count("10.1.2.3").expect("the first");
        count("127.0.0.1").expect_err("the second");
    }

    #[test]
    fn however_many_there_are_only_so_many_are_remembered() {
        let clients = clients(&[]);
        for number in 0..3 * CLIENTS_MAX as u32 {
            clients.count(None, IpAddr::V4((0x0b00_0000 + number).into()), &from(&[])).expect("the first");
        }
        let limiter = clients.limiter.expect("a limit by default");
        assert!(limiter.into_state_store().0.len() <= CLIENTS_MAX);
    }
}
