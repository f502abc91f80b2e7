//! How long an election waits for whom.

/// A quiet link is decided after this many seconds. Servers that ping an address before they offer it take 1 s (ISC)
/// to 3 s (dnsmasq); the last question leaves them 1 s more.
pub(crate) const VERDICT_SECONDS: f64 = 6.0;
/// When the questions go out, in seconds after carrier: often enough that a network that loses every third packet is
/// rarely taken for a quiet one.
pub(super) const PROBE_SECONDS: [f64; 7] = [0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0];
/// When the question of network boot firmware goes out.
pub(super) const ASK_BOOT_SECONDS: f64 = 2.5;
/// A decided link is asked again this often: with the 3 s of a server that pings first, one that appears is known within 10 s.
pub(crate) const WATCH_SECONDS: f64 = 4.0;
/// Every so many watch questions one is asked as network boot firmware asks.
pub(super) const BOOT_EVERY: u32 = 3;
/// A foreign server is asked for its boot service this long before the link is decided. It checked its address already.
pub(super) const BOOT_WAIT_SECONDS: f64 = 2.0;
/// A foreign server that says nothing for this long is gone: fifteen questions unanswered.
pub(crate) const QUIET_SECONDS: f64 = 60.0;
/// The same of a recon master, which answers at once: five questions unanswered, and seven more before anybody serves.
pub(crate) const MASTER_QUIET_SECONDS: f64 = 20.0;
/// A rival that announced itself has this long to serve, from its last word.
pub(super) const CANDIDATE_SECONDS: f64 = 15.0;
/// One that is first heard asking this shortly before the verdict may be heard after it on another link: the links decide together.
pub(super) const LATE_SECONDS: f64 = 1.0;
/// Two machines of one site that share out the links they are both on do so for this long, and then the lower machine ID gets them all.
pub(super) const SHARED_SECONDS: f64 = 30.0;
/// Shortest time between two answers to rivals, so that two machines cannot keep each other talking.
pub(super) const ANSWER_SECONDS: f64 = 0.3;
/// One that calls itself a recon master has this long to prove it: a question and an answer, several times over.
pub(super) const PROOF_SECONDS: f64 = 2.5;
/// How often it is asked meanwhile.
pub(super) const PROOF_PAUSE_SECONDS: f64 = 0.5;
/// A machine with a lower machine ID that has not proven anything is waited for, once: for as long as it takes to decide, and this much longer
/// for its services to start.
pub(super) const START_SECONDS: f64 = 1.5;
/// It counts as asking for this long after it was heard.
pub(super) const ASKING_SECONDS: f64 = 2.0;
/// Of two with different keys that both serve, the higher machine ID has this long to give way.
pub(super) const CONTEST_SECONDS: f64 = 10.0;
/// One that was not heard for this long at the end of its time is gone: three questions unanswered.
pub(super) const GONE_SECONDS: f64 = 1.5;
