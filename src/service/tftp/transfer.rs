//! One transfer, from the first packet to the last acknowledgement (RFC 1350, RFC 7440). Pure: packets and the clock in,
//! what to send out. The clock is a duration since any fixed moment.

use std::time::Duration;

use super::packet::Options;

/// Without an option, as RFC 1350 has it.
const BLOCK_SIZE: usize = 512;
/// RFC 2348: the smallest there is.
const MIN_BLOCK_SIZE: usize = 8;
/// Blocks sent ahead, whatever a client asks; more gains nothing on a link that a loader is fetched over.
const MAX_WINDOW: usize = 64;
/// Bytes sent ahead.
const MAX_WINDOW_BYTES: usize = 64 * 1024;
/// Wait for the first answer, until the way there and back is known.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const MIN_WAIT: Duration = Duration::from_millis(200);
const MAX_WAIT: Duration = Duration::from_secs(4);
/// A client that acknowledges nothing new for this long is gone.
const CLIENT_GONE: Duration = Duration::from_secs(30);
/// A window is sent again for a repeated acknowledgement only this long after the last time, so that a burst of them
/// brings one.
const MIN_REPEAT: Duration = Duration::from_millis(5);

/// What client and server agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    pub block_size: usize,
    pub window: u16,
    /// The client's own wish for how long to wait (RFC 2349).
    pub timeout: Option<Duration>,
    /// Options were asked, so that an OACK comes first.
    pub oack: bool,
}

impl Agreed {
    /// `most`: bytes of a block that reach the client in one piece. A server may answer with less than was asked (RFC 2348).
    pub fn on(options: Options, most: usize) -> Self {
        let most = most.max(MIN_BLOCK_SIZE);
        let block_size = options
            .block_size
            .map_or(BLOCK_SIZE, |asked| usize::from(asked).min(most));
        let most = (MAX_WINDOW_BYTES / block_size).clamp(1, MAX_WINDOW) as u16;
        Agreed {
            block_size,
            window: options.window.unwrap_or(1).min(most),
            timeout: options.timeout.map(|seconds| Duration::from_secs(u64::from(seconds))),
            oack: !options.is_empty(),
        }
    }
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    SendOack,
    /// DATA packets `first`, `first + 1` … `first + count - 1`; block 1 is the first of the file.
    Send {
        first: u64,
        count: u16,
    },
    Wait,
    Done,
    /// The client is gone.
    GiveUp,
}

/// One file on its way to one client. It is told what came and when, and says what to send.
///
/// ```
/// use std::time::Duration;
/// use recon::service::tftp::packet::Options;
/// use recon::service::tftp::transfer::{Agreed, Step, Transfer};
///
/// let now = Duration::ZERO;
/// // Without options, as the oldest firmware asks: blocks of 512 bytes, one at a time.
/// let agreed = Agreed::on(Options::default(), 1468);
/// let (mut transfer, first) = Transfer::begin(agreed, 700, now);
/// assert_eq!(first, Step::Send { first: 1, count: 1 });
/// assert_eq!(transfer.acked(1, now), Step::Send { first: 2, count: 1 });
/// // Its answer does not come: the block goes out again when the clock says so.
/// assert_eq!(transfer.late(transfer.deadline()), Step::Send { first: 2, count: 1 });
/// assert_eq!(transfer.acked(2, now), Step::Done);
/// ```
#[derive(Debug)]
pub struct Transfer {
    agreed: Agreed,
    /// The last block, which is shorter than the others and may be empty.
    last: u64,
    /// First block that is not acknowledged; 0 while the OACK is not.
    base: u64,
    /// Blocks from `base` on that were sent.
    ahead: u16,
    sent_at: Duration,
    /// The packets on their way were sent once, so that their answer tells how long the way is.
    once: bool,
    progress_at: Duration,
    round_trip: Option<Duration>,
    wait: Duration,
    resends: u64,
}

impl Transfer {
    /// A transfer of `length` bytes, and its first step.
    pub fn begin(agreed: Agreed, length: u64, now: Duration) -> (Self, Step) {
        let mut transfer = Transfer {
            agreed,
            last: length / agreed.block_size as u64 + 1,
            base: u64::from(!agreed.oack),
            ahead: 0,
            sent_at: now,
            once: true,
            progress_at: now,
            round_trip: None,
            wait: agreed.timeout.unwrap_or(FIRST_WAIT),
            resends: 0,
        };
        let step = transfer.send(now);
        (transfer, step)
    }

    /// When [`Transfer::late`] is due, if nothing is heard before.
    pub fn deadline(&self) -> Duration {
        (self.sent_at + self.wait).min(self.progress_at + CLIENT_GONE)
    }

    /// Blocks of the file that the client has.
    pub fn blocks_acked(&self) -> u64 {
        self.base.saturating_sub(1)
    }

    /// Times something was sent again.
    pub fn resends(&self) -> u64 {
        self.resends
    }

    /// ACK `number` came.
    pub fn acked(&mut self, number: u16, now: Duration) -> Step {
        if self.base == 0 {
            if number != 0 {
                return Step::Wait;
            }
            self.progress(now);
            self.base = 1;
            return self.send(now);
        }
        // Numbers wrap; what is on its way is far less than the half of them.
        let distance = number.wrapping_sub(self.base as u16);
        if distance < self.ahead {
            self.progress(now);
            self.base += u64::from(distance) + 1;
            if self.base > self.last {
                self.ahead = 0;
                return Step::Done;
            }
            return self.send(now);
        }
        // The client repeats itself. With one block on its way that must change nothing, or every packet would soon be sent
        // twice (RFC 1123 §4.2.3.1); with a window it means that the first packet of it was lost (RFC 7440 §4).
        let repeat = self.round_trip.unwrap_or(MIN_REPEAT).max(MIN_REPEAT) * 2;
        if distance == u16::MAX
            && self.base <= self.last
            && self.agreed.window > 1
            && now.saturating_sub(self.sent_at) >= repeat
        {
            return self.resend(now);
        }
        Step::Wait
    }

    /// The clock moved.
    pub fn late(&mut self, now: Duration) -> Step {
        if self.base > self.last {
            return Step::Done;
        }
        if now < self.deadline() {
            return Step::Wait;
        }
        if now >= self.progress_at + CLIENT_GONE {
            return Step::GiveUp;
        }
        if self.agreed.timeout.is_none() {
            self.wait = (self.wait * 2).min(MAX_WAIT);
        }
        self.resend(now)
    }

    fn resend(&mut self, now: Duration) -> Step {
        self.resends += 1;
        let step = self.send(now);
        self.once = false;
        step
    }

    fn progress(&mut self, now: Duration) {
        self.progress_at = now;
        if self.once {
            let sample = now.saturating_sub(self.sent_at);
            let known = self.round_trip.unwrap_or(sample);
            self.round_trip = Some((known * 7 + sample) / 8);
        }
        if self.agreed.timeout.is_none() {
            let usual = self.round_trip.map_or(FIRST_WAIT, |way| way * 4);
            self.wait = usual.clamp(MIN_WAIT, FIRST_WAIT);
        }
    }

    fn send(&mut self, now: Duration) -> Step {
        self.sent_at = now;
        self.once = true;
        if self.base == 0 {
            return Step::SendOack;
        }
        let left = self.last - self.base + 1;
        self.ahead = left.min(u64::from(self.agreed.window)) as u16;
        Step::Send {
            first: self.base,
            count: self.ahead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const MS: Duration = Duration::from_millis(1);

    fn agreed(window: u16, oack: bool) -> Agreed {
        Agreed {
            block_size: 10,
            window,
            timeout: None,
            oack,
        }
    }

    #[test]
    fn step_by_step() {
        let (mut transfer, step) = Transfer::begin(agreed(1, true), 20, MS);
        assert_eq!(step, Step::SendOack);
        assert_eq!(transfer.acked(1, MS), Step::Wait);
        assert_eq!(transfer.acked(0, MS), Step::Send { first: 1, count: 1 });
        assert_eq!(transfer.acked(1, MS), Step::Send { first: 2, count: 1 });
        // Repeated: the block is on its way already.
        assert_eq!(transfer.acked(1, MS * 100), Step::Wait);
        // A file of whole blocks ends with an empty one.
        assert_eq!(transfer.acked(2, MS), Step::Send { first: 3, count: 1 });
        assert_eq!(transfer.acked(3, MS), Step::Done);
        assert_eq!(transfer.blocks_acked(), 3);
    }

    #[test]
    fn a_gap_in_a_window_is_filled() {
        let (mut transfer, step) = Transfer::begin(agreed(4, false), 95, MS);
        assert_eq!(step, Step::Send { first: 1, count: 4 });
        assert_eq!(transfer.acked(2, MS * 2), Step::Send { first: 3, count: 4 });
        // The rest of the first window makes the client repeat itself: once is enough.
        assert_eq!(transfer.acked(2, MS * 3), Step::Wait);
        assert_eq!(transfer.acked(2, MS * 100), Step::Send { first: 3, count: 4 });
        assert_eq!(transfer.acked(1, MS * 200), Step::Wait);
        assert_eq!(transfer.acked(6, MS * 200), Step::Send { first: 7, count: 4 });
        assert_eq!(transfer.acked(10, MS * 201), Step::Done);
    }

    #[test]
    fn waits_grow_and_end() {
        let (mut transfer, _) = Transfer::begin(agreed(1, false), 95, Duration::ZERO);
        let (mut now, mut times) = (Duration::ZERO, 0);
        loop {
            assert_eq!(transfer.late(transfer.deadline() - MS), Step::Wait);
            let before = now;
            now = transfer.deadline();
            match transfer.late(now) {
                Step::Send { first: 1, count: 1 } => times += 1,
                step => {
                    assert_eq!((step, now), (Step::GiveUp, CLIENT_GONE));
                    break;
                }
            }
            assert!(now - before <= MAX_WAIT);
        }
        assert!((6..12).contains(&times), "{times}");
        let patient = Agreed {
            timeout: Some(Duration::from_secs(7)),
            ..agreed(1, false)
        };
        let (transfer, _) = Transfer::begin(patient, 95, Duration::ZERO);
        assert_eq!(transfer.deadline(), Duration::from_secs(7));
    }

    #[test]
    fn what_is_sent_ahead_is_bounded() {
        let ask = |block_size, window| {
            let asked = Options {
                block_size,
                window,
                ..Options::default()
            };
            Agreed::on(asked, usize::MAX)
        };
        assert_eq!(ask(Some(1468), Some(16)).window, 16);
        assert_eq!(ask(None, Some(65535)).window, 64);
        assert_eq!(ask(Some(65464), Some(16)).window, 1);
        assert_eq!(ask(None, None).window, 1);
        for (block_size, window) in [(8, 65535), (65464, 65535), (1468, 65535)] {
            let agreed = ask(Some(block_size), Some(window));
            assert!(agreed.block_size * usize::from(agreed.window) <= MAX_WINDOW_BYTES);
        }
    }

    #[test]
    fn a_block_is_what_was_asked_or_what_reaches_the_client() {
        let agreed = |block_size, most| {
            let asked = Options {
                block_size,
                window: Some(64),
                ..Options::default()
            };
            let agreed = Agreed::on(asked, most);
            (agreed.block_size, agreed.window)
        };
        assert_eq!(agreed(Some(65464), 1368), (1368, 47));
        assert_eq!(agreed(Some(1468), 1468), (1468, 44));
        assert_eq!(agreed(Some(512), 1468), (512, 64));
        assert_eq!(agreed(Some(1468), 0), (8, 64), "never less than there may be");
        assert_eq!(
            agreed(None, 100),
            (512, 64),
            "who asks for nothing gets what RFC 1350 promises"
        );
    }

    /// A network that loses, repeats and reorders, by the dice it is given.
    struct Network {
        dice: Vec<u8>,
        at: usize,
        /// By time of arrival: to the client, or to the server.
        way: BTreeMap<(Duration, usize), Packet>,
        sent: usize,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Packet {
        Oack,
        Data(u64),
        Ack(u16),
    }

    impl Network {
        fn die(&mut self) -> u8 {
            self.at += 1;
            self.dice[self.at % self.dice.len()]
        }

        fn carry(&mut self, packet: Packet, now: Duration) {
            let copies = match self.die() {
                0..=25 => 0,
                26..=40 => 2,
                _ => 1,
            };
            for _ in 0..copies {
                self.sent += 1;
                let delay = Duration::from_micros(200 + u64::from(self.die()) * 40);
                self.way.insert((now + delay, self.sent), packet);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// Whatever is lost (about a tenth), repeated and reordered, a client by the book gets every block once and in order.
        #[test]
        fn every_file_arrives(
            dice in proptest::collection::vec(any::<u8>(), 50..400),
            window in 1u16..20, oack in any::<bool>(), length in 0u64..1500, start in prop_oneof![Just(0u64), Just(65_520)],
        ) {
            let mut net = Network { dice, at: 0, way: BTreeMap::new(), sent: 0 };
            let length = length + start * 10;
            let (mut transfer, step) = Transfer::begin(agreed(window, oack && start == 0), length, Duration::ZERO);
            if start > 0 {
                // As if the first blocks were through, so that the numbers wrap soon.
                transfer.base = start + 1;
                transfer.ahead = window.min((transfer.last - start) as u16);
            }
            let step = if start > 0 { Step::Send { first: start + 1, count: transfer.ahead } } else { step };
            let (mut now, mut have, mut in_window, mut done) = (Duration::ZERO, start, 0, false);
            let (mut gap, mut heard_oack, mut client_sent) = (false, false, Duration::ZERO);
            let mut steps = vec![step];
            let mut sends = 0u32;
            while !done {
                for step in steps.drain(..) {
                    match step {
                        Step::SendOack => net.carry(Packet::Oack, now),
                        Step::Send { first, count } => {
                            prop_assert!(first >= 1 && count >= 1 && count <= window && first + u64::from(count) - 1 <= transfer.last);
                            (first..first + u64::from(count)).for_each(|block| net.carry(Packet::Data(block), now));
                        }
                        Step::Wait => {}
                        Step::Done => done = true,
                        Step::GiveUp => prop_assert!(have == transfer.last, "given up with {have} of {}", transfer.last),
                    }
                    done |= step == Step::GiveUp;
                }
                if done {
                    break;
                }
                sends += 1;
                prop_assert!(sends < 60_000, "no end in sight");
                // The client's own timer repeats its last acknowledgement.
                let client_late = client_sent + Duration::from_millis(700);
                let next = net.way.keys().next().copied();
                let arrives = next.map(|(at, _)| at).unwrap_or(Duration::MAX);
                let silent = have == transfer.last;
                if !silent && client_late < arrives.min(transfer.deadline()) {
                    now = client_late;
                    client_sent = now;
                    if heard_oack || have > start { net.carry(Packet::Ack(have as u16), now); }
                    continue;
                }
                if transfer.deadline() <= arrives {
                    now = transfer.deadline().max(now);
                    steps.push(transfer.late(now));
                    continue;
                }
                now = arrives;
                match net.way.remove(&next.unwrap()).unwrap() {
                    Packet::Ack(number) => steps.push(transfer.acked(number, now)),
                    Packet::Oack => { heard_oack = true; if have == 0 { client_sent = now; net.carry(Packet::Ack(0), now); } }
                    Packet::Data(block) if block == have + 1 => {
                        have = block;
                        in_window += 1;
                        gap = false;
                        if in_window == window || have == transfer.last {
                            in_window = 0;
                            client_sent = now;
                            net.carry(Packet::Ack(have as u16), now);
                        }
                    }
                    Packet::Data(block) => {
                        // Behind a gap, the client says once what it has; for a block it has, again if that was the last.
                        if (block > have && !gap) || (block <= have && (window == 1 || have == transfer.last)) {
                            gap = true;
                            in_window = 0;
                            client_sent = now;
                            net.carry(Packet::Ack(have as u16), now);
                        }
                    }
                }
            }
            prop_assert_eq!(have, transfer.last);
        }
    }
}
