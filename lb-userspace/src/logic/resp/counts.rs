//! What happened, counted: each thread counts for itself, and adds to the counters of all once a turn.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($(#[$meaning:meta])* $name:ident: $help:literal,)+) => {
        /// What all threads count together; only grows.
        #[derive(Debug, Default)]
        pub(super) struct Counts {
            /// Clients connected now.
            pub clients: AtomicU64,
            /// Clients that were ever accepted.
            pub connections: AtomicU64,
            /// Clients that were one too many.
            pub clients_refused: AtomicU64,
            $($(#[$meaning])* pub $name: AtomicU64,)+
        }

        /// What one thread counted since its last report.
        #[derive(Debug, Default)]
        pub(super) struct Tally {
            $(pub $name: u64,)+
        }

        impl Tally {
            /// Adds to the counters of all.
            pub fn report(&mut self, counts: &Counts) {
                $(if self.$name > 0 {
                    counts.$name.fetch_add(std::mem::take(&mut self.$name), Ordering::Relaxed);
                })+
            }
        }

        impl Counts {
            /// Each counter with its name and meaning.
            pub fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
                let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                vec![
                    ("connections", "Clients that were accepted.", get(&self.connections)),
                    ("clients_refused", "Clients that were one too many.", get(&self.clients_refused)),
                    $((stringify!($name), $help, get(&self.$name)),)+
                ]
            }
        }
    };
}

counts! {
    commands: "Commands of clients.",
    commands_refused: "Commands refused by name, or by their user's rights.",
    commands_split: "Commands split over servers.",
    protocol_errors: "Clients that sent what is no command.",
    auth_failures: "Wrong passwords.",
    clients_too_slow: "Clients closed because they did not read their answers.",
    clients_moved: "Clients that another thread took over.",
    pushes_unasked: "Messages of servers that nobody asked for.",
    reads_by_copy: "Reads that a copy answered in place of its primary.",
    reads_repeated: "Reads that were asked again elsewhere.",
    commands_waited: "Commands that waited for a server.",
    commands_timed_out: "Commands that no server took in time: certainly not done.",
    outcomes_unknown: "Writes whose connection failed before their answer came.",
    not_confirmed: "Writes that their copy did not confirm in time.",
    queue_full: "Commands refused because too many waited.",
    servers_silent: "Servers that owed an answer for too long.",
    links_failed: "Connections to servers that failed.",
    by_spares: "Commands that spares took.",
    replies_too_long: "Answers that were longer than output_bytes_max.",
    replies_cut: "Clients closed because a server failed in the middle of a long answer.",
    lease_waits: "Reads that waited for the authority to vouch for their server.",
}
