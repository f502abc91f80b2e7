//! The IPv6 leases of a run: one prefix for each served link, and the file that remembers who has what.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::model::UnixTime;
use crate::model::lease::Lease6;
use crate::model::ula::{Prefix64, Ula};
use crate::service::dhcp6::leases::LeaseTable6;
use crate::store::fs_ops::Disk;
use crate::store::json_lines;

/// Changes that follow within this time are written together.
const SAVE_PAUSE: Duration = Duration::from_secs(1);

/// IPv6 leases of every link that was served in this run.
type Tables = BTreeMap<Prefix64, Arc<Mutex<LeaseTable6>>>;

/// What the links share of them.
pub(crate) struct Ipv6Leases {
    ula: Ula,
    remembered: Vec<Lease6>,
    tables: Mutex<Tables>,
    pub(crate) changed: Arc<Notify>,
    file: PathBuf,
}

impl Ipv6Leases {
    /// Reads what `file` remembers. The prefix of the run is that of a lease that still runs at `now`, so that its
    /// holder keeps it, else one drawn from `random`. Blocks.
    pub(crate) fn open(file: PathBuf, now: UnixTime, random: u64) -> Self {
        let remembered = json_lines::load(&file).unwrap_or_else(|error| {
            tracing::warn!(file = %file.display(), %error, "starting without the IPv6 leases of earlier runs");
            Vec::new()
        });
        Ipv6Leases {
            ula: prefix_of_run(&remembered, now, random),
            remembered,
            tables: Mutex::default(),
            changed: Arc::default(),
            file,
        }
    }

    /// Prefix of the `slot`th served link; `None` beyond the last.
    pub(crate) fn prefix(&self, slot: u32) -> Option<Prefix64> {
        u16::try_from(slot).ok().map(|slot| self.ula.link(slot))
    }

    /// The leases of a link; one that comes back finds its own.
    pub(crate) fn table(&self, prefix: Prefix64) -> Arc<Mutex<LeaseTable6>> {
        let mut tables = self.tables.lock().expect("no holder panics");
        let table = tables.entry(prefix).or_insert_with(|| {
            let table = LeaseTable6::new(prefix, self.remembered.iter().cloned());
            Arc::new(Mutex::new(table))
        });
        Arc::clone(table)
    }

    /// Writes the leases whenever they changed, and once at the end. A failure is said and costs no client anything.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<()> {
        loop {
            let last = tokio::select! {
                () = stop.cancelled() => true,
                () = self.changed.notified() => false,
            };
            if !last {
                tokio::time::sleep(SAVE_PAUSE).await;
            }
            let leases = self.leases();
            let this = Arc::clone(&self);
            let saving = tokio::task::spawn_blocking(move || json_lines::save(&Disk, &this.file, &leases));
            if let Err(error) = saving.await? {
                tracing::warn!(file = %self.file.display(), %error, "IPv6 leases are not remembered");
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Leases of this run, and those of links that were not served in it.
    fn leases(&self) -> Vec<Lease6> {
        let tables = self.tables.lock().expect("no holder panics");
        let unused = self.remembered.iter().filter(|lease| {
            Ula::of(lease.address) == Some(self.ula) && !tables.keys().any(|prefix| prefix.contains(lease.address))
        });
        let mut leases: Vec<Lease6> = unused.cloned().collect();
        for table in tables.values() {
            leases.extend(table.lock().expect("no holder panics").iter());
        }
        leases
    }
}

fn prefix_of_run(remembered: &[Lease6], now: UnixTime, random: u64) -> Ula {
    let mut running = remembered.iter().filter(|lease| lease.expires_unix > now);
    running
        .find_map(|lease| Ula::of(lease.address))
        .unwrap_or_else(|| Ula::drawn(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(second: u64) -> UnixTime {
        UnixTime::from_seconds(second)
    }

    fn lease(ula: Ula, expires: u64) -> Lease6 {
        Lease6 {
            duid: "00030001020000000001".to_owned(),
            iaid: 1,
            address: ula.link(0).host(1 << 32),
            mac: None,
            expires_unix: UnixTime::from_seconds(expires),
        }
    }

    #[test]
    fn a_lease_that_still_runs_keeps_the_prefix_of_the_last_run() {
        let (before, drawn) = (Ula::drawn(1), Ula::drawn(2));
        assert_eq!(prefix_of_run(&[], at(0), 2), drawn);
        assert_eq!(prefix_of_run(&[lease(before, 100)], at(99), 2), before);
        assert_eq!(prefix_of_run(&[lease(before, 100)], at(100), 2), drawn);
    }

    #[test]
    fn leases_of_links_that_were_not_served_are_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("leases6.jsonl");
        let kept = lease(Ula::drawn(1), 100);
        json_lines::save(&Disk, &file, std::slice::from_ref(&kept)).unwrap();
        let shared = Ipv6Leases::open(file, at(50), 2);
        assert_eq!(shared.leases(), [kept]);
        let table = shared.table(shared.prefix(0).unwrap());
        assert_eq!(table.lock().unwrap().len(), 1);
        assert_eq!(shared.leases().len(), 1, "nor are they there twice");
        assert_eq!(shared.prefix(1 << 16), None);
    }
}
