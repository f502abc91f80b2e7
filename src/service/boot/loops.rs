//! Does a machine come back, again and again, from the kernel that it was given? Pure; time is seconds since the master started.
//!
//! Kernel and initrd went to it, its boot program asks for a script anew, and its agent was not heard in between: the system did not start,
//! and the panic restarted the machine (`panic=30`). Or the agent was heard and its inventory never came. After [`LOOPS`] of these in a
//! row it is a loop: the likely cause is said, and there is a pause before each further try, which grows. It is never refused for
//! good: somebody may put memory in or change a setting.
//!
//! What a machine lacks in the first stage, a driver above all, the initrd has, and takes more memory for it: [`Starts::starts_with`].

use super::attempts::Attempts;
use super::request::StartsWith;
use crate::model::RunTime;

/// Tries in vain that make a loop.
pub(crate) const LOOPS: u32 = 3;
/// The first pause and the longest, in seconds.
const PAUSE: u64 = 60;
const LONGEST_PAUSE: u64 = 1800;
/// A try that comes later than this after the one before begins a new count: somebody was at the machine. Longer than the longest pause
/// and the slowest firmware.
const FORGOTTEN: f64 = 7200.0;

/// The tries of one machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Starts {
    /// Both went out since the boot program last asked for a script: the kernel was begun, and what comes after it went out whole.
    kernel: bool,
    initrd: bool,
    /// Of the first stage's files, the one after which the boot program has all.
    pub last_file: Option<String>,
    /// How often they went out again since then: the boot program has them and does not start them.
    again: u32,
    /// The agent was heard since then.
    agent: bool,
    /// Tries in vain in a row, and whether the agent was heard in them.
    in_vain: u32,
    with_agent: bool,
    /// Since it loops: scripts for which it then took the kernel, whether what comes after it went out whole or not. A boot program that has
    /// no room for an initrd does not fetch it to its end.
    turns: u32,
    /// When a script was last asked for.
    at: Option<RunTime>,
    /// As its boot program said it.
    pub memory_mib: Option<u64>,
    /// A start ended, and it is not certain yet that it was this machine that asked for a script again.
    is_pending: bool,
    /// What became of the images that it was given.
    pub attempts: Attempts,
}

impl Starts {
    /// The boot program asks for a script. True where that makes a loop, the first time. `is_its`: it is certain that it is this machine that asks, so an image that it was given is one that did not come up.
    pub(crate) fn script(&mut self, is_its: bool, now: RunTime) -> bool {
        self.is_pending |= self.kernel && self.initrd;
        if is_its && std::mem::take(&mut self.is_pending) {
            self.attempts.failed();
        }
        if self.at.is_some_and(|at| now - at > FORGOTTEN) {
            self.in_vain = 0;
        } else if self.kernel && self.initrd {
            // Further than before is not the same loop.
            if self.agent != self.with_agent {
                self.in_vain = 0;
            }
            self.with_agent = self.agent;
            self.in_vain = self.in_vain.saturating_add(1);
        }
        let first = self.in_vain == LOOPS && self.kernel && self.initrd;
        self.turns = match self.loops() && !first {
            true => self.turns.saturating_add(u32::from(self.kernel)),
            false => 0,
        };
        self.at = Some(now);
        (self.kernel, self.initrd, self.agent, self.again) = (false, false, false, 0);
        first
    }

    pub(crate) fn kernel_sent(&mut self) {
        if self.kernel && std::mem::take(&mut self.initrd) {
            self.again += 1;
        }
        self.kernel = true;
    }

    /// Why the boot program does not get the kernel once more: it has had both [`LOOPS`] times for one script, and did not start them.
    /// It gets them with its next script.
    pub(crate) fn stuck(&self) -> Option<String> {
        (self.initrd && self.again + 1 >= LOOPS).then(|| {
            format!(
                "kernel and initrd went to its boot program {LOOPS} times and it did not start them: look at its screen. They may not fit \
                 into its memory, or Secure Boot refuses them"
            )
        })
    }

    /// The last byte of the initrd went out, or that of a file of the first stage. A download that is cut is no start, and however often
    /// a file is asked for, it is one.
    pub(crate) fn initrd_sent(&mut self, first_stage: Option<&str>) {
        self.initrd |= first_stage.is_none() || first_stage == self.last_file.as_deref();
    }

    /// The agent spoke.
    pub(crate) fn spoke(&mut self) {
        self.agent = true;
    }

    /// Its inventory is here.
    pub(crate) fn done(&mut self) {
        *self = Starts {
            memory_mib: self.memory_mib,
            attempts: std::mem::take(&mut self.attempts),
            ..Starts::default()
        };
    }

    /// What was known of the same machine by its ports. True where that asked for a script after this one.
    pub(crate) fn join(&mut self, mut old: Starts) -> bool {
        let is_later = match (old.at, self.at) {
            (Some(old), Some(own)) => old > own,
            (old, None) => old.is_some(),
            (None, Some(_)) => false,
        };
        self.attempts.join(std::mem::take(&mut old.attempts), is_later);
        self.memory_mib = self.memory_mib.or(old.memory_mib);
        if is_later {
            (self.kernel, self.initrd, self.again, self.agent) = (old.kernel, old.initrd, old.again, old.agent);
            (self.last_file, self.at) = (old.last_file, old.at);
        }
        if old.in_vain > self.in_vain {
            (self.in_vain, self.with_agent, self.turns) = (old.in_vain, old.with_agent, old.turns);
        }
        is_later
    }

    /// Tries in vain so far.
    pub(crate) fn in_vain(&self) -> u32 {
        self.in_vain
    }

    pub(crate) fn loops(&self) -> bool {
        self.in_vain >= LOOPS
    }

    /// How long the next try has to wait, in seconds; 0: not at all.
    pub(crate) fn pause_seconds(&self) -> u64 {
        let beyond = self.in_vain.checked_sub(LOOPS);
        beyond.map_or(0, |more| (PAUSE << more.min(16)).min(LONGEST_PAUSE))
    }

    /// What the next try of an inventory starts with, where the medium has a first stage. One that loops gets the initrd, if that fits into its
    /// memory; where nobody knows its memory, the two by turns, so that one of them gets through. `initrd_needs_mib`: what it takes with
    /// the initrd; none where there is nothing to start it with.
    pub(crate) fn starts_with(&self, initrd_needs_mib: Option<u64>) -> StartsWith {
        let fits = match (self.memory_mib, initrd_needs_mib) {
            (_, None) => false,
            (Some(has), Some(needed)) => has >= needed,
            (None, Some(_)) => self.turns.is_multiple_of(2),
        };
        match self.loops() && fits {
            true => StartsWith::Initrd,
            false => StartsWith::FirstStage,
        }
    }

    /// What a person is told of a loop. `needed_mib`: what the system needs at least.
    pub(crate) fn cause(&self, needed_mib: Option<u64>) -> String {
        let count = self.in_vain;
        let is_image = self.attempts.is_last_failed();
        if is_image && self.with_agent {
            return format!(
                "it loops: {count} times it started an image and did not say that it is up. Look at its console"
            );
        }
        if self.with_agent {
            return format!(
                "it loops: {count} times its system started and went away before its inventory was here. Look at its console"
            );
        }
        let scarce = self
            .memory_mib
            .zip(needed_mib)
            .filter(|(has, needed)| *has < needed.saturating_mul(2));
        match scarce {
            Some((has, needed)) => format!(
                "it loops: {count} times kernel and initrd went to it and nothing came back. Its {has} MiB of memory are probably too \
                 little: {needed} MiB are the least that can do"
            ),
            None => format!(
                "it loops: {count} times kernel and initrd went to it and nothing came back. The kernel does not start, or finds no way \
                 back: look at its console; kernel-arguments = \"nomodeset\" under [peers] in recon.toml helps some"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(seconds: f64) -> RunTime {
        RunTime::from_seconds(seconds)
    }

    /// One try: script, kernel, initrd, and perhaps a word of the agent.
    fn try_once(starts: &mut Starts, agent: bool, now: RunTime) -> bool {
        let first = starts.script(true, now);
        starts.kernel_sent();
        starts.initrd_sent(None);
        if agent {
            starts.spoke();
        }
        first
    }

    #[test]
    fn three_tries_in_vain_are_a_loop_that_is_said_once_and_waits_longer_each_time() {
        let mut starts = Starts::default();
        let said: Vec<bool> = (0..6)
            .map(|turn| try_once(&mut starts, false, second(f64::from(turn) * 60.0)))
            .collect();
        assert_eq!(said, [false, false, false, true, false, false]);
        assert_eq!(starts.in_vain(), 5);
        let pauses: Vec<u64> = (0..9)
            .map(|turn| {
                try_once(&mut starts, false, second(400.0 + f64::from(turn)));
                starts.pause_seconds()
            })
            .collect();
        assert_eq!(pauses, [480, 960, 1800, 1800, 1800, 1800, 1800, 1800, 1800]);
        starts.done();
        assert_eq!((starts.in_vain(), starts.pause_seconds()), (0, 0));
    }

    #[test]
    fn one_that_loops_gets_the_initrd_where_it_fits_and_both_by_turns_where_nobody_knows() {
        let (first, initrd) = (StartsWith::FirstStage, StartsWith::Initrd);
        for (has, needed, then) in [
            (Some(600), Some(600), [initrd; 4]),
            (Some(599), Some(600), [first; 4]),
            (None, Some(600), [initrd, first, initrd, first]),
            (Some(600), None, [first; 4]),
            (None, None, [first; 4]),
        ] {
            // Its boot program fetches all of it, or has no room for the initrd.
            for (is_whole, is_asked_twice) in [(true, false), (false, false), (true, true)] {
                let mut starts = Starts {
                    memory_mib: has,
                    ..Starts::default()
                };
                let mut got = Vec::new();
                for turn in 0..LOOPS + 4 {
                    starts.script(true, second(f64::from(turn)));
                    if is_asked_twice {
                        starts.script(true, second(f64::from(turn)));
                    }
                    got.push(starts.starts_with(needed));
                    starts.kernel_sent();
                    if is_whole || turn < LOOPS {
                        starts.initrd_sent(None);
                    }
                }
                let (before, after) = got.split_at(LOOPS as usize);
                assert_eq!(
                    (before, after),
                    (&[first; LOOPS as usize][..], &then[..]),
                    "{has:?} {needed:?} {is_whole} {is_asked_twice}"
                );
                starts.done();
                assert_eq!(starts.starts_with(needed), first);
            }
        }
    }

    #[test]
    fn what_did_not_come_whole_was_no_try() {
        let mut starts = Starts::default();
        for turn in 0..10 {
            assert!(!starts.script(true, second(f64::from(turn))));
            starts.kernel_sent();
        }
        assert_eq!(starts.in_vain(), 0);
        for turn in 10..20 {
            assert!(
                !starts.script(true, second(f64::from(turn))),
                "a script that is asked for again"
            );
        }
        assert!(!starts.loops());
    }

    #[test]
    fn a_first_stage_went_out_with_its_last_file() {
        let mut starts = Starts::default();
        for (turn, (sent, in_vain)) in [
            (&[][..], 0),
            (&["base.img"], 0),
            (&["base.img", "port/igb.img"], 0),
            (&["base.img", "port/e1000.img"], 1),
            // Twice the same is no second start.
            (&["base.img", "port/e1000.img", "base.img", "port/e1000.img"], 2),
        ]
        .into_iter()
        .enumerate()
        {
            starts.script(true, second(turn as f64));
            starts.last_file = Some("port/e1000.img".to_owned());
            starts.kernel_sent();
            for file in sent {
                starts.initrd_sent(Some(file));
            }
            let mut next = starts.clone();
            next.script(true, second(turn as f64 + 0.5));
            assert_eq!(next.in_vain(), in_vain, "{sent:?}");
        }
    }

    #[test]
    fn a_boot_program_that_does_not_start_what_it_has_gets_it_three_times_a_script() {
        let mut starts = Starts::default();
        for _ in 0..2 {
            assert!(!starts.script(true, second(0.0)));
            for turn in 0..LOOPS {
                assert_eq!(starts.stuck(), None, "{turn}");
                starts.kernel_sent();
                starts.initrd_sent(None);
            }
            assert!(starts.stuck().unwrap().contains("3 times"));
        }
        // A kernel that is fetched over and over without its initrd did not come whole.
        starts.script(true, second(0.0));
        for _ in 0..10 {
            starts.kernel_sent();
            assert_eq!(starts.stuck(), None);
        }
    }

    #[test]
    fn a_machine_that_gets_further_or_that_somebody_comes_back_to_begins_anew() {
        let mut starts = Starts::default();
        for turn in 0..3 {
            try_once(&mut starts, false, second(f64::from(turn)));
        }
        try_once(&mut starts, true, second(3.0));
        assert!(starts.loops(), "of the three before");
        assert!(!starts.script(true, second(4.0)));
        assert_eq!(starts.in_vain(), 1, "the agent was heard");
        let mut starts = Starts::default();
        for turn in 0..3 {
            try_once(&mut starts, false, second(f64::from(turn)));
        }
        assert!(!try_once(&mut starts, false, second(FORGOTTEN + 3.0)));
        assert_eq!(starts.in_vain(), 0);
    }

    #[test]
    fn the_cause_is_the_likely_one() {
        let mut starts = Starts::default();
        for turn in 0..4 {
            try_once(&mut starts, false, second(f64::from(turn)));
        }
        assert!(starts.cause(Some(600)).contains("look at its console"));
        starts.memory_mib = Some(700);
        assert!(starts.cause(Some(600)).contains("700 MiB"));
        starts.memory_mib = Some(64_000);
        assert!(!starts.cause(Some(600)).contains("MiB"));
        assert!(starts.cause(None).contains("3 times"));
        let mut starts = Starts::default();
        for turn in 0..4 {
            try_once(&mut starts, true, second(f64::from(turn)));
        }
        assert!(starts.loops() && starts.cause(Some(600)).contains("started and went away"));
    }
}
