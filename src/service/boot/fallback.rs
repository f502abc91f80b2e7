//! Which network boot program a machine gets next, from how the ones before fared. Pure; time is seconds since the master
//! started.
//!
//! A firmware that asks for an address again after a program went to it whole, and that never got to the next stage, could
//! not run that program: a network card whose driver hangs, Secure Boot that refuses it. It gets the next one; and where the
//! program gave no sign of life at all, a signed one, because that is what Secure Boot looks like from here.

use crate::model::{Arch, RunTime};
use crate::service::boot::programs;

/// A firmware's question that comes sooner than this after a program went out is a late copy of the one before.
const LATE_COPY_SECONDS: f64 = 1.0;

/// How the network boot programs fared on one machine in this run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LoaderFallback {
    /// The program the machine gets; none before it asked.
    current: Option<&'static str>,
    /// Went out whole at this second, and nothing came of it yet. Not always the current one: firmware that was told of a
    /// program before, over IPv6 for instance, fetches that one once more.
    pending: Option<(&'static str, RunTime)>,
    /// What went out last gave a sign of life.
    alive: bool,
    /// The last one that went out.
    last: Option<&'static str>,
    /// Those that did not start, in the order in which they were tried.
    failed: Vec<&'static str>,
}

/// What a firmware that asks is told.
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderPick {
    /// Name in the table of boot files, or why there is none.
    pub loader: Result<&'static str, &'static str>,
    /// The program before did not start: a sentence for the person at the master.
    pub news: Option<String>,
}

impl LoaderFallback {
    /// Firmware of this kind asks for an address, `held` being the programs at hand. Asking again changes nothing until
    /// another program went out.
    pub(crate) fn choose(&mut self, arch: Arch, held: impl Fn(&str) -> bool, now: RunTime) -> LoaderPick {
        let loader = programs::first_held(arch, &held);
        let Ok(first) = loader else {
            return LoaderPick { loader, news: None };
        };
        let candidates = programs::candidates(arch).iter().copied();
        let candidates: Vec<&'static str> = candidates.filter(|name| held(name)).collect();
        let gone = self.pending.filter(|(_, at)| now - *at >= LATE_COPY_SECONDS);
        let news = match self.current.filter(|name| candidates.contains(name)) {
            Some(current) => gone.and_then(|(old, _)| {
                self.pending = None;
                if !self.failed.contains(&old) {
                    self.failed.push(old);
                }
                (old == current).then(|| self.next(old, &candidates))
            }),
            None => {
                // Another kind of firmware than before, or the first question of all.
                self.pending = None;
                self.current = Some(first);
                None
            }
        };
        LoaderPick {
            loader: Ok(self.current.unwrap_or(first)),
            news,
        }
    }

    /// Makes the one after `old`, which did not start, the current one, and says so.
    fn next(&mut self, old: &'static str, candidates: &[&'static str]) -> String {
        let signed = candidates.iter().copied().find(|name| *name == programs::SIGNED);
        let place = candidates.iter().position(|candidate| *candidate == old).unwrap_or(0);
        let new = match signed {
            Some(signed) if !self.alive && !self.failed.contains(&signed) && old != signed => signed,
            _ => candidates[(place + 1) % candidates.len()],
        };
        self.current = Some(new);
        match old == new {
            true => format!("{old} did not start, and there is no other boot program for it here"),
            false => format!("{old} did not start; it gets {new} now"),
        }
    }

    /// A boot program went to the machine whole. `name` may be written as a client does.
    pub(crate) fn sent(&mut self, name: &str, now: RunTime) {
        if let Some(name) = programs::candidate_named(name) {
            self.pending = Some((name, now));
            self.alive = false;
            self.last = Some(name);
        }
    }

    /// The boot program runs: it asked for a file of its own. That is not yet a way to the next stage.
    pub(crate) fn runs(&mut self) {
        self.alive = true;
    }

    /// The machine reached the next stage: what went out last works on it, and it gets that from now on.
    pub(crate) fn started(&mut self) {
        if let Some(name) = self.last {
            self.current = Some(name);
            self.failed.retain(|failed| *failed != name);
        }
        self.pending = None;
    }

    pub(crate) fn current(&self) -> Option<&'static str> {
        self.current
    }

    pub(crate) fn failed(&self) -> &[&'static str] {
        &self.failed
    }

    /// Takes what another row of the same machine knows, where this one knows nothing.
    pub(crate) fn join(&mut self, other: LoaderFallback) {
        if self.last.is_none() {
            *self = other;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn second(seconds: f64) -> RunTime {
        RunTime::from_seconds(seconds)
    }

    fn any(_: &str) -> bool {
        true
    }

    fn loader(fallback: &mut LoaderFallback, arch: Arch, now: RunTime) -> &'static str {
        fallback.choose(arch, any, now).loader.unwrap()
    }

    #[test]
    fn a_machine_that_comes_back_gets_the_next_program_and_then_the_first_again() {
        let mut fallback = LoaderFallback::default();
        assert_eq!(loader(&mut fallback, Arch::UefiX64, second(0.0)), "snponly.efi");
        fallback.sent("snponly.efi", second(1.0));
        fallback.runs();
        let pick = fallback.choose(Arch::UefiX64, any, second(20.0));
        assert_eq!(pick.loader, Ok("ipxe.efi"));
        assert_eq!(
            pick.news.as_deref(),
            Some("snponly.efi did not start; it gets ipxe.efi now")
        );
        // OFFER and ACK are two answers of one attempt.
        assert_eq!(
            fallback.choose(Arch::UefiX64, any, second(20.1)),
            LoaderPick {
                loader: Ok("ipxe.efi"),
                news: None
            }
        );
        fallback.sent("ipxe.efi", second(21.0));
        fallback.runs();
        assert_eq!(loader(&mut fallback, Arch::UefiX64, second(60.0)), "shimx64.efi");
        fallback.sent("shimx64.efi", second(61.0));
        assert_eq!(loader(&mut fallback, Arch::UefiX64, second(90.0)), "snponly.efi");
        assert_eq!(fallback.failed(), ["snponly.efi", "ipxe.efi", "shimx64.efi"]);
    }

    #[test]
    fn a_program_that_gave_no_sign_of_life_is_followed_by_a_signed_one() {
        let mut fallback = LoaderFallback::default();
        loader(&mut fallback, Arch::HttpX64, second(0.0));
        fallback.sent("snponly.efi", second(1.0));
        assert_eq!(loader(&mut fallback, Arch::HttpX64, second(20.0)), "shimx64.efi");
        // That was not it either: now all in turn.
        fallback.sent("shimx64.efi", second(21.0));
        assert_eq!(loader(&mut fallback, Arch::HttpX64, second(40.0)), "snponly.efi");
        fallback.sent("snponly.efi", second(41.0));
        assert_eq!(loader(&mut fallback, Arch::HttpX64, second(60.0)), "ipxe.efi");
    }

    #[test]
    fn an_older_answer_is_not_held_against_the_program_of_the_newer_one() {
        let mut fallback = LoaderFallback::default();
        loader(&mut fallback, Arch::UefiX64, second(0.0));
        fallback.sent("snponly.efi", second(1.0));
        assert_eq!(loader(&mut fallback, Arch::UefiX64, second(5.0)), "shimx64.efi");
        // Its IPv6 was told of snponly.efi before, fetches that too, and asks again.
        fallback.sent("snponly.efi", second(6.0));
        let pick = fallback.choose(Arch::UefiX64, any, second(11.0));
        assert_eq!((pick.loader, pick.news), (Ok("shimx64.efi"), None));
        assert_eq!(fallback.failed(), ["snponly.efi"]);
        fallback.sent("shimx64.efi", second(15.0));
        fallback.started();
        assert_eq!(loader(&mut fallback, Arch::UefiX64, second(90.0)), "shimx64.efi");
        assert_eq!(fallback.failed(), ["snponly.efi"]);
    }

    #[test]
    fn what_started_is_remembered() {
        let mut fallback = LoaderFallback::default();
        loader(&mut fallback, Arch::Bios, second(0.0));
        fallback.sent("undionly.kpxe", second(1.0));
        assert_eq!(loader(&mut fallback, Arch::Bios, second(30.0)), "ipxe.pxe");
        fallback.sent("ipxe.pxe", second(31.0));
        fallback.started();
        for now in [second(40.0), second(4000.0)] {
            assert_eq!(loader(&mut fallback, Arch::Bios, now), "ipxe.pxe", "{now:?}");
        }
        assert_eq!(fallback.failed(), ["undionly.kpxe"]);
    }

    #[test]
    fn a_late_copy_of_a_question_is_no_failure_and_a_wrong_guess_is_mended() {
        let mut fallback = LoaderFallback::default();
        loader(&mut fallback, Arch::UefiX64, second(0.0));
        fallback.sent("snponly.efi", second(1.0));
        assert_eq!(loader(&mut fallback, Arch::UefiX64, second(1.3)), "snponly.efi");
        assert_eq!(loader(&mut fallback, Arch::UefiX64, second(3.0)), "shimx64.efi");
        fallback.started();
        assert_eq!(loader(&mut fallback, Arch::UefiX64, second(90.0)), "snponly.efi");
        assert!(fallback.failed().is_empty());
    }

    #[test]
    fn a_program_that_is_not_here_is_no_candidate() {
        let mut fallback = LoaderFallback::default();
        let only = |name: &str| name == "snponly.efi";
        assert_eq!(
            fallback.choose(Arch::UefiX64, only, second(0.0)).loader,
            Ok("snponly.efi")
        );
        fallback.sent("snponly.efi", second(1.0));
        let pick = fallback.choose(Arch::UefiX64, only, second(9.0));
        assert_eq!(pick.loader, Ok("snponly.efi"));
        assert!(pick.news.unwrap().contains("no other boot program"));
        // An arm64 machine where only the big iPXE is at hand.
        let mut fallback = LoaderFallback::default();
        let only = |name: &str| name == "ipxe-arm64.efi";
        assert_eq!(
            fallback.choose(Arch::UefiArm64, only, second(0.0)).loader,
            Ok("ipxe-arm64.efi")
        );
        // A machine for which nothing is here is told of nothing, each time, and has no program then.
        for now in [second(5.0), second(60.0)] {
            let pick = fallback.choose(Arch::UefiX64, only, now);
            assert!(pick.loader.unwrap_err().contains("on this system"));
            assert_eq!(pick.news, None);
        }
        assert_eq!(
            fallback.choose(Arch::UefiArm64, only, second(90.0)).loader,
            Ok("ipxe-arm64.efi")
        );
    }

    #[test]
    fn a_program_counts_by_whatever_name_the_firmware_wrote() {
        let mut fallback = LoaderFallback::default();
        loader(&mut fallback, Arch::UefiX64, second(0.0));
        fallback.sent("\\SNPONLY.EFI", second(1.0));
        assert_eq!(loader(&mut fallback, Arch::UefiX64, second(9.0)), "shimx64.efi");
        fallback.sent("SHIMX64.EFI", second(10.0));
        fallback.sent("grub.efi", second(11.0));
        fallback.started();
        assert_eq!(loader(&mut fallback, Arch::UefiX64, second(90.0)), "shimx64.efi");
        assert_eq!(fallback.failed(), ["snponly.efi"]);
    }

    #[test]
    fn a_machine_whose_firmware_was_switched_starts_anew() {
        let mut fallback = LoaderFallback::default();
        loader(&mut fallback, Arch::Bios, second(0.0));
        fallback.sent("undionly.kpxe", second(1.0));
        assert_eq!(loader(&mut fallback, Arch::UefiX64, second(90.0)), "snponly.efi");
        assert!(fallback.choose(Arch::UefiX86, any, second(95.0)).loader.is_err());
    }

    #[test]
    fn what_shim_fetches_by_itself_is_no_attempt() {
        let mut fallback = LoaderFallback::default();
        loader(&mut fallback, Arch::UefiX64, second(0.0));
        fallback.sent("grubx64.efi", second(1.0));
        fallback.sent("autoexec.ipxe", second(1.0));
        assert_eq!(loader(&mut fallback, Arch::UefiX64, second(9.0)), "snponly.efi");
    }

    proptest! {
        #[test]
        fn whatever_happens_there_is_a_program_of_the_right_kind(
            events in proptest::collection::vec((0u8..4, 0f64..30.0), 0..60),
        ) {
            let mut fallback = LoaderFallback::default();
            let mut now = second(0.0);
            for (event, pause) in events {
                now += pause;
                match event {
                    0 => {
                        let name = fallback.choose(Arch::UefiX64, any, now).loader.unwrap();
                        prop_assert!(programs::candidates(Arch::UefiX64).contains(&name));
                    }
                    1 => {
                        prop_assert!(programs::candidates(Arch::Bios).contains(&fallback.choose(Arch::Bios, any, now).loader.unwrap()));
                    }
                    2 if now.seconds() % 2.0 < 1.0 => fallback.runs(),
                    2 => fallback.sent(fallback.current().unwrap_or("ipxe.efi"), now),
                    _ => fallback.started(),
                }
                prop_assert!(fallback.failed().len() <= 5);
            }
        }
    }
}
