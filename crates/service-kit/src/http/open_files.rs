//! Connections are open files, of which a process may often have only 1,024 unless it asks for more.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::refusal::REFUSALS_MAX;

/// What a service opens beside connections of clients: its store, its log, its own connections.
const OTHER_FILES_MAX: usize = 1_024;

/// Asks for as many open files as the connections need. Gives how many connections there is room for.
pub fn make_room(connections_max: usize) -> usize {
    let needed = (connections_max + REFUSALS_MAX + OTHER_FILES_MAX) as u64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` is no limit.
    let wanted = maximum.map_or(needed, |maximum| needed.min(maximum));
    let mut allowed = current.unwrap_or(needed);
    if allowed < wanted && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok() {
        allowed = wanted;
    }
    let room = room(allowed, connections_max);
    if room < connections_max {
        tracing::warn!(
            open_files = allowed,
            connections = room,
            "the operating system allows fewer open files than --http-connections-max needs"
        );
    }
    room
}

/// How many connections fit into so many open files; at least a quarter of them.
fn room(open_files: u64, connections_max: usize) -> usize {
    let open_files = usize::try_from(open_files).unwrap_or(usize::MAX);
    let left = open_files.saturating_sub(REFUSALS_MAX + OTHER_FILES_MAX);
    left.max(open_files / 4).clamp(1, connections_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_other_files() {
        assert_eq!(room(1_000_000, 10_000), 10_000);
        assert_eq!(room(10_000, 10_000), 10_000 - REFUSALS_MAX - OTHER_FILES_MAX);
        assert_eq!(room(1_024, 10_000), 256);
        assert_eq!(room(u64::MAX, 10), 10);
    }
}
